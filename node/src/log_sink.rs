//! Where a log line goes: a cheap handle that numbers lines and never waits.
//!
//! Lines travel as telemetry. A reader that cannot keep up costs lines, never time: when the way
//! out is full, lines are counted, and one line says how many were left out as soon as there is
//! room again.

use crate::text::{clean_line, cut};
use shared::message::{LogLine, LogSource, LogSubject, TelemetryItem};
use shared::name::ServiceName;
use shared::status::LogStream;
use std::sync::{Arc, Mutex, PoisonError};
use tokio::sync::mpsc;

/// The longest line in bytes; a longer one is cut with a mark.
pub const LINE_LIMIT: usize = 8 * 1024;

/// How many items may wait on their way out before lines are left out.
pub const QUEUE_LIMIT: usize = 8192;

/// A handle to one log. Clones write to the same log and share its numbering.
#[derive(Clone, Debug)]
pub struct LogSink {
    log: Arc<Log>,
    source: Option<LogSource>,
}

#[derive(Debug)]
struct Log {
    subject: LogSubject,
    out: mpsc::Sender<TelemetryItem>,
    count: Mutex<Count>,
}

#[derive(Debug)]
struct Count {
    /// The number of the last line that was sent.
    seq: i64,
    /// Lines left out since then.
    left_out: u64,
}

impl LogSink {
    /// A log whose first line is numbered `after + 1`, sent into `out`.
    #[must_use]
    pub fn new(subject: LogSubject, after: i64, out: mpsc::Sender<TelemetryItem>) -> Self {
        let count = Mutex::new(Count {
            seq: after,
            left_out: 0,
        });
        Self {
            log: Arc::new(Log {
                subject,
                out,
                count,
            }),
            source: None,
        }
    }

    /// A log that nobody reads.
    #[must_use]
    pub fn nowhere() -> Self {
        Self::collecting().0
    }

    /// A sink whose lines stay in memory, up to [`QUEUE_LIMIT`].
    #[must_use]
    pub fn collecting() -> (Self, CollectedLines) {
        let (out, items) = mpsc::channel(QUEUE_LIMIT);
        let subject = LogSubject::Build {
            revision_id: shared::id::RevisionId::new(),
            epoch: 1,
        };
        (Self::new(subject, 0, out), CollectedLines { items })
    }

    /// The same log, with lines said to be printed by `service`.
    #[must_use]
    pub fn of_service(&self, service: ServiceName) -> Self {
        Self {
            log: self.log.clone(),
            source: Some(LogSource { service }),
        }
    }

    /// Writes a line, or several when `text` has line breaks. Never waits. Control characters are
    /// escaped, terminal colours removed, and what is beyond [`LINE_LIMIT`] is cut.
    pub fn line(&self, stream: LogStream, text: &str) {
        // An empty text is an empty line, which `lines` alone would lose.
        let lines = text.lines().chain(text.is_empty().then_some(""));
        let mut count = self
            .log
            .count
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        for line in lines {
            self.push(&mut count, stream, cut(&clean_line(line), LINE_LIMIT));
        }
    }

    /// Writes a line of Longshore's own: what it does and why.
    pub fn system(&self, text: impl AsRef<str>) {
        self.line(LogStream::System, text.as_ref());
    }

    /// The number of the last line that was sent.
    #[must_use]
    pub fn last_seq(&self) -> i64 {
        self.log
            .count
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .seq
    }

    /// Says that the log has ended, waiting for room on the way out.
    pub async fn end(&self) {
        let lines = {
            let mut count = self
                .log
                .count
                .lock()
                .unwrap_or_else(PoisonError::into_inner);
            self.say_what_was_left_out(&mut count);
            count.seq
        };
        let end = TelemetryItem::LogEnd {
            subject: self.log.subject,
            lines,
        };
        if self.log.out.send(end).await.is_err() {
            tracing::debug!("a log ended after telemetry was closed");
        }
    }

    fn push(&self, count: &mut Count, stream: LogStream, text: String) {
        if !self.say_what_was_left_out(count) || !self.send(count, stream, text) {
            count.left_out += 1;
        }
    }

    /// Whether nothing is left to say.
    fn say_what_was_left_out(&self, count: &mut Count) -> bool {
        if count.left_out == 0 {
            return true;
        }
        let said = self.send(
            count,
            LogStream::System,
            format!(
                "({} lines left out here: they came faster than they could be sent)",
                count.left_out
            ),
        );
        if said {
            count.left_out = 0;
        }
        said
    }

    fn send(&self, count: &mut Count, stream: LogStream, text: String) -> bool {
        let line = LogLine {
            subject: self.log.subject,
            source: self.source.clone(),
            seq: count.seq + 1,
            at: shared::clock::now(),
            stream,
            text,
        };
        let sent = self.log.out.try_send(TelemetryItem::Log(line)).is_ok();
        count.seq += i64::from(sent);
        sent
    }
}

/// The lines of [`LogSink::collecting`].
#[derive(Debug)]
pub struct CollectedLines {
    items: mpsc::Receiver<TelemetryItem>,
}

impl CollectedLines {
    /// The lines that came since the last call.
    pub fn take(&mut self) -> Vec<LogLine> {
        let mut lines = Vec::new();
        while let Ok(item) = self.items.try_recv() {
            if let TelemetryItem::Log(line) = item {
                lines.push(line);
            }
        }
        lines
    }

    /// The texts of the lines that came since the last call.
    pub fn texts(&mut self) -> Vec<String> {
        self.take().into_iter().map(|line| line.text).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_numbered_from_one_and_split_at_line_breaks() {
        let (log, mut lines) = LogSink::collecting();
        log.system("one\ntwo");
        log.clone().line(LogStream::Stdout, "");
        log.of_service(ServiceName::app())
            .line(LogStream::Stderr, "three\r\n");
        let lines = lines.take();
        let seen: Vec<_> = lines
            .iter()
            .map(|line| (line.seq, line.stream, line.text.as_str()))
            .collect();
        assert_eq!(
            seen,
            [
                (1, LogStream::System, "one"),
                (2, LogStream::System, "two"),
                (3, LogStream::Stdout, ""),
                (4, LogStream::Stderr, "three")
            ]
        );
        assert!(lines[3].source.is_some() && lines[0].source.is_none());
    }

    #[test]
    fn a_long_line_is_cut() {
        let (log, mut lines) = LogSink::collecting();
        log.system("x".repeat(LINE_LIMIT * 2));
        let text = lines.texts().remove(0);
        assert!(text.len() <= LINE_LIMIT && text.ends_with("(cut)"));
    }

    #[tokio::test]
    async fn a_full_way_out_costs_lines_and_says_how_many() {
        let (out, mut items) = mpsc::channel(2);
        let subject = LogSubject::Service(shared::id::StreamId::new());
        let log = LogSink::new(subject, 0, out);
        for number in 0..5 {
            log.line(LogStream::Stdout, &number.to_string());
        }
        assert!(matches!(items.try_recv(), Ok(TelemetryItem::Log(line)) if line.text == "0"));
        assert!(matches!(items.try_recv(), Ok(TelemetryItem::Log(line)) if line.text == "1"));
        log.line(LogStream::Stdout, "5");
        let Ok(TelemetryItem::Log(mark)) = items.try_recv() else {
            panic!("no mark")
        };
        assert!(
            mark.seq == 3 && mark.text.contains("3 lines left out"),
            "{mark:?}"
        );
        assert!(
            matches!(items.try_recv(), Ok(TelemetryItem::Log(line)) if line.text == "5" && line.seq == 4)
        );
        log.end().await;
        assert_eq!(
            items.try_recv().ok(),
            Some(TelemetryItem::LogEnd { subject, lines: 4 })
        );
    }
}
