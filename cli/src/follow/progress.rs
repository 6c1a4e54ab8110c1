//! What a person sees while a revision is followed.
//!
//! On a terminal: a live line with the steps so far, below the build log. Elsewhere, such as in a CI
//! job: one line a step and one a log line. With `--output json`: the same to standard error, so that
//! standard output stays one document.

use crate::client::model::{LogLine, StatusEvent};
use crate::output::{self, Format};
use indicatif::{ProgressBar, ProgressStyle};
use shared::status::LogStream;
use std::io::{self, IsTerminal};
use std::time::{Duration, Instant};

/// What a person sees while a revision is followed.
pub(crate) struct Progress {
    view: View,
    steps: Vec<String>,
    begin: Instant,
}

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
        let reason = event.failure_reason.map(|reason| reason.to_string());
        // While it works, the detail is in the log already; of what ended, it is the reason.
        let detail = event.detail.as_deref().filter(|_| reason.is_some());
        if let Some(reason) = reason {
            self.print(&reason)?;
        }
        for line in detail.into_iter().flat_map(output::lines) {
            self.print(&format!("  {line}"))?;
        }
        Ok(())
    }

    /// One line of the build log.
    pub(super) fn line(&mut self, line: &LogLine) -> io::Result<()> {
        let mark = if line.stream == LogStream::System {
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
}
