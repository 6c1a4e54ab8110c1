//! Config.toml (also Shipwreck.toml): what a repository says of how it is deployed.
//!
//! [`parse`] turns the file into a [`DeploymentSpec`] with one service, or into everything that is
//! wrong with it at once, each with file, line, column, key and what would be right. The text comes
//! from a repository that may be hostile: its size is bounded before it is looked at, nothing in it
//! ends the process, and messages name keys and values but never quote the source lines.
//!
//! - [`mod@reference`]: every key that is understood, the one list that the parser and the guide share
//! - `problem`: what can be wrong
//! - `reader`: the document, read key by key
//! - `sections` and `health`: what each section means, and how they become a spec
//! - `value`: texts with a grammar of their own: commands, host names, durations

mod health;
mod problem;
mod reader;
pub mod reference;
mod sections;
#[cfg(test)]
mod tests;
mod value;

pub use problem::{ConfigError, ConfigProblem};

use super::DeploymentSpec;
use reader::Reader;

/// The names that the file may have, in the order in which they are looked for.
pub const FILE_NAMES: [&str; 3] = ["Config.toml", "Shipwreck.toml", "shipwreck.toml"];

/// The largest file that is read, in bytes.
pub const SIZE_LIMIT: usize = 256 * 1024;

/// The port that an application with a built-in image listens on when it names none.
pub const DEFAULT_PORT: u16 = 8000;

/// A file that was understood.
#[derive(Clone, Debug, PartialEq)]
pub struct Parsed {
    /// What to run.
    pub spec: DeploymentSpec,
    /// What was understood but probably not meant, such as a key that does not exist.
    pub warnings: Vec<ConfigProblem>,
}

/// Reads a file. `file_name` is one of [`FILE_NAMES`] and is only used in messages.
///
/// # Errors
/// [`ConfigError`] with every problem that was found: too large, not UTF-8, not TOML, wrong values.
pub fn parse(file_name: &str, content: &[u8]) -> Result<Parsed, ConfigError> {
    let whole = |wrong: String, right: &str| ConfigError::of_file(file_name, wrong, right);
    if content.len() > SIZE_LIMIT {
        let wrong = format!("the file has {} bytes", content.len());
        return Err(whole(wrong, &format!("keep it below {SIZE_LIMIT} bytes")));
    }
    let Ok(text) = std::str::from_utf8(content) else {
        return Err(whole(
            "the file is not UTF-8".to_owned(),
            "save it as UTF-8 text",
        ));
    };
    let mut reader = Reader::new(file_name, text);
    match toml_edit::Document::parse(text) {
        Ok(document) => {
            let spec = sections::read(&mut reader, document.as_table());
            reader.finish(spec)
        }
        Err(error) => Err(reader.not_toml(error.span(), error.message())),
    }
}
