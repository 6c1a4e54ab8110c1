//! Which steps a subscriber has been told, so that each is told once and none is left out.
//!
//! The live events are a hint: they may be lost on their way between two orchestrators, or arrive
//! after what the store already told. The steps of a revision are numbered without gaps, so a number
//! says which of the two happened.

use shared::id::RevisionId;
use shared::message::StatusEvent;
use std::collections::BTreeMap;

/// How many revisions are remembered: beyond that the oldest are forgotten.
const REMEMBERED: usize = 10_000;

/// What an event means to a subscriber.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    /// Told before.
    Known,
    /// The next step.
    Next,
    /// Steps before this one have not been told.
    Gap,
}

/// The last step of each revision that was told.
#[derive(Debug, Default)]
pub(super) struct Seen {
    told: BTreeMap<RevisionId, i32>,
    /// The highest revision number of the one deployment that is followed; none when all are.
    newest: Option<i32>,
}

impl Seen {
    /// For a subscriber who follows one deployment from its newest revision on, or all from now on.
    pub(super) fn new(newest: Option<i32>) -> Self {
        Self {
            told: BTreeMap::new(),
            newest,
        }
    }

    /// What this event means.
    pub(super) fn judge(&self, event: &StatusEvent) -> Verdict {
        let told = match self.told.get(&event.revision_id) {
            Some(told) => *told,
            // Made after the subscription began: its first step has not been told.
            None if self.newest.is_some_and(|newest| event.revision > newest) => 0,
            // Older than the subscription: told from here on.
            None => event.seq - 1,
        };
        match event.seq - told {
            ..=0 => Verdict::Known,
            1 => Verdict::Next,
            2.. => Verdict::Gap,
        }
    }

    /// Takes note that an event is told; `false` when it was before.
    pub(super) fn tell(&mut self, event: &StatusEvent) -> bool {
        if self.judge(event) == Verdict::Known {
            return false;
        }
        self.told.insert(event.revision_id, event.seq);
        if self.told.len() > REMEMBERED {
            // Ids sort by the time they were made.
            self.told.pop_first();
        }
        if let Some(newest) = &mut self.newest {
            *newest = event.revision.max(*newest);
        }
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use shared::id::DeploymentId;
    use shared::status::ApplicationStatus;

    fn event(revision_id: RevisionId, revision: i32, seq: i32) -> StatusEvent {
        StatusEvent {
            deployment_id: DeploymentId::new(),
            revision_id,
            revision,
            epoch: 1,
            seq,
            status: ApplicationStatus::Fetching,
            failure_reason: None,
            detail: None,
            at: chrono::Utc::now(),
        }
    }

    #[test]
    fn each_step_is_told_once() {
        let revision = RevisionId::new();
        let mut seen = Seen::new(Some(1));
        assert!(seen.tell(&event(revision, 1, 1)));
        assert!(seen.tell(&event(revision, 1, 2)));
        assert!(!seen.tell(&event(revision, 1, 2)));
        assert!(!seen.tell(&event(revision, 1, 1)));
        assert_eq!(seen.judge(&event(revision, 1, 3)), Verdict::Next);
        assert_eq!(seen.judge(&event(revision, 1, 5)), Verdict::Gap);
    }

    #[test]
    fn a_revision_made_later_is_told_from_its_first_step() {
        let seen = Seen::new(Some(3));
        assert_eq!(seen.judge(&event(RevisionId::new(), 4, 1)), Verdict::Next);
        assert_eq!(seen.judge(&event(RevisionId::new(), 4, 2)), Verdict::Gap);
        // An older one that is superseded now was not asked about before.
        assert_eq!(seen.judge(&event(RevisionId::new(), 2, 8)), Verdict::Next);
    }

    #[test]
    fn who_follows_all_is_told_from_now_on() {
        let (mut seen, revision) = (Seen::new(None), RevisionId::new());
        assert!(seen.tell(&event(revision, 9, 4)));
        assert_eq!(seen.judge(&event(revision, 9, 5)), Verdict::Next);
        assert_eq!(seen.judge(&event(revision, 9, 6)), Verdict::Gap);
    }

    #[test]
    fn what_is_remembered_is_bounded() {
        let mut seen = Seen::new(None);
        for _ in 0..REMEMBERED + 50 {
            seen.tell(&event(RevisionId::new(), 1, 1));
        }
        assert_eq!(seen.told.len(), REMEMBERED);
    }
}
