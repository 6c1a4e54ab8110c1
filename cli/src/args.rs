//! Every command. Flags stand with the command that they belong to.

use crate::command::{
    cancel, completions, create, dead_letter_drop, dead_letter_list, dead_letter_retry,
    dead_letter_show, deploy, destroy, history, list, logs, node_cordon, node_drain, node_list,
    node_remove, node_show, node_uncordon, redeploy, restart, rollback, show, start, stop,
};
use crate::exit::EXIT_CODES;
use crate::role::{LogArgs, migrate, node, orchestrator, standalone};
use crate::settings::with_environment;
use clap::{CommandFactory, Parser, Subcommand};
use std::path::PathBuf;

/// The hidden command that a node runs as its child to fetch a repository.
pub(crate) const INTERNAL_FETCH: &str = "internal-fetch";

/// The hidden command that an orchestrator runs as its child to look for new commits.
pub(crate) const INTERNAL_LS_REMOTE: &str = shared::git::LS_REMOTE_COMMAND;

/// Deploys Git repositories onto Docker machines, keeps them running and says what it does.
#[derive(Debug, Parser)]
#[command(name = "longshore", version, propagate_version = true, after_help = AFTER_HELP, max_term_width = 100)]
pub(crate) struct Cli {
    #[command(subcommand)]
    pub(crate) command: Command,
    /// A settings file. Without it: ./longshore.toml, then /etc/longshore/longshore.toml, if there.
    #[arg(long, value_name = "FILE", global = true)]
    pub(crate) config: Option<PathBuf>,
    #[command(flatten)]
    pub(crate) log: LogArgs,
}

const AFTER_HELP: &str = "\
Example:
  longshore standalone                       # in one terminal
  longshore deploy hello --git https://git.example/team/hello.git --wait

Every flag --some-flag is also the variable LONGSHORE_SOME_FLAG and the key some-flag of the settings
file, at its top or in its command's table. Flags win over the environment, that over the file.
Exit codes of client commands: see `longshore deploy --help`.";

/// What to do.
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    Standalone(Box<standalone::Arguments>),
    Orchestrator(Box<orchestrator::Arguments>),
    Node(Box<NodeArguments>),
    Migrate(migrate::Arguments),
    Deploy(deploy::Arguments),
    /// Manage deployments.
    #[command(subcommand, after_help = "Example:\n  longshore deployment list")]
    Deployment(DeploymentCommand),
    /// Look after messages between orchestrators and nodes that nobody could handle.
    #[command(subcommand, after_help = "Example:\n  longshore dead-letter list")]
    DeadLetter(DeadLetterCommand),
    Completions(completions::Arguments),
    /// Print the API's schema in the language of GraphQL.
    #[command(
        hide = true,
        after_help = "Example:\n  longshore sdl > schema/schema.graphql"
    )]
    Sdl,
    #[command(hide = true)]
    Forward(ForwardArguments),
    /// Fetch a repository on behalf of a node, which speaks to it over its standard streams.
    #[command(name = INTERNAL_FETCH, hide = true, after_help = "Example: started by `longshore node` only")]
    InternalFetch,
    /// Look for the newest commit on behalf of an orchestrator, over its standard streams.
    #[command(name = INTERNAL_LS_REMOTE, hide = true, after_help = "Example: started by `longshore orchestrator` only")]
    InternalLsRemote,
}

/// Run a node of a fleet: it takes work from its own queue. Or ask about nodes.
#[derive(Debug, clap::Args)]
#[command(
    args_conflicts_with_subcommands = true,
    after_help = "\
Example:
  LONGSHORE_AMQP_URL=amqp://node:secret@broker:5672/%2f longshore node --name node-1 --state-dir /var/lib/longshore"
)]
pub(crate) struct NodeArguments {
    #[command(flatten)]
    pub(crate) role: node::Arguments,
    #[command(subcommand)]
    pub(crate) command: Option<NodeCommand>,
}

/// What may be asked about nodes, and of them.
#[derive(Debug, Subcommand)]
pub(crate) enum NodeCommand {
    List(node_list::Arguments),
    Show(node_show::Arguments),
    Cordon(node_cordon::Arguments),
    Uncordon(node_uncordon::Arguments),
    Drain(node_drain::Arguments),
    Remove(node_remove::Arguments),
}

/// What may be done about messages that nobody could handle.
#[derive(Debug, Subcommand)]
pub(crate) enum DeadLetterCommand {
    List(dead_letter_list::Arguments),
    Show(dead_letter_show::Arguments),
    Retry(dead_letter_retry::Arguments),
    Drop(dead_letter_drop::Arguments),
}

/// What may be done with deployments.
#[derive(Debug, Subcommand)]
pub(crate) enum DeploymentCommand {
    Create(create::Arguments),
    List(list::Arguments),
    Show(show::Arguments),
    History(history::Arguments),
    Start(start::Arguments),
    Stop(stop::Arguments),
    Restart(restart::Arguments),
    Redeploy(redeploy::Arguments),
    Rollback(rollback::Arguments),
    Destroy(destroy::Arguments),
    Logs(logs::Arguments),
    Cancel(cancel::Arguments),
}

/// Hold the leased ports of a node, which starts this by itself.
#[derive(Debug, clap::Args)]
#[command(after_help = "Example: started by `longshore node` only")]
pub(crate) struct ForwardArguments {
    /// The control socket.
    #[arg(long, value_name = "SOCKET")]
    control: PathBuf,
    /// The table on disk.
    #[arg(long, value_name = "FILE")]
    table: PathBuf,
}

impl From<ForwardArguments> for ::node::forward::ForwardArgs {
    fn from(arguments: ForwardArguments) -> Self {
        Self {
            control: arguments.control,
            table: arguments.table,
            idle: ::node::forward::IDLE,
        }
    }
}

/// The whole command line, with its environment variables.
pub(crate) fn command() -> clap::Command {
    with_environment(Cli::command()).mut_subcommand("deploy", |deploy| {
        deploy.after_long_help(format!("{}\n\n{EXIT_CODES}", deploy::EXAMPLE))
    })
}
