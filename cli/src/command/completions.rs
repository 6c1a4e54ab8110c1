//! `longshore completions`: a script that completes commands and flags in a shell.

use crate::exit::{Exit, Failure};
use clap_complete::Shell;
use std::io::Write;

/// Print a completion script for a shell.
#[derive(Clone, Debug, clap::Args)]
#[command(after_help = "\
Example:
  longshore completions bash > /etc/bash_completion.d/longshore")]
pub(crate) struct Arguments {
    /// The shell.
    #[arg(value_enum)]
    shell: Shell,
}

pub(crate) fn run(arguments: &Arguments) -> Result<Exit, Failure> {
    let mut script = Vec::new();
    clap_complete::generate(
        arguments.shell,
        &mut crate::args::command(),
        "longshore",
        &mut script,
    );
    std::io::stdout().lock().write_all(&script)?;
    Ok(Exit::Done)
}
