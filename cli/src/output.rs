//! What is printed. Texts from the server are made harmless first: a build log or an error text may
//! come from a hostile repository, and a terminal obeys control characters.

use serde::Serialize;
use shared::status::{ApplicationStatus, FailureReason};
use std::io::{self, Write};

/// How a client command answers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Format {
    /// For people.
    #[default]
    Text,
    /// One JSON document on standard output.
    Json,
}

/// Whether a character could move the cursor, hide text or change its direction.
fn is_harmful(c: char) -> bool {
    c.is_control()
        || matches!(c, '\u{200e}' | '\u{200f}' | '\u{2028}' | '\u{2029}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

/// A text for one line: everything harmful escaped, tabs as spaces.
pub(crate) fn line(text: &str) -> String {
    let mut shown = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '\t' => shown.push_str("    "),
            c if is_harmful(c) => shown.extend(c.escape_unicode()),
            c => shown.push(c),
        }
    }
    shown
}

/// A text of several lines, each made harmless.
pub(crate) fn lines(text: &str) -> impl Iterator<Item = String> + '_ {
    text.lines().map(line)
}

/// Prints a line to standard output.
pub(crate) fn print(text: &str) -> io::Result<()> {
    writeln!(io::stdout().lock(), "{text}")
}

/// Prints a line to standard error, where notes go that are not the answer.
pub(crate) fn note(text: &str) {
    // When not even standard error can be written to, there is nobody left to tell.
    let _ = writeln!(io::stderr().lock(), "{text}");
}

/// Prints one JSON document.
pub(crate) fn print_json(value: &impl Serialize) -> io::Result<()> {
    print(&harmless_json(&serde_json::to_string_pretty(value)?))
}

/// Prints one JSON document on a line of its own, for streams of them.
pub(crate) fn print_json_line(value: &impl Serialize) -> io::Result<()> {
    print(&harmless_json(&serde_json::to_string(value)?))
}

/// The same JSON document, safe for a terminal as well.
fn harmless_json(text: &str) -> String {
    // JSON itself escapes only U+0000 to U+001F. Outside of strings it is ASCII, so any other harmful
    // character stands inside one, where `\uXXXX` means the same.
    let mut safe = String::with_capacity(text.len());
    for c in text.chars() {
        if is_harmful(c) && c != '\n' {
            safe.push_str(&format!("\\u{:04x}", u32::from(c)));
        } else {
            safe.push(c);
        }
    }
    safe
}

/// A status with the reason of a failure, unless both say the same.
pub(crate) fn standing(status: ApplicationStatus, reason: Option<FailureReason>) -> String {
    match reason.filter(|reason| reason.as_str() != status.as_str()) {
        Some(reason) => format!("{status} ({reason})"),
        None => status.to_string(),
    }
}

/// How often something happened, in words.
pub(crate) fn times(count: u32) -> String {
    match count {
        1 => "once".to_owned(),
        _ => format!("{count} times"),
    }
}

/// Prints rows under a header, in columns.
pub(crate) fn print_table<const N: usize>(
    header: [&str; N],
    rows: &[[String; N]],
) -> io::Result<()> {
    let header = header.map(str::to_owned);
    let rows: Vec<[String; N]> = rows
        .iter()
        .map(|row| row.clone().map(|cell| line(&cell)))
        .collect();
    let width = |column: usize| {
        let cells = std::iter::once(&header).chain(&rows);
        cells
            .map(|row| row[column].chars().count())
            .max()
            .unwrap_or(0)
    };
    let widths: [usize; N] = std::array::from_fn(width);
    for row in std::iter::once(&header).chain(&rows) {
        let mut text = String::new();
        for (cell, width) in row.iter().zip(widths) {
            text.push_str(&format!("{cell:width$}  "));
        }
        print(text.trim_end())?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_terminal_has_nothing_to_obey() {
        assert_eq!(
            line("\u{1b}[2Jgone\u{7}\r\u{9b}31m"),
            r"\u{1b}[2Jgone\u{7}\u{d}\u{9b}31m"
        );
        assert_eq!(line("a\u{202e}b"), r"a\u{202e}b");
        assert_eq!(line("plain äöü 漢 \t."), "plain äöü 漢     .");
        assert_eq!(
            lines("one\ntwo\u{1b}\n").collect::<Vec<_>>(),
            ["one", r"two\u{1b}"]
        );
    }

    #[test]
    fn json_is_the_same_and_harmless() {
        let text =
            harmless_json(&serde_json::json!({ "log": "\u{1b}[2J\u{9b}\u{202e}\n" }).to_string());
        assert!(
            !text.chars().any(|c| is_harmful(c) && c != '\n'),
            "{text:?}"
        );
        let value: serde_json::Value = serde_json::from_str(&text).unwrap();
        assert_eq!(value["log"], "\u{1b}[2J\u{9b}\u{202e}\n");
    }
}
