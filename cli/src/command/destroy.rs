//! `longshore deployment destroy`: removes a deployment with everything that belongs to it.

use super::target::{self, TargetArgs};
use super::wait::{self, read_duration};
use crate::client::Client;
use crate::client::access::ServerArgs;
use crate::client::document::Document;
use crate::client::model::{Deployment, Only};
use crate::exit::{Exit, Failure};
use crate::follow::{self, Progress};
use crate::output::{self, Format};
use serde_json::json;
use std::io::{self, IsTerminal};
use std::time::Duration;

/// Remove a deployment: its containers, images, network and ports.
#[derive(Clone, Debug, clap::Args)]
#[command(after_help = "\
Example:
  longshore deployment destroy hello --volumes --yes

On a terminal it asks first. Elsewhere, such as in a script, it needs --yes.")]
pub(crate) struct Arguments {
    #[command(flatten)]
    target: TargetArgs,
    /// Also remove its volumes, and with them its data.
    #[arg(long)]
    volumes: bool,
    /// Do not ask.
    #[arg(long, short)]
    yes: bool,
    /// Wait until nothing of it is left.
    #[arg(long)]
    wait: bool,
    /// With --wait: how long at most, such as 90s, 10m or 1h.
    #[arg(long, value_name = "DURATION", default_value = "10m", value_parser = read_duration)]
    timeout: Duration,
    #[command(flatten)]
    server: ServerArgs,
}

pub(crate) async fn run(arguments: Arguments) -> Result<Exit, Failure> {
    let client = super::connect(&arguments.server)?;
    let deployment = target::find(&client, &arguments.target).await?;
    if !arguments.yes {
        if !io::stdin().is_terminal() || !io::stderr().is_terminal() {
            let nobody = format!("nobody can be asked whether to destroy {}", deployment.name);
            return Err(Failure::input(nobody).advise("do not ask: --yes"));
        }
        if !agrees(&deployment.name, arguments.volumes)? {
            return Err(Failure::input("nothing was done"));
        }
    }
    let variables = json!({ "id": deployment.id, "volumes": arguments.volumes });
    let Only(deployment): Only<Deployment> = client.ask(Document::Destroy, variables).await?;
    let sentence = format!("{} is being destroyed", deployment.name);
    if arguments.wait {
        return follow(&client, &arguments, &deployment, &sentence).await;
    }
    super::tell(arguments.server.output, &deployment, &sentence)?;
    Ok(Exit::Done)
}

async fn follow(
    client: &Client,
    arguments: &Arguments,
    deployment: &Deployment,
    sentence: &str,
) -> Result<Exit, Failure> {
    let mut progress = Progress::new(arguments.server.output);
    progress.print(sentence)?;
    let limit = arguments.timeout;
    let removed = follow::until_removed(client, &deployment.id, &progress, limit).await?;
    progress.finish()?;
    if !removed {
        wait::not_decided(&deployment.name, limit);
        return Ok(Exit::TimedOut);
    }
    if arguments.server.output == Format::Json {
        let left = json!({ "id": deployment.id });
        let Only(deployment): Only<Deployment> = client.ask(Document::DeploymentById, left).await?;
        output::print_json(&deployment)?;
    }
    Ok(Exit::Done)
}

fn agrees(name: &str, volumes: bool) -> Result<bool, Failure> {
    let what = if volumes {
        "and its volumes, with all data in them"
    } else {
        "but not its volumes"
    };
    output::note(&format!(
        "This removes {name} with its containers, images and ports, {what}. Type its name to go on:"
    ));
    let mut answer = String::new();
    io::stdin()
        .read_line(&mut answer)
        .map_err(|error| Failure::input(format!("reading the answer: {error}")))?;
    Ok(answer.trim() == name)
}
