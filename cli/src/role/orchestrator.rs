//! `longshore orchestrator`: the control plane of a fleet. Any number run side by side.

use super::control_plane::{self, GitArgs, ListenArgs};
use super::{BrokerArgs, DatabaseArgs, Services, ThreadArgs, token};
use ::orchestrator::Settings;
use anyhow::Context;
use shared::bus::Bus;
use shared::bus::amqp::{AmqpBus, AmqpRole};
use std::path::PathBuf;
use std::sync::Arc;

/// Run the control plane of a fleet, on Postgres and RabbitMQ.
#[derive(Clone, Debug, clap::Args)]
#[command(after_help = "\
Example:
  export LONGSHORE_DATABASE_URL=postgres://longshore:secret@database/longshore
  export LONGSHORE_AMQP_URL=amqp://longshore:secret@broker:5672/%2f
  LONGSHORE_ADMIN_TOKEN=$(cat token) longshore orchestrator --listen 0.0.0.0:8080

LONGSHORE_ADMIN_TOKEN, or a file named by --admin-token-file, is needed: all orchestrators of a fleet share it.")]
pub(crate) struct Arguments {
    #[command(flatten)]
    database: DatabaseArgs,
    #[command(flatten)]
    broker: BrokerArgs,
    #[command(flatten)]
    listen: ListenArgs,
    /// A file that holds the admin token. LONGSHORE_ADMIN_TOKEN, when set, wins.
    #[arg(long, value_name = "FILE")]
    admin_token_file: Option<PathBuf>,
    #[command(flatten)]
    git: GitArgs,
    #[command(flatten)]
    pub(crate) threads: ThreadArgs,
}

pub(crate) async fn run(arguments: Arguments) -> anyhow::Result<()> {
    let admin_token = token::given(arguments.admin_token_file.as_deref())?.with_context(|| {
        format!(
            "there is no admin token: set {} or --admin-token-file",
            token::VARIABLE
        )
    })?;
    let mut services = Services::new()?;
    let amqp = Arc::new(AmqpBus::start(
        arguments.broker.options(AmqpRole::Orchestrator)?,
    )?);
    let bus: Arc<dyn Bus> = Arc::clone(&amqp) as Arc<dyn Bus>;
    let settings = Settings {
        fetch_policy: arguments.git.policy(false),
        ..Settings::new(arguments.database.url)
    };
    let started = control_plane::start(
        &mut services,
        settings,
        bus,
        arguments.listen.listen,
        admin_token,
    )
    .await;
    let ended = match started {
        Ok(()) => services.run().await,
        Err(error) => Err(error),
    };
    amqp.close().await;
    ended
}
