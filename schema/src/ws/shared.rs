//! One stream for all who follow the same: an event is resolved and written once, however many
//! hear of it.
//!
//! Only what begins at the moment of asking can be shared, since whoever comes later must be told
//! the same as if the stream were theirs (see [`crate::http::request::Prepared`]).

use crate::error;
use crate::subscription::too_slow;
use async_graphql::{PathSegment, Response, ServerError};
use axum::extract::ws::Utf8Bytes;
use futures::stream::{self, BoxStream};
use futures::{FutureExt as _, Stream, StreamExt as _};
use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use tokio::sync::broadcast::{self, error::RecvError};

/// How many answers wait for a follower: as many as events do for a stream of its own.
const BACKLOG: usize = 4_096;

/// How many different streams are shared; who asks for yet another gets one of its own.
const FEEDS: usize = 16;

/// The field that may be shared.
const FIELD: &str = "deploymentStatus";

/// An answer as it is sent, without the id that each follower gave it.
#[derive(Clone, Debug)]
pub(super) enum Told {
    /// The payload of a `next`.
    Next(Utf8Bytes),
    /// The payload of an `error`, which is the last word.
    Error(Utf8Bytes),
}

/// The streams that are shared now. Cheap to clone.
#[derive(Clone, Default)]
pub(crate) struct Feeds {
    feeds: Arc<Mutex<HashMap<String, broadcast::Sender<Told>>>>,
}

/// What somebody follows.
pub(super) enum Followed {
    /// Together with others.
    Shared(BoxStream<'static, Told>),
    /// Alone.
    Own(BoxStream<'static, Response>),
}

impl Feeds {
    /// Follows the stream of this key; the first who does begins it. It has begun when this returns.
    pub(super) fn follow(
        &self,
        key: String,
        begin: impl FnOnce() -> BoxStream<'static, Response>,
    ) -> Followed {
        let mut feeds = self.lock();
        if let Some(feed) = feeds.get(&key) {
            return Followed::Shared(told(feed.subscribe()).boxed());
        }
        let mut answers = begin();
        if feeds.len() >= FEEDS {
            return Followed::Own(answers);
        }
        if let Some(first) = answers.next().now_or_never() {
            // A refusal, or the end: nothing that others could follow.
            return Followed::Own(stream::iter(first).chain(answers).boxed());
        }
        let (feed, follower) = broadcast::channel(BACKLOG);
        feeds.insert(key.clone(), feed.clone());
        drop(feeds);
        tokio::spawn(self.clone().run(key, answers, feed));
        Followed::Shared(told(follower).boxed())
    }

    /// Writes answers until the stream ends or nobody is left to hear the next.
    async fn run(
        self,
        key: String,
        mut answers: BoxStream<'static, Response>,
        feed: broadcast::Sender<Told>,
    ) {
        while let Some(answer) = answers.next().await {
            if feed.send(write(answer)).is_err() {
                let mut feeds = self.lock();
                // Whoever joins does so under this lock.
                if feed.receiver_count() == 0 {
                    feeds.remove(&key);
                    return;
                }
            }
        }
        self.lock().remove(&key);
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<String, broadcast::Sender<Told>>> {
        // Whole also after a panic elsewhere: entries are only put and removed.
        self.feeds.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn write(answer: Response) -> Told {
    let answer = error::finish(answer);
    let written = if error::is_request_error(&answer) {
        serde_json::to_string(&answer.errors).map(|text| Told::Error(text.into()))
    } else {
        serde_json::to_string(&answer).map(|text| Told::Next(text.into()))
    };
    written.unwrap_or_else(|failed| {
        tracing::error!(error = %failed, "an answer could not be written");
        Told::Error(Utf8Bytes::from_static(
            r#"[{"message":"an internal error","extensions":{"code":"INTERNAL"}}]"#,
        ))
    })
}

/// What one follower is told; one that reads too slowly is told so, and no more.
fn told(follower: broadcast::Receiver<Told>) -> impl Stream<Item = Told> + Send + 'static {
    stream::unfold(Some(follower), |follower| async move {
        let mut follower = follower?;
        match follower.recv().await {
            Ok(told) => Some((told, Some(follower))),
            Err(RecvError::Lagged(missed)) => Some((write(lagged(missed)), None)),
            Err(RecvError::Closed) => None,
        }
    })
}

fn lagged(missed: u64) -> Response {
    let error = ServerError::from(too_slow(orchestrator::watch::Lagged { missed }));
    // Of a field that was being answered, like any error of a stream.
    let path = vec![PathSegment::Field(FIELD.to_owned())];
    Response::from_errors(vec![ServerError { path, ..error }])
}

#[cfg(test)]
mod tests {
    use super::*;
    use async_graphql::Value;
    use tokio::sync::mpsc;

    fn stream_of(answers: mpsc::UnboundedReceiver<Value>) -> BoxStream<'static, Response> {
        stream::unfold(answers, |mut answers| async move {
            Some((Response::new(answers.recv().await?), answers))
        })
        .boxed()
    }

    async fn next(followed: &mut Followed) -> Option<Told> {
        match followed {
            Followed::Shared(told) => told.next().await,
            Followed::Own(_) => panic!("it is not shared"),
        }
    }

    #[tokio::test]
    async fn an_answer_is_written_once_for_all() {
        let feeds = Feeds::default();
        let (say, answers) = mpsc::unbounded_channel();
        let mut one = feeds.follow("a".to_owned(), || stream_of(answers));
        let mut other = feeds.follow("a".to_owned(), || panic!("it was begun before"));
        say.send(Value::from(7)).unwrap();
        let (Some(Told::Next(first)), Some(Told::Next(second))) =
            (next(&mut one).await, next(&mut other).await)
        else {
            panic!("no answer")
        };
        assert_eq!(first.as_str(), r#"{"data":7}"#);
        assert_eq!(first.as_ptr(), second.as_ptr(), "the same bytes");
        drop(say);
        assert!(next(&mut one).await.is_none() && next(&mut other).await.is_none());
    }

    #[tokio::test]
    async fn what_is_refused_at_once_or_one_too_many_is_not_shared() {
        let feeds = Feeds::default();
        let refused =
            || stream::iter([Response::from_errors(vec![ServerError::new("no", None)])]).boxed();
        assert!(matches!(
            feeds.follow("a".to_owned(), refused),
            Followed::Own(_)
        ));
        for feed in 0..FEEDS {
            let followed = feeds.follow(format!("f{feed}"), || stream::pending().boxed());
            assert!(matches!(followed, Followed::Shared(_)));
        }
        assert!(matches!(
            feeds.follow("b".to_owned(), || stream::pending().boxed()),
            Followed::Own(_)
        ));
    }

    #[tokio::test]
    async fn who_reads_too_slowly_is_told_so_and_the_others_go_on() {
        let feeds = Feeds::default();
        let (say, answers) = mpsc::unbounded_channel();
        let mut slow = feeds.follow("a".to_owned(), || stream_of(answers));
        let mut quick = feeds.follow("a".to_owned(), || panic!("it was begun before"));
        for number in 0..=BACKLOG {
            say.send(Value::from(number)).unwrap();
            assert!(matches!(next(&mut quick).await, Some(Told::Next(_))));
        }
        let Some(Told::Next(last)) = next(&mut slow).await else {
            panic!("no answer")
        };
        assert!(
            last.contains("too slowly") && last.contains("UNAVAILABLE"),
            "{last}"
        );
        assert!(next(&mut slow).await.is_none());
    }
}
