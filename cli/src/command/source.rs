//! What a deployment is made from, as arguments.

use crate::client::model::{CreateDeploymentInput, Deployment, GitSourceInput, Label};
use shared::source::GitUrl;

/// What a deployment is made from.
#[derive(Clone, Debug, clap::Args)]
pub(crate) struct SourceArgs {
    /// The deployment's name: lower-case letters, digits and hyphens.
    #[arg(value_name = "NAME")]
    pub(crate) name: String,
    /// The Git repository: https://…, http://…, ssh://… or git@host:path.
    #[arg(long, value_name = "URL")]
    pub(crate) git: String,
    /// The branch, tag or commit; the server's default branch when absent.
    #[arg(long = "ref", value_name = "REF")]
    pub(crate) git_ref: Option<String>,
    /// The folder that holds Config.toml; the root when absent.
    #[arg(long, value_name = "DIR")]
    pub(crate) subdir: Option<String>,
    /// The node that it must run on; any when absent.
    #[arg(long, value_name = "NODE")]
    pub(crate) node: Option<String>,
    /// A label; may be given several times.
    #[arg(long = "label", value_name = "KEY=VALUE", value_parser = read_label, value_delimiter = ',')]
    pub(crate) labels: Vec<Label>,
    /// How often the repository is looked at for a new commit, in seconds; 0 for never, 60 when absent.
    #[arg(long, value_name = "SECONDS")]
    pub(crate) poll_seconds: Option<u32>,
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

impl SourceArgs {
    /// As the API takes it.
    pub(crate) fn input(&self) -> CreateDeploymentInput {
        CreateDeploymentInput {
            name: self.name.clone(),
            git: GitSourceInput {
                url: self.git.clone(),
                git_ref: self.git_ref.clone(),
                subdir: self.subdir.clone(),
                poll_seconds: self.poll_seconds,
            },
            labels: self.labels.clone(),
            node: self.node.clone(),
        }
    }

    /// In what an existing deployment differs, when it does: the repository or the folder. A ref may
    /// change with a redeploy.
    pub(crate) fn difference(&self, deployment: &Deployment) -> Option<String> {
        let existing = &deployment.source;
        let canonical =
            |url: &str| GitUrl::parse(url).map_or_else(|_| url.to_owned(), |url| url.to_string());
        let url = existing.url.as_deref().map(canonical);
        if url.as_deref() != Some(&canonical(&self.git)) || existing.subdir != self.subdir {
            return Some(format!("comes from {}", existing.summary()));
        }
        None
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
