//! The repository's own Dockerfile: where it is, and what may stand on its first lines.

use super::Trouble;
use super::depot::Depot;
use super::tree::{self, Found, Kind};
use crate::git::error::FetchError;
use git2::Oid;
use shared::name::shown;
use shared::source::RepoPath;

/// The largest Dockerfile that is read, in bytes.
const SIZE_LIMIT: u64 = 1 << 20;

/// Finds the Dockerfile in the build context and reads it. Links are not followed, also not those
/// that stay inside: what is built is what the configuration names.
pub(super) fn read(depot: &Depot, context: Oid, path: &RepoPath) -> Result<Vec<u8>, Trouble> {
    let odb = depot.odb()?;
    let invalid = |wrong: String| -> Trouble {
        FetchError::config_invalid(format!("dockerfile = \"{path}\": {wrong}")).into()
    };
    let entry = match tree::find(&depot.repo, &odb, context, path)? {
        Found::Entry(entry) => entry,
        Found::Nothing => {
            let place = depot
                .order()
                .subdir
                .as_ref()
                .map_or(String::new(), |subdir| format!(" in the folder `{subdir}`"));
            return Err(FetchError::dockerfile_missing(format!(
                "the repository has no file `{path}`{place}"
            ))
            .into());
        }
        Found::Blocked { part, kind } => {
            return Err(invalid(format!(
                "`{part}` is {}, not a folder; name the file itself",
                kind.as_str()
            )));
        }
    };
    if !matches!(entry.kind, Kind::File { .. }) {
        return Err(invalid(format!(
            "this is {}; name the file itself",
            entry.kind.as_str()
        )));
    }
    match tree::blob(&odb, entry.id, SIZE_LIMIT)? {
        Some(content) => Ok(content),
        None => Err(invalid(format!(
            "the file has more than {SIZE_LIMIT} bytes"
        ))),
    }
}

/// What is to be built when it is not the file as it stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Syntax {
    /// No `# syntax=` line.
    None,
    /// One that names Docker's own syntax: the rest of the file without it, to be read by the
    /// engine's own frontend instead of one that would have to be downloaded.
    OfDocker(Vec<u8>),
    /// One that names an image which would read and build the file in its stead.
    Foreign(String),
}

/// Looks at the parser directives, the comments `# key=value` that a Dockerfile may begin with.
pub(super) fn syntax(content: &[u8]) -> Syntax {
    let start = if content.starts_with(b"\xef\xbb\xbf") {
        3
    } else {
        0
    };
    let mut at = start;
    while at < content.len() {
        let end = content[at..]
            .iter()
            .position(|byte| *byte == b'\n')
            .map_or(content.len(), |length| at + length + 1);
        let line = String::from_utf8_lossy(&content[at..end]);
        let shebang = at == start && line.starts_with("#!");
        let Some((key, value)) = directive(&line) else {
            if shebang {
                at = end;
                continue;
            }
            // Newer frontends also take the directive as the beginning of a JSON document.
            let json = line.trim_start().starts_with('{') && line.contains("\"syntax\"");
            return if json {
                Syntax::Foreign(shown(line.trim()))
            } else {
                Syntax::None
            };
        };
        if key == "syntax" {
            return match is_dockers_own(&value) {
                true => Syntax::OfDocker([&content[..at], &content[end..]].concat()),
                false => Syntax::Foreign(shown(&value)),
            };
        }
        at = end;
    }
    Syntax::None
}

fn directive(line: &str) -> Option<(String, String)> {
    let line = line.trim();
    let rest = line.strip_prefix('#').or_else(|| line.strip_prefix("//"))?;
    let (key, value) = rest.split_once('=')?;
    let key = key.trim();
    let is_word = !key.is_empty() && key.bytes().all(|byte| byte.is_ascii_alphanumeric());
    is_word.then(|| (key.to_ascii_lowercase(), value.trim().to_owned()))
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

    #[test]
    fn a_syntax_line_is_found_where_a_builder_finds_it() {
        let of_docker = |rest: &str| Syntax::OfDocker(rest.as_bytes().to_vec());
        let foreign = |image: &str| Syntax::Foreign(image.to_owned());
        for (content, syntax_found) in [
            ("FROM x\n", Syntax::None),
            ("", Syntax::None),
            ("# a comment\n# syntax=evil/x\nFROM x\n", Syntax::None),
            ("\n# syntax=evil/x\nFROM x\n", Syntax::None),
            ("FROM x\n# syntax=evil/x\n", Syntax::None),
            (
                "# syntax=docker/dockerfile:1\nFROM x\n",
                of_docker("FROM x\n"),
            ),
            (
                "#syntax = docker.io/docker/dockerfile:1.4\r\nFROM x\n",
                of_docker("FROM x\n"),
            ),
            (
                "# escape=`\n# syntax=docker/dockerfile\nFROM x\n",
                of_docker("# escape=`\nFROM x\n"),
            ),
            ("# syntax=docker/dockerfile:latest", of_docker("")),
            ("# SYNTAX=evil/x\nFROM x\n", foreign("evil/x")),
            ("\u{feff}# syntax=evil/x\n", foreign("evil/x")),
            ("#!/bin/x\n# syntax=evil/x\n", foreign("evil/x")),
            ("// syntax=evil/x\n", foreign("evil/x")),
            (
                "# escape=\\\n# syntax=docker/dockerfile-evil:1\n",
                foreign("docker/dockerfile-evil:1"),
            ),
            (
                "# syntax=docker/dockerfile:1-labs\n",
                foreign("docker/dockerfile:1-labs"),
            ),
            (
                "# syntax=evil.example/docker/dockerfile:1\n",
                foreign("evil.example/docker/dockerfile:1"),
            ),
        ] {
            assert_eq!(syntax(content.as_bytes()), syntax_found, "{content:?}");
        }
    }
}
