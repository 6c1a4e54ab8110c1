//! `longshore deployment logs`: what the services print, or the log of a revision's deployment.

use super::target::{self, TargetArgs};
use crate::client::access::ServerArgs;
use crate::client::document::Document;
use crate::client::model::{LogLine, Only, Revision};
use crate::client::{Client, ClientError, SocketEvent};
use crate::exit::{Exit, Failure};
use crate::output::{self, Format};
use serde::Deserialize;
use serde_json::{Value, json};
use std::time::Duration;
use tokio::time::timeout;

/// Show what a deployment's services print, or how a revision was built.
#[derive(Clone, Debug, clap::Args)]
#[command(after_help = "\
Examples:
  longshore deployment logs hello --tail 50 --follow
  longshore deployment logs hello --build --revision 3")]
pub(crate) struct Arguments {
    #[command(flatten)]
    target: TargetArgs,
    /// Only this service.
    #[arg(long, value_name = "NAME", conflicts_with = "build")]
    service: Option<String>,
    /// How many of the last lines come first.
    #[arg(long, value_name = "LINES", default_value_t = 100)]
    tail: u32,
    /// Go on with new lines as they come.
    #[arg(long, short)]
    follow: bool,
    /// The log of fetching, building and starting instead.
    #[arg(long)]
    build: bool,
    /// With --build: the number of the revision; the newest when absent.
    #[arg(long, value_name = "NUMBER", requires = "build")]
    revision: Option<u32>,
    #[command(flatten)]
    server: ServerArgs,
}

#[derive(Deserialize)]
struct Revisions {
    revisions: Page,
}

#[derive(Deserialize)]
struct Page {
    nodes: Vec<Revision>,
}

/// A live log has no end of its own. Without --follow it is taken for read once nothing came for so
/// long; the first line may take longer, since a node has to be asked.
const QUIET: Duration = Duration::from_secs(1);
const FIRST_LINE: Duration = Duration::from_secs(3);
/// As far back as a revision is looked for by its number.
const REVISIONS: u32 = 200;

pub(crate) async fn run(arguments: Arguments) -> Result<Exit, Failure> {
    let client = super::connect(&arguments.server)?;
    let deployment = target::find(&client, &arguments.target).await?;
    let (document, variables) = if arguments.build {
        let newest = deployment.latest_revision;
        let revision = match arguments.revision {
            None => newest.ok_or_else(|| {
                Failure::input(format!("{} has no revision yet", deployment.name))
            })?,
            Some(number) => revision(&client, &deployment.id, number).await?,
        };
        (Document::BuildLog, json!({ "id": revision.id }))
    } else {
        let variables =
            json!({ "id": deployment.id, "service": arguments.service, "tail": arguments.tail });
        (Document::ServiceLog, variables)
    };
    let lines = read(&client, document, variables, &arguments).await?;
    if arguments.server.output == Format::Json && !arguments.follow {
        output::print_json(&lines)?;
    }
    Ok(Exit::Done)
}

async fn revision(client: &Client, deployment_id: &str, number: u32) -> Result<Revision, Failure> {
    let found: Only<Revisions> = client
        .ask(
            Document::Revisions,
            json!({ "id": deployment_id, "first": REVISIONS }),
        )
        .await?;
    let mut revisions = found.0.revisions.nodes.into_iter();
    revisions
        .find(|revision| revision.number == number)
        .ok_or_else(|| {
            Failure::input(format!(
                "there is no revision {number} among the last {REVISIONS}"
            ))
            .advise("see which there are: longshore deployment show DEPLOYMENT")
        })
}

/// Prints lines as they come; for a JSON document that is not followed, gathers them instead.
async fn read(
    client: &Client,
    document: Document,
    variables: Value,
    arguments: &Arguments,
) -> Result<Vec<LogLine>, Failure> {
    let mut socket = client.socket().await?;
    socket.subscribe(document, variables).await?;
    let mut gathered = Vec::new();
    let mut patience = FIRST_LINE;
    loop {
        let next = socket.next();
        let event = if arguments.follow {
            next.await?
        } else {
            match timeout(patience, next).await {
                Ok(event) => event?,
                Err(_) => return Ok(gathered),
            }
        };
        let SocketEvent::Next { data, .. } = event else {
            return Ok(gathered);
        };
        patience = QUIET;
        let line: Only<LogLine> =
            serde_json::from_value(data).map_err(ClientError::NotUnderstood)?;
        match (arguments.server.output, arguments.follow) {
            (Format::Json, false) => gathered.push(line.0),
            // One object a line: a log that is followed has no end that would close a document.
            (Format::Json, true) => output::print_json_line(&line.0)?,
            (Format::Text, _) => print(&line.0)?,
        }
    }
}

fn print(line: &LogLine) -> std::io::Result<()> {
    let text = output::line(&line.text);
    match &line.service {
        Some(service) => output::print(&format!("{} | {text}", output::line(service))),
        None => output::print(&text),
    }
}
