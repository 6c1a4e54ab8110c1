//! Publishing to one kind of address: a channel, and the messages on it that are not confirmed yet.

use super::super::{BusError, PUBLISH_TIMEOUT};
use super::confirms::{Confirmed, Confirms, Verdict};
use super::error::{from_lapin, within};
use super::link::{LinkState, Session};
use super::topology::Target;
use futures::future::BoxFuture;
use futures::stream::FuturesUnordered;
use futures::{FutureExt, StreamExt};
use lapin::options::{BasicPublishOptions, ConfirmSelectOptions};
use lapin::types::FieldTable;
use lapin::{BasicProperties, Channel, Confirmation};
use std::task::Poll;
use std::time::Duration;
use tokio::sync::{mpsc, oneshot, watch};
use tokio_util::sync::CancellationToken;

/// Messages that wait for the lane.
pub(super) const BACKLOG: usize = 64;
/// Messages on the channel that are not confirmed yet. Above a hundred the broker is at its best.
const UNCONFIRMED: usize = 512;

/// How long a message is on the channel without a confirmation before the connection is given up. A
/// broker confirms within milliseconds, and within seconds when its disk is slow; one that says nothing
/// for as long as any publisher waits will not say more. Counted from when the message was sent: for
/// how long its publisher had waited by then, for a connection or a place, says nothing of this one.
const CONFIRM_LIMIT: Duration = PUBLISH_TIMEOUT;

/// One message to publish.
pub(super) struct Job {
    pub(super) target: Target,
    pub(super) body: Vec<u8>,
    /// What is written beside it, for the `dead` queue.
    pub(super) headers: Option<FieldTable>,
    pub(super) reply: oneshot::Sender<Result<(), BusError>>,
}

/// Who waits for a message that is under way.
struct Waiting {
    target: Target,
    reply: oneshot::Sender<Result<(), BusError>>,
}

impl Waiting {
    fn answer(self, result: Result<(), BusError>) {
        // Whoever asked may have stopped waiting; then nobody needs the answer.
        let _ = self.reply.send(result);
    }
}

/// What came of one message, by its number.
struct Outcome {
    number: u64,
    waiting: Waiting,
    result: Result<lapin::Result<Confirmation>, tokio::time::error::Elapsed>,
}

/// Publishes what comes, in the order it comes, and answers when it is confirmed.
pub(super) struct Lane {
    /// With its number it tells a message from every other one, wherever that ends.
    name: String,
    state: watch::Receiver<LinkState>,
    jobs: mpsc::Receiver<Job>,
    user_id: Option<String>,
    stop: CancellationToken,
    next_number: u64,
}

/// What a lane has on one connection.
struct OnSession<'a> {
    session: &'a Session,
    channel: Option<Channel>,
    under_way: FuturesUnordered<BoxFuture<'static, Outcome>>,
    confirms: Confirms<Waiting>,
}

impl Lane {
    pub(super) fn new(
        state: watch::Receiver<LinkState>,
        jobs: mpsc::Receiver<Job>,
        user_id: Option<String>,
        stop: CancellationToken,
    ) -> Self {
        Self {
            name: uuid::Uuid::new_v4().simple().to_string(),
            state,
            jobs,
            user_id,
            stop,
            next_number: 0,
        }
    }

    pub(super) async fn run(mut self) {
        let stop = self.stop.clone();
        while let Some(Some(session)) = stop.run_until_cancelled(self.next_session()).await {
            if stop
                .run_until_cancelled(self.serve(&session))
                .await
                .is_none()
            {
                return;
            }
        }
    }

    /// Waits for a connection. A job that was handed over while it went away is answered at once.
    async fn next_session(&mut self) -> Option<Session> {
        loop {
            let error = {
                let state = self.state.borrow_and_update();
                match state.session() {
                    Some(session) => return Some(session.clone()),
                    None => state.error(),
                }
            };
            tokio::select! {
                changed = self.state.changed() => changed.ok()?,
                job = self.jobs.recv() => {
                    // As above: nobody may be waiting any more.
                    let _ = job?.reply.send(Err(error));
                }
            }
        }
    }

    /// Publishes on one connection until that is over.
    async fn serve(&mut self, session: &Session) {
        let mut on = OnSession {
            session,
            channel: None,
            under_way: FuturesUnordered::new(),
            confirms: Confirms::default(),
        };
        loop {
            let blocked = match &*self.state.borrow_and_update() {
                LinkState::Up(_) => false,
                LinkState::Blocked(..) => true,
                LinkState::Down(_) => break,
            };
            tokio::select! {
                biased;
                () = session.lost() => break,
                Some(outcome) = on.under_way.next(), if !on.under_way.is_empty() => on.settle(outcome, blocked),
                changed = self.state.changed() => if changed.is_err() { break },
                job = self.jobs.recv(), if !blocked && on.under_way.len() < UNCONFIRMED => match job {
                    Some(job) => self.publish(&mut on, job).await,
                    None => break,
                },
            }
        }
        // Whoever waits for a message that is still under way hears of the loss by its dropped reply.
        on.abandon_doubtful();
    }

    async fn publish(&mut self, on: &mut OnSession<'_>, job: Job) {
        let Job {
            target,
            body,
            headers,
            reply,
        } = job;
        if reply.is_closed() {
            return;
        }
        let waiting = Waiting { target, reply };
        let channel = match on.channel().await {
            Ok(channel) => channel,
            Err(error) => return waiting.answer(Err(error)),
        };
        // Opening it takes a while; who gave up meanwhile may send the same again.
        if waiting.reply.is_closed() {
            return;
        }
        self.next_number += 1;
        let number = self.next_number;
        let properties = self.properties(number, &waiting.target, headers);
        let mut publishing = async move {
            // Also when its publisher stops waiting sooner: what comes back with its confirmation may
            // be about another message.
            let sending = send(&channel, &waiting.target, &body, properties);
            let result = tokio::time::timeout(CONFIRM_LIMIT, sending).await;
            Outcome {
                number,
                waiting,
                result,
            }
        }
        .boxed();
        // The first poll puts it on the channel: here, so that the order is the one they came in.
        match futures::poll!(&mut publishing) {
            Poll::Ready(outcome) => on.settle(outcome, false),
            Poll::Pending => on.under_way.push(publishing),
        }
    }

    fn properties(
        &self,
        number: u64,
        target: &Target,
        headers: Option<FieldTable>,
    ) -> BasicProperties {
        const TRANSIENT: u8 = 1;
        const PERSISTENT: u8 = 2;
        let mode = if target.is_durable() {
            PERSISTENT
        } else {
            TRANSIENT
        };
        let mut properties = BasicProperties::default()
            .with_content_type("application/json".into())
            .with_delivery_mode(mode)
            .with_message_id(format!("{}.{number}", self.name).into());
        if let Some(user_id) = &self.user_id {
            properties = properties.with_user_id(user_id.as_str().into());
        }
        if let Some(headers) = headers {
            properties = properties.with_headers(headers);
        }
        properties
    }
}

/// Puts one message on the channel and waits for its confirmation.
async fn send(
    channel: &Channel,
    target: &Target,
    body: &[u8],
    properties: BasicProperties,
) -> lapin::Result<Confirmation> {
    let options = BasicPublishOptions {
        mandatory: target.is_durable(),
        ..BasicPublishOptions::default()
    };
    let (exchange, key) = (target.exchange().into(), target.routing_key().into());
    channel
        .basic_publish(exchange, key, options, body, properties)
        .await?
        .await
}

impl OnSession<'_> {
    /// The open channel, or a new one.
    async fn channel(&mut self) -> Result<Channel, BusError> {
        if let Some(channel) = self
            .channel
            .as_ref()
            .filter(|channel| channel.status().connected())
        {
            return Ok(channel.clone());
        }
        let opened = open(self.session).await;
        match &opened {
            Ok(channel) => self.channel = Some(channel.clone()),
            Err(_) => self.session.abandon(),
        }
        opened
    }

    /// Answers whoever can be answered now that something came of a message.
    fn settle(&mut self, first: Outcome, blocked: bool) {
        let mut confirmed = Vec::new();
        let mut channel_failed = false;
        let mut next = Some(first);
        // All that is there is looked at together: a return may have come with a neighbour.
        while let Some(outcome) = next {
            channel_failed |= !matches!(outcome.result, Ok(Ok(_)));
            self.sort(outcome, blocked, &mut confirmed);
            next = self.under_way.next().now_or_never().flatten();
        }
        // Returns that were not handed out before the channel failed never will be.
        let under_way = if channel_failed {
            usize::MAX
        } else {
            self.under_way.len()
        };
        for (waiting, verdict) in self.confirms.settle(confirmed, under_way) {
            let result = match verdict {
                Verdict::Routed => Ok(()),
                Verdict::Unroutable => Err(BusError::Unroutable {
                    address: waiting.target.to_string(),
                }),
            };
            waiting.answer(result);
        }
        if channel_failed {
            self.abandon_doubtful();
        }
    }

    fn sort(&mut self, outcome: Outcome, blocked: bool, confirmed: &mut Vec<Confirmed<Waiting>>) {
        let Outcome {
            number,
            waiting,
            result,
        } = outcome;
        match result {
            Ok(Ok(Confirmation::Nack(_))) => {
                let reason = format!(
                    "the broker did not take a message for {}: its queue is full or failing",
                    waiting.target
                );
                waiting.answer(Err(BusError::Away { reason }));
            }
            Ok(Ok(confirmation)) => {
                let carried = confirmation.take_message().and_then(|returned| {
                    returned
                        .delivery
                        .properties
                        .message_id()
                        .as_ref()
                        .and_then(|id| id.as_str().rsplit('.').next()?.parse().ok())
                });
                confirmed.push(Confirmed {
                    number,
                    carried,
                    waiting,
                });
            }
            Ok(Err(error)) => {
                if !self.session.connection.status().connected() {
                    self.session.abandon();
                }
                waiting.answer(Err(from_lapin(&error)));
            }
            Err(_) => {
                if !blocked {
                    self.session.abandon();
                }
                waiting.answer(Err(BusError::Unconfirmed));
            }
        }
    }

    /// Answers those whose confirmation leaves it open whether a queue took the message.
    fn abandon_doubtful(&mut self) {
        for waiting in self.confirms.abandon() {
            waiting.answer(Err(BusError::Unconfirmed));
        }
    }
}

async fn open(session: &Session) -> Result<Channel, BusError> {
    let channel = within(session.connection.create_channel()).await?;
    within(channel.confirm_select(ConfirmSelectOptions::default())).await?;
    Ok(channel)
}
