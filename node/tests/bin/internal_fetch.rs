//! The fetch's child process on its own, for the tests of this crate.

fn main() -> std::process::ExitCode {
    node::git::child_main()
}
