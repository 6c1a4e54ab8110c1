//! `longshore deployment stop`.

use super::services::{self, ServicesArgs};
use crate::client::document::Document;
use crate::exit::{Exit, Failure};

/// Stop a deployment's containers and keep them, its ports and volumes.
#[derive(Clone, Debug, clap::Args)]
#[command(after_help = "\
Example:
  longshore deployment stop hello")]
pub(crate) struct Arguments {
    #[command(flatten)]
    services: ServicesArgs,
}

pub(crate) async fn run(arguments: Arguments) -> Result<Exit, Failure> {
    let sentence = |name: &str| format!("{name} is being stopped; its ports and volumes are kept");
    services::act(Document::Stop, arguments.services, sentence).await
}
