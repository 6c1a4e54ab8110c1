use crate::args::command;
use clap::Command;

/// Every command below this one, with its path.
fn all(command: &Command, path: &str) -> Vec<(String, Command)> {
    let path = format!("{path} {}", command.get_name());
    let below = command.get_subcommands().flat_map(|sub| all(sub, &path));
    std::iter::once((path.clone(), command.clone()))
        .chain(below)
        .collect()
}

#[test]
fn the_command_line_is_consistent() {
    command().debug_assert();
}

#[test]
fn every_command_says_what_it_is_for_and_shows_an_example() {
    for (path, command) in all(&command(), "") {
        assert!(
            command.get_about().is_some() || command.get_name() == "forward",
            "{path}"
        );
        let example = command
            .get_after_help()
            .map(ToString::to_string)
            .unwrap_or_default();
        assert!(example.contains("Example"), "{path}: {example}");
    }
}

#[test]
fn every_flag_has_its_environment_variable() {
    for (path, command) in all(&command(), "") {
        for arg in command.get_arguments() {
            let Some(long) = arg
                .get_long()
                .filter(|long| !matches!(*long, "help" | "version"))
            else {
                continue;
            };
            let expected = format!("LONGSHORE_{}", long.to_uppercase().replace('-', "_"));
            assert_eq!(
                arg.get_env().and_then(|name| name.to_str()),
                Some(expected.as_str()),
                "{path} --{long}"
            );
            assert!(arg.get_help().is_some(), "{path} --{long} says what it is");
        }
    }
}

#[test]
fn deploy_tells_its_exit_codes() {
    let mut command = command();
    let help = command
        .find_subcommand_mut("deploy")
        .unwrap()
        .render_long_help()
        .to_string();
    for words in [
        "2  the new revision failed, the one before it still serves",
        "6  no connection",
    ] {
        assert!(help.contains(words), "{help}");
    }
}
