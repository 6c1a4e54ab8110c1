//! What happens to this node's containers, as it happens.

use super::client::Engine;
use super::error::EngineError;
use super::labels::{self, Owner};
use bollard::models::EventMessage;
use bollard::query_parameters::EventsOptions;
use futures::{Stream, StreamExt};
use shared::name::NodeName;
use std::collections::HashMap;
use std::time::Duration;

const DOING: &str = "listening to the engine's events";

/// The engine's stream has no end; this only replaces the client's own limit.
const FOR_EVER: Duration = Duration::from_secs(10 * 365 * 24 * 3600);

const FIRST_PAUSE: Duration = Duration::from_millis(100);
const LONGEST_PAUSE: Duration = Duration::from_secs(5);

/// What the engine says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum EngineEvent {
    /// Listening began, for the first time or after a break: events may have been missed, so
    /// whoever follows containers has to list them afresh.
    Resync,
    /// The engine does not answer; [`EngineEvent::Resync`] follows once it does.
    Lost(EngineError),
    /// Something happened to a container.
    Container(ContainerEvent),
}

/// Something that happened to a container of this node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ContainerEvent {
    /// The engine's id.
    pub id: String,
    /// Whose it is.
    pub owner: Owner,
    /// What happened.
    pub change: ContainerChange,
}

/// What happened to a container.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ContainerChange {
    /// It was made.
    Created,
    /// It began to run.
    Started,
    /// It ended.
    Died {
        /// Its exit code.
        exit_code: i64,
    },
    /// A process of it was killed for its memory.
    OutOfMemory,
    /// Its health check passes.
    Healthy,
    /// Its health check fails.
    Unhealthy,
    /// It is gone.
    Removed,
}

impl Engine {
    /// What happens to this node's containers. The stream never ends: after a break it connects
    /// again, waiting longer each time up to 5 s, and says [`EngineEvent::Resync`].
    pub fn events(&self, node: &NodeName) -> impl Stream<Item = EngineEvent> + Send + 'static {
        let filters = HashMap::from([
            ("type".to_owned(), vec!["container".to_owned()]),
            ("label".to_owned(), vec![format!("{}={node}", labels::NODE)]),
        ]);
        let listener = Listener {
            engine: self.clone(),
            filters,
            pause: Duration::ZERO,
        };
        futures::stream::unfold(listener, |mut listener| async move {
            tokio::time::sleep(listener.pause).await;
            let round = listener.round().await;
            Some((round, listener))
        })
        .flatten()
    }
}

struct Listener {
    engine: Engine,
    filters: HashMap<String, Vec<String>>,
    pause: Duration,
}

impl Listener {
    /// Everything from one connecting to its end.
    async fn round(&mut self) -> futures::stream::BoxStream<'static, EngineEvent> {
        let since = chrono::Utc::now().timestamp();
        // The engine sends the stream's head only with its first event, so that the stream alone
        // does not tell whether anybody is there.
        let docker = match self.connect().await {
            Ok(docker) => docker.with_timeout(FOR_EVER),
            Err(error) => {
                self.pause = (self.pause * 2).clamp(FIRST_PAUSE, LONGEST_PAUSE);
                return futures::stream::iter([EngineEvent::Lost(error)]).boxed();
            }
        };
        self.pause = FIRST_PAUSE;
        // What happens between now and the engine's taking note of us is asked for by time.
        let options = EventsOptions {
            since: Some(since.to_string()),
            until: None,
            filters: Some(self.filters.clone()),
        };
        let events = docker.events(Some(options)).filter_map(|event| async move {
            match event {
                Ok(event) => read(event).map(EngineEvent::Container),
                Err(error) => Some(EngineEvent::Lost(EngineError::from_client(DOING, error))),
            }
        });
        let resync = futures::stream::iter([EngineEvent::Resync]);
        resync.chain(events).boxed()
    }

    async fn connect(&self) -> Result<bollard::Docker, EngineError> {
        self.engine.ping().await?;
        self.engine.docker(DOING).await
    }
}

fn read(event: EventMessage) -> Option<ContainerEvent> {
    let action = event.action?;
    let actor = event.actor?;
    let attributes = actor.attributes?;
    let exit_code = || {
        attributes
            .get("exitCode")
            .and_then(|code| code.parse().ok())
            .unwrap_or(-1)
    };
    let change = match action.as_str() {
        "create" => ContainerChange::Created,
        "start" => ContainerChange::Started,
        "die" => ContainerChange::Died {
            exit_code: exit_code(),
        },
        "oom" => ContainerChange::OutOfMemory,
        "destroy" => ContainerChange::Removed,
        "health_status: healthy" => ContainerChange::Healthy,
        "health_status: unhealthy" => ContainerChange::Unhealthy,
        // Runs of a health check and the steps of a stop say nothing that is not said above.
        _ => return None,
    };
    Some(ContainerEvent {
        id: actor.id?,
        owner: Owner::from_labels(&attributes)?,
        change,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use bollard::models::EventActor;

    fn event(action: &str, attributes: &[(&str, &str)]) -> EventMessage {
        let attributes = attributes
            .iter()
            .map(|(key, value)| ((*key).to_owned(), (*value).to_owned()));
        let actor = EventActor {
            id: Some("c1".to_owned()),
            attributes: Some(attributes.collect()),
        };
        EventMessage {
            action: Some(action.to_owned()),
            actor: Some(actor),
            ..Default::default()
        }
    }

    #[test]
    fn only_what_is_ours_and_tells_something_is_an_event() {
        let id = shared::id::DeploymentId::new().to_string();
        let ours = [
            (labels::DEPLOYMENT, id.as_str()),
            (labels::SERVICE, "app"),
            (labels::REVISION, "1"),
            (labels::EPOCH, "1"),
            (labels::NODE, "n1"),
            ("exitCode", "137"),
        ];
        let change = |action| read(event(action, &ours)).map(|event| event.change);
        assert_eq!(
            change("die"),
            Some(ContainerChange::Died { exit_code: 137 })
        );
        assert_eq!(
            change("health_status: healthy"),
            Some(ContainerChange::Healthy)
        );
        assert_eq!(change("exec_create: true"), None);
        assert_eq!(read(event("start", &[(labels::NODE, "n1")])), None);
    }
}
