//! What people read of a node that gets nothing new: a pure function over what is still there.

use crate::moving::Stays;
use std::time::Duration;

/// How many deployments are named that stay.
const NAMED: usize = 3;

/// A node that gets nothing new.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Cordon {
    /// How it stands with its draining, when that was asked for.
    pub drain: Option<Drain>,
}

/// A node that is to be emptied.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Drain {
    /// How long what can be moved is still moved; none when that time is over.
    pub remaining: Option<Duration>,
    /// How many deployments have something there that runs.
    pub left: usize,
    /// Those among them that stay, by name, each with the reason.
    pub stays: Vec<(String, Stays)>,
}

impl Drain {
    /// Whether nothing more leaves the node.
    #[must_use]
    pub fn is_over(&self) -> bool {
        self.remaining.is_none() || self.left <= self.stays.len()
    }
}

/// What a person reads, before what the node says of itself.
#[must_use]
pub fn words(cordon: &Cordon, own: Option<&str>) -> String {
    let cordoned = cordon
        .drain
        .as_ref()
        .map_or_else(|| "cordoned: it gets nothing new".to_owned(), drained);
    match own {
        Some(own) => format!("{cordoned}; {own}"),
        None => cordoned,
    }
}

fn drained(drain: &Drain) -> String {
    if drain.left == 0 {
        return "drained: nothing is left on it".to_owned();
    }
    let begin = match drain.remaining {
        Some(remaining) => format!("draining for {} more", rounded(remaining)),
        None => "its time to drain is over".to_owned(),
    };
    let stays = drain.stays.len();
    if stays == 0 {
        return format!("{begin}: {} left", drain.left);
    }
    let verb = if stays == 1 { "stays" } else { "stay" };
    let named: Vec<String> = drain
        .stays
        .iter()
        .take(NAMED)
        .map(|(name, why)| format!("`{name}`: {}", why.reason()))
        .collect();
    let more = stays.saturating_sub(NAMED);
    let more = if more > 0 {
        format!(", and {more} more")
    } else {
        String::new()
    };
    format!(
        "{begin}: {} left, {stays} {verb} ({}{more})",
        drain.left,
        named.join(", ")
    )
}

/// In whole minutes, or seconds below one: it is read, not computed with.
fn rounded(time: Duration) -> String {
    match time.as_secs() {
        seconds if seconds < 60 => format!("{seconds} s"),
        seconds => format!("{} min", seconds.div_ceil(60)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn drain(remaining: Option<u64>, left: usize, stays: &[(&str, Stays)]) -> Cordon {
        let drain = Drain {
            remaining: remaining.map(Duration::from_secs),
            left,
            stays: stays
                .iter()
                .map(|(name, why)| ((*name).to_owned(), *why))
                .collect(),
        };
        Cordon { drain: Some(drain) }
    }

    #[test]
    fn how_far_it_is_is_said_in_words() {
        let db = ("db", Stays::Volumes);
        let many = [
            db,
            ("a", Stays::Pinned),
            ("b", Stays::Pinned),
            ("c", Stays::Pinned),
        ];
        let table = [
            (Cordon::default(), "cordoned: it gets nothing new"),
            (drain(Some(90), 3, &[]), "draining for 2 min more: 3 left"),
            (
                drain(Some(59), 3, &[db]),
                "draining for 59 s more: 3 left, 1 stays (`db`: it has local volumes)",
            ),
            (drain(Some(60), 0, &[]), "drained: nothing is left on it"),
            (drain(None, 0, &[]), "drained: nothing is left on it"),
            (drain(None, 1, &[]), "its time to drain is over: 1 left"),
            (
                drain(None, 5, &many),
                "its time to drain is over: 5 left, 4 stay (`db`: it has local volumes, `a`: it is pinned to it, `b`: it is pinned to it, and 1 more)",
            ),
        ];
        for (cordon, expected) in table {
            assert_eq!(words(&cordon, None), expected);
        }
        let own = words(&Cordon::default(), Some("no engine"));
        assert_eq!(own, "cordoned: it gets nothing new; no engine");
    }

    #[test]
    fn a_drain_is_over_when_nothing_more_leaves() {
        let over = |cordon: Cordon| cordon.drain.is_some_and(|drain| drain.is_over());
        assert!(!over(drain(Some(1), 1, &[])));
        assert!(over(drain(Some(1), 0, &[])));
        assert!(over(drain(Some(1), 1, &[("db", Stays::Volumes)])));
        assert!(over(drain(None, 1, &[])));
    }
}
