//! `longshore deployment restart`.

use super::services::{self, ServicesArgs};
use crate::client::document::Document;
use crate::exit::{Exit, Failure};

/// Stop and start a deployment's containers.
#[derive(Clone, Debug, clap::Args)]
#[command(after_help = "\
Example:
  longshore deployment restart hello")]
pub(crate) struct Arguments {
    #[command(flatten)]
    services: ServicesArgs,
}

pub(crate) async fn run(arguments: Arguments) -> Result<Exit, Failure> {
    let sentence = |name: &str| format!("{name} is being restarted");
    services::act(Document::Restart, arguments.services, sentence).await
}
