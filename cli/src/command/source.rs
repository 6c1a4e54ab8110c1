//! What a deployment is made from, as arguments.

use crate::client::model::{
    CreateDeploymentInput, Deployment, GitSourceInput, ImageSourceInput, Label,
};
use crate::exit::Failure;
use crate::output;
use shared::source::GitUrl;

/// What a deployment is made from.
#[derive(Clone, Debug, clap::Args)]
pub(crate) struct SourceArgs {
    /// The deployment's name: lower-case letters, digits and hyphens.
    #[arg(value_name = "NAME")]
    pub(crate) name: String,
    /// A Git repository: https://…, http://…, ssh://… or git@host:path.
    #[arg(long, value_name = "URL", conflicts_with_all = ["image", "port"])]
    git: Option<String>,
    /// Of a repository: the branch, tag or commit; the server's default branch when absent.
    #[arg(long = "ref", value_name = "REF", conflicts_with = "image")]
    pub(crate) git_ref: Option<String>,
    /// Of a repository: the folder that holds Config.toml; the root when absent.
    #[arg(long, value_name = "DIR", conflicts_with = "image")]
    subdir: Option<String>,
    /// How often the repository is looked at for a new commit, in seconds; 0 for never, 60 when absent.
    #[arg(long, value_name = "SECONDS", conflicts_with = "image")]
    poll_seconds: Option<u32>,
    /// Instead of a repository: an image of a registry, such as nginx:1.27.
    #[arg(long, value_name = "IMAGE")]
    image: Option<String>,
    /// Of an image: the port that it listens on in its container; what it exposes when absent.
    #[arg(long, value_name = "PORT")]
    port: Option<u16>,
    /// The node that it must run on; any when absent.
    #[arg(long, value_name = "NODE")]
    node: Option<String>,
    /// A label; may be given several times.
    #[arg(long = "label", value_name = "KEY=VALUE", value_parser = read_label, value_delimiter = ',')]
    labels: Vec<Label>,
}

fn read_label(text: &str) -> Result<Label, String> {
    let (key, value) = text
        .split_once('=')
        .ok_or("give it as KEY=VALUE, such as team=web")?;
    Ok(Label {
        key: key.to_owned(),
        value: value.to_owned(),
    })
}

/// What is to be known when another ref becomes the deployment's: how to go back to the one before.
pub(super) fn follows(git_ref: Option<&str>, before: &Deployment) -> String {
    let known = before.source.git_ref.as_deref().unwrap_or("HEAD");
    match git_ref.filter(|git_ref| *git_ref != known) {
        Some(git_ref) => format!(
            "; it follows {} from now on (before: --ref {})",
            output::line(git_ref),
            output::line(known)
        ),
        None => String::new(),
    }
}

impl SourceArgs {
    /// As the API takes it.
    ///
    /// # Errors
    /// When there is no source, or two. Only here is it known: one may come from the settings file,
    /// which the rules of the command line do not see.
    pub(crate) fn input(&self) -> Result<CreateDeploymentInput, Failure> {
        if self.git.is_some() == self.image.is_some() {
            let what = match &self.git {
                None => "a deployment needs a source",
                Some(_) => "a deployment has one source, and both --git and --image are set",
            };
            return Err(Failure::input(what)
                .advise("give --git URL or --image IMAGE, or one of them in the settings file"));
        }
        let git = self.git.clone().map(|url| GitSourceInput {
            url,
            git_ref: self.git_ref.clone(),
            subdir: self.subdir.clone(),
            poll_seconds: self.poll_seconds,
        });
        let image = self.image.clone().map(|reference| ImageSourceInput {
            reference,
            port: self.port,
        });
        Ok(CreateDeploymentInput {
            name: self.name.clone(),
            git,
            image,
            labels: self.labels.clone(),
            node: self.node.clone(),
        })
    }

    /// In what an existing deployment differs, when it does: the repository and folder, or the image and
    /// port. A ref may change with a redeploy.
    pub(crate) fn difference(&self, deployment: &Deployment) -> Option<String> {
        let existing = &deployment.source;
        let canonical =
            |url: &str| GitUrl::parse(url).map_or_else(|_| url.to_owned(), |url| url.to_string());
        let same = existing.url.as_deref().map(canonical) == self.git.as_deref().map(canonical)
            && existing.subdir == self.subdir
            && existing.image == self.image
            && (self.port.is_none() || existing.port == self.port);
        (!same).then(|| format!("comes from {}", existing.summary()))
    }

    /// What was asked for and a redeploy of an existing deployment does not change.
    pub(crate) fn unchanged(&self, deployment: &Deployment) -> Vec<&'static str> {
        let labels_differ = self.labels.iter().any(|label| {
            !deployment
                .labels
                .iter()
                .any(|other| (&other.key, &other.value) == (&label.key, &label.value))
        });
        let node_differs = self.node.is_some()
            && self.node.as_ref() != deployment.node.as_ref().map(|node| &node.name);
        let polling_differs =
            self.poll_seconds.is_some() && self.poll_seconds != deployment.source.poll_seconds;
        let differences = [
            (labels_differ, "--label"),
            (node_differs, "--node"),
            (polling_differs, "--poll-seconds"),
        ];
        differences
            .into_iter()
            .filter(|(differs, _)| *differs)
            .map(|(_, flag)| flag)
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::{CommandFactory, Parser};
    use serde_json::json;

    #[derive(Debug, Parser)]
    struct Probe {
        #[command(flatten)]
        source: SourceArgs,
    }

    fn read(line: &str) -> Result<SourceArgs, clap::Error> {
        // Without the environment's variables, which `crate::args` adds.
        let words = std::iter::once("probe").chain(line.split(' '));
        Probe::try_parse_from(words).map(|probe| probe.source)
    }

    #[test]
    fn a_deployment_has_one_source() {
        Probe::command().debug_assert();
        let git = read("a --git https://git.example/a.git --ref main --subdir web").unwrap();
        let sent = serde_json::to_value(git.input().unwrap()).unwrap();
        assert_eq!(sent["git"]["subdir"], "web");
        assert_eq!(sent["image"], json!(null));
        let image = read("a --image nginx:1.27 --port 80").unwrap();
        let sent = serde_json::to_value(image.input().unwrap()).unwrap();
        assert_eq!(sent["image"], json!({ "ref": "nginx:1.27", "port": 80 }));
        assert_eq!(sent["git"], json!(null));
        for wrong in [
            "a --git https://git.example/a.git --image nginx",
            "a --git https://git.example/a.git --port 80",
            "a --image nginx --ref main",
            "a --image nginx --subdir web",
            "a --image nginx --poll-seconds 5",
            "a --image nginx --port 70000",
        ] {
            assert!(read(wrong).is_err(), "{wrong}");
        }
        for wrong in ["a", "a --port 80", "a --ref main"] {
            assert!(read(wrong).unwrap().input().is_err(), "{wrong}");
        }
        let both = SourceArgs {
            image: Some("nginx".to_owned()),
            ..read("a --git https://git.example/a.git").unwrap()
        };
        assert!(both.input().is_err());
    }

    #[test]
    fn another_source_is_a_difference() {
        let deployment = |source: serde_json::Value| -> Deployment {
            serde_json::from_value(json!({
                "id": "d", "name": "a", "status": "RUNNING", "desiredState": "RUNNING", "source": source,
                "labels": [], "ports": [], "services": [],
                "createdAt": "2026-01-01T00:00:00Z", "updatedAt": "2026-01-01T00:00:00Z",
            }))
            .unwrap()
        };
        let git =
            deployment(json!({ "__typename": "GitSource", "url": "https://git.example/a.git" }));
        let image =
            deployment(json!({ "__typename": "ImageSource", "image": "nginx:1.27", "port": 80 }));
        for (line, existing, differs) in [
            ("a --git https://GIT.example/a.git --ref x", &git, false),
            ("a --git https://git.example/b.git", &git, true),
            ("a --git https://git.example/a.git --subdir web", &git, true),
            ("a --image nginx:1.27", &git, true),
            ("a --image nginx:1.27", &image, false),
            ("a --image nginx:1.27 --port 80", &image, false),
            ("a --image nginx:1.27 --port 81", &image, true),
            ("a --image nginx:1.28", &image, true),
            ("a --git https://git.example/a.git", &image, true),
        ] {
            let difference = read(line).unwrap().difference(existing);
            assert_eq!(difference.is_some(), differs, "{line}: {difference:?}");
        }
    }
}
