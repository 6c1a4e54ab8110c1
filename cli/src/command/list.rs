//! `longshore deployment list`.

use super::node_target::{self, NodeTargetArgs};
use crate::client::Client;
use crate::client::access::ServerArgs;
use crate::client::document::Document;
use crate::client::model::{Deployment, DeploymentPage, Only};
use crate::exit::{Exit, Failure};
use crate::output::{self, Format};
use clap::builder::{PossibleValuesParser, TypedValueParser};
use serde_json::{Value, json};
use shared::status::ApplicationStatus;

/// List deployments.
#[derive(Clone, Debug, clap::Args)]
#[command(after_help = "\
Example:
  longshore deployment list --label team=web --status RUNNING")]
pub(crate) struct Arguments {
    /// Only those in this status, such as RUNNING; may be given several times.
    #[arg(long, value_name = "STATUS", value_delimiter = ',', ignore_case = true, value_parser = status_parser())]
    status: Vec<ApplicationStatus>,
    /// Only those with this label, or with any value of this key; may be given several times.
    #[arg(long = "label", value_name = "KEY[=VALUE]", value_delimiter = ',')]
    labels: Vec<String>,
    /// Only those on this node.
    #[arg(long, value_name = "NODE")]
    node: Option<String>,
    /// Only those whose name starts so.
    #[arg(long, value_name = "TEXT")]
    name_prefix: Option<String>,
    /// Also those that are destroyed.
    #[arg(long)]
    include_destroyed: bool,
    #[command(flatten)]
    server: ServerArgs,
}

/// As many as the server puts on one page.
const PAGE: u32 = 100;

/// Names all there are when it is none of them.
fn status_parser() -> impl TypedValueParser<Value = ApplicationStatus> {
    let words = ApplicationStatus::ALL.iter().map(|status| status.as_str());
    PossibleValuesParser::new(words).try_map(|word| word.to_ascii_uppercase().parse())
}

pub(crate) async fn run(arguments: Arguments) -> Result<Exit, Failure> {
    let client = super::connect(&arguments.server)?;
    let deployments = all(&client, &filter(&arguments)).await?;
    if let Some(node) = arguments.node.filter(|_| deployments.is_empty()) {
        // Nothing on it, or a slip of the pen.
        node_target::find(&client, &NodeTargetArgs { node }).await?;
    }
    if arguments.server.output == Format::Json {
        output::print_json(&deployments)?;
        return Ok(Exit::Done);
    }
    let rows: Vec<[String; 5]> = deployments.into_iter().map(row).collect();
    output::print_table(["NAME", "STATUS", "REVISION", "NODE", "URL"], &rows)?;
    Ok(Exit::Done)
}

async fn all(client: &Client, filter: &Value) -> Result<Vec<Deployment>, Failure> {
    let mut deployments = Vec::new();
    let mut after = None;
    loop {
        let variables = json!({ "filter": filter, "first": PAGE, "after": after });
        let page: Only<DeploymentPage> = client.ask(Document::Deployments, variables).await?;
        deployments.extend(page.0.nodes);
        after = page
            .0
            .page_info
            .end_cursor
            .filter(|_| page.0.page_info.has_next_page);
        if after.is_none() {
            return Ok(deployments);
        }
    }
}

fn filter(arguments: &Arguments) -> Value {
    let label = |text: &String| match text.split_once('=') {
        Some((key, value)) => json!({ "key": key, "value": value }),
        None => json!({ "key": text }),
    };
    let some = |empty: bool, value: Value| if empty { Value::Null } else { value };
    json!({
        "status": some(arguments.status.is_empty(), json!(arguments.status)),
        "label": some(arguments.labels.is_empty(), arguments.labels.iter().map(label).collect()),
        "node": arguments.node,
        "namePrefix": arguments.name_prefix,
        "includeDestroyed": arguments.include_destroyed,
    })
}

fn row(deployment: Deployment) -> [String; 5] {
    let latest = deployment.latest_revision.map(|revision| revision.number);
    let active = deployment.active_revision.map(|revision| revision.number);
    let revision = match (active, latest) {
        (Some(active), Some(latest)) if active != latest => format!("{active} (newest {latest})"),
        (_, Some(latest)) => latest.to_string(),
        _ => String::new(),
    };
    let status = output::standing(deployment.status, deployment.failure_reason);
    let node = deployment.node.map(|node| node.name).unwrap_or_default();
    [
        deployment.name,
        status,
        revision,
        node,
        deployment.url.unwrap_or_default(),
    ]
}
