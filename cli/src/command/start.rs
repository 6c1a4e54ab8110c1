//! `longshore deployment start`.

use super::services::{self, ServicesArgs};
use crate::client::document::Document;
use crate::exit::{Exit, Failure};

/// Start a stopped deployment's containers.
#[derive(Clone, Debug, clap::Args)]
#[command(after_help = "\
Example:
  longshore deployment start hello")]
pub(crate) struct Arguments {
    #[command(flatten)]
    services: ServicesArgs,
}

pub(crate) async fn run(arguments: Arguments) -> Result<Exit, Failure> {
    let sentence = |name: &str| format!("{name} is being started");
    services::act(Document::Start, arguments.services, sentence).await
}
