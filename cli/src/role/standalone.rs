//! `longshore standalone`: orchestrator and node in one process, on SQLite and the local bus.

use super::control_plane::{self, GitArgs, ListenArgs};
use super::hand::HandArgs;
use super::{Services, ThreadArgs, token};
use crate::paths::default_data_dir;
use ::node::Node;
use ::orchestrator::Settings;
use anyhow::Context;
use secrecy::SecretString;
use shared::bus::Bus;
use shared::bus::local::LocalBus;
use shared::name::NodeName;
use std::fs::Permissions;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// Run everything in one process: needs only Docker.
#[derive(Clone, Debug, clap::Args)]
#[command(after_help = "\
Example:
  longshore standalone --data-dir ~/.local/share/longshore --listen 127.0.0.1:8080

On the first start it makes an admin token, prints it once and keeps it in <data-dir>/admin-token. Given
LONGSHORE_ADMIN_TOKEN it uses that.")]
pub(crate) struct Arguments {
    /// Where everything is kept: the database, the token, the node's state. In the home directory when
    /// absent: $XDG_DATA_HOME/longshore or ~/.local/share/longshore.
    #[arg(long, value_name = "DIR")]
    data_dir: Option<PathBuf>,
    /// The name of the node inside.
    #[arg(long, value_name = "NAME", default_value = "local")]
    name: NodeName,
    #[command(flatten)]
    listen: ListenArgs,
    #[command(flatten)]
    hand: HandArgs,
    #[command(flatten)]
    git: GitArgs,
    #[command(flatten)]
    pub(crate) threads: ThreadArgs,
}

pub(crate) async fn run(arguments: Arguments) -> anyhow::Result<()> {
    let data_dir = prepare(arguments.data_dir.unwrap_or_else(default_data_dir))?;
    let mut services = Services::new()?;
    let bus: Arc<dyn Bus> = Arc::new(LocalBus::new());
    // One machine and one user: a Git server beside it is as good as any.
    let policy = arguments.git.policy(true);
    let settings = Settings {
        fetch_policy: policy.clone(),
        ..Settings::new(database_url(&data_dir)?)
    };
    let node = arguments
        .hand
        .settings(arguments.name, data_dir.join("node"), policy);
    // First: it holds the data directory, which another process may be using, and says what is wrong
    // with the settings.
    let node = Node::start(node, Arc::clone(&bus), services.stop()).await?;
    let admin_token = match token::given(None)? {
        Some(token) => token,
        None => token::kept(&data_dir)?,
    };
    control_plane::start(
        &mut services,
        settings,
        bus,
        arguments.listen.listen,
        admin_token,
    )
    .await?;
    services.add("node", node.run());
    services.run().await
}

/// Makes the data directory, for its owner alone.
fn prepare(data_dir: PathBuf) -> anyhow::Result<PathBuf> {
    let made = std::fs::DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(&data_dir);
    made.with_context(|| format!("making the data directory {}", data_dir.display()))?;
    data_dir
        .canonicalize()
        .with_context(|| format!("looking at the data directory {}", data_dir.display()))
}

fn database_url(data_dir: &Path) -> anyhow::Result<SecretString> {
    let path = data_dir.join("longshore.db");
    // The directory may be somebody's, open to others. What SQLite makes beside the file is as private
    // as the file.
    std::fs::OpenOptions::new()
        .append(true)
        .create(true)
        .mode(0o600)
        .open(&path)
        .and_then(|file| file.set_permissions(Permissions::from_mode(0o600)))
        .with_context(|| format!("making the database {} private", path.display()))?;
    let path = path
        .to_str()
        .context("the data directory's path is not UTF-8")?;
    Ok(SecretString::from(format!("sqlite://{path}")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_database_is_its_owners_alone() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("longshore.db");
        for _ in 0..2 {
            database_url(directory.path()).unwrap();
            let mode = std::fs::metadata(&path).unwrap().permissions().mode();
            assert_eq!(mode & 0o777, 0o600);
            std::fs::set_permissions(&path, Permissions::from_mode(0o644)).unwrap();
        }
    }
}
