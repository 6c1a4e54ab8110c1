//! What users have in their repositories: versions, and what happens to whoever deploys them.

use crate::dice::Dice;
use node::runtime::simulated::{Behaviour, Step};
use shared::source::CommitId;
use shared::spec::HealthSpec;
use shared::status::FailureReason;
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

/// One version of an application.
#[derive(Clone, Debug)]
pub(crate) struct Version {
    pub(crate) commit: String,
    pub(crate) behaviour: Behaviour,
    pub(crate) fetch_takes: Duration,
    pub(crate) build_takes: Duration,
}

impl Version {
    /// Whether it comes to run when nobody gives it up.
    pub(crate) fn is_good(&self) -> bool {
        let Behaviour {
            fetch,
            build,
            answers,
            exits,
            ..
        } = &self.behaviour;
        *fetch == Step::Passes && *build == Step::Passes && *answers && exits.is_none()
    }

    /// Whether its build never comes to an end by itself.
    pub(crate) fn hangs(&self) -> bool {
        self.behaviour.build == Step::Hangs
    }
}

/// Every repository, by its URL. Clones are the same.
#[derive(Clone, Debug, Default)]
pub(crate) struct Repositories(Arc<Mutex<Known>>);

#[derive(Debug, Default)]
struct Known {
    heads: BTreeMap<String, Version>,
    commits: BTreeMap<String, Version>,
    made: u32,
}

impl Repositories {
    /// Somebody pushes another version.
    pub(crate) fn push(&self, url: &str, dice: &Dice) {
        let mut known = self.known();
        known.made += 1;
        let content = format!("{:016x}", known.made);
        let version = version(content, dice);
        known
            .commits
            .insert(version.commit.clone(), version.clone());
        known.heads.insert(url.to_owned(), version);
    }

    /// What a fetch gets.
    pub(crate) fn find(&self, url: &str, commit: Option<&CommitId>) -> Option<Version> {
        let known = self.known();
        match commit {
            Some(commit) => known.commits.get(&commit.to_string()).cloned(),
            None => known.heads.get(url).cloned(),
        }
    }

    /// The version of an image or commit, whose name ends or begins with its content.
    pub(crate) fn of_image(&self, image: &str) -> Option<Version> {
        let (_, content) = image.rsplit_once(':')?;
        let known = self.known();
        known
            .commits
            .values()
            .find(|version| version.behaviour.content == content)
            .cloned()
    }

    fn known(&self) -> MutexGuard<'_, Known> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn version(content: String, dice: &Dice) -> Version {
    let failing = |reason: FailureReason| Step::Fails(reason, "it is simulated to fail".to_owned());
    let mut behaviour = Behaviour {
        content: content.clone(),
        health: HealthSpec {
            interval: Duration::from_secs(5),
            start_period: Duration::from_secs(2),
            retries: 2,
            ..HealthSpec::default()
        },
        ..Behaviour::default()
    };
    match dice.between(0, 19) {
        0 => behaviour.fetch = failing(FailureReason::FetchFailed),
        1 | 2 => behaviour.build = failing(FailureReason::BuildFailed),
        3 | 4 => behaviour.build = Step::Hangs,
        5 => behaviour.exits = Some(1),
        6 => behaviour.answers = false,
        _ => {}
    }
    Version {
        commit: format!("{content:0<40}"),
        behaviour,
        fetch_takes: dice.millis(5, 2500),
        build_takes: dice.millis(5, 8000),
    }
}
