//! One line of the suite's table for each fault: what it was, how it ended, how long that took.

use std::io::Write as _;
use std::time::Instant;

/// Where the lines go, one file for all tests: each of them is a process.
const VARIABLE: &str = "LONGSHORE_FAULTS_TABLE";

/// A fault that is being tried.
pub(crate) struct Fault {
    name: String,
    over: Option<Instant>,
    is_told: bool,
}

impl Fault {
    /// Announces it. Without [`Fault::converged`] its line says that it did not.
    pub(crate) fn new(name: &str) -> Self {
        Self {
            name: name.to_owned(),
            over: None,
            is_told: false,
        }
    }

    /// What was broken works again: from here on time counts.
    pub(crate) fn is_over(&mut self) {
        self.over = Some(Instant::now());
    }

    /// Everything agrees.
    pub(crate) fn converged(mut self) {
        let seconds = self.over.map_or(0.0, |over| over.elapsed().as_secs_f64());
        self.tell("converged", &format!("{seconds:.1}"));
    }

    fn tell(&mut self, outcome: &str, seconds: &str) {
        self.is_told = true;
        println!("{}: {outcome}, {seconds} s", self.name);
        let Some(table) = std::env::var_os(VARIABLE) else {
            return;
        };
        let line = format!("{}\t{outcome}\t{seconds}\n", self.name);
        let written = std::fs::OpenOptions::new()
            .create(true)
            .append(true)
            .open(table)
            .and_then(|mut file| file.write_all(line.as_bytes()));
        written.expect("the table takes a line");
    }
}

impl Drop for Fault {
    fn drop(&mut self) {
        if !self.is_told {
            self.tell("NOT CONVERGED", "-");
        }
    }
}
