//! `longshore dead-letter drop`.

use super::dead_letter::{self, DeadLetterArgs};
use crate::client::document::Document;
use crate::exit::{Exit, Failure};
use crate::output;

/// Forget a message that nobody could handle.
#[derive(Clone, Debug, clap::Args)]
#[command(after_help = "\
Example:
  longshore dead-letter drop 019ab3c1-5f1e-7c54-9d3e-2f4a8f0f6b11")]
pub(crate) struct Arguments {
    #[command(flatten)]
    letter: DeadLetterArgs,
}

pub(crate) async fn run(arguments: Arguments) -> Result<Exit, Failure> {
    let letter = dead_letter::ask(Document::DropDeadLetter, &arguments.letter).await?;
    let sentence = format!("a message of {} was forgotten", output::line(&letter.queue));
    super::tell(arguments.letter.server.output, &letter, &sentence)?;
    Ok(Exit::Done)
}
