//! Known SSH hosts: the lines about one host, copied into the child's home under the pipe's
//! address.
//!
//! libgit2 connects to the pipe, so it would look up the pipe's address; and it asks the server for
//! a key of a kind that it finds there. So the names are matched here, and the keys are compared by
//! libssh2 as ever.

use crate::git::error::FetchError;
use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use hmac::{Hmac, KeyInit, Mac};
use sha1::Sha1;
use shared::name::shown;
use std::fmt::Write as _;
use std::path::PathBuf;

/// Writes the known keys of `host` as those of the pipe into `~/.ssh/known_hosts`.
pub(super) fn prepare(
    files: &[PathBuf],
    host: &str,
    port: u16,
    pipe_port: u16,
) -> Result<(), FetchError> {
    let mut keys = String::new();
    for file in files {
        // A file that is not there, or not for us to read, knows no hosts.
        let Ok(text) = std::fs::read_to_string(file) else {
            continue;
        };
        for key in keys_of(&text, host, port)? {
            // A line into a string cannot fail.
            let _ = writeln!(keys, "[127.0.0.1]:{pipe_port} {key}");
        }
    }
    if keys.is_empty() {
        let files: Vec<String> = files
            .iter()
            .map(|file| file.display().to_string())
            .collect();
        return Err(FetchError::failed(format!(
            "the SSH host `{}` is not known to the node: add its key (ssh-keyscan -p {port} …, checked) to {}",
            shown(host),
            files.join(" or ")
        )));
    }
    let home =
        std::env::home_dir().ok_or_else(|| FetchError::node("writing known hosts", "no home"))?;
    let written = std::fs::create_dir_all(home.join(".ssh"))
        .and_then(|()| std::fs::write(home.join(".ssh/known_hosts"), keys));
    written.map_err(|error| FetchError::node("writing known hosts", error))
}

/// The keys of a host in a file of OpenSSH's format: type and key of each line that names it.
fn keys_of<'t>(text: &'t str, host: &str, port: u16) -> Result<Vec<&'t str>, FetchError> {
    let host = host.to_ascii_lowercase();
    let name = if port == 22 {
        host.clone()
    } else {
        format!("[{host}]:{port}")
    };
    let mut keys = Vec::new();
    for line in text
        .lines()
        .map(str::trim)
        .filter(|line| !line.is_empty() && !line.starts_with('#'))
    {
        let (marker, rest) = match line.split_once(char::is_whitespace) {
            Some((marker, rest)) if marker.starts_with('@') => (Some(marker), rest.trim_start()),
            _ => (None, line),
        };
        let Some((patterns, key)) = rest.split_once(char::is_whitespace) else {
            continue;
        };
        if !names(patterns, &name) {
            continue;
        }
        match marker {
            None => keys.push(key.trim()),
            Some("@revoked") => {
                return Err(FetchError::failed(format!(
                    "a key of the SSH host `{}` is marked as revoked",
                    shown(&host)
                )));
            }
            // Certificates of hosts are beyond libssh2.
            Some(_) => {}
        }
    }
    Ok(keys)
}

/// Whether a line's list of patterns names a host.
fn names(patterns: &str, name: &str) -> bool {
    if let Some(hashed) = patterns.strip_prefix("|1|") {
        return is_hash_of(hashed, name).unwrap_or(false);
    }
    let mut named = false;
    for pattern in patterns.split(',') {
        match pattern.strip_prefix('!') {
            Some(not) if glob(not.to_ascii_lowercase().as_bytes(), name.as_bytes()) => {
                return false;
            }
            Some(_) => {}
            None => named |= glob(pattern.to_ascii_lowercase().as_bytes(), name.as_bytes()),
        }
    }
    named
}

/// OpenSSH's hashed form: salt and HMAC-SHA1 of the name, in base64.
fn is_hash_of(hashed: &str, name: &str) -> Option<bool> {
    let (salt, hash) = hashed.split_once('|')?;
    let mut mac = Hmac::<Sha1>::new_from_slice(&BASE64_STANDARD.decode(salt).ok()?).ok()?;
    mac.update(name.as_bytes());
    Some(
        mac.verify_slice(&BASE64_STANDARD.decode(hash).ok()?)
            .is_ok(),
    )
}

/// `*` for any number of characters, `?` for one.
fn glob(pattern: &[u8], text: &[u8]) -> bool {
    match (pattern, text) {
        ([], []) => true,
        ([b'*', rest @ ..], _) => (0..=text.len()).any(|skip| glob(rest, &text[skip..])),
        ([b'?', pattern @ ..], [_, text @ ..]) => glob(pattern, text),
        ([p, pattern @ ..], [t, text @ ..]) => p == t && glob(pattern, text),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const FILE: &str = "\
# a comment
git.example,10.0.0.1 ssh-ed25519 AAAA1
[git.example]:2222 ssh-ed25519 AAAA2
*.lan,!bad.lan ssh-rsa AAAA3 a comment
@cert-authority *.lan ssh-rsa AAAA4
@revoked evil.example ssh-rsa AAAA5
|1|F1E1KeoE/eEWhi10WpGv4OdiO6Y=|3988QV0VE8wmZL7suNrYQLITLCg= ssh-rsa AAAA6
broken
";

    #[test]
    fn the_lines_about_a_host_are_found() {
        for (host, port, keys) in [
            ("git.example", 22, vec!["ssh-ed25519 AAAA1"]),
            ("GIT.example", 22, vec!["ssh-ed25519 AAAA1"]),
            ("git.example", 2222, vec!["ssh-ed25519 AAAA2"]),
            ("git.example", 2223, vec![]),
            ("forge.lan", 22, vec!["ssh-rsa AAAA3 a comment"]),
            ("bad.lan", 22, vec![]),
            // The example of OpenSSH's own sshd(8).
            ("192.168.1.61", 22, vec!["ssh-rsa AAAA6"]),
            ("unknown.example", 22, vec![]),
        ] {
            assert_eq!(keys_of(FILE, host, port).unwrap(), keys, "{host}:{port}");
        }
        assert!(keys_of(FILE, "evil.example", 22).is_err());
    }
}
