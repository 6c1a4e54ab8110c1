//! What containers print, as lines of bounded length.

use super::client::{Engine, QUICK};
use super::error::EngineError;
use crate::text::{clean_line, cut};
use bollard::container::LogOutput;
use bollard::query_parameters::LogsOptions;
use chrono::{DateTime, Utc};
use futures::{Stream, StreamExt};
use shared::status::LogStream;
use std::collections::VecDeque;
use std::time::Duration;

/// The longest line that is kept, in bytes; what is beyond is dropped and marked.
const LINE_LIMIT: usize = 8 * 1024;

/// A stream that lives as long as its reader wants.
const FOR_EVER: Duration = Duration::from_secs(10 * 365 * 24 * 3600);

/// Which lines are wanted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LogQuery {
    /// How many of the last lines to begin with.
    pub tail: u32,
    /// Only lines from this moment's second on: the engine is asked for whole ones.
    pub since: Option<DateTime<Utc>>,
    /// Whether to go on with new lines until the container ends.
    pub follow: bool,
}

/// A line that a container printed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ContainerLine {
    /// When, by the engine's clock.
    pub at: DateTime<Utc>,
    /// Where.
    pub stream: LogStream,
    /// The line, without its end and control characters.
    pub text: String,
}

impl Engine {
    /// What a container printed, line by line. The stream ends when the container does (or at
    /// once, when it is not followed). Reading slowly slows the engine's sending, not the
    /// container.
    pub fn container_logs(
        &self,
        id: &str,
        query: LogQuery,
    ) -> impl Stream<Item = Result<ContainerLine, EngineError>> + Send + 'static {
        let (engine, id) = (self.clone(), id.to_owned());
        open_log(engine, id, query)
    }

    /// The last lines of a container, oldest first.
    ///
    /// # Errors
    /// [`EngineError::NotFound`] when it is not there.
    pub async fn last_log_lines(&self, id: &str, count: u32) -> Result<Vec<String>, EngineError> {
        let lines = self.last_printed(id, count).await?;
        Ok(lines.into_iter().map(|line| line.text).collect())
    }

    /// When a container printed its last line, by the engine's clock; nothing when it printed none.
    ///
    /// # Errors
    /// [`EngineError::NotFound`] when it is not there.
    pub async fn last_log_time(&self, id: &str) -> Result<Option<DateTime<Utc>>, EngineError> {
        let lines = self.last_printed(id, 1).await?;
        Ok(lines.back().map(|line| line.at))
    }

    async fn last_printed(
        &self,
        id: &str,
        count: u32,
    ) -> Result<VecDeque<ContainerLine>, EngineError> {
        let query = LogQuery {
            tail: count,
            since: None,
            follow: false,
        };
        let mut lines = VecDeque::new();
        let reading = async {
            let mut printed = std::pin::pin!(self.container_logs(id, query));
            while let Some(line) = printed.next().await {
                lines.push_back(line?);
                if lines.len() > count as usize {
                    lines.pop_front();
                }
            }
            Ok(())
        };
        let done = tokio::time::timeout(QUICK, reading).await;
        done.map_err(|_| EngineError::Timeout { doing: DOING })??;
        Ok(lines)
    }
}

const DOING: &str = "reading a container's log";

fn open_log(
    engine: Engine,
    id: String,
    query: LogQuery,
) -> impl Stream<Item = Result<ContainerLine, EngineError>> + Send + 'static {
    let opened = async move {
        let docker = match engine.docker(DOING).await {
            Ok(docker) => docker.with_timeout(if query.follow { FOR_EVER } else { QUICK }),
            Err(error) => return futures::stream::iter([Err(error)]).boxed(),
        };
        let options = LogsOptions {
            follow: query.follow,
            stdout: true,
            stderr: true,
            timestamps: true,
            since: query
                .since
                .map_or(0, |since| since.timestamp().try_into().unwrap_or(i32::MAX)),
            until: 0,
            tail: query.tail.to_string(),
        };
        let mut lines = Lines::default();
        docker
            .logs(&id, Some(options))
            .map(Some)
            // The last line may have no end.
            .chain(futures::stream::iter([None]))
            .flat_map(move |output| {
                let ready = match output {
                    Some(Ok(output)) => lines.take(output).map(Ok).into_iter().collect(),
                    Some(Err(error)) => vec![Err(EngineError::from_client(DOING, error))],
                    None => lines.rest().into_iter().map(Ok).collect::<Vec<_>>(),
                };
                futures::stream::iter(ready)
            })
            .boxed()
    };
    futures::stream::once(opened).flatten()
}

/// Puts lines together: the engine sends one in pieces when it is longer than 16 KiB, each with a
/// time of its own in front.
#[derive(Debug, Default)]
struct Lines {
    stdout: Option<Partial>,
    stderr: Option<Partial>,
}

#[derive(Debug)]
struct Partial {
    at: DateTime<Utc>,
    bytes: Vec<u8>,
    cut: bool,
}

impl Partial {
    fn push(&mut self, bytes: &[u8]) {
        let room = LINE_LIMIT.saturating_sub(self.bytes.len());
        self.cut |= bytes.len() > room;
        self.bytes
            .extend_from_slice(&bytes[..bytes.len().min(room)]);
    }

    fn finish(self, stream: LogStream) -> ContainerLine {
        let mut text = clean_line(&String::from_utf8_lossy(&self.bytes));
        if self.cut {
            text.push_str(" … (cut)");
        }
        ContainerLine {
            at: self.at,
            stream,
            text: cut(&text, LINE_LIMIT),
        }
    }
}

impl Lines {
    fn slot(&mut self, stream: LogStream) -> &mut Option<Partial> {
        if stream == LogStream::Stderr {
            &mut self.stderr
        } else {
            &mut self.stdout
        }
    }

    /// A line, when this piece ends one.
    fn take(&mut self, output: LogOutput) -> Option<ContainerLine> {
        let stream = match output {
            LogOutput::StdErr { .. } => LogStream::Stderr,
            LogOutput::StdOut { .. } | LogOutput::StdIn { .. } | LogOutput::Console { .. } => {
                LogStream::Stdout
            }
        };
        let bytes = output.into_bytes();
        let (at, body) = split_time(&bytes);
        let ends = body.last() == Some(&b'\n');
        let slot = self.slot(stream);
        let partial = slot.get_or_insert_with(|| Partial {
            at,
            bytes: Vec::new(),
            cut: false,
        });
        partial.push(body.strip_suffix(b"\n").unwrap_or(body));
        if ends {
            slot.take().map(|partial| partial.finish(stream))
        } else {
            None
        }
    }

    /// What has no end yet.
    fn rest(&mut self) -> Vec<ContainerLine> {
        [LogStream::Stdout, LogStream::Stderr]
            .into_iter()
            .filter_map(|stream| {
                self.slot(stream)
                    .take()
                    .map(|partial| partial.finish(stream))
            })
            .collect()
    }
}

/// `2026-11-20T13:00:00.123456789Z text` into its two parts.
fn split_time(line: &[u8]) -> (DateTime<Utc>, &[u8]) {
    let space = line.iter().take(40).position(|byte| *byte == b' ');
    let parsed = space.and_then(|end| {
        let time = std::str::from_utf8(&line[..end]).ok()?.parse().ok()?;
        Some((time, &line[end + 1..]))
    });
    parsed.unwrap_or_else(|| (Utc::now(), line))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn piece(text: &str) -> LogOutput {
        LogOutput::StdOut {
            message: text.to_owned().into(),
        }
    }

    #[test]
    fn a_line_in_pieces_is_put_together() {
        let mut lines = Lines::default();
        assert_eq!(lines.take(piece("2026-11-20T13:00:00.5Z one ")), None);
        let other = LogOutput::StdErr {
            message: "2026-11-20T13:00:01Z err\n".into(),
        };
        assert_eq!(lines.take(other).unwrap().stream, LogStream::Stderr);
        let line = lines.take(piece("2026-11-20T13:00:02Z line\n")).unwrap();
        assert_eq!(
            (line.text.as_str(), line.at.timestamp_subsec_millis()),
            ("one line", 500)
        );
        assert_eq!(lines.rest(), []);
    }

    #[test]
    fn a_line_without_end_costs_bounded_memory() {
        let mut lines = Lines::default();
        for _ in 0..1000 {
            assert_eq!(lines.take(piece(&"x".repeat(16 * 1024))), None);
        }
        assert!(lines.stdout.as_ref().unwrap().bytes.len() <= LINE_LIMIT);
        let rest = lines.rest();
        assert!(rest[0].text.ends_with("(cut)") && rest[0].text.len() <= LINE_LIMIT);
    }
}
