//! `cargo xtask docs`: the book, with the pages that are made from code: the reference from the interface crate, the tables of VMX from
//! the crate that models it.

use std::fmt::Write as _;
use std::fs;
use std::path::Path;

use anyhow::{Context, Result};
use dragonet_abi::counters::Counter;
use dragonet_abi::{Errno, SyscallNumber};
use vmx_model::controls::{ControlSet, Group, guest};
use vmx_model::exit::table;

use crate::workspace;

/// A page that is made from code.
struct Generated {
    /// Its file.
    name: &'static str,
    title: &'static str,
    /// The page behind which it is listed.
    behind: &'static str,
    text: fn() -> String,
}

const GENERATED: [Generated; 2] = [
    Generated {
        name: "reference.md",
        title: "Reference",
        behind: "system-calls.md",
        text: reference_text,
    },
    Generated {
        name: "vmx-tables.md",
        title: "Exits and controls",
        behind: "vmx.md",
        text: vmx_text,
    },
];

/// Puts the book's sources and the generated pages together under `target/book` and says how to read them.
pub fn command() -> Result<()> {
    let book = workspace::target().join("book");
    let source = book.join("src");
    copy_folder(&workspace::root().join("docs/src"), &source)?;
    let config = workspace::root().join("docs/book.toml");
    fs::copy(&config, book.join("book.toml")).with_context(|| format!("copying {}", config.display()))?;
    for page in GENERATED {
        let file = source.join(page.name);
        fs::write(&file, (page.text)()).with_context(|| format!("writing {}", file.display()))?;
    }
    let summary = source.join("SUMMARY.md");
    let listed = with_generated(&fs::read_to_string(&summary).context("reading the book's summary")?);
    fs::write(&summary, listed).with_context(|| format!("writing {}", summary.display()))?;
    println!(
        "the book: {} (read it with `mdbook serve {}`)",
        source.display(),
        book.display()
    );
    Ok(())
}

/// The summary with the generated pages listed behind their chapters.
fn with_generated(summary: &str) -> String {
    let mut listed = String::new();
    for line in summary.lines() {
        listed.push_str(line);
        listed.push('\n');
        for page in GENERATED {
            if line.contains(&format!("({})", page.behind)) {
                let _ = writeln!(listed, "  - [{}]({})", page.title, page.name);
            }
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

/// Every exit with what it becomes, and every control that guests use.
fn vmx_text() -> String {
    let mut text = String::from(
        "# Exits and controls\n\nWritten by `cargo xtask docs` from `vmx_model::exit::table`, which the kernel follows, and \
         `vmx_model::controls::guest`. The chapter before explains them.\n\n## Exits\n\n",
    );
    let _ = table::write_markdown(&mut text);
    text.push_str(
        "\n## Controls\n\nRequired, and wanted where the CPU has them. May be 1: also those that a CPU may insist on.\n\n\
         | group | required | wanted | may be 1 |\n|---|---|---|---|\n",
    );
    for group in Group::ALL {
        let names = |set: &ControlSet| group.names(set.bits(group)).to_string();
        let _ = writeln!(
            text,
            "| {} | {} | {} | {} |",
            group.name(),
            names(&guest::REQUIRED),
            names(&guest::WANTED),
            names(&guest::HARMLESS)
        );
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
    fn the_tables_of_vmx_have_a_row_for_every_exit_and_every_control() {
        let text = vmx_text();
        for &reason in vmx_model::exit::Reason::ALL {
            assert!(text.contains(&format!("| {} | {} |", reason as u16, reason.name())));
        }
        for group in Group::ALL {
            let required = group.names(guest::REQUIRED.bits(group)).to_string();
            assert!(text.contains(&required), "{required}");
        }
    }

    #[test]
    fn generated_pages_are_listed_and_linked_to() {
        let source = workspace::root().join("docs/src");
        let read = |name: &str| fs::read_to_string(source.join(name)).expect("the page is there");
        let listed = with_generated(&read("SUMMARY.md"));
        for page in GENERATED {
            assert!(listed.contains(&format!("]({})", page.name)), "{}", page.name);
            assert!(read(page.behind).contains(page.name), "{}", page.behind);
        }
    }

    /// In the chapter's tables a file is followed by what is to be found in it.
    #[test]
    fn what_the_chapter_on_vmx_names_is_where_it_says() {
        let root = workspace::root();
        let chapter = fs::read_to_string(root.join("docs/src/vmx.md")).expect("the chapter is there");
        let mut seen = 0;
        for cell in chapter.lines().flat_map(|line| line.split('|')) {
            let mut file = None;
            for span in cell.split('`').skip(1).step_by(2) {
                if span.contains('/') && span.ends_with(".rs") {
                    let text = fs::read_to_string(root.join(span));
                    file = Some((span, text.unwrap_or_else(|why| panic!("{span}: {why}"))));
                } else if let Some((name, text)) = &file {
                    assert!(text.contains(span), "{span} is not in {name}");
                    seen += 1;
                }
            }
        }
        assert!(seen > 40, "only {seen} names were looked for");
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
