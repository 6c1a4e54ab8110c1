//! How long to wait before the next look.

use std::time::Duration;

/// How much slower a repository is looked at whose looks fail.
const SLOWEST: u32 = 10;
/// The longest wait that failures alone lead to.
const LONGEST: Duration = Duration::from_secs(3600);
/// How much a wait differs from what was asked for, either way.
const JITTER: f64 = 0.1;

/// After a look that succeeded: what was asked for, a tenth more or less. `chance` is between 0 and
/// 1: repositories of one server are not looked at in step.
pub(super) fn after_success(poll: Duration, chance: f64) -> Duration {
    poll.mul_f64(1.0 - JITTER + 2.0 * JITTER * chance.clamp(0.0, 1.0))
}

/// After a look that failed: twice what was `waited` since the last one that failed, up to ten times
/// what was asked for and an hour, and never sooner than asked for.
pub(super) fn after_failure(poll: Duration, waited: Option<Duration>, chance: f64) -> Duration {
    let slowest = (poll * SLOWEST).min(LONGEST).max(poll);
    let doubled = waited.map_or(poll, |waited| waited.saturating_mul(2));
    after_success(doubled.clamp(poll, slowest), chance)
}

#[cfg(test)]
mod tests {
    use super::*;

    const POLL: Duration = Duration::from_secs(60);

    #[test]
    fn a_wait_stays_near_what_was_asked_for() {
        for (chance, seconds) in [(0.0, 54), (0.5, 60), (1.0, 66)] {
            assert_eq!(
                after_success(POLL, chance).as_secs_f64().round() as u64,
                seconds
            );
        }
    }

    #[test]
    fn failures_slow_down_to_ten_times_and_no_further() {
        let mut waited = None;
        let mut waits = Vec::new();
        for _ in 0..6 {
            let wait = after_failure(POLL, waited, 0.5);
            waits.push(wait.as_secs_f64().round() as u64);
            waited = Some(wait);
        }
        assert_eq!(waits, [60, 120, 240, 480, 600, 600]);
    }

    #[test]
    fn failures_lead_to_an_hour_at_most_unless_more_was_asked_for() {
        let hours = |hours: u64| Duration::from_secs(hours * 3600);
        assert_eq!(after_failure(hours(1) / 2, Some(hours(1)), 0.5), hours(1));
        assert_eq!(after_failure(hours(2), Some(hours(2)), 0.5), hours(2));
    }
}
