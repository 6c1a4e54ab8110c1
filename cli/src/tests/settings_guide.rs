//! `docs/guide/settings.md` says what the command line says: its tables are generated from it.

use crate::args::command;
use clap::{Arg, Command};

const BEGIN: &str = "<!-- settings: generated from the command line -->\n\n";
const END: &str = "<!-- end of settings -->";

/// The commands whose settings an operator decides once.
const ROLES: [&str; 4] = ["standalone", "orchestrator", "node", "migrate"];

fn markdown() -> String {
    let root = command();
    let mut text = section("Every command", &root);
    for role in ROLES {
        let command = root.find_subcommand(role).unwrap();
        text.push_str(&section(&format!("`longshore {role}`"), command));
    }
    text.push_str(&section(
        "Client commands",
        root.find_subcommand("node")
            .and_then(|node| node.find_subcommand("list"))
            .unwrap(),
    ));
    text
}

fn section(title: &str, command: &Command) -> String {
    let rows: String = command.get_arguments().filter_map(row).collect();
    format!("### {title}\n\n| flag | variable | default | meaning |\n|---|---|---|---|\n{rows}\n")
}

fn row(arg: &Arg) -> Option<String> {
    let long = arg
        .get_long()
        .filter(|long| !matches!(*long, "help" | "version"))?;
    let variable = arg.get_env()?.to_str()?;
    let defaults: Vec<String> = arg
        .get_default_values()
        .iter()
        .map(|value| value.to_string_lossy().into_owned())
        .collect();
    let shown = defaults.join(", ");
    let default = if matches!(shown.as_str(), "" | "false") {
        String::new()
    } else {
        format!("`{shown}` ")
    };
    let help = arg
        .get_long_help()
        .or(arg.get_help())
        .map(ToString::to_string)
        .unwrap_or_default();
    Some(format!(
        "| `--{long}` | `{variable}` | {default}| {} |\n",
        help.replace('\n', " ")
    ))
}

/// `UPDATE_REFERENCE=1` writes the tables into the guide instead.
#[test]
fn the_guide_of_settings_says_what_the_command_line_knows() {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/guide/settings.md");
    let guide = std::fs::read_to_string(path).unwrap();
    let (before, rest) = guide.split_once(BEGIN).expect("the mark of the settings");
    let (tables, after) = rest.split_once(END).expect("the mark of their end");
    if std::env::var_os("UPDATE_REFERENCE").is_some() {
        std::fs::write(path, format!("{before}{BEGIN}{}{END}{after}", markdown())).unwrap();
    } else {
        assert!(
            tables == markdown(),
            "run: UPDATE_REFERENCE=1 cargo test -p cli the_guide_of_settings"
        );
    }
}
