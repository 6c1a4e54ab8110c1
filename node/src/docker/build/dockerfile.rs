//! What is looked at in a Dockerfile before the builder sees it.
//!
//! A `# syntax=` line has BuildKit pull and run another program as the builder
//! ([`crate::syntax`]). So such a line is made an ordinary comment when it names the official one,
//! and refused otherwise. The context is a tar that the node made, in which one byte of a comment can
//! be changed in place.

use super::{BuildError, BuildOrder};
use crate::log_sink::LogSink;
use crate::syntax::{DOCKERFILE_LIMIT, syntax_lines};
use shared::name::shown;
use std::fs::{File, OpenOptions};
use std::io::{Read, Seek, SeekFrom, Write};
use std::path::Path;

/// Makes `# syntax=` lines harmless.
///
/// # Errors
/// [`BuildError::Failed`] when one names a builder that is not known, or when the Dockerfile is too
/// large or not an ordinary file of the context.
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
        if size > DOCKERFILE_LIMIT {
            return Err(failed(format!(
                "{} has more than {DOCKERFILE_LIMIT} bytes",
                shown(dockerfile)
            )));
        }
        let content = read_at(&mut file, start, size).map_err(unreadable)?;
        let lines = syntax_lines(&content)
            .map_err(|foreign| failed(format!("{}: {foreign}", shown(dockerfile))))?;
        for found in lines {
            file.seek(SeekFrom::Start(start + found.equals as u64))
                .map_err(unreadable)?;
            file.write_all(b"-").map_err(unreadable)?;
            official = Some(found.name);
        }
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
    let mut content = Vec::new();
    file.take(size).read_to_end(&mut content)?;
    Ok(content)
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
            "#SYNTAX = docker.io/docker/dockerfile:1.7",
            "\n# x\n#syntax=docker/dockerfile",
            "# syntax=docker/dockerfile:1\n# syntax=docker/dockerfile:1",
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
    fn the_whole_of_it_is_looked_at_and_no_more_is_read_than_may_be() {
        let far = format!(
            "{}# syntax=evil.example/fe\nFROM a",
            "# a=b\n".repeat(12_000)
        );
        let huge = " ".repeat(DOCKERFILE_LIMIT as usize + 1);
        for (text, words) in [(far, "evil.example/fe"), (huge, "more than 1048576 bytes")] {
            let tar = tar_with(&[("Dockerfile", &text)]);
            let error = disarm_in_tar(tar.path(), "Dockerfile").unwrap_err();
            assert!(error.to_string().contains(words), "{error}");
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
