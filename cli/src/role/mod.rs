//! The roles: processes that run until they are told to stop.
//!
//! A role builds its services and hands them to [`Services`], which runs them together: one that ends
//! early stops the rest, and all share a grace period. Standalone and the fleet differ in two
//! constructor calls, the database and the bus; the services are the same ([`control_plane`], [`hand`]).

pub(crate) mod control_plane;
pub(crate) mod hand;
pub(crate) mod migrate;
pub(crate) mod node;
pub(crate) mod orchestrator;
mod services;
pub(crate) mod standalone;
mod token;

pub(crate) use services::Services;

use crate::exit::{Exit, chain};
use crate::output;
use anyhow::{Context, bail};
use secrecy::SecretString;
use shared::bus::amqp::{AmqpOptions, AmqpRole, AmqpTls};
use shared::telemetry::{self, LogFormat};
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

/// How processes log.
#[derive(Clone, Debug, clap::Args)]
pub(crate) struct LogArgs {
    /// What roles log, such as `debug` or `info,lapin=debug`.
    #[arg(long = "log", value_name = "FILTER", global = true, default_value = DEFAULT_FILTER, hide_default_value = true)]
    filter: String,
    /// How a log line looks.
    #[arg(
        long = "log-format",
        value_name = "FORMAT",
        global = true,
        value_enum,
        default_value_t
    )]
    format: Format,
}

/// Libraries say what they do; a person wants to know what we do. What lapin finds wrong with a
/// connection or a channel we say ourselves, once and in our words; it says it several times a second.
const DEFAULT_FILTER: &str =
    "info,lapin=off,sqlx=warn,sea_orm=warn,sea_orm_migration=warn,bollard=warn,hyper=warn";

#[derive(Clone, Copy, Debug, Default, clap::ValueEnum)]
enum Format {
    #[default]
    Text,
    Json,
}

/// How many threads a role uses.
#[derive(Clone, Copy, Debug, clap::Args)]
pub(crate) struct ThreadArgs {
    /// Threads that run tasks. More of them cost memory and help only under load.
    #[arg(long, value_name = "NUMBER", default_value_t = 2, value_parser = clap::value_parser!(u16).range(1..=512), hide_short_help = true)]
    pub(crate) worker_threads: u16,
}

/// Which database.
#[derive(Clone, Debug, clap::Args)]
#[command(next_help_heading = "Database")]
pub(crate) struct DatabaseArgs {
    /// The database: postgres://user:password@host/name. Better set as LONGSHORE_DATABASE_URL, since a
    /// command line is seen by everybody on the machine.
    #[arg(long = "database-url", value_name = "URL")]
    pub(crate) url: SecretString,
}

/// Which broker.
#[derive(Clone, Debug, clap::Args)]
#[command(next_help_heading = "Broker")]
pub(crate) struct BrokerArgs {
    /// The broker: amqp://user:password@host:port/vhost, or amqps://… Needed. Better set as
    /// LONGSHORE_AMQP_URL, since a command line is seen by everybody on the machine.
    #[arg(long, value_name = "URL")]
    amqp_url: Option<SecretString>,
    /// For amqps://: the certificates (PEM) that vouch for the broker's.
    #[arg(long, value_name = "FILE")]
    amqp_ca_file: Option<PathBuf>,
    /// For amqps://: this process's own certificate (PEM), where the broker asks for one.
    #[arg(long, value_name = "FILE", requires = "amqp_key_file")]
    amqp_cert_file: Option<PathBuf>,
    /// The key (PKCS #8, PEM) of that certificate.
    #[arg(long, value_name = "FILE", requires = "amqp_cert_file")]
    amqp_key_file: Option<PathBuf>,
}

impl BrokerArgs {
    fn options(self, role: AmqpRole) -> anyhow::Result<AmqpOptions> {
        let url = self
            .amqp_url
            .context("a broker is needed: set LONGSHORE_AMQP_URL or --amqp-url")?;
        let identity = self.amqp_cert_file.zip(self.amqp_key_file);
        let tls = match self.amqp_ca_file {
            Some(ca_file) => Some(AmqpTls { ca_file, identity }),
            None if identity.is_some() => {
                bail!("a certificate for the broker needs --amqp-ca-file as well")
            }
            None => None,
        };
        Ok(AmqpOptions { url, role, tls })
    }
}

/// Reads a duration such as `500ms`, `90s`, `10m` or `1h`.
fn duration(text: &str) -> Result<Duration, String> {
    shared::spec::parse_duration(text)
        .ok_or_else(|| "give a number with ms, s, m or h, such as 90s or 10m".to_owned())
}

/// Runs a role to its end.
pub(crate) fn run(
    log: &LogArgs,
    threads: u16,
    role: impl Future<Output = anyhow::Result<()>>,
) -> ExitCode {
    let format = match log.format {
        Format::Text => LogFormat::Text,
        Format::Json => LogFormat::Json,
    };
    if let Err(error) = telemetry::start(format, &log.filter) {
        output::note(&format!("error: --log or LONGSHORE_LOG: {error}"));
        return ExitCode::from(Exit::Refused.code());
    }
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(usize::from(threads))
        .enable_all()
        .build();
    let ended = runtime.map_err(anyhow::Error::from).and_then(|runtime| {
        let ended = runtime.block_on(role);
        // What outlived its grace period must not keep the process.
        runtime.shutdown_background();
        ended
    });
    match ended {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            output::note(&format!("error: {}", chain(error.as_ref())));
            ExitCode::from(Exit::Refused.code())
        }
    }
}
