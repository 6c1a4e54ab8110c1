//! Waiting until every service of a revision is healthy for the first time.

use super::health::{Answer, Question, ask, death, last_lines};
use crate::core::Core;
use crate::journal::RunningService;
use crate::log_sink::LogSink;
use crate::runtime::{EngineEvent, StepError};
use futures::future::try_join_all;
use shared::spec::{HealthSpec, ServiceSpec};
use shared::status::FailureReason;
use std::time::Duration;
use tokio::sync::broadcast;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

/// The pause after the first question; the next ones are longer, up to the check's interval.
const FIRST_PAUSE: Duration = Duration::from_millis(10);

/// The longest pause before the first success, however long the interval is.
const LONGEST_PAUSE: Duration = Duration::from_millis(500);

/// How long a service that cannot be asked has to keep running.
const KEEPS_RUNNING: Duration = Duration::from_secs(1);

/// The least time for a check that the engine runs, whose own interval may be long.
const ENGINE_CHECK_AT_LEAST: Duration = Duration::from_secs(150);

/// One service to be verified.
pub(super) struct Subject<'a> {
    pub(super) spec: &'a ServiceSpec,
    pub(super) service: &'a RunningService,
    pub(super) question: Question,
    /// How often the engine had started it again before: what ran already may have crashed once.
    pub(super) restarts: u32,
    /// Subscribed to before the container was started.
    pub(super) events: broadcast::Receiver<EngineEvent>,
}

/// Waits until all are healthy, or one cannot be.
pub(super) async fn all(
    core: &Core,
    subjects: Vec<Subject<'_>>,
    log: &LogSink,
    cancel: &CancellationToken,
) -> Result<(), StepError> {
    tokio::select! {
        biased;
        () = cancel.cancelled() => Err(StepError::Interrupted),
        verified = try_join_all(subjects.into_iter().map(|subject| one(core, subject, log))) => verified.map(drop),
    }
}

async fn one(core: &Core, subject: Subject<'_>, log: &LogSink) -> Result<(), StepError> {
    let Subject {
        spec,
        service,
        question,
        restarts,
        events,
    } = subject;
    log.system(format!(
        "verifying service {}: {}",
        service.name,
        in_words(&question)
    ));
    let begun = Instant::now();
    tokio::select! {
        // A container that ended a moment ago must not be found healthy by its last answer.
        biased;
        death = death(core, &service.container, restarts, events) => {
            let lines = last_lines(core, &service.container).await;
            let detail = format!("service {} {} before it was healthy{lines}", service.name, death.in_words());
            Err(StepError::failed(FailureReason::Unhealthy, detail))
        }
        healthy = until_healthy(core, &spec.health, &service.container, &question) => match healthy {
            Ok(()) => {
                log.system(format!("service {} is healthy after {} ms", service.name, begun.elapsed().as_millis()));
                Ok(())
            }
            Err(reason) => Err(StepError::failed(
                FailureReason::Unhealthy,
                complaint(core, service, &question, begun.elapsed(), &reason).await,
            )),
        },
    }
}

async fn until_healthy(
    core: &Core,
    health: &HealthSpec,
    container: &str,
    question: &Question,
) -> Result<(), String> {
    if *question == Question::KeepsRunning {
        tokio::time::sleep(KEEPS_RUNNING).await;
        return Ok(());
    }
    let begun = Instant::now();
    let patience = patience(health, question);
    let mut pause = FIRST_PAUSE;
    loop {
        let reason = match ask(core, container, question, health.timeout).await {
            Answer::Healthy => return Ok(()),
            // The engine has already counted its own retries and start period.
            Answer::Unhealthy(reason) if *question == Question::Engine => return Err(reason),
            Answer::Unhealthy(reason) | Answer::NotYet(reason) => reason,
        };
        if begun.elapsed() + pause > patience {
            return Err(reason);
        }
        tokio::time::sleep(pause).await;
        pause = (pause * 3 / 2)
            .min(health.interval.max(FIRST_PAUSE))
            .min(LONGEST_PAUSE);
    }
}

/// How long the first success may take: the start period, in which failures do not count, and then
/// as long as the counted failures would take.
fn patience(health: &HealthSpec, question: &Question) -> Duration {
    let counted = health.interval.max(Duration::from_millis(100)) * health.retries.max(1);
    let patience = health.start_period + counted;
    if *question == Question::Engine {
        patience.max(ENGINE_CHECK_AT_LEAST)
    } else {
        patience
    }
}

async fn complaint(
    core: &Core,
    service: &RunningService,
    question: &Question,
    waited: Duration,
    reason: &str,
) -> String {
    let asked = match question {
        // What it says names it.
        Question::Engine => String::new(),
        _ => format!("{}: ", in_words(question)),
    };
    let mut text = format!(
        "service {} did not become healthy within {} s: {asked}{reason}",
        service.name,
        waited.as_secs(),
    );
    if matches!(question, Question::Tcp(_) | Question::Http(..)) {
        let listening = core.runtime.listening(&service.container).await;
        if !listening.is_empty() {
            let ports: Vec<String> = listening.iter().map(ToString::to_string).collect();
            text.push_str(&format!("; the container listens on {}", ports.join(", ")));
        }
    }
    text + &last_lines(core, &service.container).await
}

fn in_words(question: &Question) -> String {
    match question {
        Question::Engine => "its health check in the container".to_owned(),
        Question::Tcp(endpoint) => format!("a TCP connection to port {}", endpoint.port()),
        Question::Http(endpoint, path) => format!("GET {path} on port {}", endpoint.port()),
        Question::KeepsRunning => "it has to keep running".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patience_is_the_start_period_and_the_counted_failures() {
        let health = HealthSpec::default();
        assert_eq!(
            patience(&health, &Question::KeepsRunning),
            Duration::from_secs(45)
        );
        assert_eq!(patience(&health, &Question::Engine), ENGINE_CHECK_AT_LEAST);
    }
}
