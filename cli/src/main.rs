//! `longshore`, the one binary: the roles that run a fleet, and the client commands that use it.
//!
//! - [`args`]: every command and flag
//! - [`settings`]: flag over environment over file over default
//! - [`role`]: standalone, orchestrator, node, migrate
//! - [`command`]: what a person or a CI job asks for, with [`client`] and [`follow`]
//! - [`exit`], [`output`]: how a command ends, and what is printed

mod args;
mod client;
mod command;
mod exit;
mod follow;
mod output;
mod paths;
mod role;
mod settings;
#[cfg(test)]
mod tests;

use args::{Cli, Command, DeadLetterCommand, DeploymentCommand, NodeCommand};
use clap::FromArgMatches;
use exit::{Exit, Failure};
use std::ffi::OsString;
use std::process::ExitCode;

/// Batches of rows and messages are made and dropped all the time: see decision 6.
#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

fn main() -> ExitCode {
    let arguments: Vec<OsString> = std::env::args_os().collect();
    // Before anything is set up: these children live within tight limits of memory.
    match arguments.get(1).and_then(|argument| argument.to_str()) {
        Some(args::INTERNAL_FETCH) => return node::git::child_main(),
        Some(args::INTERNAL_LS_REMOTE) => return node::git::ls_remote_main(),
        _ => {}
    }
    // Fails only when a provider is there already, which then is this one.
    let _ = rustls::crypto::ring::default_provider().install_default();
    let cli = match read(arguments) {
        Ok(cli) => cli,
        Err(code) => return code,
    };
    dispatch(cli)
}

/// Reads the command line, the environment and the settings file.
fn read(arguments: Vec<OsString>) -> Result<Cli, ExitCode> {
    let command =
        settings::prepare(args::command(), &arguments).map_err(|failure| fail(&failure))?;
    let matches = command.try_get_matches_from(arguments);
    let cli = matches.and_then(|matches| Cli::from_arg_matches(&matches));
    cli.map_err(|error| {
        // Help and version are asked for and go to standard output; they are no mistake.
        let exit = if error.use_stderr() {
            Exit::Refused
        } else {
            Exit::Done
        };
        // Where it cannot be printed there is nobody to read it.
        let _ = error.print();
        ExitCode::from(exit.code())
    })
}

fn dispatch(cli: Cli) -> ExitCode {
    let log = cli.log;
    match cli.command {
        Command::Standalone(arguments) => role::run(
            &log,
            arguments.threads.worker_threads,
            role::standalone::run(*arguments),
        ),
        Command::Orchestrator(arguments) => role::run(
            &log,
            arguments.threads.worker_threads,
            role::orchestrator::run(*arguments),
        ),
        Command::Node(arguments) => match arguments.command {
            Some(command) => node_command(command),
            None => role::run(
                &log,
                arguments.role.threads.worker_threads,
                role::node::run(arguments.role),
            ),
        },
        Command::Migrate(arguments) => role::run(&log, 1, role::migrate::run(arguments)),
        Command::Deploy(arguments) => client(command::deploy::run(arguments)),
        Command::Deployment(command) => deployment(command),
        Command::DeadLetter(command) => dead_letter(command),
        Command::Completions(arguments) => end(command::completions::run(&arguments)),
        Command::Sdl => end(output::print(schema::sdl().trim_end())
            .map(|()| Exit::Done)
            .map_err(Failure::from)),
        Command::Forward(arguments) => node::forward::main(&arguments.into()),
        Command::InternalFetch => node::git::child_main(),
        Command::InternalLsRemote => node::git::ls_remote_main(),
    }
}

fn deployment(command: DeploymentCommand) -> ExitCode {
    use DeploymentCommand as D;
    match command {
        D::Create(arguments) => client(command::create::run(arguments)),
        D::List(arguments) => client(command::list::run(arguments)),
        D::Show(arguments) => client(command::show::run(arguments)),
        D::History(arguments) => client(command::history::run(arguments)),
        D::Start(arguments) => client(command::start::run(arguments)),
        D::Stop(arguments) => client(command::stop::run(arguments)),
        D::Restart(arguments) => client(command::restart::run(arguments)),
        D::Redeploy(arguments) => client(command::redeploy::run(arguments)),
        D::Rollback(arguments) => client(command::rollback::run(arguments)),
        D::Destroy(arguments) => client(command::destroy::run(arguments)),
        D::Logs(arguments) => client(command::logs::run(arguments)),
        D::Cancel(arguments) => client(command::cancel::run(arguments)),
    }
}

fn node_command(command: NodeCommand) -> ExitCode {
    use NodeCommand as N;
    match command {
        N::List(arguments) => client(command::node_list::run(arguments)),
        N::Show(arguments) => client(command::node_show::run(arguments)),
        N::Cordon(arguments) => client(command::node_cordon::run(arguments)),
        N::Uncordon(arguments) => client(command::node_uncordon::run(arguments)),
        N::Drain(arguments) => client(command::node_drain::run(arguments)),
        N::Remove(arguments) => client(command::node_remove::run(arguments)),
    }
}

fn dead_letter(command: DeadLetterCommand) -> ExitCode {
    use DeadLetterCommand as L;
    match command {
        L::List(arguments) => client(command::dead_letter_list::run(arguments)),
        L::Show(arguments) => client(command::dead_letter_show::run(arguments)),
        L::Retry(arguments) => client(command::dead_letter_retry::run(arguments)),
        L::Drop(arguments) => client(command::dead_letter_drop::run(arguments)),
    }
}

/// Runs a client command.
fn client(command: impl Future<Output = Result<Exit, Failure>>) -> ExitCode {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build();
    match runtime {
        Ok(runtime) => end(runtime.block_on(command)),
        Err(error) => end(Err(Failure::input(format!("starting up: {error}")))),
    }
}

fn end(result: Result<Exit, Failure>) -> ExitCode {
    match result {
        Ok(exit) => ExitCode::from(exit.code()),
        Err(failure) => fail(&failure),
    }
}

fn fail(failure: &Failure) -> ExitCode {
    if failure.exit == Exit::Done {
        return ExitCode::from(failure.exit.code());
    }
    output::note(&format!("error: {failure}"));
    if let Some(advice) = &failure.advice {
        output::note(&format!("  {advice}"));
    }
    ExitCode::from(failure.exit.code())
}
