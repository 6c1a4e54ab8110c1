//! Which node a command is about: by name, or by id.

use crate::client::Client;
use crate::client::document::Document;
use crate::client::model::{Node, Only};
use crate::exit::Failure;
use serde_json::json;
use uuid::Uuid;

/// Which node a command is about.
#[derive(Clone, Debug, clap::Args)]
pub(crate) struct NodeTargetArgs {
    /// The node's name or id.
    #[arg(value_name = "NODE")]
    pub(crate) node: String,
}

/// Reads the node. What looks like an id is looked for as one first.
pub(crate) async fn find(client: &Client, target: &NodeTargetArgs) -> Result<Node, Failure> {
    let given = &target.node;
    if Uuid::try_parse(given).is_ok() {
        match client
            .ask::<Only<Node>>(Document::NodeById, json!({ "id": given }))
            .await
        {
            Err(error) if error.is_not_found() => {}
            answer => return Ok(answer?.0),
        }
    }
    match client
        .ask::<Only<Node>>(Document::NodeByName, json!({ "name": given }))
        .await
    {
        Err(error) if error.is_not_found() => Err(Failure::input(format!(
            "there is no node `{}`",
            crate::output::line(given)
        ))
        .advise("see which there are: longshore node list")),
        answer => Ok(answer?.0),
    }
}
