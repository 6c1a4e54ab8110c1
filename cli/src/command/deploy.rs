//! `longshore deploy`: creates a deployment, or deploys it again when it exists.

use super::source::{self, SourceArgs};
use super::target;
use super::wait::{self, WaitArgs};
use crate::client::Client;
use crate::client::access::ServerArgs;
use crate::client::document::Document;
use crate::client::model::{CreateDeploymentInput, Deployment, Only};
use crate::exit::{Exit, Failure};
use crate::output;
use serde_json::json;

/// How it is used.
pub(crate) const EXAMPLE: &str = "\
Example:
  longshore deploy hello --git https://git.example/team/hello.git --wait
  longshore deploy cache --image redis:7 --port 6379 --wait

A deployment of this name from the same repository and folder, or of the same image, is deployed again:
from --ref when given, from what the image's tag leads to now.";

/// Deploy a Git repository or an image; deploy it again when the deployment exists.
#[derive(Clone, Debug, clap::Args)]
#[command(after_help = EXAMPLE, override_usage = "longshore deploy [OPTIONS] <NAME> (--git <URL> | --image <IMAGE>)")]
pub(crate) struct Arguments {
    #[command(flatten)]
    source: SourceArgs,
    #[command(flatten)]
    wait: WaitArgs,
    #[command(flatten)]
    server: ServerArgs,
}

pub(crate) async fn run(arguments: Arguments) -> Result<Exit, Failure> {
    let input = arguments.source.input()?;
    let client = super::connect(&arguments.server)?;
    let source = &arguments.source;
    let (deployment, sentence) = match target::by_name(&client, &source.name).await? {
        Some(existing) => again(&client, source, &existing).await?,
        None => first(&client, source, &input).await?,
    };
    wait::started(
        &client,
        arguments.server.output,
        &arguments.wait,
        &deployment,
        &sentence,
    )
    .await
}

async fn first(
    client: &Client,
    source: &SourceArgs,
    input: &CreateDeploymentInput,
) -> Result<(Deployment, String), Failure> {
    let created = client.ask::<Only<Deployment>>(Document::Create, json!({ "input": input }));
    match created.await {
        Ok(Only(created)) => {
            let sentence = format!("{} is being deployed", created.name);
            Ok((created, sentence))
        }
        Err(error) if error.is_conflict() => {
            // Somebody was quicker by a moment, such as another job of the same pipeline.
            match target::by_name(client, &source.name).await? {
                Some(existing) => again(client, source, &existing).await,
                None => Err(error.into()),
            }
        }
        Err(error) => Err(error.into()),
    }
}

async fn again(
    client: &Client,
    source: &SourceArgs,
    existing: &Deployment,
) -> Result<(Deployment, String), Failure> {
    if let Some(difference) = source.difference(existing) {
        let name = &existing.name;
        return Err(Failure::input(format!(
            "CONFLICT: the deployment `{name}` {}",
            output::line(&difference)
        ))
        .advise(format!(
            "choose another name, or remove that one first: longshore deployment destroy {name}"
        )));
    }
    let unchanged = source.unchanged(existing);
    if !unchanged.is_empty() {
        output::note(&format!(
            "{} exists and keeps its own: {} has no effect",
            existing.name,
            unchanged.join(", ")
        ));
    }
    let variables = json!({ "id": existing.id, "ref": source.git_ref });
    let deployment: Only<Deployment> = client.ask(Document::Redeploy, variables).await?;
    let follows = source::follows(source.git_ref.as_deref(), existing);
    let sentence = format!(
        "{} exists and is being deployed again{follows}",
        existing.name
    );
    Ok((deployment.0, sentence))
}
