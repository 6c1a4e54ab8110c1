//! Texts with a grammar of their own: commands, host names, durations, container paths.

pub(super) use crate::spec::parse_duration as duration;
use std::time::Duration;

/// The longest text that a value may be, in bytes.
pub(super) const TEXT_LIMIT: usize = 4096;

/// What is wrong with a text, and what would be right.
pub(super) type Refusal = (String, String);

/// A text for people: one line, not too long.
pub(super) fn line(text: &str) -> Result<String, Refusal> {
    if text.chars().any(char::is_control) {
        return Err((
            "it has line breaks or control characters".to_owned(),
            "give one line of plain text".to_owned(),
        ));
    }
    if text.len() > TEXT_LIMIT {
        return Err((
            format!("it has {} bytes", text.len()),
            format!("give at most {TEXT_LIMIT}"),
        ));
    }
    Ok(text.to_owned())
}

/// A command line, split into words as a shell would, without a shell ever seeing it.
pub(super) fn command(text: &str) -> Result<Vec<String>, Refusal> {
    let words = shlex::split(&line(text)?).ok_or_else(|| {
        (
            "a quote is not closed, or it ends in a backslash".to_owned(),
            "close it".to_owned(),
        )
    })?;
    argv(words)
}

/// An argument vector that can be run.
pub(super) fn argv(words: Vec<String>) -> Result<Vec<String>, Refusal> {
    if words.first().is_none_or(|program| program.is_empty()) {
        return Err((
            "it names no program".to_owned(),
            "give the program and its arguments".to_owned(),
        ));
    }
    if words.iter().any(|word| word.contains('\0')) {
        return Err((
            "it has a NUL character".to_owned(),
            "leave it out".to_owned(),
        ));
    }
    Ok(words)
}

/// A word that only a shell would understand, when no shell is asked for.
pub(super) fn shell_word(words: &[String]) -> Option<&str> {
    let program = words
        .first()
        .map_or("", |program| program.rsplit('/').next().unwrap_or(program));
    if matches!(program, "sh" | "bash" | "ash" | "dash" | "zsh") {
        return None;
    }
    let operator = |word: &str| {
        matches!(
            word,
            "&&" | "||" | "|" | ";" | "&" | ">" | ">>" | "<" | "2>&1"
        )
    };
    let variable = |word: &str| {
        word.split('$')
            .skip(1)
            .any(|rest| rest.starts_with(|c: char| c.is_ascii_alphabetic() || "_{(".contains(c)))
    };
    words
        .iter()
        .map(String::as_str)
        .find(|word| operator(word) || variable(word) || word.contains('`'))
}

/// A host name by RFC 1123, in lower case.
pub(super) fn host_name(text: &str) -> Result<String, Refusal> {
    let refused = |wrong: &str, right: &str| Err((wrong.to_owned(), right.to_owned()));
    const EXAMPLE: &str = "give a host name such as app.example.org";
    if text.contains("://") || text.contains('/') {
        return refused(
            "this is an address with a path or scheme",
            "give only the host name, such as app.example.org",
        );
    }
    if !text.is_ascii() {
        return refused(
            "it has characters beyond ASCII",
            "write an international name in its xn-- form",
        );
    }
    if text.contains('*') {
        return refused("it has a wildcard", EXAMPLE);
    }
    if text.contains(':') {
        return refused(
            "it has a port or is an IP address",
            "give only the host name; the port is config.port",
        );
    }
    let name = text.to_ascii_lowercase();
    let label_is_right = |label: &str| {
        (1..=63).contains(&label.len())
            && label
                .bytes()
                .all(|byte| byte.is_ascii_alphanumeric() || byte == b'-')
            && !label.starts_with('-')
            && !label.ends_with('-')
    };
    if name.is_empty() || name.len() > 253 || !name.split('.').all(label_is_right) {
        return refused("this is not a host name", EXAMPLE);
    }
    let last = name.rsplit('.').next().unwrap_or("");
    if last.bytes().all(|byte| byte.is_ascii_digit()) {
        return refused("this is an IP address", EXAMPLE);
    }
    Ok(name)
}

/// A duration as people write it.
pub(super) fn spoken(duration: Duration) -> String {
    let ms = duration.as_millis();
    let units = [(3_600_000, "h"), (60_000, "m"), (1_000, "s")];
    let whole = units
        .into_iter()
        .find(|(unit, _)| ms >= *unit && ms.is_multiple_of(*unit));
    match whole {
        Some((unit, letter)) => format!("{}{letter}", ms / unit),
        None if ms == 0 => "0s".to_owned(),
        None => format!("{ms}ms"),
    }
}

/// An absolute path in a container at which something may be mounted.
pub(super) fn container_path(text: &str) -> Result<String, Refusal> {
    let refused = |wrong: &str| {
        Err((
            wrong.to_owned(),
            "give an absolute path in the container, such as /data".to_owned(),
        ))
    };
    let path = line(text)?;
    let trimmed = path.trim_end_matches('/');
    if !path.starts_with('/') {
        return refused("this is not an absolute path");
    }
    if trimmed.is_empty() {
        return refused("a volume cannot replace the root of the container");
    }
    if trimmed
        .split('/')
        .skip(1)
        .any(|part| matches!(part, "" | "." | ".."))
    {
        return refused("it has an empty, `.` or `..` part");
    }
    // The engine's own notation gives these a meaning.
    if path.contains([':', ',', '\\']) {
        return refused("it has a colon, comma or backslash");
    }
    let within = |system: &str| {
        trimmed == system
            || trimmed
                .strip_prefix(system)
                .is_some_and(|rest| rest.starts_with('/'))
    };
    if ["/proc", "/sys", "/dev"].into_iter().any(within) {
        return refused("this belongs to the system");
    }
    Ok(trimmed.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn host_names() {
        for (text, name) in [
            ("app.example.org", "app.example.org"),
            ("APP.Example", "app.example"),
            ("localhost", "localhost"),
        ] {
            assert_eq!(host_name(text).as_deref(), Ok(name));
        }
        let long = format!("{}.example", "a".repeat(64));
        for text in [
            "",
            ".",
            "a..b",
            "a.",
            "-a.b",
            "a-.b",
            "a b",
            "*.a.b",
            "http://a.b",
            "a.b/c",
            "a.b:80",
            "10.0.0.1",
            "[::1]",
            "bücher.example",
            "a\n.b",
            "a_b.c",
            "a\"b",
            &long,
        ] {
            assert!(host_name(text).is_err(), "{text:?}");
        }
    }

    #[test]
    fn durations() {
        for (text, ms) in [
            ("500ms", 500),
            ("5s", 5_000),
            ("2m", 120_000),
            ("1h", 3_600_000),
            ("0s", 0),
            ("5 s", 5_000),
        ] {
            assert_eq!(duration(text), Some(Duration::from_millis(ms)), "{text}");
            assert_eq!(
                duration(&spoken(Duration::from_millis(ms))),
                Some(Duration::from_millis(ms))
            );
        }
        for text in [
            "",
            "5",
            "s",
            "-5s",
            "1.5s",
            "5d",
            "99999999999999999999s",
            "18446744073709551615h",
        ] {
            assert_eq!(duration(text), None, "{text}");
        }
    }

    #[test]
    fn commands_are_split_without_a_shell() {
        let words = command(r#"python3 -c 'print("a b")' --name="x y""#).unwrap();
        assert_eq!(words, ["python3", "-c", r#"print("a b")"#, "--name=x y"]);
        for text in ["", "   ", "''", "a 'b", "a\nb", "a\\"] {
            assert!(command(text).is_err(), "{text:?}");
        }
        let shell = |text: &str| shell_word(&command(text).unwrap()).map(str::to_owned);
        assert_eq!(shell("npm ci && npm start").as_deref(), Some("&&"));
        assert_eq!(
            shell("gunicorn -b 0.0.0.0:$PORT app").as_deref(),
            Some("0.0.0.0:$PORT")
        );
        assert_eq!(shell("sh -c 'npm ci && npm start'"), None);
        assert_eq!(shell("python3 price.py 5$"), None);
    }

    #[test]
    fn container_paths() {
        assert_eq!(container_path("/data/").as_deref(), Ok("/data"));
        for text in [
            "", "data", "/", "//", "/a/../b", "/a//b", "/a:/b", "/proc", "/sys/x", "/dev/shm",
            "/a\nb",
        ] {
            assert!(container_path(text).is_err(), "{text:?}");
        }
        assert!(container_path("/processes").is_ok());
    }
}
