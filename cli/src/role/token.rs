//! The admin token: given, or made on the first start and kept.

use crate::output;
use crate::paths::TOKEN_FILE;
use anyhow::{Context, bail};
use rand::TryRngCore;
use schema::TOKEN_MIN_BYTES;
use secrecy::SecretString;
use std::fs::{self, File, OpenOptions};
use std::io::{ErrorKind, Write};
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::Path;

/// Given, this token is used. Not a flag: a command line is seen by everybody on the machine.
pub(super) const VARIABLE: &str = "LONGSHORE_ADMIN_TOKEN";

/// Only its owner may read and write it.
const MODE: u32 = 0o600;

/// The token that was given by the environment or a file, when one was.
pub(super) fn given(file: Option<&Path>) -> anyhow::Result<Option<SecretString>> {
    if let Some(value) = std::env::var_os(VARIABLE) {
        let text = value
            .into_string()
            .ok()
            .with_context(|| format!("{VARIABLE} is not text"))?;
        return vet(&text, VARIABLE, "set one").map(Some);
    }
    file.map(read).transpose()
}

/// The token in a data directory; made there on the first start.
pub(super) fn kept(data_dir: &Path) -> anyhow::Result<SecretString> {
    let path = data_dir.join(TOKEN_FILE);
    match fs::symlink_metadata(&path) {
        Ok(_) => read(&path),
        Err(error) if error.kind() == ErrorKind::NotFound => make(&path),
        Err(error) => Err(error).with_context(|| format!("reading {}", path.display())),
    }
}

fn read(path: &Path) -> anyhow::Result<SecretString> {
    let text = fs::read_to_string(path)
        .with_context(|| format!("reading the admin token from {}", path.display()))?;
    let mode = fs::metadata(path)
        .map(|file| file.permissions().mode())
        .unwrap_or(MODE);
    if mode & 0o077 != 0 {
        tracing::warn!(path = %path.display(), "others may read the admin token's file; `chmod 600` keeps them out");
    }
    vet(
        text.trim_end_matches(['\r', '\n']),
        &path.display().to_string(),
        "write one there",
    )
}

/// An empty token would let everybody in, so it stops the start; the rest is the server's to judge.
fn vet(text: &str, place: &str, remedy: &str) -> anyhow::Result<SecretString> {
    if text.trim().is_empty() {
        bail!("the admin token in {place} is empty: {remedy}, of at least {TOKEN_MIN_BYTES} bytes");
    }
    Ok(SecretString::from(text))
}

/// Makes a token: 32 random bytes. The file appears whole or not at all, and never replaces another.
fn make(path: &Path) -> anyhow::Result<SecretString> {
    let mut bytes = [0u8; 32];
    rand::rngs::OsRng
        .try_fill_bytes(&mut bytes)
        .context("asking the system for random bytes")?;
    let token: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
    let draft = path.with_extension(format!("{}.new", std::process::id()));
    let written = write(&draft, &token).and_then(|()| fs::hard_link(&draft, path));
    let removed = fs::remove_file(&draft);
    match written {
        Ok(()) => {}
        // Another process was quicker.
        Err(error) if error.kind() == ErrorKind::AlreadyExists => return read(path),
        Err(error) => {
            return Err(error)
                .with_context(|| format!("writing the admin token to {}", path.display()));
        }
    }
    removed.with_context(|| format!("removing {}", draft.display()))?;
    output::note(&format!(
        "The admin token is {token}\nIt is shown this once and kept in {}",
        path.display()
    ));
    Ok(SecretString::from(token))
}

fn write(path: &Path, token: &str) -> std::io::Result<()> {
    let mut file: File = OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(true)
        .mode(MODE)
        .open(path)?;
    writeln!(file, "{token}")?;
    file.sync_all()
}

#[cfg(test)]
mod tests {
    use super::*;
    use secrecy::ExposeSecret;

    fn same(one: &SecretString, other: &SecretString) -> bool {
        one.expose_secret() == other.expose_secret()
    }

    #[test]
    fn the_first_start_makes_a_token_that_only_its_owner_reads() {
        let directory = tempfile::tempdir().unwrap();
        let first = kept(directory.path()).unwrap();
        assert_eq!(first.expose_secret().len(), 64);
        let path = directory.path().join(TOKEN_FILE);
        assert_eq!(
            fs::metadata(&path).unwrap().permissions().mode() & 0o777,
            0o600
        );
        assert_eq!(
            fs::read_dir(directory.path()).unwrap().count(),
            1,
            "nothing else is left"
        );
        assert!(
            same(&first, &kept(directory.path()).unwrap()),
            "the next start uses it again"
        );
        let other = tempfile::tempdir().unwrap();
        assert!(!same(&first, &kept(other.path()).unwrap()));
    }

    #[test]
    fn an_empty_token_stops_the_start() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join(TOKEN_FILE);
        for text in ["", "\n", "  \n"] {
            fs::write(&path, text).unwrap();
            assert!(
                kept(directory.path())
                    .unwrap_err()
                    .to_string()
                    .contains("is empty"),
                "{text:?}"
            );
        }
    }

    #[test]
    fn a_token_file_that_leads_nowhere_is_not_replaced() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join(TOKEN_FILE);
        std::os::unix::fs::symlink("/nonexistent/token", &path).unwrap();
        assert!(kept(directory.path()).is_err());
        assert!(fs::symlink_metadata(&path).unwrap().is_symlink());
    }
}
