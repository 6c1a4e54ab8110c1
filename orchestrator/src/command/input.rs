//! Reading what people typed: every text passes its grammar here, and every refusal names the field,
//! says what is wrong and what would be right.

use super::{NewGitSource, NewImageSource, NewSource};
use crate::error::CommandError;
use crate::settings::GitPolicy;
use shared::name::{LabelKey, LabelValue, ServiceName};
use shared::source::{
    DEFAULT_POLL_SECONDS, GitRef, GitSource, ImageRef, ImageSource, RepoPath, Source,
};
use std::collections::BTreeMap;
use std::fmt::Display;
use std::str::FromStr;

/// How many labels a deployment may carry.
const LABELS_LIMIT: usize = 64;
/// How often a repository may be looked at, in seconds, beside never (0).
const POLL_SECONDS: std::ops::RangeInclusive<u32> = 5..=86_400;

/// Reads a text with a grammar.
pub(super) fn parse<T: FromStr>(field: &'static str, text: &str) -> Result<T, CommandError>
where
    T::Err: Display,
{
    text.parse()
        .map_err(|error| CommandError::invalid(field, error))
}

/// Reads where versions come from: exactly one source.
pub(super) fn source(new: &NewSource, policy: GitPolicy) -> Result<Source, CommandError> {
    match (&new.git, &new.image) {
        (Some(git), None) => git_source(git, policy).map(Source::GitApp),
        (None, Some(image)) => image_source(image).map(Source::Image),
        (None, None) => Err(CommandError::invalid(
            "source",
            "a deployment needs a source: give `git` or `image`",
        )),
        (Some(_), Some(_)) => Err(CommandError::invalid(
            "source",
            "a deployment has one source: give either `git` or `image`",
        )),
    }
}

fn git_source(git: &NewGitSource, policy: GitPolicy) -> Result<GitSource, CommandError> {
    Ok(GitSource {
        url: policy
            .parse(&git.url)
            .map_err(|error| CommandError::invalid("git.url", error))?,
        git_ref: git
            .git_ref
            .as_deref()
            .map(|text| parse::<GitRef>("git.ref", text))
            .transpose()?,
        subdir: git
            .subdir
            .as_deref()
            .map(|text| parse::<RepoPath>("git.subdir", text))
            .transpose()?,
        poll_seconds: git
            .poll_seconds
            .map_or(Ok(DEFAULT_POLL_SECONDS), poll_seconds)?,
    })
}

fn poll_seconds(seconds: i32) -> Result<u32, CommandError> {
    match u32::try_from(seconds) {
        Ok(0) => Ok(0),
        Ok(seconds) if POLL_SECONDS.contains(&seconds) => Ok(seconds),
        _ => {
            let (least, most) = (POLL_SECONDS.start(), POLL_SECONDS.end());
            let rule =
                format!("{seconds} is not right: give 0 for never, or {least} to {most} seconds");
            Err(CommandError::invalid("git.pollSeconds", rule))
        }
    }
}

fn image_source(image: &NewImageSource) -> Result<ImageSource, CommandError> {
    let port = match image.port {
        None => None,
        Some(port) => match u16::try_from(port) {
            Ok(port @ 1..) => Some(port),
            _ => {
                return Err(CommandError::invalid(
                    "image.port",
                    format_args!("{port} is not a port: give 1 to 65535"),
                ));
            }
        },
    };
    Ok(ImageSource {
        image: parse::<ImageRef>("image.ref", &image.reference)?,
        port,
    })
}

/// Reads a Git ref.
pub(super) fn git_ref(text: &str) -> Result<GitRef, CommandError> {
    parse("ref", text)
}

/// Reads labels; each key once.
pub(super) fn labels(
    pairs: &[(String, String)],
) -> Result<BTreeMap<LabelKey, LabelValue>, CommandError> {
    if pairs.len() > LABELS_LIMIT {
        let what = format!(
            "{} labels are too many: a deployment has at most {LABELS_LIMIT}",
            pairs.len()
        );
        return Err(CommandError::invalid("labels", what));
    }
    let mut labels = BTreeMap::new();
    for (key, value) in pairs {
        let key: LabelKey = parse("labels.key", key)?;
        let value: LabelValue = parse("labels.value", value)?;
        if labels.contains_key(&key) {
            return Err(CommandError::invalid(
                "labels",
                format_args!("the label `{key}` is given twice"),
            ));
        }
        labels.insert(key, value);
    }
    Ok(labels)
}

/// Reads service names; each once.
pub(super) fn services(names: &[String]) -> Result<Vec<ServiceName>, CommandError> {
    let mut services: Vec<ServiceName> = names
        .iter()
        .map(|name| parse("services", name))
        .collect::<Result<_, _>>()?;
    services.sort_unstable();
    services.dedup();
    Ok(services)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn git(url: &str) -> NewSource {
        NewSource {
            git: Some(NewGitSource {
                url: url.to_owned(),
                ..Default::default()
            }),
            image: None,
        }
    }

    fn image(reference: &str, port: Option<i32>) -> NewSource {
        NewSource {
            git: None,
            image: Some(NewImageSource {
                reference: reference.to_owned(),
                port,
            }),
        }
    }

    fn refused(new: &NewSource) -> (&'static str, String) {
        match source(new, GitPolicy::default()).unwrap_err() {
            CommandError::InvalidInput { field, message } => (field, message),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn exactly_one_source() {
        let both = NewSource {
            git: git("https://git.example/a").git,
            image: image("nginx", None).image,
        };
        assert_eq!(refused(&NewSource::default()).0, "source");
        assert_eq!(refused(&both).0, "source");
        assert!(source(&git("https://git.example/a"), GitPolicy::default()).is_ok());
        assert!(source(&image("nginx:1.27", Some(80)), GitPolicy::default()).is_ok());
    }

    #[test]
    fn file_needs_the_operators_leave() {
        let new = git("file:///srv/app.git");
        assert!(refused(&new).1.contains("--allow-git-scheme file"));
        assert!(source(&new, GitPolicy { file_allowed: true }).is_ok());
    }

    #[test]
    fn each_field_is_named() {
        let mut new = git("https://git.example/a");
        let part = new.git.as_mut().unwrap();
        part.git_ref = Some("--upload-pack=x".to_owned());
        assert_eq!(refused(&new).0, "git.ref");
        let part = new.git.as_mut().unwrap();
        (part.git_ref, part.subdir) = (None, Some("../x".to_owned()));
        assert_eq!(refused(&new).0, "git.subdir");
        assert_eq!(refused(&git("ext::sh -c x")).0, "git.url");
        assert_eq!(refused(&image("UPPER", None)).0, "image.ref");
        for port in [0, -1, 65_536, 70_000] {
            assert_eq!(refused(&image("nginx", Some(port))).0, "image.port");
        }
    }

    #[test]
    fn how_often_a_repository_is_looked_at() {
        let check = |seconds: i32, right: bool| {
            let mut new = git("https://git.example/a");
            new.git.as_mut().unwrap().poll_seconds = Some(seconds);
            assert_eq!(
                source(&new, GitPolicy::default()).is_ok(),
                right,
                "{seconds}"
            );
        };
        for seconds in [0, 5, 60, 86_400] {
            check(seconds, true);
        }
        for seconds in [-1, 1, 4, 86_401, i32::MAX, i32::MIN] {
            check(seconds, false);
        }
    }

    #[test]
    fn labels_are_few_and_each_once() {
        let label = |key: &str| (key.to_owned(), "x".to_owned());
        assert_eq!(labels(&[label("class"), label("team")]).unwrap().len(), 2);
        assert!(labels(&[label("class"), label("class")]).is_err());
        assert!(labels(&[label("longshore.node")]).is_err());
        let many: Vec<_> = (0..=64).map(|n| label(&format!("k{n}"))).collect();
        assert!(labels(&many[..64]).is_ok());
        assert!(labels(&many).is_err());
    }
}
