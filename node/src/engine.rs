//! Keeping an eye on the container engine, and the ports open.

use crate::backoff::Backoff;
use crate::core::{Core, EngineState};
use crate::runtime::{EngineEvent, Runtime};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{broadcast, mpsc, watch};
use tokio_util::sync::CancellationToken;

/// The time between two questions to an engine that answers.
const ASK_EVERY: Duration = Duration::from_secs(5);

/// How long an engine may take to say that it is there. One that is stopped keeps its socket.
const ANSWER_WITHIN: Duration = Duration::from_secs(5);

/// The time between two looks at whether ports still lead where they should.
const REFRESH_EVERY: Duration = Duration::from_secs(2);

/// Asks the engine again and again whether it is there, and says each change.
pub(crate) async fn supervise(
    runtime: Arc<dyn Runtime>,
    state: watch::Sender<EngineState>,
    stop: CancellationToken,
) {
    let mut pause = Backoff::up_to(Duration::from_secs(2));
    loop {
        let asked = tokio::time::timeout(ANSWER_WITHIN, runtime.engine());
        let now = match stop.run_until_cancelled(asked).await {
            None => return,
            Some(Ok(Ok(engine))) => EngineState::Up {
                version: engine.version,
            },
            Some(Ok(Err(error))) => EngineState::Down {
                reason: error.to_string(),
            },
            Some(Err(_)) => EngineState::Down {
                reason: format!("it said nothing for {} s", ANSWER_WITHIN.as_secs()),
            },
        };
        let is_up = now.is_up();
        state.send_if_modified(|known| {
            if *known == now {
                return false;
            }
            match &now {
                EngineState::Down { reason } => {
                    tracing::warn!(%reason, "the container engine is away; trying again")
                }
                EngineState::Up { version } => {
                    tracing::info!(%version, "the container engine answers")
                }
                EngineState::Unknown => {}
            }
            *known = now;
            true
        });
        let wait = async {
            if is_up {
                pause.reset();
                tokio::time::sleep(ASK_EVERY).await;
            } else {
                pause.wait().await;
            }
        };
        if stop.run_until_cancelled(wait).await.is_none() {
            return;
        }
    }
}

/// Passes on what happens to containers.
pub(crate) async fn relay_events(
    runtime: Arc<dyn Runtime>,
    events: broadcast::Sender<EngineEvent>,
    stop: CancellationToken,
) {
    let (sender, mut received) = mpsc::channel(256);
    let watching = runtime.watch(sender, stop);
    let passing = async {
        while let Some(event) = received.recv().await {
            // An error only says that nobody watches anything now.
            let _ = events.send(event);
        }
    };
    tokio::join!(watching, passing);
}

/// Puts the ports again and again, in case that whoever keeps them open has ended.
pub(crate) async fn keep_ports_open(core: Arc<Core>) {
    let mut was_refused = false;
    while core
        .stop
        .run_until_cancelled(tokio::time::sleep(REFRESH_EVERY))
        .await
        .is_some()
    {
        match core.routes.refresh(&*core.runtime).await {
            Ok(()) => was_refused = false,
            Err(error) if !was_refused => {
                tracing::warn!(%error, "ports do not lead where they should; trying again");
                was_refused = true;
            }
            Err(_) => {}
        }
    }
}
