//! Where the value of a flag comes from: the command line, else the environment, else the settings
//! file, else its default.
//!
//! clap knows three of the four; the file's values become defaults before it parses. Every flag has
//! one name in all four places: `--some-flag`, `LONGSHORE_SOME_FLAG`, `some-flag`.

mod file;

use crate::exit::Failure;
use clap::builder::BoolishValueParser;
use clap::{Arg, ArgAction, Command};
use file::{Origin, SettingsFile};
use std::ffi::OsString;
use std::path::{Path, PathBuf};

/// Looked for, in this order, when no file is named.
const USUAL_FILES: [&str; 2] = ["longshore.toml", "/etc/longshore/longshore.toml"];

/// The environment variable of a flag.
pub(crate) fn variable(long: &str) -> String {
    format!("LONGSHORE_{}", long.to_ascii_uppercase().replace('-', "_"))
}

/// Gives every flag its environment variable.
pub(crate) fn with_environment(command: Command) -> Command {
    let command = command.mut_args(|arg| {
        let Some(long) = arg.get_long().map(str::to_owned) else {
            return arg;
        };
        let is_switch = matches!(arg.get_action(), ArgAction::SetTrue);
        // Values may be secrets, so help names the variables without them.
        let arg = arg.env(variable(&long)).hide_env_values(true);
        if is_switch {
            arg.value_parser(BoolishValueParser::new())
        } else {
            arg
        }
    });
    command.mut_subcommands(with_environment)
}

/// Puts the values of the settings file under the command line.
pub(crate) fn prepare(command: Command, arguments: &[OsString]) -> Result<Command, Failure> {
    let named =
        named_file(arguments).or_else(|| std::env::var_os(variable("config")).map(PathBuf::from));
    let found = match named {
        Some(path) => Some((path, Origin::Named)),
        None => USUAL_FILES
            .iter()
            .map(Path::new)
            .find(|path| path.exists())
            .map(|path| {
                let origin = if path.is_absolute() {
                    Origin::System
                } else {
                    Origin::WorkingDirectory
                };
                (path.to_owned(), origin)
            }),
    };
    let Some((path, origin)) = found else {
        return Ok(command);
    };
    SettingsFile::read(&path, origin)?.apply(command)
}

/// The value of `--config`, which must be known before the rest can be read.
fn named_file(arguments: &[OsString]) -> Option<PathBuf> {
    let mut arguments = arguments
        .iter()
        .skip(1)
        .take_while(|argument| *argument != "--");
    while let Some(argument) = arguments.next() {
        if argument == "--config" {
            return arguments.next().map(PathBuf::from);
        }
        if let Some(path) = argument
            .to_str()
            .and_then(|text| text.strip_prefix("--config="))
        {
            return Some(PathBuf::from(path));
        }
    }
    None
}

/// The flags of a command that may stand in a file.
fn flags(command: &Command) -> impl Iterator<Item = &Arg> {
    let own = |arg: &&Arg| !matches!(arg.get_long(), None | Some("config" | "help" | "version"));
    command.get_arguments().filter(own)
}
