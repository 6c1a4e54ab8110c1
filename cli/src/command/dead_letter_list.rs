//! `longshore dead-letter list`.

use crate::client::access::ServerArgs;
use crate::client::document::Document;
use crate::client::model::{DeadLetter, DeadLetterPage, Only};
use crate::exit::{Exit, Failure};
use crate::output::{self, Format};
use serde_json::json;

/// List messages that nobody could handle, newest first.
#[derive(Clone, Debug, clap::Args)]
#[command(after_help = "\
Example:
  longshore dead-letter list --limit 20")]
pub(crate) struct Arguments {
    /// How many at most.
    #[arg(long, value_name = "NUMBER", default_value_t = 100)]
    limit: u32,
    #[command(flatten)]
    server: ServerArgs,
}

/// As many as are asked for at once.
const PAGE: u32 = 100;

pub(crate) async fn run(arguments: Arguments) -> Result<Exit, Failure> {
    let client = super::connect(&arguments.server)?;
    let mut letters: Vec<DeadLetter> = Vec::new();
    let mut after = None;
    loop {
        let missing = usize::try_from(arguments.limit)
            .unwrap_or(usize::MAX)
            .saturating_sub(letters.len());
        if missing == 0 {
            break;
        }
        let variables = json!({ "first": missing.min(PAGE as usize), "after": after });
        let page: Only<DeadLetterPage> = client.ask(Document::DeadLetters, variables).await?;
        letters.extend(page.0.nodes);
        let info = page.0.page_info;
        after = info.end_cursor.filter(|_| info.has_next_page);
        if after.is_none() {
            break;
        }
    }
    if arguments.server.output == Format::Json {
        output::print_json(&letters)?;
        return Ok(Exit::Done);
    }
    let rows: Vec<[String; 5]> = letters.into_iter().map(row).collect();
    output::print_table(["ID", "QUEUE", "DIED", "BYTES", "REASON"], &rows)?;
    Ok(Exit::Done)
}

fn row(letter: DeadLetter) -> [String; 5] {
    [
        letter.id,
        letter.queue,
        letter
            .died_at
            .to_rfc3339_opts(chrono::SecondsFormat::Secs, true),
        letter.size.to_string(),
        letter.reason,
    ]
}
