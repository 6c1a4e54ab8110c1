//! The repository's own Dockerfile: where it is, and what may stand on its first lines.

use super::Trouble;
use super::depot::Depot;
use super::tree::{self, Found, Kind};
use crate::git::error::FetchError;
use crate::syntax::{DOCKERFILE_LIMIT, Foreign, syntax_lines};
use git2::Oid;
use shared::source::RepoPath;

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
    match tree::blob(&odb, entry.id, DOCKERFILE_LIMIT)? {
        Some(content) => Ok(content),
        None => Err(invalid(format!(
            "the file has more than {DOCKERFILE_LIMIT} bytes"
        ))),
    }
}

/// What is built in place of a file that names Docker's own syntax: the same without those lines, to
/// be read by the engine's own frontend instead of one that would have to be downloaded. Nothing when
/// it is built as it stands.
///
/// # Errors
/// [`Foreign`] when another image would read and build the file in its stead.
pub(super) fn without_syntax(content: &[u8]) -> Result<Option<Vec<u8>>, Foreign> {
    let lines = syntax_lines(content)?;
    if lines.is_empty() {
        return Ok(None);
    }
    // Left out, not made comments: a comment ends the directives, and `# escape=` may follow.
    let mut rest = Vec::with_capacity(content.len());
    let mut at = 0;
    for found in lines {
        rest.extend_from_slice(&content[at..found.line.start]);
        at = found.line.end;
    }
    rest.extend_from_slice(&content[at..]);
    Ok(Some(rest))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_syntax_line_of_docker_is_left_out() {
        for (content, rest) in [
            ("FROM x\n", None),
            ("# a comment\nFROM x\n", None),
            ("# syntax=docker/dockerfile:1\nFROM x\n", Some("FROM x\n")),
            (
                "# escape=`\n# syntax=docker/dockerfile\nFROM x\n",
                Some("# escape=`\nFROM x\n"),
            ),
            (
                "# syntax=docker/dockerfile:1\n# a=b\n#syntax=docker/dockerfile\n\nFROM x\n",
                Some("# a=b\n\nFROM x\n"),
            ),
            ("# syntax=docker/dockerfile:latest", Some("")),
        ] {
            let rest = rest.map(|rest| rest.as_bytes().to_vec());
            assert_eq!(without_syntax(content.as_bytes()), Ok(rest), "{content:?}");
        }
    }

    #[test]
    fn a_strangers_builder_behind_dockers_own_is_refused() {
        let padding = "# a=b\n".repeat(12_000);
        let content =
            format!("{padding}# syntax=docker/dockerfile:1\n# syntax=evil.example/fe\nFROM x\n");
        let foreign = Foreign::Image("evil.example/fe".to_owned());
        assert_eq!(without_syntax(content.as_bytes()), Err(foreign));
    }
}
