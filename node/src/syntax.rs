//! Which program a Dockerfile wants to be read by.
//!
//! A `# syntax=` line names an image that BuildKit pulls and runs as the builder, with more rights
//! than any build step. Docker's own brings nothing that the engine's does not have, but a download;
//! any other is a stranger's program. Both who fetch a Dockerfile and who hand it to an engine look
//! here, and at the whole of it: builders differ in how far they look, and the next one may look
//! further.

use shared::name::shown;
use std::ops::Range;

/// The largest Dockerfile that is read, in bytes.
pub(crate) const DOCKERFILE_LIMIT: u64 = 1 << 20;

const BOM: &[u8] = b"\xef\xbb\xbf";

/// A line that names Docker's own builder.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct SyntaxLine {
    /// What it names, to be shown.
    pub(crate) name: String,
    /// Where it stands, with its end.
    pub(crate) line: Range<usize>,
    /// Where its `=` stands.
    pub(crate) equals: usize,
}

/// A builder that would read and build the file in the engine's stead.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Foreign {
    /// Named by a `# syntax=` line.
    #[error(
        "`# syntax={0}` would have another image build this; only docker/dockerfile:1 is allowed"
    )]
    Image(String),
    /// Newer builders also look for its name in a file that is JSON as a whole.
    #[error(
        "a file that begins with `{{` may be JSON that would have another image build this; begin with an instruction"
    )]
    Json,
}

/// The lines that name Docker's own builder, in their order: all of them, since without the first
/// one a builder takes the next.
///
/// Looks through the comments and empty lines before the first instruction, which is more than
/// builders do: for them the first line that is no directive ends the search.
///
/// # Errors
/// [`Foreign`] when any of it would have another image build the file.
pub(crate) fn syntax_lines(content: &[u8]) -> Result<Vec<SyntaxLine>, Foreign> {
    let mut found = Vec::new();
    let mut start = 0;
    for line in content.split_inclusive(|byte| *byte == b'\n') {
        let end = start + line.len();
        // A mark of UTF-8 may come to stand first once the lines before it are gone.
        let text = line.strip_prefix(BOM).unwrap_or(line).trim_ascii();
        let comment = text.strip_prefix(b"#").or_else(|| text.strip_prefix(b"//"));
        match comment {
            Some(comment) => {
                if let Some(name) = syntax_name(comment) {
                    if !is_dockers_own(&name) {
                        return Err(Foreign::Image(shown(&name)));
                    }
                    // The name was found after a `=`, so there is one.
                    let equals = line.iter().position(|byte| *byte == b'=');
                    found.push(SyntaxLine {
                        name: shown(&name),
                        line: start..end,
                        equals: start + equals.unwrap_or_default(),
                    });
                }
            }
            None if text.starts_with(b"{") => return Err(Foreign::Json),
            None if text.is_empty() => {}
            None => break,
        }
        start = end;
    }
    Ok(found)
}

fn syntax_name(comment: &[u8]) -> Option<String> {
    let equals = comment.iter().position(|byte| *byte == b'=')?;
    let key = comment[..equals].trim_ascii();
    key.eq_ignore_ascii_case(b"syntax")
        .then(|| String::from_utf8_lossy(comment[equals + 1..].trim_ascii()).into_owned())
}

fn is_dockers_own(value: &str) -> bool {
    let image = value.split_whitespace().next().unwrap_or("");
    let image = image.strip_prefix("docker.io/").unwrap_or(image);
    let name = image.split(['@', ':']).next().unwrap_or("");
    let version = image.strip_prefix("docker/dockerfile:").unwrap_or("1");
    // Version 1 is what engines have built in; `1-labs` and others are more than that.
    name == "docker/dockerfile"
        && version
            .bytes()
            .all(|byte| byte.is_ascii_digit() || byte == b'.')
        && version.starts_with('1')
        || image == "docker/dockerfile:latest"
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(content: &str) -> Result<Vec<String>, Foreign> {
        let lines = syntax_lines(content.as_bytes())?;
        for found in &lines {
            assert_eq!(content.as_bytes()[found.equals], b'=', "{content:?}");
            assert!(found.line.contains(&found.equals));
        }
        Ok(lines.into_iter().map(|found| found.name).collect())
    }

    #[test]
    fn a_syntax_line_is_found_where_a_builder_finds_it_and_further() {
        for (content, name) in [
            (
                "# syntax=docker/dockerfile:1\nFROM x\n",
                "docker/dockerfile:1",
            ),
            (
                "#SYNTAX = docker.io/docker/dockerfile:1.4\r\nFROM x\n",
                "docker.io/docker/dockerfile:1.4",
            ),
            (
                "# escape=`\n# syntax=docker/dockerfile\nFROM x\n",
                "docker/dockerfile",
            ),
            (
                "\n# a comment\n#syntax=docker/dockerfile:latest",
                "docker/dockerfile:latest",
            ),
        ] {
            assert_eq!(names(content), Ok(vec![name.to_owned()]), "{content:?}");
        }
        for content in ["", "FROM x\n", "FROM x\n# syntax=evil/x\n{\n", "# syntax\n"] {
            assert_eq!(names(content), Ok(vec![]), "{content:?}");
        }
    }

    #[test]
    fn a_strangers_builder_is_refused() {
        for (content, image) in [
            ("# SYNTAX=evil/x\nFROM x\n", "evil/x"),
            ("\u{feff}# syntax=evil/x\n", "evil/x"),
            ("#!/bin/x\n# syntax=evil/x\n", "evil/x"),
            ("// syntax=evil/x\n", "evil/x"),
            ("# a comment\n\n# syntax=evil/x\nFROM x\n", "evil/x"),
            (
                "# escape=\\\n# syntax=docker/dockerfile-evil:1\n",
                "docker/dockerfile-evil:1",
            ),
            (
                "# syntax=docker/dockerfile:1-labs\n",
                "docker/dockerfile:1-labs",
            ),
            (
                "# syntax=evil.example/docker/dockerfile:1\n",
                "evil.example/docker/dockerfile:1",
            ),
        ] {
            let foreign = Foreign::Image(image.to_owned());
            assert_eq!(names(content), Err(foreign), "{content:?}");
        }
        for content in [
            "{\"syntax\":\"evil/x\"}",
            "\n \t\r\n{\n\"syntax\":\"evil/x\"}",
            "#!/bin/x\n{\"syntax\":\"evil/x\"}",
        ] {
            assert_eq!(names(content), Err(Foreign::Json), "{content:?}");
        }
    }

    #[test]
    fn all_syntax_lines_are_found_and_the_worst_counts() {
        let official = "# syntax=docker/dockerfile:1\n";
        let two = format!("{official}{official}FROM x\n");
        let lines = syntax_lines(two.as_bytes()).unwrap();
        assert_eq!(lines.len(), 2);
        assert_eq!(lines[1].line, official.len()..2 * official.len());
        for second in [
            "# syntax=evil.example/fe\n",
            // What would stand first once the first line is gone.
            "\u{feff}# syntax=evil.example/fe\n",
            "#!/bin/x\n# syntax=evil.example/fe\n",
        ] {
            let foreign = Foreign::Image("evil.example/fe".to_owned());
            assert_eq!(names(&format!("{official}{second}")), Err(foreign));
        }
        assert_eq!(names(&format!("{official}{{")), Err(Foreign::Json));
    }

    #[test]
    fn a_strangers_builder_is_found_however_far_down() {
        let official = "# syntax=docker/dockerfile:1\n";
        let evil = "# syntax=evil.example/fe\n";
        for padding in [
            "# a=b\n".repeat(12_000) + official,
            "# check=skip=all\n".repeat(5_000) + official,
            "# escape=`\n".repeat(7_000),
            format!("#!{}\n", "x".repeat(70_000)),
            "\n".repeat(65_537),
        ] {
            let foreign = Foreign::Image("evil.example/fe".to_owned());
            assert_eq!(names(&format!("{padding}{evil}FROM x\n")), Err(foreign));
            let json = format!("{padding}{{\"syntax\":\"evil.example/fe\"}}");
            assert_eq!(names(&json), Err(Foreign::Json));
        }
    }
}
