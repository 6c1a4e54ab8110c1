//! `longshore migrate`: brings a database up to date, before the first orchestrator of a release.

use super::{DatabaseArgs, Services};
use crate::output;
use ::orchestrator::store::Store;
use anyhow::Context;

/// Bring a database's schema up to date and end.
#[derive(Clone, Debug, clap::Args)]
#[command(after_help = "\
Example:
  LONGSHORE_DATABASE_URL=postgres://longshore:secret@database/longshore longshore migrate")]
pub(crate) struct Arguments {
    #[command(flatten)]
    database: DatabaseArgs,
}

pub(crate) async fn run(arguments: Arguments) -> anyhow::Result<()> {
    let services = Services::new()?;
    Store::open(&arguments.database.url, &services.stop()).await?;
    output::print("the database is up to date").context("writing to standard output")
}
