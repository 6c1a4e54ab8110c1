//! Named places where a process can be made to end as if it was killed there.
//!
//! [`fail_point!`](crate::fail_point) marks one. It expands to nothing without the feature
//! `failpoints`, which only the tests of the whole product turn on: a released binary has none.
//! What happens at a place stands in the variable `FAILPOINTS`, in the words of the crate `fail`
//! (`off`, `sleep(ms)`, counts before `*`, `->` for what comes next) and one of our own, `abort`:
//!
//! ```text
//! FAILPOINTS='orchestrator::ingest::before_apply=2*off->abort;node::outbox::before_publish=sleep(300)'
//! ```
//!
//! `abort` ends the process at once: nothing is unwound, flushed or said good-bye to. A process that is
//! started again without the variable goes on from what is in the database, the broker and its files.

/// Every place, sorted. A test compares it with the sources, and looks for a fault at each of them.
#[cfg(feature = "failpoints")]
pub const ALL: &[&str] = &[
    "node::action::after_build_before_journal",
    "node::action::after_running_before_report",
    "node::action::before_verify",
    "node::action::between_create_and_start",
    "node::action::in_build",
    "node::action::in_fetch",
    "node::cancel::before_report",
    "node::destroy::after_purge_before_report",
    "node::destroy::before_purge",
    "node::journal::before_write",
    "node::outbox::after_publish_before_forget",
    "node::outbox::before_publish",
    "node::recover::before_work",
    "node::retire::after_remove_before_forget",
    "node::retire::before_remove",
    "node::stop::after_stop_before_report",
    "node::switch::after_routes_before_journal",
    "node::switch::before_routes",
    "node::worker::after_delivery_before_journal",
    "node::worker::after_journal_before_ack",
    "orchestrator::create::after_commit_before_answer",
    "orchestrator::dispatch::after_commit_before_publish",
    "orchestrator::dispatch::before_commit",
    "orchestrator::ingest::after_apply_before_ack",
    "orchestrator::ingest::before_apply",
    "orchestrator::place::after_claim_before_dispatch",
    "orchestrator::publish::after_claim_before_publish",
    "orchestrator::publish::after_publish_before_mark",
    "orchestrator::supervise::in_round",
    "orchestrator::watch_git::after_look_before_record",
];

/// Marks a place where a test can end the process, by a name of [`ALL`](crate::failpoint::ALL).
#[cfg(feature = "failpoints")]
#[macro_export]
macro_rules! fail_point {
    ($name:literal) => {
        $crate::failpoint::hit($name)
    };
}

/// Marks a place where a test can end the process. Nothing, in a build without `failpoints`.
#[cfg(not(feature = "failpoints"))]
#[macro_export]
macro_rules! fail_point {
    ($name:literal) => {};
}

#[cfg(feature = "failpoints")]
pub use armed::hit;

#[cfg(feature = "failpoints")]
mod armed {
    use std::sync::OnceLock;

    /// What an operator of a fault says.
    const VARIABLE: &str = "FAILPOINTS";

    /// Does what the variable says of this place: nothing, unless it is named there.
    pub fn hit(name: &'static str) {
        static ARMED: OnceLock<bool> = OnceLock::new();
        if *ARMED.get_or_init(arm) {
            fail::fail_point!(name, |_| die(name));
        }
    }

    /// Whether anything is asked for.
    fn arm() -> bool {
        let Ok(faults) = std::env::var(VARIABLE) else {
            return false;
        };
        for fault in faults.split(';').filter(|fault| !fault.trim().is_empty()) {
            if let Err(reason) = configure(fault) {
                // A fault that never happens would look like one that is survived.
                tracing::error!(fault, reason, "{VARIABLE} is not understood");
                std::process::abort();
            }
        }
        true
    }

    pub(super) fn configure(fault: &str) -> Result<(), String> {
        let (name, actions) = fault
            .trim()
            .split_once('=')
            .ok_or("a fault is written as name=action")?;
        if !super::ALL.contains(&name) {
            return Err(format!("there is no place {name}"));
        }
        fail::cfg(name, &actions.replace("abort", "return"))
    }

    fn die(name: &str) {
        tracing::error!(name, "the process ends here, as a test asked");
        std::process::abort();
    }
}

#[cfg(all(test, feature = "failpoints"))]
mod tests {
    use super::armed::configure;

    #[test]
    fn faults_are_read_or_refused() {
        assert_eq!(
            configure("node::action::in_fetch=2*off->abort"),
            Ok(()),
            "what the crate understands"
        );
        for fault in [
            "node::action::in_fetch",
            "nowhere=abort",
            "node::action::in_fetch=burn",
        ] {
            assert!(configure(fault).is_err(), "{fault}");
        }
    }
}
