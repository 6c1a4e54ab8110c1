//! Which dead letter a command is about, by its id.

use crate::client::access::ServerArgs;
use crate::client::document::Document;
use crate::client::model::{DeadLetter, Only};
use crate::exit::Failure;
use serde_json::json;

/// A dead letter, and the server that keeps it.
#[derive(Clone, Debug, clap::Args)]
pub(crate) struct DeadLetterArgs {
    /// Its id.
    #[arg(value_name = "ID")]
    id: String,
    #[command(flatten)]
    pub(super) server: ServerArgs,
}

/// Asks for something about it; the message as it was.
pub(super) async fn ask(
    document: Document,
    arguments: &DeadLetterArgs,
) -> Result<DeadLetter, Failure> {
    let client = super::connect(&arguments.server)?;
    let Only(letter) = client.ask(document, json!({ "id": arguments.id })).await?;
    Ok(letter)
}
