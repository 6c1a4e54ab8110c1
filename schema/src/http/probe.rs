//! Whether the process is alive, whether it can serve, and its figures.

use super::App;
use ::http::{StatusCode, header};
use axum::Json;
use axum::extract::State;
use axum::response::{IntoResponse, Response};
use orchestrator::{Health, Orchestrator};
use serde::Serialize;
use shared::bus::BusHealth;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::Mutex;
use tokio::time::Instant;

/// How long an answer of database and bus is good for: anybody may ask `/readyz`, as often as they like.
const GOOD_FOR: Duration = Duration::from_secs(1);

/// The last look at what the server depends on.
pub(super) struct Readiness {
    orchestrator: Orchestrator,
    last: Mutex<Option<(Instant, Health)>>,
}

impl Readiness {
    pub(super) fn new(orchestrator: Orchestrator) -> Self {
        Self {
            orchestrator,
            last: Mutex::new(None),
        }
    }

    async fn health(&self) -> Health {
        let mut last = self.last.lock().await;
        match &*last {
            Some((at, health)) if at.elapsed() < GOOD_FOR => health.clone(),
            _ => {
                let health = self.orchestrator.health().await;
                *last = Some((Instant::now(), health.clone()));
                health
            }
        }
    }
}

/// The process answers.
pub(super) async fn alive() -> &'static str {
    "alive\n"
}

/// What `/readyz` answers.
#[derive(Serialize)]
struct Ready {
    ready: bool,
    /// `up`, or why not.
    database: String,
    /// `up`, or why not.
    bus: String,
}

/// Database and bus answer; 503 with the reasons when they do not.
pub(super) async fn ready(State(app): State<Arc<App>>) -> Response {
    let health = app.readiness.health().await;
    let ready = health.is_ready();
    let up = || "up".to_owned();
    let database = health.database.err().unwrap_or_else(up);
    let bus = match health.bus {
        BusHealth::Up => up(),
        BusHealth::Down { reason } => reason,
    };
    let status = if ready {
        StatusCode::OK
    } else {
        StatusCode::SERVICE_UNAVAILABLE
    };
    (
        status,
        Json(Ready {
            ready,
            database,
            bus,
        }),
    )
        .into_response()
}

/// The figures of this process.
pub(super) async fn metrics(State(app): State<Arc<App>>) -> Response {
    (
        [(
            header::CONTENT_TYPE,
            "text/plain; version=0.0.4; charset=utf-8",
        )],
        app.metrics.render(),
    )
        .into_response()
}
