//! Following one revision until it is decided: its steps and its build log, live.
//!
//! Each attempt opens a connection, subscribes first and then reads what is already known, so nothing
//! falls between the two; steps and lines are told once by their `seq`. When the connection is lost,
//! the next attempt does the same again, which also catches up on what happened meanwhile.

mod lines;
mod outcome;
mod progress;
mod reconnect;
mod removal;

pub(crate) use lines::{OVERLAP, Told};
pub(crate) use outcome::Outcome;
pub(crate) use progress::Progress;
pub(crate) use reconnect::Pauses;
pub(crate) use removal::until_removed;

use crate::client::document::Document;
use crate::client::model::{Deployment, LogLine, Only, StatusEvent};
use crate::client::{Client, ClientError, Socket, SocketEvent};
use crate::exit::Failure;
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};
use shared::status::ApplicationStatus;
use std::time::Duration;
use tokio::time::{Instant, timeout, timeout_at};

/// How long the build log may take to be complete once the revision is decided.
const LOG_GRACE: Duration = Duration::from_secs(5);

/// Which revision is followed.
#[derive(Clone, Debug)]
pub(crate) struct Target {
    pub(crate) deployment_id: String,
    pub(crate) revision_id: String,
}

/// Follows a revision until it is decided, or until `time_limit` has passed.
pub(crate) async fn follow(
    client: &Client,
    target: Target,
    progress: &mut Progress,
    time_limit: Option<Duration>,
) -> Result<Outcome, Failure> {
    let mut follower = Follower {
        client,
        target,
        last_seq: 0,
        last_line: 0,
        decided: None,
        log_complete: false,
    };
    let following = follower.until_decided(progress);
    match time_limit {
        Some(limit) => match timeout(limit, following).await {
            Ok(outcome) => outcome,
            Err(_) => Ok(Outcome::TimedOut { after: limit }),
        },
        None => following.await,
    }
}

struct Follower<'a> {
    client: &'a Client,
    target: Target,
    /// The last step and line that were told.
    last_seq: i64,
    last_line: i64,
    /// The step that decides, once it is known.
    decided: Option<ApplicationStatus>,
    log_complete: bool,
}

#[derive(Deserialize)]
struct Steps {
    events: Vec<StatusEvent>,
}

impl Follower<'_> {
    async fn until_decided(&mut self, progress: &mut Progress) -> Result<Outcome, Failure> {
        let mut pauses = Pauses::new();
        loop {
            let before = (self.last_seq, self.last_line);
            match self.attempt(progress).await {
                Ok(outcome) => return Ok(outcome),
                Err(Trouble::Client(error)) if error.is_transient() => {
                    progress.note(&format!("{error}; connecting again"));
                    if before != (self.last_seq, self.last_line) {
                        pauses.reset();
                    }
                    pauses.wait().await;
                }
                Err(Trouble::Client(error)) => return Err(error.into()),
                Err(Trouble::Output(error)) => return Err(error.into()),
            }
        }
    }

    async fn attempt(&mut self, progress: &mut Progress) -> Result<Outcome, Trouble> {
        let mut socket = self.client.socket().await?;
        let statuses = socket
            .subscribe(
                Document::Statuses,
                json!({ "id": self.target.deployment_id }),
            )
            .await?;
        let log = socket
            .subscribe(Document::BuildLog, json!({ "id": self.target.revision_id }))
            .await?;
        let known: Only<Steps> = self
            .client
            .ask(Document::Revision, json!({ "id": self.target.revision_id }))
            .await?;
        for event in known.0.events {
            self.step(&event, progress)?;
        }
        while self.decided.is_none() {
            let event = socket.next().await?;
            self.take(event, statuses, log, progress)?;
        }
        self.rest_of_log(&mut socket, log, progress).await?;
        self.outcome().await.map_err(Trouble::Client)
    }

    /// The log often ends an instant after the step that decides.
    async fn rest_of_log(
        &mut self,
        socket: &mut Socket,
        log: u32,
        progress: &mut Progress,
    ) -> Result<(), Trouble> {
        let deadline = Instant::now() + LOG_GRACE;
        while !self.log_complete {
            match timeout_at(deadline, socket.next()).await {
                Ok(event) => self.take(event?, 0, log, progress)?,
                Err(_) => return Ok(()),
            }
        }
        Ok(())
    }

    fn take(
        &mut self,
        event: SocketEvent,
        statuses: u32,
        log: u32,
        progress: &mut Progress,
    ) -> Result<(), Trouble> {
        match event {
            SocketEvent::Next { id, data } if id == statuses => self.step(&read(data)?, progress),
            SocketEvent::Next { id, data } if id == log => {
                let line: LogLine = read(data)?;
                if line.seq > self.last_line {
                    self.last_line = line.seq;
                    progress.line(&line).map_err(Trouble::Output)?;
                }
                Ok(())
            }
            SocketEvent::Complete { id } if id == log => {
                self.log_complete = true;
                Ok(())
            }
            // The server ends the stream of steps only when it goes away: connecting again tells.
            SocketEvent::Complete { id } if id == statuses => {
                let url = self.client.address();
                Err(Trouble::Client(ClientError::Lost {
                    url,
                    reason: "the server ended the subscription".to_owned(),
                }))
            }
            SocketEvent::Next { .. } | SocketEvent::Complete { .. } => Ok(()),
        }
    }

    fn step(&mut self, event: &StatusEvent, progress: &mut Progress) -> Result<(), Trouble> {
        if event.revision_id != self.target.revision_id || event.seq <= self.last_seq {
            return Ok(());
        }
        self.last_seq = event.seq;
        if self.decided.is_none() {
            progress.step(event).map_err(Trouble::Output)?;
        }
        if !event.status.is_open() {
            // The first step that decides: what comes after RUNNING is another story.
            self.decided.get_or_insert(event.status);
        }
        Ok(())
    }

    async fn outcome(&self) -> Result<Outcome, ClientError> {
        let status = self.decided.unwrap_or(ApplicationStatus::Requested);
        let deployment: Only<Deployment> = self
            .client
            .ask(
                Document::DeploymentById,
                json!({ "id": self.target.deployment_id }),
            )
            .await?;
        Ok(Outcome::decide(
            status,
            &self.target.revision_id,
            deployment.0,
        ))
    }
}

fn read<T: DeserializeOwned>(data: Value) -> Result<T, ClientError> {
    serde_json::from_value::<Only<T>>(data)
        .map(|only| only.0)
        .map_err(ClientError::NotUnderstood)
}

/// What ends an attempt.
enum Trouble {
    Client(ClientError),
    Output(std::io::Error),
}

impl From<ClientError> for Trouble {
    fn from(error: ClientError) -> Self {
        Self::Client(error)
    }
}
