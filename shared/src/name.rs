//! Names that people choose, each with one grammar and one door: `parse`.
//!
//! A parsed name is safe to be put into a queue name, a container name, a host name or a label;
//! nothing else is accepted in those places.

use serde::{Deserialize, Serialize};

/// A name that is refused, and what would be right.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NameError {
    /// Nothing, or only white space.
    #[error("{kind} must not be empty")]
    Empty {
        /// What was being named, with its article.
        kind: &'static str,
    },
    /// Too long.
    #[error("{kind} has at most {limit} characters; this one has {length}")]
    TooLong {
        /// What was being named, with its article.
        kind: &'static str,
        /// The limit, in characters.
        limit: usize,
        /// How many were given.
        length: usize,
    },
    /// Outside its grammar.
    #[error("`{shown}` is not {kind}: {rule}")]
    Grammar {
        /// What was being named, with its article.
        kind: &'static str,
        /// What was given, escaped and cut to 80 characters.
        shown: String,
        /// The grammar in words.
        rule: &'static str,
    },
}

/// What was given, safe to show: control characters escaped, at most 80 characters.
#[must_use]
pub fn shown(text: &str) -> String {
    let mut shown: String = text.chars().take(80).flat_map(char::escape_debug).collect();
    if text.chars().count() > 80 {
        shown.push('…');
    }
    shown
}

/// DNS label by RFC 1123: what host names, container names and queue names all take.
const DNS_LABEL: &str =
    "lower-case letters, digits and hyphens, starting and ending with a letter or digit";
const DNS_LABEL_LIMIT: usize = 63;

fn dns_label(kind: &'static str, text: &str) -> Result<(), NameError> {
    if text.trim().is_empty() {
        return Err(NameError::Empty { kind });
    }
    let length = text.chars().count();
    if length > DNS_LABEL_LIMIT {
        return Err(NameError::TooLong {
            kind,
            limit: DNS_LABEL_LIMIT,
            length,
        });
    }
    let inside = text
        .bytes()
        .all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-');
    if !inside || text.starts_with('-') || text.ends_with('-') {
        return Err(NameError::Grammar {
            kind,
            shown: shown(text),
            rule: DNS_LABEL,
        });
    }
    Ok(())
}

const ENV_KEY: &str = "letters, digits and underscores, not starting with a digit";
const ENV_KEY_LIMIT: usize = 256;

fn env_key(kind: &'static str, text: &str) -> Result<(), NameError> {
    if text.is_empty() {
        return Err(NameError::Empty { kind });
    }
    if text.len() > ENV_KEY_LIMIT {
        return Err(NameError::TooLong {
            kind,
            limit: ENV_KEY_LIMIT,
            length: text.chars().count(),
        });
    }
    let inside = text
        .bytes()
        .all(|byte| byte.is_ascii_alphanumeric() || byte == b'_');
    if !inside || text.starts_with(|first: char| first.is_ascii_digit()) {
        return Err(NameError::Grammar {
            kind,
            shown: shown(text),
            rule: ENV_KEY,
        });
    }
    Ok(())
}

const LABEL_KEY: &str = "letters, digits, `.`, `_`, `-` and `/`, starting and ending with a letter or digit, \
                         and not in the reserved `longshore.` namespace";
const LABEL_KEY_LIMIT: usize = 128;

fn label_key(kind: &'static str, text: &str) -> Result<(), NameError> {
    if text.is_empty() {
        return Err(NameError::Empty { kind });
    }
    if text.len() > LABEL_KEY_LIMIT {
        return Err(NameError::TooLong {
            kind,
            limit: LABEL_KEY_LIMIT,
            length: text.chars().count(),
        });
    }
    let inside = text
        .bytes()
        .all(|byte| byte.is_ascii_alphanumeric() || b"._-/".contains(&byte));
    let framed = text.starts_with(|first: char| first.is_ascii_alphanumeric())
        && text.ends_with(|last: char| last.is_ascii_alphanumeric());
    if !inside || !framed || text.to_ascii_lowercase().starts_with("longshore.") {
        return Err(NameError::Grammar {
            kind,
            shown: shown(text),
            rule: LABEL_KEY,
        });
    }
    Ok(())
}

const LABEL_VALUE: &str = "printable characters without line breaks";
const LABEL_VALUE_LIMIT: usize = 256;

fn label_value(kind: &'static str, text: &str) -> Result<(), NameError> {
    let length = text.chars().count();
    if length > LABEL_VALUE_LIMIT {
        return Err(NameError::TooLong {
            kind,
            limit: LABEL_VALUE_LIMIT,
            length,
        });
    }
    if text.chars().any(char::is_control) {
        return Err(NameError::Grammar {
            kind,
            shown: shown(text),
            rule: LABEL_VALUE,
        });
    }
    Ok(())
}

macro_rules! names {
    ($($(#[$doc:meta])* $name:ident, $kind:literal, $grammar:path);+ $(;)?) => {$(
        $(#[$doc])*
        #[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[cfg_attr(feature = "sea-orm", derive(sea_orm::DeriveValueType), sea_orm(value_type = "String"))]
        #[serde(try_from = "String", into = "String")]
        pub struct $name(String);

        impl $name {
            /// Reads a name.
            ///
            /// # Errors
            /// [`NameError`], which says what would be right.
            pub fn parse(text: &str) -> Result<Self, NameError> {
                $grammar($kind, text)?;
                Ok(Self(text.to_owned()))
            }

            /// The name as text.
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
            type Err = NameError;

            fn from_str(text: &str) -> Result<Self, Self::Err> {
                Self::parse(text)
            }
        }

        impl TryFrom<String> for $name {
            type Error = NameError;

            fn try_from(text: String) -> Result<Self, Self::Error> {
                $grammar($kind, &text)?;
                Ok(Self(text))
            }
        }

        impl From<$name> for String {
            fn from(name: $name) -> Self {
                name.0
            }
        }
    )+};
}

names! {
    /// The name of a deployment: a DNS label, unique among the deployments that are not destroyed.
    DeploymentName, "a deployment name", dns_label;
    /// The name of a node: a DNS label; its work queue is `work.<name>`.
    NodeName, "a node name", dns_label;
    /// The name of a service within a deployment: a DNS label, also its alias on the deployment's network.
    ServiceName, "a service name", dns_label;
    /// The name of an environment variable in a container.
    EnvKey, "an environment variable name", env_key;
    /// The key of a label.
    LabelKey, "a label key", label_key;
    /// The value of a label; may be empty.
    LabelValue, "a label value", label_value;
}

impl ServiceName {
    /// The service of a deployment that has only one, as Config.toml describes.
    #[must_use]
    pub fn app() -> Self {
        Self("app".to_owned())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn check(text: &str, right: bool) {
        assert_eq!(DeploymentName::parse(text).is_ok(), right, "{text:?}");
    }

    #[test]
    fn what_is_refused_is_said_in_a_sentence() {
        let refused = |text| EnvKey::parse(text).unwrap_err().to_string();
        assert!(refused("A=B").starts_with("`A=B` is not an environment variable name: "));
        assert_eq!(
            refused(""),
            "an environment variable name must not be empty"
        );
        let refused = NodeName::parse(&"x".repeat(64)).unwrap_err().to_string();
        assert!(refused.starts_with("a node name has at most 63 characters"));
    }

    #[test]
    fn a_deployment_name_is_a_dns_label() {
        for text in ["a", "hello", "a-1", "0", &"x".repeat(63)] {
            check(text, true);
        }
        let long = "x".repeat(64);
        for text in [
            "", " ", "-a", "a-", "A", "a.b", "..", "a/b", "a b", "héllo", "a\n", "a\0", "--git",
            &long,
        ] {
            check(text, false);
        }
    }

    #[test]
    fn a_label_may_not_pretend_to_be_ours() {
        assert!(LabelKey::parse("class").is_ok());
        assert!(LabelKey::parse("example.org/team").is_ok());
        assert!(LabelKey::parse("longshore.deployment").is_err());
        assert!(LabelKey::parse("LongShore.deployment").is_err());
    }

    #[test]
    fn what_is_shown_has_no_control_characters() {
        let error = DeploymentName::parse("a\u{1b}[31m\r\n").unwrap_err();
        assert!(!error.to_string().chars().any(char::is_control), "{error}");
    }

    proptest! {
        #[test]
        fn what_parses_is_within_the_grammar(text in ".{0,80}") {
            if let Ok(name) = DeploymentName::parse(&text) {
                prop_assert!(name.as_str().len() <= 63);
                prop_assert!(name.as_str().bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-'));
            }
        }
    }
}
