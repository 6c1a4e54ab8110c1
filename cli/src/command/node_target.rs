//! Which node a command is about: by name, or by id.

use crate::client::Client;
use crate::client::access::ServerArgs;
use crate::client::document::Document;
use crate::client::model::{Node, Only};
use crate::exit::{Exit, Failure};
use serde_json::json;
use uuid::Uuid;

/// Which node a command is about.
#[derive(Clone, Debug, clap::Args)]
pub(crate) struct NodeTargetArgs {
    /// The node's name or id.
    #[arg(value_name = "NODE")]
    pub(crate) node: String,
}

/// A node, and the server that knows it.
#[derive(Clone, Debug, clap::Args)]
pub(crate) struct NodeArgs {
    #[command(flatten)]
    target: NodeTargetArgs,
    #[command(flatten)]
    server: ServerArgs,
}

/// Has something done to the node, and says what becomes of the one of this name.
pub(super) async fn act(
    document: Document,
    arguments: NodeArgs,
    sentence: impl FnOnce(&str) -> String,
) -> Result<Exit, Failure> {
    let client = super::connect(&arguments.server)?;
    let node = find(&client, &arguments.target).await?;
    let Only(node): Only<Node> = client.ask(document, json!({ "id": node.id })).await?;
    let sentence = sentence(&node.name);
    super::tell(arguments.server.output, &node, &sentence)?;
    Ok(Exit::Done)
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
