use crate::args::command;
use crate::settings::prepare;
use clap::ArgMatches;
use std::ffi::OsString;

fn arguments(text: &str, file: &std::path::Path) -> Vec<OsString> {
    let mut arguments: Vec<OsString> = text.split(' ').map(OsString::from).collect();
    arguments.extend(["--config".into(), file.into()]);
    arguments
}

fn file(text: &str) -> tempfile::NamedTempFile {
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), text).unwrap();
    file
}

/// The matches of the innermost command.
fn read(line: &str, settings: &str) -> ArgMatches {
    let file = file(settings);
    let arguments = arguments(line, file.path());
    let command = prepare(command(), &arguments).unwrap_or_else(|failure| panic!("{failure}"));
    let mut matches = command
        .try_get_matches_from(arguments)
        .unwrap_or_else(|error| panic!("{error}"));
    while let Some((_, below)) = matches.remove_subcommand() {
        matches = below;
    }
    matches
}

fn refused(settings: &str) -> String {
    let file = file(settings);
    prepare(command(), &arguments("longshore standalone", file.path()))
        .map(|_| ())
        .unwrap_err()
        .to_string()
}

fn raw(matches: &ArgMatches, id: &str) -> Vec<String> {
    let values = matches.get_raw(id).into_iter().flatten();
    values
        .map(|value| value.to_str().unwrap().to_owned())
        .collect()
}

#[test]
fn the_file_wins_over_the_default_and_the_flag_over_the_file() {
    let settings = "listen = '127.0.0.1:1'";
    assert_eq!(
        raw(&read("longshore standalone", ""), "listen"),
        ["127.0.0.1:8080"]
    );
    assert_eq!(
        raw(&read("longshore standalone", settings), "listen"),
        ["127.0.0.1:1"]
    );
    assert_eq!(
        raw(
            &read("longshore standalone --listen 127.0.0.1:2", settings),
            "listen"
        ),
        ["127.0.0.1:2"]
    );
}

#[test]
fn a_commands_own_table_wins_over_the_top() {
    let settings = "log = 'debug'\nlisten = '127.0.0.1:1'\n[standalone]\nlisten = '127.0.0.1:3'\nallow_hosts = ['a', 'b']\n[deployment.list]\nstatus = ['RUNNING']";
    let standalone = read("longshore standalone", settings);
    assert_eq!(raw(&standalone, "listen"), ["127.0.0.1:3"]);
    assert_eq!(raw(&standalone, "allow_hosts"), ["a", "b"]);
    assert_eq!(raw(&standalone, "filter"), ["debug"]);
    assert_eq!(
        raw(&read("longshore deployment list", settings), "status"),
        ["RUNNING"]
    );
}

#[test]
fn what_is_needed_may_stand_in_the_file() {
    let settings = "[deploy]\ngit = 'https://git.example/a.git'\nwait = true\npoll-seconds = 5";
    let deploy = read("longshore deploy a", settings);
    assert_eq!(raw(&deploy, "git"), ["https://git.example/a.git"]);
    assert!(deploy.get_flag("wait"));
    assert_eq!(deploy.get_one::<u32>("poll_seconds"), Some(&5));
}

#[test]
fn a_mistake_in_the_file_is_named() {
    for (settings, words) in [
        ("lissten = 'x'", "lissten: no command has this setting"),
        (
            "[standalone]\ngit = 'x'",
            "standalone.git: there is no such setting",
        ),
        (
            "[standaloan]\nlisten = 'x'",
            "[standaloan]: there is no such command",
        ),
        (
            "[standalone]\nlisten = 'x'",
            "standalone.listen: invalid value 'x'",
        ),
        (
            "[standalone]\nslots = -1",
            "standalone.slots: invalid value '-1'",
        ),
        (
            "[standalone]\nlisten = ['127.0.0.1:1']",
            "one value is wanted",
        ),
        (
            "[deploy]\nwait = 'perhaps'",
            "deploy.wait: invalid value 'perhaps'",
        ),
        ("config = 'x'", "config: no command has this setting"),
        ("listen", "is not TOML"),
    ] {
        let mistake = refused(settings);
        assert!(mistake.contains(words), "{settings}\ngives: {mistake}");
    }
    let both = refused("one = 1\ntwo = 2");
    assert!(both.contains("one:") && both.contains("two:"), "{both}");
}
