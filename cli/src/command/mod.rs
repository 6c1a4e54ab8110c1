//! What a person or a CI job asks for: one file a command. Commands speak GraphQL and nothing else.

pub(crate) mod cancel;
pub(crate) mod completions;
pub(crate) mod create;
pub(crate) mod dead_letter;
pub(crate) mod dead_letter_drop;
pub(crate) mod dead_letter_list;
pub(crate) mod dead_letter_retry;
pub(crate) mod dead_letter_show;
pub(crate) mod deploy;
pub(crate) mod destroy;
pub(crate) mod history;
pub(crate) mod list;
pub(crate) mod logs;
pub(crate) mod node_cordon;
pub(crate) mod node_drain;
pub(crate) mod node_list;
pub(crate) mod node_remove;
pub(crate) mod node_show;
pub(crate) mod node_target;
pub(crate) mod node_uncordon;
pub(crate) mod redeploy;
pub(crate) mod restart;
pub(crate) mod rollback;
pub(crate) mod services;
pub(crate) mod show;
pub(crate) mod source;
pub(crate) mod start;
pub(crate) mod stop;
pub(crate) mod target;
pub(crate) mod wait;

use crate::client::Client;
use crate::client::access::{Access, ServerArgs};
use crate::exit::Failure;
use crate::output::{self, Format};
use serde::Serialize;

/// A client of the server that the arguments name.
fn connect(server: &ServerArgs) -> Result<Client, Failure> {
    Ok(Client::new(Access::find(server)?)?)
}

/// Says that something was taken up: in a sentence, or what it is about as JSON.
fn tell(format: Format, about: &impl Serialize, sentence: &str) -> Result<(), Failure> {
    match format {
        Format::Text => output::print(sentence)?,
        Format::Json => output::print_json(about)?,
    }
    Ok(())
}
