//! One line of a log.

use super::int;
use async_graphql::SimpleObject;
use chrono::{DateTime, Utc};
use orchestrator::watch::LogLineView;
use shared::status::LogStream;

/// One line of a build log or service log.
#[derive(SimpleObject)]
pub(crate) struct LogLine {
    /// Rises by one with each line of the log, from 1.
    seq: i32,
    /// When, by the node's clock.
    at: DateTime<Utc>,
    /// Where it came from.
    stream: LogStream,
    /// The service that printed it, in a service log.
    service: Option<String>,
    /// The line without its end.
    text: String,
}

impl From<LogLineView> for LogLine {
    fn from(line: LogLineView) -> Self {
        Self {
            seq: int(line.seq),
            at: line.at,
            stream: line.stream,
            service: line.service,
            text: line.text,
        }
    }
}
