//! `longshore deployment destroy`: removes a deployment with everything that belongs to it.

use super::target::{self, TargetArgs};
use crate::client::access::ServerArgs;
use crate::client::document::Document;
use crate::client::model::{Deployment, Only};
use crate::exit::{Exit, Failure};
use crate::output;
use serde_json::json;
use std::io::{self, IsTerminal};

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
    let deployment: Only<Deployment> = client.ask(Document::Destroy, variables).await?;
    super::tell(
        arguments.server.output,
        &deployment.0,
        &format!("{} is being destroyed", deployment.0.name),
    )?;
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
