//! `longshore deployment logs`: what the services print, or the log of a revision's deployment.

use super::history;
use super::target::{self, TargetArgs};
use crate::client::access::ServerArgs;
use crate::client::document::Document;
use crate::client::model::{LogLine, Only, Revision};
use crate::client::{Client, ClientError, SocketEvent};
use crate::exit::{Exit, Failure};
use crate::follow::{OVERLAP, Pauses, Told};
use crate::output::{self, Format};
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

/// A live log has no end of its own. Without --follow it is taken for read once all the lines are there
/// that were asked for, or nothing came for so long: what was printed before comes in one go. The first
/// line may take longer, since a node has to be asked.
const QUIET: Duration = Duration::from_millis(500);
const FIRST_LINE: Duration = Duration::from_secs(3);
/// As far back as a revision is looked for by its number.
const REVISIONS: u32 = 200;

pub(crate) async fn run(arguments: Arguments) -> Result<Exit, Failure> {
    let client = super::connect(&arguments.server)?;
    let deployment = target::find(&client, &arguments.target).await?;
    let mut most = None;
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
        let services = match arguments.service {
            Some(_) => 1,
            None => deployment.services.len().max(1) as u64,
        };
        most = (!arguments.follow).then(|| u64::from(arguments.tail) * services);
        let variables =
            json!({ "id": deployment.id, "service": arguments.service, "tail": arguments.tail });
        (Document::ServiceLog, variables)
    };
    if most == Some(0) {
        let message = "--tail 0 without --follow asks for nothing";
        return Err(Failure::input(message).advise("add --follow, or give another --tail"));
    }
    let lines = read(&client, document, variables, &arguments, most).await;
    let lines = lines.map_err(|failure| match document {
        Document::ServiceLog if failure.advice.is_none() => {
            let build = format!("longshore deployment logs {} --build", deployment.name);
            failure.advise(format!("how its newest revision was built: {build}"))
        }
        _ => failure,
    })?;
    if arguments.server.output == Format::Json && !arguments.follow {
        output::print_json(&lines)?;
    }
    Ok(Exit::Done)
}

async fn revision(client: &Client, deployment_id: &str, number: u32) -> Result<Revision, Failure> {
    history::newest(client, deployment_id, REVISIONS)
        .await?
        .into_iter()
        .find(|revision| revision.number == number)
        .ok_or_else(|| {
            Failure::input(format!(
                "there is no revision {number} among the last {REVISIONS}"
            ))
            .advise("see which there are: longshore deployment history DEPLOYMENT")
        })
}

/// Prints lines as they come; for a JSON document that is not followed, gathers them instead. What is
/// followed goes on when the server was away.
async fn read(
    client: &Client,
    document: Document,
    mut variables: Value,
    arguments: &Arguments,
    most: Option<u64>,
) -> Result<Vec<LogLine>, Failure> {
    let mut told = Told::new(document, arguments.server.output, arguments.follow);
    let mut pauses = Pauses::new();
    loop {
        let before = told.count();
        match attempt(
            client,
            document,
            &variables,
            &mut told,
            arguments.follow,
            most,
        )
        .await
        {
            Ok(()) => return Ok(told.into_gathered()),
            Err(Trouble::Client(error)) if arguments.follow && error.is_transient() => {
                output::note(&format!("{error}; connecting again"));
                if told.count() > before {
                    pauses.reset();
                }
                pauses.wait().await;
                if document == Document::ServiceLog {
                    variables["tail"] = json!(OVERLAP);
                }
                told.again();
            }
            Err(Trouble::Client(error)) => return Err(error.into()),
            Err(Trouble::Output(error)) => return Err(error.into()),
        }
    }
}

async fn attempt(
    client: &Client,
    document: Document,
    variables: &Value,
    told: &mut Told,
    follow: bool,
    most: Option<u64>,
) -> Result<(), Trouble> {
    let mut socket = client.socket().await?;
    socket.subscribe(document, variables.clone()).await?;
    let mut patience = FIRST_LINE;
    loop {
        let next = socket.next();
        let event = if follow && !told.is_catching_up() {
            next.await?
        } else {
            match timeout(patience, next).await {
                Ok(event) => event?,
                Err(_) if follow => {
                    told.caught_up()?;
                    continue;
                }
                Err(_) => return Ok(()),
            }
        };
        let SocketEvent::Next { data, .. } = event else {
            return Ok(told.caught_up()?);
        };
        patience = QUIET;
        let line: Only<LogLine> =
            serde_json::from_value(data).map_err(ClientError::NotUnderstood)?;
        told.tell(line.0)?;
        if most.is_some_and(|most| told.count() >= most) {
            return Ok(());
        }
    }
}

/// What ends an attempt.
enum Trouble {
    Client(ClientError),
    Output(std::io::Error),
}

impl From<ClientError> for Trouble {
    fn from(error: ClientError) -> Self {
        Self::Client(error)
    }
}

impl From<std::io::Error> for Trouble {
    fn from(error: std::io::Error) -> Self {
        Self::Output(error)
    }
}
