//! The address of a Git repository.

use crate::name::shown;
use serde::{Deserialize, Serialize};

/// How a repository is reached.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum GitScheme {
    /// Encrypted HTTP.
    Https,
    /// Plain HTTP.
    Http,
    /// SSH, also in the short form `git@host:path`.
    Ssh,
    /// A directory of the node. Refused unless the operator allows it for local trials.
    File,
}

impl GitScheme {
    /// As it stands in a URL.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Https => "https",
            Self::Http => "http",
            Self::Ssh => "ssh",
            Self::File => "file",
        }
    }
}

impl std::str::FromStr for GitScheme {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        [Self::Https, Self::Http, Self::Ssh, Self::File]
            .into_iter()
            .find(|scheme| scheme.as_str() == text)
            .ok_or_else(|| {
                format!(
                    "`{}` is not a Git scheme: https, http, ssh or file",
                    shown(text)
                )
            })
    }
}

/// Why a text is not the address of a repository that may be fetched.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum GitUrlError {
    /// Not a URL of a Git repository at all.
    #[error("`{shown}` is not a Git URL: {rule}")]
    NotAUrl {
        /// What was given, escaped and cut.
        shown: String,
        /// What would be right.
        rule: &'static str,
    },
    /// A transport that is never used: it could run commands or read files.
    #[error("Git over `{scheme}` is not allowed: use https, http or ssh")]
    Scheme {
        /// The scheme that was asked for.
        scheme: String,
    },
    /// A user with a password, or a token, inside the URL, where logs would show it.
    #[error(
        "credentials do not belong in a Git URL: use ssh://, with a key that the nodes have (--ssh-key)"
    )]
    Credentials,
    /// A `file://` URL without the operator's leave.
    #[error(
        "Git over `file` is not allowed here: an operator may allow it for local trials (--allow-git-scheme file)"
    )]
    FileNotAllowed,
}

const PLAIN: &str =
    "leave out what begins with `?` or `#`; a branch, tag or commit is given apart, as the ref";

const RULE: &str = "give something like https://host/path.git or ssh://git@host/path.git";

/// The address of a Git repository: https, http, ssh (also `git@host:path`) or, where allowed, file.
/// Never holds a password.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct GitUrl {
    url: url::Url,
    scheme: GitScheme,
}

impl GitUrl {
    /// Reads an address. `file://` parses, since only the settings know whether it is allowed:
    /// see [`GitUrl::check_scheme`].
    ///
    /// # Errors
    /// [`GitUrlError`], which says what would be right and never repeats a credential.
    pub fn parse(text: &str) -> Result<Self, GitUrlError> {
        let refused = || GitUrlError::NotAUrl {
            // Without these nothing in it can be a credential.
            shown: if text.contains(['@', '?', '#']) {
                shown(&redacted(text))
            } else {
                shown(text)
            },
            rule: RULE,
        };
        if text.is_empty() || text.len() > 2048 || text.starts_with('-') {
            return Err(refused());
        }
        if text
            .chars()
            .any(|c| c.is_control() || c.is_whitespace() || c == '\\')
        {
            return Err(GitUrlError::NotAUrl {
                shown: "(with spaces or control characters)".to_owned(),
                rule: RULE,
            });
        }
        // `transport::address` is how git names remote helpers, `ext::` among them.
        if let Some((helper, _)) = text.split_once("::")
            && helper
                .bytes()
                .all(|byte| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'+')
        {
            return Err(GitUrlError::Scheme {
                scheme: helper.to_owned(),
            });
        }
        let long_form = if text.contains("://") {
            text.to_owned()
        } else {
            from_short_form(text).ok_or_else(refused)?
        };
        let url = url::Url::parse(&long_form).map_err(|_| refused())?;
        let scheme: GitScheme = url.scheme().parse().map_err(|_| GitUrlError::Scheme {
            scheme: url.scheme().to_owned(),
        })?;
        let user_is_credential = scheme != GitScheme::Ssh && !url.username().is_empty();
        if url.password().is_some() || user_is_credential {
            return Err(GitUrlError::Credentials);
        }
        if url.query().is_some() || url.fragment().is_some() {
            return Err(GitUrlError::NotAUrl {
                shown: shown(&crate::secret::redacted_url(text)),
                rule: PLAIN,
            });
        }
        let host_is_right = match scheme {
            GitScheme::File => url.host_str().unwrap_or("").is_empty(),
            _ => url
                .host_str()
                .is_some_and(|host| !host.is_empty() && !host.starts_with('-')),
        };
        let path = url.path();
        if !host_is_right
            || path.len() < 2
            || url.username().starts_with('-')
            || path.starts_with("/-")
            || path.contains("/../")
        {
            return Err(refused());
        }
        Ok(Self { url, scheme })
    }

    /// Refuses `file://` unless the settings allow it.
    ///
    /// # Errors
    /// [`GitUrlError::FileNotAllowed`].
    pub fn check_scheme(&self, file_allowed: bool) -> Result<(), GitUrlError> {
        if self.scheme == GitScheme::File && !file_allowed {
            Err(GitUrlError::FileNotAllowed)
        } else {
            Ok(())
        }
    }

    /// How it is reached.
    #[must_use]
    pub const fn scheme(&self) -> GitScheme {
        self.scheme
    }

    /// The host and the port that a connection goes to; none for `file`.
    #[must_use]
    pub fn host_and_port(&self) -> Option<(&str, u16)> {
        let default = match self.scheme {
            GitScheme::Https => 443,
            GitScheme::Http => 80,
            GitScheme::Ssh => 22,
            GitScheme::File => return None,
        };
        Some((self.url.host_str()?, self.url.port().unwrap_or(default)))
    }

    /// The parsed URL.
    #[must_use]
    pub const fn as_url(&self) -> &url::Url {
        &self.url
    }

    /// As text, in the long form.
    #[must_use]
    pub fn as_str(&self) -> &str {
        self.url.as_str()
    }
}

/// Without what may be a credential. A text without `//` has no place for a user of its own, so what
/// stands before an `@` in it would stay.
fn redacted(text: &str) -> String {
    if text.contains("://") {
        crate::secret::redacted_url(text)
    } else {
        "(not a URL)".to_owned()
    }
}

/// `git@host:path` as `ssh://git@host/path`; nothing for what does not look like it.
fn from_short_form(text: &str) -> Option<String> {
    let (address, path) = text.split_once(':')?;
    let (user, host) = address.split_once('@')?;
    let plain = |part: &str| {
        !part.is_empty()
            && part
                .bytes()
                .all(|b| b.is_ascii_alphanumeric() || b"._-".contains(&b))
    };
    if !plain(user)
        || !plain(host)
        || host.starts_with('-')
        || user.starts_with('-')
        || path.is_empty()
        || path.starts_with('-')
    {
        return None;
    }
    Some(format!(
        "ssh://{user}@{host}/{}",
        path.trim_start_matches('/')
    ))
}

impl std::fmt::Display for GitUrl {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.as_str())
    }
}

impl std::str::FromStr for GitUrl {
    type Err = GitUrlError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Self::parse(text)
    }
}

impl TryFrom<String> for GitUrl {
    type Error = GitUrlError;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        Self::parse(&text)
    }
}

impl From<GitUrl> for String {
    fn from(url: GitUrl) -> Self {
        url.url.into()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_that_are_fetched() {
        for (text, scheme, host) in [
            (
                "https://git.example/a/b.git",
                GitScheme::Https,
                Some(("git.example", 443)),
            ),
            (
                "http://127.0.0.1:3000/a",
                GitScheme::Http,
                Some(("127.0.0.1", 3000)),
            ),
            (
                "ssh://git@git.example:2222/a/b",
                GitScheme::Ssh,
                Some(("git.example", 2222)),
            ),
            (
                "git@git.example:team/app.git",
                GitScheme::Ssh,
                Some(("git.example", 22)),
            ),
            ("file:///srv/app.git", GitScheme::File, None),
        ] {
            let url = GitUrl::parse(text).unwrap();
            assert_eq!(
                (url.scheme(), url.host_and_port()),
                (scheme, host),
                "{text}"
            );
        }
    }

    #[test]
    fn addresses_that_are_refused() {
        for text in [
            "",
            "hello",
            "/srv/app.git",
            "../app",
            "ext::sh -c touch",
            "ext::sh",
            "fd::17",
            "git://host/a",
            "ftp://host/a",
            "-oProxyCommand=x",
            "--upload-pack=x",
            "https://user:secret@host/a",
            "https://token@host/a",
            "https://host/a\nb",
            "https://host/a b",
            "https://",
            "https://host",
            "https://host/",
            "ssh://-oProxyCommand=x/a",
            "ssh://git@host/-x",
            "git@-host:a",
            "-git@host:a",
            "git@host:-a",
            "https://host/a?b",
            "https://host/a#b",
            "file://host/a",
            "javascript:alert(1)",
        ] {
            assert!(GitUrl::parse(text).is_err(), "{text:?}");
        }
    }

    #[test]
    fn an_error_never_repeats_a_credential() {
        for text in [
            "https://user:hunter2@host/a",
            "https://hunter2@host/a",
            "x://u:hunter2@h/a",
            "https://u:hunter2@/",
            "https://host/a?token=hunter2",
            "host/a?token=hunter2",
            &format!("https://user:hunter2@host/{}", "a".repeat(2048)),
            "-https://user:hunter2@host/a",
            "-u hunter2@host",
            "htps:user:hunter2@host/a",
        ] {
            let error = GitUrl::parse(text).unwrap_err().to_string();
            assert!(!error.contains("hunter2"), "{error}");
        }
    }

    #[test]
    fn an_error_says_what_was_given_and_what_is_wrong_with_it() {
        let words = |text: &str| GitUrl::parse(text).unwrap_err().to_string();
        assert!(words("/srv/app").starts_with("`/srv/app` is not a Git URL"));
        let branch = words("https://host/a.git#main");
        assert!(branch.contains("leave out what begins with"), "{branch}");
    }

    #[test]
    fn file_needs_leave() {
        let url = GitUrl::parse("file:///srv/app.git").unwrap();
        assert_eq!(url.check_scheme(false), Err(GitUrlError::FileNotAllowed));
        assert_eq!(url.check_scheme(true), Ok(()));
    }
}
