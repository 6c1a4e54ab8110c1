//! The control plane: the orchestrator's loops and the API, whatever database and bus they have.

use super::Services;
use crate::output;
use ::orchestrator::{Orchestrator, Settings};
use anyhow::Context;
use schema::{Metrics, ServeSettings};
use secrecy::SecretString;
use shared::bus::Bus;
use shared::git::{FetchPolicy, SshSettings};
use shared::guard::{AllowedHost, GuardPolicy};
use shared::source::GitScheme;
use std::convert::Infallible;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;

/// Where the API listens.
#[derive(Clone, Debug, clap::Args)]
#[command(next_help_heading = "API")]
pub(crate) struct ListenArgs {
    /// Where the API listens.
    #[arg(long, value_name = "ADDRESS", default_value = "127.0.0.1:8080")]
    pub(crate) listen: SocketAddr,
}

/// Where Git may go. The orchestrator looks for new commits, the node fetches them: both need it.
#[derive(Clone, Debug, clap::Args)]
#[command(next_help_heading = "Git")]
pub(crate) struct GitArgs {
    /// A host name, address or network that may be asked although it is on this machine or otherwise
    /// closed; may be given several times.
    #[arg(long, value_name = "HOST", value_delimiter = ',')]
    allow_hosts: Vec<AllowedHost>,
    /// Refuse Git servers and registries in private networks that --allow-hosts does not list.
    #[arg(long)]
    deny_private_hosts: bool,
    /// A Git scheme beside https, http and ssh: `file`, for local trials.
    #[arg(long, value_name = "SCHEME", value_delimiter = ',')]
    allow_git_scheme: Vec<GitScheme>,
    /// The private key for Git over SSH; the ssh-agent is asked when absent.
    #[arg(long, value_name = "FILE")]
    ssh_key: Option<PathBuf>,
}

impl GitArgs {
    /// The policy. `allow_loopback`: Git servers on this very machine may be asked.
    pub(crate) fn policy(self, allow_loopback: bool) -> FetchPolicy {
        FetchPolicy {
            file_allowed: self.allow_git_scheme.contains(&GitScheme::File),
            guard: GuardPolicy {
                allow_loopback,
                deny_private: self.deny_private_hosts,
                allowed: self.allow_hosts,
            },
            ssh: SshSettings {
                key: self.ssh_key,
                ..SshSettings::default()
            },
        }
    }
}

/// Starts the control plane and adds it to the services.
pub(crate) async fn start(
    services: &mut Services,
    settings: Settings,
    bus: Arc<dyn Bus>,
    listen: SocketAddr,
    admin_token: SecretString,
) -> anyhow::Result<()> {
    let metrics = Metrics::install()?;
    let (orchestrator, loops) = Orchestrator::start(settings, bus, services.stop()).await?;
    let server = schema::serve(
        orchestrator,
        ServeSettings {
            listen,
            admin_token,
            metrics,
        },
        services.stop(),
    )
    .await?;
    let address = server.local_addr();
    services.add("orchestrator", loops.run());
    services.add("API", async move {
        server.run().await;
        Ok::<(), Infallible>(())
    });
    output::print(&format!(
        "Longshore is at http://{address}, its GraphiQL at http://{address}/graphiql"
    ))
    .context("writing to standard output")
}
