//! Refs, commits, paths and image references: short texts with a grammar each.

use crate::name::shown;
use serde::{Deserialize, Serialize};

/// A ref, path or image reference that is refused, and what would be right.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{shown}` is not {kind}: {rule}")]
pub struct SourceTextError {
    /// What was expected, with its article.
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
        Err(refuse("a Git ref", text, GIT_REF))
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
        Err(refuse("a commit id", text, COMMIT))
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
        Err(refuse("a path in the repository", text, REPO_PATH))
    } else {
        Ok(())
    }
}

const IMAGE: &str =
    "an image reference such as `nginx:1.27` or `registry.example/team/app@sha256:…`";

fn image(text: &str) -> Result<(), SourceTextError> {
    let refused = || refuse("an image reference", text, IMAGE);
    if text.is_empty() || text.starts_with(['-', '/', '.']) {
        return Err(refused());
    }
    let (rest, found) = match text.split_once('@') {
        Some((rest, found)) => (rest, Some(found)),
        None => (text, None),
    };
    // A digest can always be added.
    if rest.len() > 440 || found.is_some_and(|found| digest(found).is_err()) {
        return Err(refused());
    }
    let (path, tag) = split_tag(rest);
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

/// A colon after the last slash starts the tag; one before it, the registry's port.
fn split_tag(text: &str) -> (&str, Option<&str>) {
    let last = text.rsplit('/').next().unwrap_or(text);
    match last.split_once(':') {
        Some((_, tag)) => (&text[..text.len() - tag.len() - 1], Some(tag)),
        None => (text, None),
    }
}

const DIGEST: &str = "`sha256:` and 64 lower-case hexadecimal digits";

fn digest(text: &str) -> Result<(), SourceTextError> {
    match text.strip_prefix("sha256:") {
        Some(hex) if hex.len() == 64 && commit(hex).is_ok() => Ok(()),
        _ => Err(refuse("a digest", text, DIGEST)),
    }
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
    /// The digest of an image in a registry, or the id of one that only an engine has.
    ImageDigest, digest;
}

impl ImageDigest {
    /// The digest of a version as it was recorded, which once was `name@digest`.
    ///
    /// # Errors
    /// [`SourceTextError`].
    pub fn of_version(text: &str) -> Result<Self, SourceTextError> {
        Self::parse(text.rsplit('@').next().unwrap_or_default())
    }
}

/// Where a registry listens that says nothing else.
const HTTPS: u16 = 443;

impl ImageRef {
    /// This very image of the name, whatever its tag leads to.
    #[must_use]
    pub fn at(&self, digest: &ImageDigest) -> Self {
        Self(format!("{}@{digest}", self.without_digest()))
    }

    /// The digest that it names.
    #[must_use]
    pub fn digest(&self) -> Option<ImageDigest> {
        let (_, digest) = self.0.split_once('@')?;
        Some(ImageDigest(digest.to_owned()))
    }

    /// Where it is kept: `[registry/]name`.
    #[must_use]
    pub fn repository(&self) -> &str {
        split_tag(self.without_digest()).0
    }

    /// The registry that has it, as a host and port; Docker Hub when it names none.
    #[must_use]
    pub fn registry(&self) -> (&str, u16) {
        let repository = self.repository();
        let named = repository.split_once('/').map(|(first, _)| first);
        // As engines tell a host from the first part of a name.
        match named.filter(|first| first.contains(['.', ':']) || *first == "localhost") {
            None | Some("docker.io" | "index.docker.io") => ("registry-1.docker.io", HTTPS),
            Some(host) => match host.rsplit_once(':') {
                Some((name, port)) => (name, port.parse().unwrap_or(HTTPS)),
                None => (host, HTTPS),
            },
        }
    }

    fn without_digest(&self) -> &str {
        self.0.split('@').next().unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_image_names_its_registry() {
        for (text, host, port) in [
            ("nginx", "registry-1.docker.io", 443),
            ("team/app:1.0", "registry-1.docker.io", 443),
            ("docker.io/library/nginx", "registry-1.docker.io", 443),
            ("registry.example/app", "registry.example", 443),
            (
                "registry.example:5000/team/app:1.0",
                "registry.example",
                5000,
            ),
            ("localhost/app", "localhost", 443),
            ("127.0.0.1:15672/x", "127.0.0.1", 15672),
            ("169.254.169.254/latest", "169.254.169.254", 443),
        ] {
            assert_eq!(
                ImageRef::parse(text).unwrap().registry(),
                (host, port),
                "{text}"
            );
        }
    }

    #[test]
    fn what_is_refused_is_said_in_a_sentence() {
        let refused = ImageRef::parse("UPPER").unwrap_err().to_string();
        assert!(
            refused.starts_with("`UPPER` is not an image reference: "),
            "{refused}"
        );
        let refused = GitRef::parse("-x").unwrap_err().to_string();
        assert!(refused.starts_with("`-x` is not a Git ref: "), "{refused}");
    }

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

    #[test]
    fn an_image_is_pinned_to_a_digest() {
        let digest = |digit: &str| ImageDigest::parse(&format!("sha256:{}", digit.repeat(64)));
        let (one, other) = (digest("a").unwrap(), digest("b").unwrap());
        for name in ["localhost:5000/app", "localhost:5000/app:v1"] {
            let image = ImageRef::parse(name).unwrap();
            assert_eq!(
                (image.digest(), image.repository()),
                (None, "localhost:5000/app")
            );
            let pinned = image.at(&one);
            assert_eq!(
                ImageRef::parse(&format!("{name}@{one}")),
                Ok(pinned.clone())
            );
            assert_eq!(
                (pinned.digest(), pinned.repository()),
                (Some(one.clone()), "localhost:5000/app")
            );
            assert_eq!(pinned.at(&other), image.at(&other));
        }
        let longest = ImageRef::parse(&"a".repeat(440)).unwrap();
        assert!(ImageRef::parse(longest.at(&one).as_str()).is_ok());
        assert_eq!(
            ImageDigest::of_version(&format!("app@{one}")),
            Ok(one.clone())
        );
        assert_eq!(ImageDigest::of_version(one.as_str()), Ok(one));
        for text in ["", "sha256:", "sha256:AB", &"a".repeat(64), "md5:1"] {
            assert!(ImageDigest::parse(text).is_err(), "{text:?}");
        }
    }
}
