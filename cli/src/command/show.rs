//! `longshore deployment show`.

use super::history;
use super::target::{self, TargetArgs};
use crate::client::access::ServerArgs;
use crate::client::model::Deployment;
use crate::exit::{Exit, Failure};
use crate::output::{self, Format};
use std::io;

/// Show one deployment: where it stands and why, where it answers, its newest revisions.
#[derive(Clone, Debug, clap::Args)]
#[command(after_help = "\
Example:
  longshore deployment show hello --output json")]
pub(crate) struct Arguments {
    #[command(flatten)]
    target: TargetArgs,
    #[command(flatten)]
    server: ServerArgs,
}

/// How many of the newest revisions are listed.
const REVISIONS: u32 = 5;

pub(crate) async fn run(arguments: Arguments) -> Result<Exit, Failure> {
    let client = super::connect(&arguments.server)?;
    let deployment = target::find(&client, &arguments.target).await?;
    if arguments.server.output == Format::Json {
        output::print_json(&deployment)?;
        return Ok(Exit::Done);
    }
    let newest = history::newest(&client, &deployment.id, REVISIONS).await?;
    describe(&deployment)?;
    output::print("")?;
    history::print(newest)?;
    Ok(Exit::Done)
}

fn describe(deployment: &Deployment) -> io::Result<()> {
    let field =
        |name: &str, value: &str| output::print(&format!("{name:10} {}", output::line(value)));
    field("name", &deployment.name)?;
    field("id", &deployment.id)?;
    let status = output::standing(deployment.status, deployment.failure_reason);
    field("status", &status)?;
    for line in deployment
        .status_detail
        .as_deref()
        .into_iter()
        .flat_map(output::lines)
    {
        output::print(&format!("{:10} {line}", ""))?;
    }
    field("url", deployment.url.as_deref().unwrap_or("none yet"))?;
    field("source", &deployment.source.summary())?;
    if let Some(watch) = &deployment.git_watch {
        if let Some(next) = watch.next_poll_at {
            field(
                "next look",
                &next.to_rfc3339_opts(chrono::SecondsFormat::Secs, true),
            )?;
        }
        if let Some(error) = &watch.last_error {
            field("last look", error)?;
        }
    }
    field(
        "node",
        deployment
            .node
            .as_ref()
            .map_or("none yet", |node| &node.name),
    )?;
    for label in &deployment.labels {
        field("label", &format!("{}={}", label.key, label.value))?;
    }
    for port in &deployment.ports {
        field(
            "port",
            &format!(
                "{} of {} → {} of {}",
                port.port, port.node.name, port.container_port, port.service
            ),
        )?;
    }
    for service in &deployment.services {
        let restarts = if service.restarts > 0 {
            format!(", restarted {}", output::times(service.restarts))
        } else {
            String::new()
        };
        field(
            "service",
            &format!("{} {}{restarts}", service.name, service.status),
        )?;
    }
    Ok(())
}
