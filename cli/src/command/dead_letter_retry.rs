//! `longshore dead-letter retry`.

use crate::client::access::ServerArgs;
use crate::client::document::Document;
use crate::client::model::{DeadLetter, Only};
use crate::exit::{Exit, Failure};
use crate::output;
use serde_json::json;

/// Send a message to its queue again; one that still cannot be handled dies again.
#[derive(Clone, Debug, clap::Args)]
#[command(after_help = "\
Example:
  longshore dead-letter retry 019ab3c1-5f1e-7c54-9d3e-2f4a8f0f6b11")]
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
        .ask(Document::RetryDeadLetter, json!({ "id": arguments.id }))
        .await?;
    let sentence = format!(
        "the message was sent to {} again",
        output::line(&letter.0.queue)
    );
    super::tell(arguments.server.output, &letter.0, &sentence)?;
    Ok(Exit::Done)
}
