//! Lines of a log over several connections: each is told once.
//!
//! Lines of a build log have numbers that outlive a connection. Those of a service log have not: the last
//! ones are asked for again, and what was told before is recognised.

use crate::client::document::Document;
use crate::client::model::LogLine;
use crate::output::{self, Format};
use std::collections::VecDeque;
use std::io;

/// How many of the last lines of a service log are asked for again when a connection was lost, to find
/// what is new.
pub(crate) const OVERLAP: usize = 200;

/// What was told, so that nothing is told twice.
pub(crate) struct Told {
    is_build: bool,
    is_json: bool,
    gathers: bool,
    gathered: Vec<LogLine>,
    count: u64,
    last_seq: i64,
    /// The last lines of a service log: it has no numbers that outlive a connection.
    last: VecDeque<(Option<String>, String)>,
    /// What came first on a connection after the first one, until it is known what of it is new.
    repeated: Option<Vec<LogLine>>,
}

impl Told {
    /// Nothing yet, of this log and for this form of output.
    pub(crate) fn new(document: Document, format: Format, follow: bool) -> Self {
        let is_json = format == Format::Json;
        Self {
            is_build: document == Document::BuildLog,
            is_json,
            gathers: is_json && !follow,
            gathered: Vec::new(),
            count: 0,
            last_seq: 0,
            last: VecDeque::new(),
            repeated: None,
        }
    }

    /// What was gathered for one JSON document.
    pub(crate) fn into_gathered(self) -> Vec<LogLine> {
        self.gathered
    }

    /// How many lines were told.
    pub(crate) const fn count(&self) -> u64 {
        self.count
    }

    /// A new connection begins.
    pub(crate) fn again(&mut self) {
        if !self.is_build {
            self.repeated = Some(Vec::new());
        }
    }

    /// Whether lines are held back until it is known which of them are new.
    pub(crate) const fn is_catching_up(&self) -> bool {
        self.repeated.is_some()
    }

    /// Takes a line as it comes.
    pub(crate) fn tell(&mut self, line: LogLine) -> Result<(), io::Error> {
        if self.is_build && line.seq <= self.last_seq {
            return Ok(());
        }
        self.last_seq = line.seq;
        match &mut self.repeated {
            Some(repeated) => {
                repeated.push(line);
                if repeated.len() > OVERLAP {
                    self.caught_up()?;
                }
                Ok(())
            }
            None => self.put(line),
        }
    }

    /// Tells what is new of what came on this connection so far.
    pub(crate) fn caught_up(&mut self) -> Result<(), io::Error> {
        let Some(repeated) = self.repeated.take() else {
            return Ok(());
        };
        let known = overlap(&self.last, &repeated);
        for line in repeated.into_iter().skip(known) {
            self.put(line)?;
        }
        Ok(())
    }

    fn put(&mut self, line: LogLine) -> Result<(), io::Error> {
        self.count += 1;
        if self.gathers {
            self.gathered.push(line);
            return Ok(());
        }
        if self.is_json {
            // One object a line: a log that is followed has no end that would close a document.
            output::print_json_line(&line)?;
        } else {
            print(&line)?;
        }
        if !self.is_build {
            if self.last.len() == OVERLAP {
                self.last.pop_front();
            }
            self.last.push_back((line.service, line.text));
        }
        Ok(())
    }
}

/// How many of the first `repeated` lines are the last that were told before.
fn overlap(last: &VecDeque<(Option<String>, String)>, repeated: &[LogLine]) -> usize {
    let is_known = |count: &usize| {
        let told = last.iter().skip(last.len() - count);
        let again = repeated.iter().take(*count);
        told.zip(again)
            .all(|((service, text), line)| *service == line.service && *text == line.text)
    };
    (0..=last.len().min(repeated.len()))
        .rev()
        .find(is_known)
        .unwrap_or(0)
}

fn print(line: &LogLine) -> io::Result<()> {
    let text = output::line(&line.text);
    match &line.service {
        Some(service) => output::print(&format!("{} | {text}", output::line(service))),
        None => output::print(&text),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn line(text: &str) -> LogLine {
        serde_json::from_value(json!({
            "seq": 1, "at": "2026-01-01T00:00:00Z", "stream": "STDOUT", "service": "app", "text": text,
        }))
        .unwrap()
    }

    #[test]
    fn what_was_told_before_a_connection_was_lost_is_not_told_again() {
        let table: [(&[&str], &[&str], usize); 7] = [
            (&[], &["a"], 0),
            (&["a", "b"], &[], 0),
            (&["a", "b"], &["a", "b"], 2),
            (&["a", "b", "c"], &["b", "c", "d"], 2),
            (&["a", "b"], &["c", "d"], 0),
            (&["x", "x"], &["x", "x", "x"], 2),
            (&["a", "b"], &["b", "a"], 1),
        ];
        for (told, again, expected) in table {
            let told = told
                .iter()
                .map(|text| (Some("app".to_owned()), (*text).to_owned()))
                .collect();
            let again: Vec<LogLine> = again.iter().map(|text| line(text)).collect();
            assert_eq!(overlap(&told, &again), expected, "{told:?}");
        }
    }
}
