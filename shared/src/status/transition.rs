//! The one function that says whether a step is legal.
//!
//! It knows no clock, no row and no message. Epochs are not its business either: whoever calls it
//! has already refused what comes from an older attempt.

use super::ApplicationStatus;

/// What a legal step does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// The revision stands somewhere else now.
    Moved,
    /// It stood there already: queues deliver twice.
    Unchanged,
}

/// A step that is not in the chart.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a revision that is {from} cannot become {to}")]
pub struct TransitionDenied {
    /// Where it stands.
    pub from: ApplicationStatus,
    /// Where it was told to go.
    pub to: ApplicationStatus,
}

/// Decides whether a revision that stands at `from` may go to `to`.
///
/// Forward steps may skip: a pulled image is not built, a `blind` start is not verified, and a
/// report whose predecessor was lost must still be believed. Going back to `REQUESTED` or
/// `INITIALIZED` is a new attempt, which the caller fences with a raised epoch.
///
/// # Errors
/// [`TransitionDenied`] when the chart has no such arrow; the revision stays where it is.
pub fn transition(
    from: ApplicationStatus,
    to: ApplicationStatus,
) -> Result<Outcome, TransitionDenied> {
    if from == to {
        return Ok(Outcome::Unchanged);
    }
    if is_step(from, to) {
        Ok(Outcome::Moved)
    } else {
        Err(TransitionDenied { from, to })
    }
}

fn is_step(from: ApplicationStatus, to: ApplicationStatus) -> bool {
    use ApplicationStatus as S;
    match (from, to) {
        (S::Destroyed, _) => false,
        (_, S::Destroyed) => true,
        (from, _) if from.is_final() => false,

        // Ends.
        (_, S::Failed) => true,
        (from, S::Cancelled) => from.is_open(),
        // A queued revision is superseded by a newer request, a running one by its successor.
        (_, S::Superseded) => true,
        (S::Verifying, S::RolledBack) => true,
        (S::Starting | S::Verifying | S::Running, S::Completed) => true,

        // A new attempt: dispatched again to the same node, or placed again on another.
        (S::Requested, S::Initialized) => true,
        (from, S::Requested | S::Initialized) => from != S::Requested,

        // Life after the first start.
        (S::Running, S::Degraded) | (S::Degraded, S::Running) => true,
        (S::Running | S::Degraded | S::Starting | S::Verifying, S::Stopped) => true,
        (S::Running | S::Degraded | S::Stopped, S::Starting) => true,
        // The steps of a start between these were lost on the way.
        (S::Stopped, S::Verifying | S::Running) => true,

        // The way there, in order.
        (from, to) => match (way(from), way(to)) {
            (Some(here), Some(there)) => from != S::Requested && from.is_open() && here < there,
            _ => false,
        },
    }
}

/// How far along the way to running a status is.
fn way(status: ApplicationStatus) -> Option<u8> {
    use ApplicationStatus as S;
    Some(match status {
        S::Requested => 0,
        S::Initialized => 1,
        S::Fetching => 2,
        S::Building => 3,
        S::Starting => 4,
        S::Verifying => 5,
        S::Running => 6,
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use ApplicationStatus as S;
    use proptest::prelude::*;

    /// The whole chart: for each status, every status it may become.
    const CHART: &[(S, &[S])] = &[
        (
            S::Requested,
            &[
                S::Initialized,
                S::Failed,
                S::Cancelled,
                S::Superseded,
                S::Destroyed,
            ],
        ),
        (
            S::Initialized,
            &[
                S::Requested,
                S::Fetching,
                S::Building,
                S::Starting,
                S::Verifying,
                S::Running,
                S::Failed,
                S::Cancelled,
                S::Superseded,
                S::Destroyed,
            ],
        ),
        (
            S::Fetching,
            &[
                S::Requested,
                S::Initialized,
                S::Building,
                S::Starting,
                S::Verifying,
                S::Running,
                S::Failed,
                S::Cancelled,
                S::Superseded,
                S::Destroyed,
            ],
        ),
        (
            S::Building,
            &[
                S::Requested,
                S::Initialized,
                S::Starting,
                S::Verifying,
                S::Running,
                S::Failed,
                S::Cancelled,
                S::Superseded,
                S::Destroyed,
            ],
        ),
        (
            S::Starting,
            &[
                S::Requested,
                S::Initialized,
                S::Verifying,
                S::Running,
                S::Stopped,
                S::Completed,
                S::Failed,
                S::Cancelled,
                S::Superseded,
                S::Destroyed,
            ],
        ),
        (
            S::Verifying,
            &[
                S::Requested,
                S::Initialized,
                S::Running,
                S::Stopped,
                S::Completed,
                S::RolledBack,
                S::Failed,
                S::Cancelled,
                S::Superseded,
                S::Destroyed,
            ],
        ),
        (
            S::Running,
            &[
                S::Requested,
                S::Initialized,
                S::Starting,
                S::Degraded,
                S::Stopped,
                S::Completed,
                S::Failed,
                S::Superseded,
                S::Destroyed,
            ],
        ),
        (
            S::Degraded,
            &[
                S::Requested,
                S::Initialized,
                S::Starting,
                S::Running,
                S::Stopped,
                S::Failed,
                S::Superseded,
                S::Destroyed,
            ],
        ),
        (
            S::Stopped,
            &[
                S::Requested,
                S::Initialized,
                S::Starting,
                S::Verifying,
                S::Running,
                S::Failed,
                S::Superseded,
                S::Destroyed,
            ],
        ),
        (S::Failed, &[S::Destroyed]),
        (S::RolledBack, &[S::Destroyed]),
        (S::Cancelled, &[S::Destroyed]),
        (S::Superseded, &[S::Destroyed]),
        (S::Completed, &[S::Destroyed]),
        (S::Destroyed, &[]),
    ];

    #[test]
    fn every_pair_is_as_the_chart_says() {
        assert_eq!(CHART.len(), S::ALL.len(), "the chart names every status");
        for (from, allowed) in CHART {
            for to in S::ALL {
                let expected = if from == to {
                    Ok(Outcome::Unchanged)
                } else if allowed.contains(to) {
                    Ok(Outcome::Moved)
                } else {
                    Err(TransitionDenied {
                        from: *from,
                        to: *to,
                    })
                };
                assert_eq!(transition(*from, *to), expected, "{from} → {to}");
            }
        }
    }

    fn any_status() -> impl Strategy<Value = S> {
        prop::sample::select(S::ALL)
    }

    proptest! {
        #[test]
        fn no_order_of_events_leaves_a_final_status_but_for_destruction(events in prop::collection::vec(any_status(), 0..60)) {
            let mut standing = S::Requested;
            for event in events {
                let before = standing;
                if transition(standing, event) == Ok(Outcome::Moved) {
                    standing = event;
                }
                if before.is_final() {
                    prop_assert!(standing == before || standing == S::Destroyed);
                }
            }
        }

        #[test]
        fn applying_a_status_twice_is_applying_it_once(from in any_status(), to in any_status()) {
            if transition(from, to).is_ok() {
                prop_assert_eq!(transition(to, to), Ok(Outcome::Unchanged));
            }
        }

        #[test]
        fn running_is_reached_only_through_initialized(events in prop::collection::vec(any_status(), 0..60)) {
            let mut standing = S::Requested;
            let mut initialized = false;
            for event in events {
                if transition(standing, event) == Ok(Outcome::Moved) {
                    standing = event;
                    initialized |= standing == S::Initialized;
                    prop_assert!(initialized || !standing.is_live());
                }
            }
        }
    }
}
