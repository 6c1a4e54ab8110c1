//! `longshore deployment history`: the revisions of a deployment.

use super::target::{self, TargetArgs};
use crate::client::Client;
use crate::client::access::ServerArgs;
use crate::client::document::Document;
use crate::client::model::{Only, Revision};
use crate::exit::{Exit, Failure};
use crate::output::{self, Format};
use serde::Deserialize;
use serde_json::json;
use std::io;

/// List the revisions of a deployment, the newest first: what each came from and what became of it.
#[derive(Clone, Debug, clap::Args)]
#[command(after_help = "\
Example:
  longshore deployment history hello --last 50")]
pub(crate) struct Arguments {
    #[command(flatten)]
    target: TargetArgs,
    /// How many at most.
    #[arg(long, value_name = "COUNT", default_value_t = 20, value_parser = clap::value_parser!(u32).range(1..=200))]
    last: u32,
    #[command(flatten)]
    server: ServerArgs,
}

#[derive(Deserialize)]
struct Revisions {
    revisions: Page,
}

#[derive(Deserialize)]
struct Page {
    nodes: Vec<Revision>,
}

pub(crate) async fn run(arguments: Arguments) -> Result<Exit, Failure> {
    let client = super::connect(&arguments.server)?;
    let deployment = target::find(&client, &arguments.target).await?;
    let revisions = newest(&client, &deployment.id, arguments.last).await?;
    match arguments.server.output {
        Format::Json => output::print_json(&revisions)?,
        Format::Text => print(revisions)?,
    }
    Ok(Exit::Done)
}

/// The newest revisions of a deployment.
pub(super) async fn newest(
    client: &Client,
    deployment_id: &str,
    count: u32,
) -> Result<Vec<Revision>, Failure> {
    let variables = json!({ "id": deployment_id, "first": count });
    let found: Only<Revisions> = client.ask(Document::Revisions, variables).await?;
    Ok(found.0.revisions.nodes)
}

/// Prints revisions as a table.
pub(super) fn print(revisions: Vec<Revision>) -> io::Result<()> {
    let rows: Vec<[String; 5]> = revisions.into_iter().map(row).collect();
    output::print_table(["REVISION", "STATUS", "VERSION", "ASKED FOR", "WHY"], &rows)
}

fn row(revision: Revision) -> [String; 5] {
    let status = output::standing(revision.status, revision.failure_reason);
    let version = revision.source_version.unwrap_or_default();
    let why = revision.status_detail.unwrap_or_default();
    [
        revision.number.to_string(),
        status,
        version.chars().take(VERSION).collect(),
        revision
            .created_at
            .to_rfc3339_opts(chrono::SecondsFormat::Secs, true),
        shortened(why.lines().next().unwrap_or_default()),
    ]
}

/// Enough of a commit to tell it from others.
const VERSION: usize = 12;
/// Enough of a reason to know it again; `show` has the newest whole.
const WHY: usize = 60;

fn shortened(text: &str) -> String {
    if text.chars().count() <= WHY {
        return text.to_owned();
    }
    let kept: String = text.chars().take(WHY - 1).collect();
    format!("{kept}…")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_revision_is_one_line() {
        let revision = serde_json::from_value(json!({
            "id": "r", "number": 3, "status": "FAILED", "failureReason": "UNHEALTHY",
            "statusDetail": format!("{}\nboom", "é".repeat(80)), "sourceVersion": "0123456789abcdef",
            "createdAt": "2026-01-02T03:04:05Z",
        }));
        let [number, status, version, at, why] = row(revision.unwrap());
        assert_eq!(
            [number.as_str(), &version, &at],
            ["3", "0123456789ab", "2026-01-02T03:04:05Z"]
        );
        assert_eq!(status, "FAILED (UNHEALTHY)");
        assert_eq!(why, format!("{}…", "é".repeat(59)));
    }
}
