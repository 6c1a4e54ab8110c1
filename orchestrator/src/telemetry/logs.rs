//! Log lines in: build logs to the store, service logs to whoever reads them.

use super::{Telemetry, take};
use shared::bus::Consumer;
use shared::id::RevisionId;
use shared::message::{LogLine, LogSubject, TelemetryItem};
use std::collections::BTreeSet;

pub(super) async fn run(telemetry: &Telemetry, mut consumer: Consumer) {
    while let Some(items) = take(&mut consumer).await {
        let sorted = Sorted::of(items);
        for (stream, line) in sorted.service_lines {
            telemetry.hub.service_line(stream, line);
        }
        if let Err(error) = store(telemetry, &sorted.build_lines, &sorted.build_ends).await {
            // Nothing is decided by a log line; the log has a hole that its reader steps over.
            let lines = sorted.build_lines.len();
            tracing::warn!(
                error = &error as &dyn std::error::Error,
                lines,
                "lines of build logs were not stored"
            );
        }
        for revision_id in sorted.build_logs {
            telemetry.hub.build_log_grew(revision_id);
        }
    }
}

async fn store(
    telemetry: &Telemetry,
    lines: &[LogLine],
    ends: &[(RevisionId, i32, i64)],
) -> Result<(), crate::store::StoreError> {
    // An end is recorded after its lines: who sees it can read them all.
    telemetry.store.build_log_append(lines).await?;
    telemetry.store.build_log_end(ends).await
}

/// Items by where they go.
#[derive(Default)]
struct Sorted {
    build_lines: Vec<LogLine>,
    build_ends: Vec<(RevisionId, i32, i64)>,
    build_logs: BTreeSet<RevisionId>,
    service_lines: Vec<(shared::id::StreamId, LogLine)>,
}

impl Sorted {
    fn of(items: Vec<TelemetryItem>) -> Self {
        let mut sorted = Self::default();
        for item in items {
            match item {
                TelemetryItem::Log(line) => match line.subject {
                    LogSubject::Build { revision_id, .. } => {
                        sorted.build_logs.insert(revision_id);
                        sorted.build_lines.push(line);
                    }
                    LogSubject::Service(stream) => sorted.service_lines.push((stream, line)),
                },
                TelemetryItem::LogEnd {
                    subject: LogSubject::Build { revision_id, epoch },
                    lines,
                } => {
                    sorted.build_logs.insert(revision_id);
                    sorted.build_ends.push((revision_id, epoch, lines));
                }
                // A reader's log has no end of its own: its wish is renewed for as long as it reads.
                TelemetryItem::LogEnd {
                    subject: LogSubject::Service(_),
                    ..
                }
                | TelemetryItem::Heartbeat(_)
                | TelemetryItem::Holds(_) => {}
            }
        }
        sorted
    }
}
