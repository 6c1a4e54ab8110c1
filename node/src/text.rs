//! Text from outside made safe to show: what a container, a build or a server printed.

/// Removes terminal colours, escapes every other control character but tab, and drops the line end.
#[must_use]
pub fn clean_line(text: &str) -> String {
    let text = text.trim_end_matches(['\r', '\n']);
    // The usual line is clean: one scan and one copy.
    if !text.chars().any(|c| c.is_control() && c != '\t') {
        return text.to_owned();
    }
    let mut clean = String::with_capacity(text.len());
    let mut chars = text.chars().peekable();
    while let Some(c) = chars.next() {
        if c == '\u{1b}' && chars.peek() == Some(&'[') {
            chars.next();
            skip_terminal_sequence(&mut chars);
        } else if c.is_control() && c != '\t' {
            clean.extend(c.escape_default());
        } else {
            clean.push(c);
        }
    }
    clean
}

/// Skips the rest of `ESC [ …`: parameters up to a final byte, as ECMA-48 has it.
fn skip_terminal_sequence(chars: &mut std::iter::Peekable<std::str::Chars<'_>>) {
    while let Some(next) = chars.peek().copied() {
        if !(' '..='~').contains(&next) {
            return;
        }
        chars.next();
        if ('@'..='~').contains(&next) {
            return;
        }
    }
}

/// Several lines made safe to show, joined by `\n`.
#[must_use]
pub fn clean_lines(text: &str) -> String {
    text.lines().map(clean_line).collect::<Vec<_>>().join("\n")
}

/// The beginning of `text`, at most `limit` bytes with the mark that says that it was cut.
#[must_use]
pub fn cut(text: &str, limit: usize) -> String {
    const MARK: &str = " … (cut)";
    if text.len() <= limit {
        return text.to_owned();
    }
    let end = text.floor_char_boundary(limit.saturating_sub(MARK.len()));
    format!("{}{MARK}", &text[..end])
}

/// The end of `text`, at most `limit` bytes with the mark that says that it was cut. The end is
/// where a build or a dying process says why.
#[must_use]
pub fn cut_front(text: &str, limit: usize) -> String {
    const MARK: &str = "(cut) … ";
    if text.len() <= limit {
        return text.to_owned();
    }
    let start = text.ceil_char_boundary(text.len() - limit.saturating_sub(MARK.len()));
    format!("{MARK}{}", &text[start..])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_terminal_would_obey_is_gone() {
        for (given, clean) in [
            ("plain\ttext\r\n", "plain\ttext"),
            ("\u{1b}[1;31mred\u{1b}[0m", "red"),
            ("bell\u{7}", "bell\\u{7}"),
            ("\u{1b}]0;title\u{7}", "\\u{1b}]0;title\\u{7}"),
            ("cut\u{1b}[", "cut"),
            ("\u{9b}31m", "\\u{9b}31m"),
            ("héllo", "héllo"),
        ] {
            assert_eq!(clean_line(given), clean, "{given:?}");
        }
    }

    #[test]
    fn a_cut_never_splits_a_character_nor_exceeds_its_limit() {
        let text = "ä".repeat(100);
        for limit in 12..60 {
            assert!(cut(&text, limit).len() <= limit + 2, "{limit}");
            assert!(cut_front(&text, limit).len() <= limit + 2, "{limit}");
        }
        assert_eq!(cut("short", 8), "short");
        assert!(cut_front(&format!("{text}end"), 40).ends_with("end"));
    }
}
