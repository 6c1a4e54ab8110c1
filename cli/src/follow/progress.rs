//! What a person sees while a revision is followed.
//!
//! On a terminal: a live line with the steps so far, below the build log. Elsewhere, such as in a CI
//! job: one line a step and one a log line. With `--output json`: the same to standard error, so that
//! standard output stays one document.

use crate::client::model::{LogLine, StatusEvent};
use crate::output::{self, Format};
use indicatif::{ProgressBar, ProgressStyle};
use shared::status::LogStream;
use std::collections::VecDeque;
use std::io::{self, IsTerminal};
use std::time::{Duration, Instant};

/// What a person sees while a revision is followed.
pub(crate) struct Progress {
    view: View,
    steps: Vec<String>,
    begin: Instant,
    /// The last lines of the log that are Longshore's own.
    told: VecDeque<String>,
    /// Why it ended as it did, until that is told.
    why: Option<String>,
}

/// How many of the log's own lines are remembered: an end is told within the last few.
const REMEMBERED: usize = 32;

enum View {
    Live(ProgressBar),
    Plain,
    Aside,
}

impl Progress {
    /// For this form of output.
    pub(crate) fn new(format: Format) -> Self {
        let view = match format {
            Format::Json => View::Aside,
            Format::Text if io::stdout().is_terminal() && io::stderr().is_terminal() => {
                View::Live(bar())
            }
            Format::Text => View::Plain,
        };
        Self {
            view,
            steps: Vec::new(),
            begin: Instant::now(),
            told: VecDeque::new(),
            why: None,
        }
    }

    /// One step of the revision.
    pub(super) fn step(&mut self, event: &StatusEvent) -> io::Result<()> {
        let status = event.status.as_str();
        self.steps.push(status.to_owned());
        match &self.view {
            View::Live(bar) => bar.set_message(self.steps.join(" ✓ ")),
            View::Plain | View::Aside => self.print(status)?,
        }
        if let Some(reason) = event.failure_reason {
            if reason.as_str() != status {
                self.print(reason.as_str())?;
            }
            // The log usually says it, and may come later: what it leaves out is told at the end.
            self.why.clone_from(&event.detail);
        }
        Ok(())
    }

    /// One line of the build log.
    pub(super) fn line(&mut self, line: &LogLine) -> io::Result<()> {
        let mark = if line.stream == LogStream::System {
            if self.told.len() == REMEMBERED {
                self.told.pop_front();
            }
            self.told.push_back(line.text.clone());
            "•"
        } else {
            " "
        };
        self.print(&format!("{mark} {}", output::line(&line.text)))
    }

    /// Something that is not an answer, such as a lost connection.
    pub(super) fn note(&self, text: &str) {
        match &self.view {
            View::Live(bar) => bar.suspend(|| output::note(text)),
            View::Plain | View::Aside => output::note(text),
        }
    }

    /// The live line ends; what was seen is summed up.
    pub(crate) fn finish(&mut self) -> io::Result<()> {
        if let View::Live(bar) = &self.view {
            bar.finish_and_clear();
            self.print(&self.steps.join(" ✓ "))?;
        }
        if let Some(why) = self.why.take().filter(|why| !is_told(why, &self.told)) {
            for line in output::lines(&why) {
                self.print(&format!("  {line}"))?;
            }
        }
        self.print(&format!("after {:.1} s", self.elapsed().as_secs_f64()))
    }

    fn elapsed(&self) -> Duration {
        self.begin.elapsed()
    }

    /// A line of progress, wherever this view puts it.
    pub(crate) fn print(&self, text: &str) -> io::Result<()> {
        match &self.view {
            View::Live(bar) => bar.suspend(|| output::print(text)),
            View::Plain => output::print(text),
            View::Aside => {
                output::note(text);
                Ok(())
            }
        }
    }
}

/// Whether the log says already why it ended.
fn is_told(why: &str, told: &VecDeque<String>) -> bool {
    let mut lines = why.lines().filter(|line| !line.trim().is_empty());
    lines.next().is_none_or(|first| {
        let first = first.trim();
        told.iter().any(|line| line.contains(first))
    })
}

fn bar() -> ProgressBar {
    let bar = ProgressBar::new_spinner();
    // The template is a constant that the test below reads.
    if let Ok(style) = ProgressStyle::with_template(TEMPLATE) {
        bar.set_style(style);
    }
    bar.enable_steady_tick(Duration::from_millis(100));
    bar
}

const TEMPLATE: &str = "{spinner} {msg} … {elapsed}";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_template_is_read() {
        assert!(ProgressStyle::with_template(TEMPLATE).is_ok());
    }

    #[test]
    fn why_it_failed_is_told_once() {
        let log = VecDeque::from(["failed: UNHEALTHY: it ended; its last lines:".to_owned()]);
        assert!(is_told("it ended; its last lines:\nboom", &log));
        assert!(is_told("", &log));
        assert!(!is_told("the node was lost", &log));
        assert!(!is_told(
            "it ended; its last lines:\nboom",
            &VecDeque::new()
        ));
    }
}
