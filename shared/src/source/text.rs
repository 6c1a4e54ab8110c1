//! Refs, commits, paths and image references: short texts with a grammar each.

use crate::name::shown;
use serde::{Deserialize, Serialize};

/// A ref, path or image reference that is refused, and what would be right.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{shown}` is not a {kind}: {rule}")]
pub struct SourceTextError {
    /// What was expected.
    pub kind: &'static str,
    /// What was given, escaped and cut.
    pub shown: String,
    /// The grammar in words.
    pub rule: &'static str,
}

fn refuse(kind: &'static str, text: &str, rule: &'static str) -> SourceTextError {
    SourceTextError {
        kind,
        shown: shown(text),
        rule,
    }
}

const GIT_REF: &str = "a branch, tag, full ref or commit by the rules of git-check-ref-format: no leading `-`, \
                       no `..`, `@{`, `//`, space, control character or any of ~ ^ : ? * [ \\";

fn git_ref(text: &str) -> Result<(), SourceTextError> {
    let forbidden = |c: char| c.is_control() || c.is_whitespace() || "~^:?*[\\".contains(c);
    let wrong = text.is_empty()
        || text.len() > 255
        || text.chars().any(forbidden)
        || text.starts_with(['-', '/', '.'])
        || text.ends_with(['/', '.'])
        || ["..", "@{", "//", "/.", "/-"]
            .iter()
            .any(|part| text.contains(part))
        || text.split('/').any(|part| part.ends_with(".lock"))
        || text == "@";
    if wrong {
        Err(refuse("Git ref", text, GIT_REF))
    } else {
        Ok(())
    }
}

const COMMIT: &str = "40 (SHA-1) or 64 (SHA-256) lower-case hexadecimal digits";

fn commit(text: &str) -> Result<(), SourceTextError> {
    let hex = text
        .bytes()
        .all(|byte| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte));
    if hex && (text.len() == 40 || text.len() == 64) {
        Ok(())
    } else {
        Err(refuse("commit id", text, COMMIT))
    }
}

const REPO_PATH: &str = "a relative path inside the repository: no leading `/` or `-`, no `.`, `..` or `.git` part, \
                         no backslash or control character";

fn repo_path(text: &str) -> Result<(), SourceTextError> {
    let part_is_wrong = |part: &str| {
        part.is_empty()
            || part == "."
            || part == ".."
            || part.eq_ignore_ascii_case(".git")
            || part.len() > 255
    };
    let wrong = text.is_empty()
        || text.len() > 1024
        || text.starts_with(['/', '-'])
        || text.chars().any(|c| c.is_control() || c == '\\')
        || text.split('/').any(part_is_wrong);
    if wrong {
        Err(refuse("path in the repository", text, REPO_PATH))
    } else {
        Ok(())
    }
}

const IMAGE: &str =
    "an image reference such as `nginx:1.27` or `registry.example/team/app@sha256:…`";

fn image(text: &str) -> Result<(), SourceTextError> {
    let refused = || refuse("image reference", text, IMAGE);
    if text.is_empty() || text.len() > 512 || text.starts_with(['-', '/', '.']) {
        return Err(refused());
    }
    let (rest, digest) = match text.split_once('@') {
        Some((rest, digest)) => (rest, Some(digest)),
        None => (text, None),
    };
    if let Some(digest) = digest {
        let hex = digest.strip_prefix("sha256:").ok_or_else(refused)?;
        if hex.len() != 64
            || !hex
                .bytes()
                .all(|byte| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte))
        {
            return Err(refused());
        }
    }
    // A colon after the last slash starts the tag; one before it, the registry's port.
    let last = rest.rsplit('/').next().unwrap_or(rest);
    let (path, tag) = match last.split_once(':') {
        Some((_, tag)) => (&rest[..rest.len() - tag.len() - 1], Some(tag)),
        None => (rest, None),
    };
    if let Some(tag) = tag {
        let inside = tag
            .bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || b"._-".contains(&byte));
        if tag.is_empty() || tag.len() > 128 || !inside || tag.starts_with(['.', '-']) {
            return Err(refused());
        }
    }
    let parts: Vec<&str> = path.split('/').collect();
    let is_host = |part: &str| part.contains(['.', ':']) || part == "localhost";
    for (index, part) in parts.iter().enumerate() {
        let host = index == 0 && parts.len() > 1 && is_host(part);
        let inside = part.bytes().all(|byte| {
            byte.is_ascii_lowercase()
                || byte.is_ascii_digit()
                || b"._-".contains(&byte)
                || (host && (byte.is_ascii_uppercase() || byte == b':'))
        });
        let framed = part.starts_with(|c: char| c.is_ascii_alphanumeric())
            && part.ends_with(|c: char| c.is_ascii_alphanumeric());
        if part.is_empty() || !inside || !framed {
            return Err(refused());
        }
    }
    Ok(())
}

macro_rules! texts {
    ($($(#[$doc:meta])* $name:ident, $grammar:path);+ $(;)?) => {$(
        $(#[$doc])*
        #[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[serde(try_from = "String", into = "String")]
        pub struct $name(String);

        impl $name {
            /// Reads the text.
            ///
            /// # Errors
            /// [`SourceTextError`], which says what would be right.
            pub fn parse(text: &str) -> Result<Self, SourceTextError> {
                $grammar(text)?;
                Ok(Self(text.to_owned()))
            }

            /// As text.
            #[must_use]
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl std::fmt::Display for $name {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.pad(&self.0)
            }
        }

        impl std::str::FromStr for $name {
            type Err = SourceTextError;

            fn from_str(text: &str) -> Result<Self, Self::Err> {
                Self::parse(text)
            }
        }

        impl TryFrom<String> for $name {
            type Error = SourceTextError;

            fn try_from(text: String) -> Result<Self, Self::Error> {
                $grammar(&text)?;
                Ok(Self(text))
            }
        }

        impl From<$name> for String {
            fn from(text: $name) -> Self {
                text.0
            }
        }
    )+};
}

texts! {
    /// A branch, tag, full ref (`refs/…`) or commit.
    GitRef, git_ref;
    /// A full commit id.
    CommitId, commit;
    /// A path inside a repository, relative to its root.
    RepoPath, repo_path;
    /// An image reference: `[registry/]name[:tag][@digest]`.
    ImageRef, image;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn refs_that_could_be_options_or_ranges_are_refused() {
        for text in ["main", "v1.0.0", "feature/x", "refs/heads/main", "HEAD"] {
            assert!(GitRef::parse(text).is_ok(), "{text}");
        }
        for text in [
            "",
            "-x",
            "--upload-pack=touch",
            "a..b",
            "a@{1}",
            "a b",
            "a\nb",
            "a:b",
            "a~1",
            "x.lock",
            "/a",
            "a/",
            "a//b",
            "@",
            "a/-b",
        ] {
            assert!(GitRef::parse(text).is_err(), "{text:?}");
        }
    }

    #[test]
    fn paths_stay_inside() {
        for text in ["Dockerfile", "docker/Dockerfile.prod", "a/b/c", "..a"] {
            assert!(RepoPath::parse(text).is_ok(), "{text}");
        }
        for text in [
            "",
            "/etc/passwd",
            "../x",
            "a/../b",
            "a/..",
            ".",
            "./a",
            "-f",
            ".git/config",
            "a//b",
            "a\\b",
            "a\nb",
        ] {
            assert!(RepoPath::parse(text).is_err(), "{text:?}");
        }
    }

    #[test]
    fn image_references() {
        let digest = format!("busybox@sha256:{}", "a".repeat(64));
        for text in [
            "busybox",
            "python:3-slim",
            "localhost:5000/app:v1",
            "ghcr.io/Team/app",
            "registry.example/a/b/c:x",
            &digest,
        ] {
            assert_eq!(
                ImageRef::parse(text).is_ok(),
                text != "ghcr.io/Team/app",
                "{text}"
            );
        }
        for text in [
            "",
            "-x",
            "a b",
            "UPPER",
            "a:",
            "a@sha256:1",
            "a:b:c",
            "/a",
            "a//b",
            "a:$(x)",
        ] {
            assert!(ImageRef::parse(text).is_err(), "{text:?}");
        }
    }
}
