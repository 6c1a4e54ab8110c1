//! Whether a deployment leaves its node, and when it is tried again: pure functions over what is
//! known of it.

use shared::status::RevisionCause;
use std::time::Duration;

/// How often in a row a deployment is tried elsewhere before it is left to a person.
pub const TRIES: usize = 5;

/// The pause after the first try that failed; each further one doubles it.
const FIRST_PAUSE: Duration = Duration::from_secs(10);

/// Why a deployment is to leave its node.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Leaving {
    /// The node is lost.
    Lost,
    /// The node is being drained.
    Draining,
}

impl Leaving {
    /// What its next revision is made for.
    #[must_use]
    pub const fn cause(self) -> RevisionCause {
        match self {
            Self::Lost => RevisionCause::NodeLost,
            Self::Draining => RevisionCause::Moved,
        }
    }
}

/// What decides whether a deployment can be elsewhere.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Tenant {
    /// The user said: on this node.
    pub pinned: bool,
    /// It has data there.
    pub volumes: bool,
    /// It is known which commit or image it runs, so that the same can run elsewhere.
    pub version: bool,
}

/// Why a deployment stays where it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stays {
    /// The user said so.
    Pinned,
    /// Its data is there.
    Volumes,
    /// Nobody knows what to start elsewhere.
    NoVersion,
    /// It was tried [`TRIES`] times.
    Tried,
}

impl Stays {
    /// In words, after "it stays:".
    #[must_use]
    pub const fn reason(self) -> &'static str {
        match self {
            Self::Pinned => "it is pinned to it",
            Self::Volumes => "it has local volumes",
            Self::NoVersion => "its version is not known",
            Self::Tried => "moving it failed 5 times in a row; redeploy it",
        }
    }
}

/// Whether a deployment can be elsewhere, and if not, why.
///
/// # Errors
/// [`Stays`].
pub const fn movable(tenant: Tenant) -> Result<(), Stays> {
    match tenant {
        Tenant { pinned: true, .. } => Err(Stays::Pinned),
        Tenant { volumes: true, .. } => Err(Stays::Volumes),
        Tenant { version: false, .. } => Err(Stays::NoVersion),
        _ => Ok(()),
    }
}

/// What to do about a deployment that can be elsewhere.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Next {
    /// Make the revision.
    Move,
    /// Not yet: the last try failed a short while ago.
    Later,
    /// It was tried often enough.
    GiveUp,
}

/// What to do after `failed` tries in a row, the last of which ended `since` ago.
#[must_use]
pub fn next(failed: usize, since: Duration) -> Next {
    if failed >= TRIES {
        return Next::GiveUp;
    }
    let doublings = u32::try_from(failed).unwrap_or(u32::MAX).saturating_sub(1);
    if failed > 0 && since < FIRST_PAUSE.saturating_mul(2u32.saturating_pow(doublings)) {
        return Next::Later;
    }
    Next::Move
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_pinned_or_has_data_or_no_version_stays() {
        let free = Tenant {
            pinned: false,
            volumes: false,
            version: true,
        };
        let table = [
            (free, Ok(())),
            (
                Tenant {
                    pinned: true,
                    ..free
                },
                Err(Stays::Pinned),
            ),
            (
                Tenant {
                    volumes: true,
                    ..free
                },
                Err(Stays::Volumes),
            ),
            (
                Tenant {
                    version: false,
                    ..free
                },
                Err(Stays::NoVersion),
            ),
            (
                Tenant {
                    pinned: true,
                    volumes: true,
                    version: false,
                },
                Err(Stays::Pinned),
            ),
        ];
        for (tenant, expected) in table {
            assert_eq!(movable(tenant), expected, "{tenant:?}");
        }
        assert!(Stays::Tried.reason().contains(&TRIES.to_string()));
    }

    #[test]
    fn tries_are_further_and_further_apart_and_end() {
        let at = |failed, seconds| next(failed, Duration::from_secs(seconds));
        let table = [
            (0, 0, Next::Move),
            (1, 9, Next::Later),
            (1, 10, Next::Move),
            (2, 19, Next::Later),
            (2, 20, Next::Move),
            (4, 79, Next::Later),
            (4, 80, Next::Move),
            (5, 1_000_000, Next::GiveUp),
            (usize::MAX, 0, Next::GiveUp),
        ];
        for (failed, seconds, expected) in table {
            assert_eq!(
                at(failed, seconds),
                expected,
                "{failed} failed, {seconds} s ago"
            );
        }
    }
}
