//! `cargo xtask docs`: the book, with the reference that is made from the interface crate.

use std::fmt::Write as _;
use std::fs;
use std::path::Path;

use anyhow::{Context, Result};
use dragonet_abi::counters::Counter;
use dragonet_abi::{Errno, SyscallNumber};

use crate::workspace;

/// Puts the book's sources and the reference together under `target/book` and says how to read them.
pub fn command() -> Result<()> {
    let book = workspace::target().join("book");
    let source = book.join("src");
    copy_folder(&workspace::root().join("docs/src"), &source)?;
    let config = workspace::root().join("docs/book.toml");
    fs::copy(&config, book.join("book.toml")).with_context(|| format!("copying {}", config.display()))?;
    let reference = source.join("reference.md");
    fs::write(&reference, reference_text()).with_context(|| format!("writing {}", reference.display()))?;
    let summary = source.join("SUMMARY.md");
    let listed = with_reference(&fs::read_to_string(&summary).context("reading the book's summary")?);
    fs::write(&summary, listed).with_context(|| format!("writing {}", summary.display()))?;
    println!(
        "the book: {} (read it with `mdbook serve {}`)",
        source.display(),
        book.display()
    );
    Ok(())
}

/// The summary with the reference listed behind the chapter on system calls.
fn with_reference(summary: &str) -> String {
    let mut listed = String::new();
    for line in summary.lines() {
        listed.push_str(line);
        listed.push('\n');
        if line.contains("(system-calls.md)") {
            listed.push_str("  - [Reference](reference.md)\n");
        }
    }
    listed
}

/// Every call, error and counter, as the interface crate has them.
fn reference_text() -> String {
    let mut text = String::from(
        "# Reference\n\n## Calls\n\n| number | call | arguments, result, rights |\n|---|---|---|\n",
    );
    for &call in SyscallNumber::ALL {
        let cell = call.description().trim().replace('|', "\\|");
        let _ = writeln!(text, "| {} | `{call:?}` | {cell} |", call as u64);
    }
    text.push_str("\n## Errors\n\n| number | name | meaning |\n|---|---|---|\n");
    for &errno in Errno::ALL {
        let _ = writeln!(text, "| {} | `{errno:?}` | {} |", errno as u16, errno.text());
    }
    text.push_str("\n## Counters\n\n| index | name | group |\n|---|---|---|\n");
    for &counter in Counter::ALL {
        let (name, group) = (counter.name(), counter.group().title());
        let _ = writeln!(text, "| {} | `{name}` | {group} |", counter as usize);
    }
    text
}

fn copy_folder(from: &Path, to: &Path) -> Result<()> {
    fs::create_dir_all(to).with_context(|| format!("making {}", to.display()))?;
    for entry in fs::read_dir(from).with_context(|| format!("reading {}", from.display()))? {
        let entry = entry?;
        let target = to.join(entry.file_name());
        if entry.file_type()?.is_dir() {
            copy_folder(&entry.path(), &target)?;
        } else {
            fs::copy(entry.path(), &target).with_context(|| format!("copying {}", entry.path().display()))?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_reference_has_a_row_for_every_call_error_and_counter() {
        let text = reference_text();
        for call in SyscallNumber::ALL {
            assert!(text.contains(&format!("| {} | `{call:?}` |", *call as u64)));
        }
        for errno in Errno::ALL {
            assert!(text.contains(&format!("`{errno:?}`")));
        }
        assert!(Counter::ALL.iter().all(|counter| text.contains(counter.name())));
    }

    #[test]
    fn every_page_of_the_summary_exists_and_every_page_is_in_it() {
        let source = workspace::root().join("docs/src");
        let summary = fs::read_to_string(source.join("SUMMARY.md")).expect("the summary is there");
        let listed: Vec<&str> = summary
            .split("](")
            .skip(1)
            .filter_map(|rest| rest.split(')').next())
            .collect();
        for page in &listed {
            assert!(source.join(page).is_file(), "{page} is listed and not there");
        }
        for folder in ["", "design"] {
            for entry in fs::read_dir(source.join(folder)).expect("the folder is there") {
                let name = entry.expect("readable").file_name().into_string().expect("UTF-8");
                let page = if folder.is_empty() {
                    name
                } else {
                    format!("{folder}/{name}")
                };
                if page.ends_with(".md") && page != "SUMMARY.md" {
                    assert!(listed.contains(&page.as_str()), "{page} is not in the summary");
                }
            }
        }
    }
}
