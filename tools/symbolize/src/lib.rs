//! Names for addresses: function, file and line, inlined calls included, from an ELF file's debug information.
//!
//! Host-side only. xtask uses it for the backtrace of a panic and for the instruction pointers of a machine that
//! hangs; anything else that has addresses of the kernel or of a program may use it too.

#![forbid(unsafe_code)]

use std::fmt;
use std::path::Path;

use addr2line::Loader;
use anyhow::{Result, anyhow};

/// One place in the source, possibly inlined into the next one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Frame {
    /// The function's path, without generic hashes.
    pub function: String,
    /// `file:line`, relative to the source tree where it lies inside it.
    pub place: Option<String>,
}

impl fmt::Display for Frame {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.function)?;
        match &self.place {
            Some(place) => write!(formatter, " at {place}"),
            None => Ok(()),
        }
    }
}

/// The symbols of one ELF file.
pub struct Symbols {
    loader: Loader,
    source_prefix: String,
}

impl Symbols {
    /// Opens the ELF file. Places below `source` are shown relative to it.
    pub fn open(file: &Path, source: &Path) -> Result<Self> {
        let loader = Loader::new(file).map_err(|error| {
            anyhow!(
                "could not read the debug information of {}: {error}",
                file.display()
            )
        })?;
        Ok(Self {
            loader,
            source_prefix: format!("{}/", source.display()),
        })
    }

    /// What is at `address`: the innermost inlined function first. Empty if nothing is known.
    pub fn frames(&self, address: u64) -> Vec<Frame> {
        let mut frames = Vec::new();
        if let Ok(mut found) = self.loader.find_frames(address) {
            while let Ok(Some(frame)) = found.next() {
                let name = frame
                    .function
                    .as_ref()
                    .and_then(|name| name.demangle().ok().map(|name| name.into_owned()));
                let place = frame.location.and_then(|location| {
                    let file = location.file?;
                    let file = file.strip_prefix(&self.source_prefix).unwrap_or(file);
                    Some(format!("{file}:{}", location.line.unwrap_or_default()))
                });
                let Some(function) = name.or_else(|| self.symbol(address)) else {
                    continue;
                };
                frames.push(Frame {
                    function: without_hash(&function).to_owned(),
                    place,
                });
            }
        }
        if frames.is_empty()
            && let Some(function) = self.symbol(address)
        {
            frames.push(Frame {
                function: without_hash(&function).to_owned(),
                place: None,
            });
        }
        frames
    }

    /// The lines of a backtrace: `addresses` are return addresses, the innermost first; the first one may be an
    /// instruction pointer itself.
    pub fn backtrace(&self, addresses: &[u64]) -> Vec<String> {
        let mut lines = Vec::new();
        for (depth, &address) in addresses.iter().enumerate() {
            // A return address is behind its call, which may be the last instruction of a function or a line.
            let probe = if depth == 0 {
                address
            } else {
                address.saturating_sub(1)
            };
            let frames = self.frames(probe);
            if frames.is_empty() {
                lines.push(format!("{depth:4}: {address:#018x} (unknown)"));
            }
            for (inlined, frame) in frames.iter().enumerate() {
                match inlined {
                    0 => lines.push(format!("{depth:4}: {address:#018x} {frame}")),
                    _ => lines.push(format!("{:25}{frame}", "")),
                }
            }
        }
        lines
    }

    /// The symbol before `address`, unless it is so far away that the address belongs to something else.
    fn symbol(&self, address: u64) -> Option<String> {
        let symbol = self.loader.find_symbol_info(address)?;
        let distance = address.checked_sub(symbol.address())?;
        (distance < FARTHEST).then(|| addr2line::demangle_auto(symbol.name().into(), None).into_owned())
    }
}

/// No function is longer than this, bytes.
const FARTHEST: u64 = 64 << 10;

/// `a::b::h0123456789abcdef` -> `a::b`.
fn without_hash(name: &str) -> &str {
    match name.rsplit_once("::h") {
        Some((path, hash)) if hash.len() == 16 && hash.bytes().all(|byte| byte.is_ascii_hexdigit()) => path,
        _ => name,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[inline(never)]
    fn landmark() -> u32 {
        std::hint::black_box(line!())
    }

    /// The address of `landmark` in the file this test was loaded from.
    fn address_in_file() -> u64 {
        let runtime = landmark as fn() -> u32 as usize as u64;
        let maps = std::fs::read_to_string("/proc/self/maps").unwrap();
        let binary = std::env::current_exe().unwrap();
        let first = maps
            .lines()
            .find(|line| line.ends_with(binary.to_str().unwrap()))
            .unwrap();
        let base = u64::from_str_radix(first.split('-').next().unwrap(), 16).unwrap();
        runtime - base
    }

    #[test]
    fn a_function_of_this_test_is_found_by_address() {
        let source = Path::new(env!("CARGO_MANIFEST_DIR"))
            .parent()
            .unwrap()
            .parent()
            .unwrap();
        let symbols = Symbols::open(&std::env::current_exe().unwrap(), source).unwrap();
        let frames = symbols.frames(address_in_file());
        // What is inlined into it comes before it.
        let frame = frames.last().unwrap();
        assert_eq!(frame.function, "symbolize::tests::landmark");
        let place = frame.place.as_deref().unwrap();
        assert!(place.starts_with("tools/symbolize/src/lib.rs:"), "{place}");
        assert!(landmark() > 0);
    }

    #[test]
    fn an_address_outside_the_file_is_unknown() {
        let symbols = Symbols::open(&std::env::current_exe().unwrap(), Path::new("/")).unwrap();
        assert!(symbols.frames(0xffff_ffff_ffff_0000).is_empty());
        assert!(symbols.backtrace(&[0xffff_ffff_ffff_0000])[0].contains("unknown"));
    }

    #[test]
    fn hashes_are_cut_off() {
        assert_eq!(without_hash("a::b::h0123456789abcdef"), "a::b");
        assert_eq!(without_hash("a::b::help"), "a::b::help");
    }
}
