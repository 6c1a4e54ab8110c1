//! The settings file: `longshore.toml`.
//!
//! A key at the top holds for every command that has that flag; a table holds for its command and
//! wins: `[standalone]`, `[node]`, `[deployment.list]`. What no command knows is a mistake, and all
//! mistakes are said at once.

use super::flags;
use crate::exit::Failure;
use clap::{Arg, ArgAction, Command};
use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use toml::{Table, Value};

/// How the file was found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Origin {
    /// Somebody named it.
    Named,
    /// It lies where an administrator puts it.
    System,
    /// It lies where the command happens to be run.
    WorkingDirectory,
}

/// Keys that say where the token is sent. A file that merely lies around, in a checkout for example,
/// may not decide that.
const NAMES_SERVER: [&str; 2] = ["url", "token-file"];

/// A settings file that was read.
pub(super) struct SettingsFile {
    path: PathBuf,
    origin: Origin,
    table: Table,
}

/// The values of the file while they are handed out.
struct Handout<'a> {
    common: BTreeMap<String, &'a Value>,
    used: BTreeSet<String>,
    mistakes: Vec<String>,
}

impl SettingsFile {
    pub(super) fn read(path: &Path, origin: Origin) -> Result<Self, Failure> {
        let shown = path.display();
        let text = std::fs::read_to_string(path).map_err(|error| {
            Failure::input(format!("reading the settings file {shown}: {error}"))
        })?;
        let table = toml::from_str(&text).map_err(|error| {
            Failure::input(format!(
                "the settings file {shown} is not TOML: {}",
                error.message()
            ))
        })?;
        Ok(Self {
            path: path.to_owned(),
            origin,
            table,
        })
    }

    /// Makes the values defaults of the flags.
    pub(super) fn apply(&self, command: Command) -> Result<Command, Failure> {
        let (tables, common) = split(&self.table);
        let mut handout = Handout {
            common,
            used: BTreeSet::new(),
            mistakes: Vec::new(),
        };
        if self.origin == Origin::WorkingDirectory {
            for key in NAMES_SERVER
                .into_iter()
                .filter(|key| handout.common.contains_key(*key))
            {
                handout.mistakes.push(format!(
                    "{key}: a file of the working directory may not say which server gets your token; name the file by --config, \
                     or set {}",
                    super::variable(key)
                ));
            }
        }
        let command = handout.give(command, &tables, BTreeMap::new(), "");
        let unknown: Vec<&String> = handout
            .common
            .keys()
            .filter(|key| !handout.used.contains(*key))
            .collect();
        handout.mistakes.extend(
            unknown
                .into_iter()
                .map(|key| format!("{key}: no command has this setting")),
        );
        if handout.mistakes.is_empty() {
            return Ok(command);
        }
        let mistakes = handout.mistakes.join("\n  ");
        Err(Failure::input(format!(
            "the settings file {} has mistakes:\n  {mistakes}",
            self.path.display()
        )))
    }
}

/// The tables, and the other values by the name of their flag.
fn split(table: &Table) -> (BTreeMap<String, &Table>, BTreeMap<String, &Value>) {
    let mut tables = BTreeMap::new();
    let mut values = BTreeMap::new();
    for (key, value) in table {
        let key = key.replace('_', "-");
        match value {
            Value::Table(table) => {
                tables.insert(key, table);
            }
            value => {
                values.insert(key, value);
            }
        }
    }
    (tables, values)
}

impl Handout<'_> {
    /// Gives a command and those below it their values; `path` is where its own stand in the file.
    fn give(
        &mut self,
        command: Command,
        tables: &BTreeMap<String, &Table>,
        own: BTreeMap<String, &Value>,
        path: &str,
    ) -> Command {
        let mut command = command;
        let known: Vec<Arg> = flags(&command).cloned().collect();
        let mut unused: BTreeSet<&String> = own.keys().collect();
        for arg in known {
            let Some(key) = arg.get_long().map(str::to_owned) else {
                continue;
            };
            unused.remove(&key);
            let value = match own.get(&key) {
                Some(value) => Some((*value, format!("{path}{key}"))),
                None => self.common.get(&key).map(|value| (*value, key.clone())),
            };
            let Some((value, place)) = value else {
                continue;
            };
            self.used.insert(key);
            match read(&arg, value) {
                Ok(texts) => {
                    command = command.mut_arg(arg.get_id(), |arg| {
                        arg.default_values(texts).required(false)
                    })
                }
                Err(mistake) => self.mistakes.push(format!("{place}: {mistake}")),
            }
        }
        self.mistakes.extend(
            unused
                .into_iter()
                .map(|key| format!("{path}{key}: there is no such setting")),
        );
        let names: Vec<String> = command
            .get_subcommands()
            .map(|sub| sub.get_name().to_owned())
            .collect();
        for name in tables.keys().filter(|name| !names.contains(name)) {
            self.mistakes
                .push(format!("[{path}{name}]: there is no such command"));
        }
        for name in names {
            let (below, own) = tables
                .get(&name)
                .map(|table| split(table))
                .unwrap_or_default();
            let path = format!("{path}{name}.");
            command = command.mut_subcommand(&name, |sub| self.give(sub, &below, own, &path));
        }
        command
    }
}

/// The value as texts, once the flag has accepted them.
fn read(arg: &Arg, value: &Value) -> Result<Vec<String>, String> {
    let takes_many = matches!(arg.get_action(), ArgAction::Append);
    let texts = match value {
        Value::Array(values) if takes_many => {
            values.iter().map(text).collect::<Result<Vec<_>, _>>()?
        }
        Value::Array(_) => return Err("one value is wanted, not a list".to_owned()),
        value => vec![text(value)?],
    };
    // Asked here, since clap takes a wrong default for a fault of the program.
    let mut probe = Command::new("probe").no_binary_name(true);
    let mut same = Arg::new("value")
        .action(ArgAction::Append)
        .value_parser(arg.get_value_parser().clone());
    if let Some(delimiter) = arg.get_value_delimiter() {
        same = same.value_delimiter(delimiter);
    }
    probe = probe.arg(same.allow_hyphen_values(true));
    match probe.try_get_matches_from(&texts) {
        Ok(_) => Ok(texts),
        Err(error) => {
            let words = error.to_string();
            let first = words.lines().next().unwrap_or("this is not accepted");
            Err(first
                .trim_start_matches("error: ")
                .replace(" for '[value]...'", ""))
        }
    }
}

fn text(value: &Value) -> Result<String, String> {
    match value {
        Value::String(text) => Ok(text.clone()),
        Value::Integer(number) => Ok(number.to_string()),
        Value::Float(number) => Ok(number.to_string()),
        Value::Boolean(truth) => Ok(truth.to_string()),
        Value::Datetime(_) | Value::Array(_) | Value::Table(_) => {
            Err("give a text, a number, true or false".to_owned())
        }
    }
}
