//! `longshore node`: a worker machine of a fleet.

use super::control_plane::GitArgs;
use super::hand::{self, HandArgs};
use super::{BrokerArgs, Services, ThreadArgs};
use anyhow::Context;
use shared::bus::Bus;
use shared::bus::amqp::{AmqpBus, AmqpRole};
use shared::name::NodeName;
use std::path::PathBuf;
use std::sync::Arc;

/// What a node is told.
#[derive(Clone, Debug, clap::Args)]
pub(crate) struct Arguments {
    /// The node's name, unique in the fleet. Needed.
    #[arg(long, value_name = "NAME")]
    name: Option<NodeName>,
    /// Where it keeps its journal and mirrors of repositories.
    #[arg(long, value_name = "DIR", default_value = "/var/lib/longshore/node")]
    state_dir: PathBuf,
    #[command(flatten)]
    broker: BrokerArgs,
    #[command(flatten)]
    hand: HandArgs,
    #[command(flatten)]
    git: GitArgs,
    #[command(flatten)]
    pub(crate) threads: ThreadArgs,
}

pub(crate) async fn run(arguments: Arguments) -> anyhow::Result<()> {
    let name = arguments
        .name
        .context("a node needs a name: give --name or LONGSHORE_NAME")?;
    let mut services = Services::new()?;
    let amqp = Arc::new(AmqpBus::start(
        arguments.broker.options(AmqpRole::Node(name.clone()))?,
    )?);
    let settings = arguments
        .hand
        .settings(name, arguments.state_dir, arguments.git.policy(false));
    hand::start(&mut services, settings, Arc::clone(&amqp) as Arc<dyn Bus>).await?;
    let ended = services.run().await;
    amqp.close().await;
    ended
}
