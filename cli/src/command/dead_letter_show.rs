//! `longshore dead-letter show`.

use super::dead_letter::{self, DeadLetterArgs};
use crate::client::document::Document;
use crate::client::model::DeadLetter;
use crate::exit::{Exit, Failure};
use crate::output::{self, Format};
use std::io;

/// Show a message that nobody could handle, with its body.
#[derive(Clone, Debug, clap::Args)]
#[command(after_help = "\
Example:
  longshore dead-letter show 019ab3c1-5f1e-7c54-9d3e-2f4a8f0f6b11")]
pub(crate) struct Arguments {
    #[command(flatten)]
    letter: DeadLetterArgs,
}

pub(crate) async fn run(arguments: Arguments) -> Result<Exit, Failure> {
    let letter = dead_letter::ask(Document::DeadLetter, &arguments.letter).await?;
    match arguments.letter.server.output {
        Format::Json => output::print_json(&letter)?,
        Format::Text => describe(&letter)?,
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
        field("delivered", &output::times(deliveries))?;
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
