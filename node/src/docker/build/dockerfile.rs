//! What is looked at in a Dockerfile before the builder sees it.
//!
//! A `# syntax=` line names an image that BuildKit pulls and runs as the builder, with more rights
//! than any build step. The official one brings nothing that the engine's own does not have, but a
//! download; any other is a stranger's program. So the line is made an ordinary comment when it
//! names the official one, and refused otherwise. The context is a tar that the node made, in which
//! one byte of a comment can be changed in place.

use super::{BuildError, BuildOrder};
use crate::log_sink::LogSink;
use shared::name::shown;
use std::fs::{File, OpenOptions};
use std::io::{Read, Seek, SeekFrom, Write};
use std::path::Path;

/// Directives stand at the very beginning.
const HEAD: u64 = 64 * 1024;

/// Makes a `# syntax=` line harmless.
///
/// # Errors
/// [`BuildError::Failed`] when it names a builder that is not known, or when the Dockerfile is not
/// an ordinary file of the context.
pub(super) async fn disarm(order: &BuildOrder, log: &LogSink) -> Result<(), BuildError> {
    let (tar, dockerfile) = (order.context_tar.clone(), order.dockerfile.clone());
    let work = tokio::task::spawn_blocking(move || disarm_in_tar(&tar, &dockerfile));
    let found = work
        .await
        .map_err(|error| failed(format!("the Dockerfile could not be looked at: {error}")))??;
    if let Some(name) = found {
        log.system(format!(
            "# syntax={name}: using the engine's own Dockerfile builder instead"
        ));
    }
    Ok(())
}

fn failed(detail: String) -> BuildError {
    BuildError::Failed { detail }
}

fn disarm_in_tar(tar: &Path, dockerfile: &str) -> Result<Option<String>, BuildError> {
    let unreadable =
        |error: std::io::Error| failed(format!("the build context could not be read: {error}"));
    let mut file = OpenOptions::new()
        .read(true)
        .write(true)
        .open(tar)
        .map_err(unreadable)?;
    let places = places_of(&file, Path::new(dockerfile)).map_err(unreadable)?;
    if places.is_empty() {
        return Err(failed(format!(
            "{} is not in the build context",
            shown(dockerfile)
        )));
    }
    let mut official = None;
    // A name may stand in a tar more than once; the last one counts, and none may be armed.
    for place in places {
        let Place::File { start, size } = place else {
            return Err(failed(format!(
                "{} is not an ordinary file",
                shown(dockerfile)
            )));
        };
        let head = read_at(&mut file, start, size.min(HEAD)).map_err(unreadable)?;
        let Some(found) = find_syntax(&head)? else {
            continue;
        };
        file.seek(SeekFrom::Start(start + found.equals as u64))
            .map_err(unreadable)?;
        file.write_all(b"-").map_err(unreadable)?;
        official = Some(found.name);
    }
    Ok(official)
}

enum Place {
    File { start: u64, size: u64 },
    Other,
}

fn places_of(tar: &File, wanted: &Path) -> std::io::Result<Vec<Place>> {
    let mut archive = tar::Archive::new(tar);
    let mut places = Vec::new();
    for entry in archive.entries_with_seek()? {
        let entry = entry?;
        let path = entry.path()?;
        if path.strip_prefix("./").unwrap_or(&path) == wanted {
            places.push(match entry.header().entry_type().is_file() {
                true => Place::File {
                    start: entry.raw_file_position(),
                    size: entry.size(),
                },
                false => Place::Other,
            });
        }
    }
    Ok(places)
}

fn read_at(file: &mut File, start: u64, size: u64) -> std::io::Result<Vec<u8>> {
    file.seek(SeekFrom::Start(start))?;
    let mut head = Vec::new();
    file.take(size).read_to_end(&mut head)?;
    Ok(head)
}

/// A directive that names the official builder.
struct Syntax {
    name: String,
    /// Where its `=` stands.
    equals: usize,
}

/// Looks through the comments before the first instruction, which is more than builders do.
fn find_syntax(head: &[u8]) -> Result<Option<Syntax>, BuildError> {
    let mut start = if head.starts_with(b"\xef\xbb\xbf") {
        3
    } else {
        0
    };
    for line in head[start..].split_inclusive(|byte| *byte == b'\n') {
        let text = line.trim_ascii();
        let comment = text.strip_prefix(b"#").or_else(|| text.strip_prefix(b"//"));
        match comment {
            Some(comment) => {
                if let Some(name) = syntax_name(comment) {
                    // The name was found after a `=`, so there is one.
                    let equals = line
                        .iter()
                        .position(|byte| *byte == b'=')
                        .unwrap_or_default();
                    return is_official(&name)
                        .then_some(Some(Syntax {
                            name: shown(&name),
                            equals: start + equals,
                        }))
                        .ok_or_else(|| refused(&name));
                }
            }
            // BuildKit also takes directives as JSON.
            None if text.starts_with(b"{") => return Err(refused("JSON")),
            None if text.is_empty() => {}
            None => break,
        }
        start += line.len();
    }
    Ok(None)
}

fn syntax_name(comment: &[u8]) -> Option<String> {
    let equals = comment.iter().position(|byte| *byte == b'=')?;
    let key = comment[..equals].trim_ascii();
    key.eq_ignore_ascii_case(b"syntax")
        .then(|| String::from_utf8_lossy(comment[equals + 1..].trim_ascii()).into_owned())
}

fn is_official(name: &str) -> bool {
    let name = name.strip_prefix("docker.io/").unwrap_or(name);
    let repository = name.split([':', '@', ' ']).next().unwrap_or(name);
    matches!(
        repository,
        "docker/dockerfile" | "docker/dockerfile-upstream"
    )
}

fn refused(name: &str) -> BuildError {
    failed(format!(
        "the Dockerfile's `# syntax=` line asks for the builder `{}`: only docker/dockerfile is known here; remove the line",
        shown(name)
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tar_with(files: &[(&str, &str)]) -> tempfile::NamedTempFile {
        let file = tempfile::NamedTempFile::new().unwrap();
        let mut tar = tar::Builder::new(file.reopen().unwrap());
        for (name, text) in files {
            let mut header = tar::Header::new_gnu();
            header.set_size(text.len() as u64);
            header.set_mode(0o644);
            tar.append_data(&mut header, name, text.as_bytes()).unwrap();
        }
        tar.finish().unwrap();
        file
    }

    fn text_of(tar: &Path, name: &str) -> String {
        let mut archive = tar::Archive::new(File::open(tar).unwrap());
        let mut entry = archive
            .entries()
            .unwrap()
            .map(Result::unwrap)
            .find(|e| e.path().unwrap() == Path::new(name))
            .unwrap();
        let mut text = String::new();
        entry.read_to_string(&mut text).unwrap();
        text
    }

    #[test]
    fn the_official_builder_becomes_a_comment() {
        for line in [
            "# syntax=docker/dockerfile:1",
            "#SYNTAX = docker.io/docker/dockerfile:1.7-labs",
            "\n# x\n#syntax=docker/dockerfile",
        ] {
            let text = format!("{line}\nFROM busybox\nENV A=b\n");
            let tar = tar_with(&[("a.txt", "x"), ("Dockerfile", &text)]);
            assert!(
                disarm_in_tar(tar.path(), "Dockerfile").unwrap().is_some(),
                "{line}"
            );
            let disarmed = text_of(tar.path(), "Dockerfile");
            assert_eq!(disarmed.len(), text.len());
            assert!(
                !disarmed.to_lowercase().contains("syntax=") && !disarmed.contains("X ="),
                "{disarmed}"
            );
            assert!(disarmed.ends_with("ENV A=b\n"));
            assert_eq!(disarm_in_tar(tar.path(), "Dockerfile").unwrap(), None);
        }
    }

    #[test]
    fn a_strangers_builder_is_refused() {
        for text in [
            "# syntax=evil.example/frontend\nFROM a",
            "\u{feff}# syntax=evil/x\nFROM a",
            "#!/bin/x\n# syntax=evil/x\nFROM a",
            "// syntax=evil/x\nFROM a",
            "{\"syntax\":\"evil/x\"}",
            "# escape=`\n# syntax=docker/dockerfile-evil\nFROM a",
        ] {
            let tar = tar_with(&[("Dockerfile", text)]);
            assert!(
                matches!(
                    disarm_in_tar(tar.path(), "Dockerfile"),
                    Err(BuildError::Failed { .. })
                ),
                "{text}"
            );
        }
    }

    #[test]
    fn an_ordinary_dockerfile_is_left_alone() {
        let text = "# a comment\nFROM busybox\n# syntax=evil/x\nRUN echo a=b\n";
        let tar = tar_with(&[("docker/Dockerfile", text)]);
        assert_eq!(
            disarm_in_tar(tar.path(), "docker/Dockerfile").unwrap(),
            None
        );
        assert_eq!(text_of(tar.path(), "docker/Dockerfile"), text);
        assert!(disarm_in_tar(tar.path(), "Dockerfile").is_err());
    }
}
