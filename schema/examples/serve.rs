//! Serves the API over an empty engine, to try clients and audits without a node:
//! `LONGSHORE_ADMIN_TOKEN=… cargo run -p schema --example serve -- DATABASE_FILE 127.0.0.1:4000`.

use orchestrator::{Orchestrator, Settings};
use schema::{Metrics, ServeSettings, serve};
use shared::bus::local::LocalBus;
use std::error::Error;
use std::sync::Arc;
use tokio_util::sync::CancellationToken;

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let mut arguments = std::env::args().skip(1);
    let (Some(file), Some(listen)) = (arguments.next(), arguments.next()) else {
        return Err("give a database file and an address to listen on".into());
    };
    let admin_token = std::env::var("LONGSHORE_ADMIN_TOKEN")?.into();
    let stop = CancellationToken::new();
    let database = format!("sqlite://{file}?mode=rwc");
    let (orchestrator, service) = Orchestrator::start(
        Settings::new(database.into()),
        Arc::new(LocalBus::new()),
        stop.clone(),
    )
    .await?;
    let settings = ServeSettings {
        listen: listen.parse()?,
        admin_token,
        metrics: Metrics::install()?,
    };
    let server = serve(orchestrator, settings, stop).await?;
    let (_, served) = tokio::join!(server.run(), service.run());
    Ok(served?)
}
