//! A look at the bytes of a document before it is parsed.

use super::{DocumentLimits, Refusal, at_most};

/// Counts tokens and the nesting of brackets, by the lexical grammar of GraphQL.
///
/// The parser descends once per bracket: nesting bounds its stack. A string that does not end is
/// refused here, since the parser would try to read what follows it in other ways.
pub(super) fn scan(document: &str, limits: &DocumentLimits) -> Result<(), Refusal> {
    at_most("bytes", document.len() as u64, limits.bytes as u64)?;
    let bytes = document.as_bytes();
    let (mut at, mut tokens, mut nesting, mut deepest) = (0, 0_usize, 0_usize, 0_usize);
    while let Some(&byte) = bytes.get(at) {
        let length = match byte {
            b' ' | b'\t' | b'\r' | b'\n' | b',' => {
                at += 1;
                continue;
            }
            b'#' => {
                at += line(&bytes[at..]);
                continue;
            }
            b'{' | b'[' | b'(' => {
                nesting += 1;
                deepest = deepest.max(nesting);
                1
            }
            b'}' | b']' | b')' => {
                nesting = nesting.saturating_sub(1);
                1
            }
            b'"' => string(&bytes[at..])?,
            byte if is_word(byte) => bytes[at..]
                .iter()
                .take_while(|byte| is_word(**byte))
                .count(),
            // Punctuation, and what the parser will refuse.
            _ => 1,
        };
        tokens += 1;
        at += length;
    }
    at_most("tokens", tokens as u64, limits.tokens as u64)?;
    at_most("levels of brackets", deepest as u64, limits.nesting as u64)
}

fn is_word(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || byte == b'_'
}

/// How far it is to the end of the line.
fn line(bytes: &[u8]) -> usize {
    bytes
        .iter()
        .take_while(|byte| !matches!(byte, b'\n' | b'\r'))
        .count()
}

/// The length of the string that starts here, with its quotes.
fn string(bytes: &[u8]) -> Result<usize, Refusal> {
    let length = if bytes.starts_with(b"\"\"\"") {
        block_string(bytes)
    } else {
        line_string(bytes)
    };
    length.ok_or_else(|| Refusal::Syntax {
        reason: "a string does not end".to_owned(),
    })
}

fn block_string(bytes: &[u8]) -> Option<usize> {
    let mut at = 3;
    while at < bytes.len() {
        if bytes[at..].starts_with(b"\\\"\"\"") {
            at += 4;
        } else if bytes[at..].starts_with(b"\"\"\"") {
            return Some(at + 3);
        } else {
            at += 1;
        }
    }
    None
}

fn line_string(bytes: &[u8]) -> Option<usize> {
    let mut at = 1;
    while let Some(&byte) = bytes.get(at) {
        match byte {
            b'\\' => at += 2,
            b'"' => return Some(at + 1),
            b'\n' | b'\r' => return None,
            _ => at += 1,
        }
    }
    None
}
