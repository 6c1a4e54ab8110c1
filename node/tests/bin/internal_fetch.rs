//! The fetch's child process on its own, for the tests of this crate.

fn main() -> std::process::ExitCode {
    match std::env::args().nth(1) {
        Some(command) if command == shared::git::LS_REMOTE_COMMAND => node::git::ls_remote_main(),
        _ => node::git::child_main(),
    }
}
