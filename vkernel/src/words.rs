//! Splitting a command into words with the quoting rules of sh: blanks separate, `'...'` keeps everything, `"..."` keeps everything
//! but backslash before `"` and `\`, backslash keeps the next character.

use alloc::vec::Vec;

/// A quote without its end, or a backslash with nothing behind it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct UnclosedQuote;

/// Splits `text`.
///
/// # Errors
/// [`UnclosedQuote`].
pub fn split(text: &str) -> Result<Vec<Vec<u8>>, UnclosedQuote> {
    let mut words = Vec::new();
    let mut word: Option<Vec<u8>> = None;
    let mut bytes = text.bytes();
    while let Some(byte) = bytes.next() {
        match byte {
            b' ' | b'\t' | b'\n' => words.extend(word.take()),
            b'\\' => word
                .get_or_insert_default()
                .push(bytes.next().ok_or(UnclosedQuote)?),
            b'\'' | b'"' => {
                let word = word.get_or_insert_default();
                loop {
                    match bytes.next().ok_or(UnclosedQuote)? {
                        end if end == byte => break,
                        b'\\' if byte == b'"' => match bytes.next().ok_or(UnclosedQuote)? {
                            escaped @ (b'"' | b'\\') => word.push(escaped),
                            other => word.extend([b'\\', other]),
                        },
                        other => word.push(other),
                    }
                }
            }
            _ => word.get_or_insert_default().push(byte),
        }
    }
    words.extend(word);
    Ok(words)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_and_quotes() {
        for (text, words) in [
            ("", &[][..]),
            ("  \t ", &[]),
            (
                "/bin/hello from a vkernel",
                &["/bin/hello", "from", "a", "vkernel"],
            ),
            ("a 'b  c' \"d 'e'\" f\\ g", &["a", "b  c", "d 'e'", "f g"]),
            ("x'y'\"z\" '' \"\"", &["xyz", "", ""]),
            (r#""a\"b\\c\n" 'd\'"#, &[r#"a"b\c\n"#, r"d\"]),
        ] {
            let expected: Vec<Vec<u8>> = words.iter().map(|word| word.as_bytes().to_vec()).collect();
            assert_eq!(split(text).unwrap(), expected, "{text}");
        }
        for text in ["'", "a \"b", "c\\", "\"\\"] {
            assert_eq!(split(text), Err(UnclosedQuote), "{text}");
        }
    }
}
