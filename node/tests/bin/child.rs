//! The node's child processes, for the tests of this crate; people get them as hidden subcommands
//! of `longshore`.

use std::path::PathBuf;
use std::process::ExitCode;

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let value = |name: &str| {
        let at = arguments.iter().position(|argument| argument == name)?;
        arguments.get(at + 1).map(PathBuf::from)
    };
    match arguments.first().map(String::as_str) {
        Some("internal-fetch") => node::git::child_main(),
        Some("forward") => match (value("--control"), value("--table")) {
            (Some(control), Some(table)) => {
                let idle = node::forward::IDLE;
                node::forward::main(&node::forward::ForwardArgs {
                    control,
                    table,
                    idle,
                })
            }
            _ => ExitCode::from(2),
        },
        _ => ExitCode::from(2),
    }
}
