//! `longshore dead-letter show`.

use crate::client::access::ServerArgs;
use crate::client::document::Document;
use crate::client::model::{DeadLetter, Only};
use crate::exit::{Exit, Failure};
use crate::output::{self, Format};
use serde_json::json;
use std::io;

/// Show a message that nobody could handle, with its body.
#[derive(Clone, Debug, clap::Args)]
#[command(after_help = "\
Example:
  longshore dead-letter show 019ab3c1-5f1e-7c54-9d3e-2f4a8f0f6b11")]
pub(crate) struct Arguments {
    /// Its id.
    #[arg(value_name = "ID")]
    id: String,
    #[command(flatten)]
    server: ServerArgs,
}

pub(crate) async fn run(arguments: Arguments) -> Result<Exit, Failure> {
    let client = super::connect(&arguments.server)?;
    let letter: Only<DeadLetter> = client
        .ask(Document::DeadLetter, json!({ "id": arguments.id }))
        .await?;
    match arguments.server.output {
        Format::Json => output::print_json(&letter.0)?,
        Format::Text => describe(&letter.0)?,
    }
    Ok(Exit::Done)
}

fn describe(letter: &DeadLetter) -> io::Result<()> {
    let field =
        |name: &str, value: &str| output::print(&format!("{name:10} {}", output::line(value)));
    field("id", &letter.id)?;
    field("queue", &letter.queue)?;
    field("reason", &letter.reason)?;
    field(
        "died",
        &letter
            .died_at
            .to_rfc3339_opts(chrono::SecondsFormat::Secs, true),
    )?;
    if let Some(sender) = &letter.sender {
        field("sender", sender)?;
    }
    if let Some(deliveries) = letter.deliveries {
        field("delivered", &format!("{deliveries} times"))?;
    }
    let kept = if letter.is_truncated {
        ", of which the beginning was kept"
    } else {
        ""
    };
    field("size", &format!("{} bytes{kept}", letter.size))?;
    field("encoding", &letter.encoding)?;
    output::print("")?;
    for line in letter.body.as_deref().into_iter().flat_map(output::lines) {
        output::print(&line)?;
    }
    Ok(())
}
