//! What is sent, and how it is said to the engine, which parses and vets it.

use crate::error::ApiError;
use async_graphql::InputObject;
use orchestrator::command::{CreateDeployment, NewGitSource, NewImageSource, NewSource};
use orchestrator::query::{DeploymentFilter, LabelFilter};
use shared::name::{LabelKey, LabelValue, NodeName};
use shared::status::{ApplicationStatus, Method};

/// A new deployment: a name and exactly one source.
#[derive(InputObject)]
pub(crate) struct CreateDeploymentInput {
    /// Its name: a DNS label, unique among the deployments that are not destroyed.
    name: String,
    /// A Git repository as its source.
    git: Option<GitSourceInput>,
    /// An image of a registry as its source.
    image: Option<ImageSourceInput>,
    /// Labels to select it by.
    labels: Option<Vec<LabelInput>>,
    /// The name of the node that it must run on; any node when absent.
    node: Option<String>,
    /// How a new revision replaces the old one; the source decides when absent.
    method: Option<Method>,
}

/// A Git repository with a Config.toml.
#[derive(InputObject)]
pub(crate) struct GitSourceInput {
    /// Its address: https, http or ssh, without credentials.
    url: String,
    /// The branch, tag or commit; the server's default branch when absent.
    #[graphql(name = "ref")]
    git_ref: Option<String>,
    /// The folder that holds Config.toml and is built; the root when absent.
    subdir: Option<String>,
    /// How often the ref is looked at for a new commit, in seconds; 60 when absent, 0 means never.
    poll_seconds: Option<i32>,
}

/// An image of a registry.
#[derive(InputObject)]
pub(crate) struct ImageSourceInput {
    /// The reference, such as `nginx:1.27`.
    #[graphql(name = "ref")]
    image: String,
    /// The port that it listens on in its container; what the image exposes when absent.
    port: Option<i32>,
}

/// A key and value on a deployment.
#[derive(InputObject)]
pub(crate) struct LabelInput {
    /// Its key, unique on the deployment.
    key: String,
    /// Its value; may be empty.
    value: String,
}

/// Which deployments a list has; every part that is given must hold.
#[derive(InputObject)]
#[graphql(name = "DeploymentFilter")]
pub(crate) struct DeploymentFilterInput {
    /// Standing at any of these.
    status: Option<Vec<ApplicationStatus>>,
    /// Carrying all of these labels.
    label: Option<Vec<LabelFilterInput>>,
    /// With a name that starts with this.
    name_prefix: Option<String>,
    /// Placed on, or pinned to, the node of this name.
    node: Option<String>,
    /// Also those that are destroyed.
    #[graphql(default)]
    include_destroyed: bool,
}

/// A label that a deployment must carry.
#[derive(InputObject)]
pub(crate) struct LabelFilterInput {
    /// Its key.
    key: String,
    /// Its value; any when absent.
    value: Option<String>,
}

impl From<CreateDeploymentInput> for CreateDeployment {
    fn from(input: CreateDeploymentInput) -> Self {
        let git = input.git.map(|git| NewGitSource {
            url: git.url,
            git_ref: git.git_ref,
            subdir: git.subdir,
            poll_seconds: git.poll_seconds,
        });
        let image = input.image.map(|image| NewImageSource {
            reference: image.image,
            port: image.port,
        });
        let labels = input.labels.unwrap_or_default();
        Self {
            name: input.name,
            source: NewSource { git, image },
            labels: labels
                .into_iter()
                .map(|label| (label.key, label.value))
                .collect(),
            node: input.node,
            method: input.method,
        }
    }
}

/// More labels than any deployment carries would only make a query large.
const FILTER_LABELS: usize = 16;

impl DeploymentFilterInput {
    /// The filter for the engine, each text within the grammar of what it is compared with.
    ///
    /// # Errors
    /// `INVALID_INPUT` naming the field.
    pub(crate) fn check(self) -> Result<DeploymentFilter, ApiError> {
        let labels = self.label.unwrap_or_default();
        if labels.len() > FILTER_LABELS {
            let found = labels.len();
            return Err(ApiError::invalid(
                "filter.label",
                format_args!("{found} labels; at most {FILTER_LABELS} are allowed"),
            ));
        }
        let mut statuses = self.status.unwrap_or_default();
        statuses.sort_unstable();
        statuses.dedup();
        Ok(DeploymentFilter {
            statuses,
            labels: labels
                .into_iter()
                .map(LabelFilterInput::check)
                .collect::<Result<_, _>>()?,
            name_prefix: self.name_prefix.map(check_prefix).transpose()?,
            node: self.node.map(check_node).transpose()?,
            include_destroyed: self.include_destroyed,
        })
    }
}

impl LabelFilterInput {
    fn check(self) -> Result<LabelFilter, ApiError> {
        LabelKey::parse(&self.key).map_err(|error| ApiError::invalid("filter.label.key", error))?;
        if let Some(value) = &self.value {
            LabelValue::parse(value)
                .map_err(|error| ApiError::invalid("filter.label.value", error))?;
        }
        Ok(LabelFilter {
            key: self.key,
            value: self.value,
        })
    }
}

fn check_prefix(prefix: String) -> Result<String, ApiError> {
    let inside = prefix
        .bytes()
        .all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-');
    if inside && prefix.len() <= 63 {
        return Ok(prefix);
    }
    let shown = shared::name::shown(&prefix);
    Err(ApiError::invalid(
        "filter.namePrefix",
        format_args!(
            "no name starts with `{shown}`: names are lower-case letters, digits and hyphens, at most 63"
        ),
    ))
}

fn check_node(node: String) -> Result<String, ApiError> {
    NodeName::parse(&node).map_err(|error| ApiError::invalid("filter.node", error))?;
    Ok(node)
}
