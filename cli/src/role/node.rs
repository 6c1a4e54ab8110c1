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
    let role = AmqpRole::Node(name.clone());
    let settings = arguments
        .hand
        .settings(name, arguments.state_dir, arguments.git.policy(false));
    // A mistake in them is found before anything is connected.
    settings.validate()?;
    let mut services = Services::new()?;
    let amqp = Arc::new(AmqpBus::start(arguments.broker.options(role)?)?);
    let bus = Arc::clone(&amqp) as Arc<dyn Bus>;
    let ended = match hand::start(&mut services, settings, bus).await {
        Ok(()) => services.run().await,
        Err(error) => Err(error),
    };
    amqp.close().await;
    ended
}

#[cfg(test)]
mod tests {
    use crate::args::{Cli, Command};
    use clap::Parser as _;

    #[tokio::test]
    async fn mistakes_in_the_settings_are_found_before_a_broker_is_looked_for() {
        for (setting, value, words) in [
            (
                "--network-pool",
                "10.1.0.0/33",
                "the network pool 10.1.0.0/33",
            ),
            ("--docker-host", "carrier-pigeon", "`carrier-pigeon`"),
        ] {
            let words_given = ["longshore", "node", "--name", "n1", setting, value];
            let Command::Node(node) = Cli::try_parse_from(words_given).unwrap().command else {
                panic!("another command")
            };
            let error = super::run(node.role).await.unwrap_err().to_string();
            assert!(error.contains(words), "{error}");
        }
    }
}
