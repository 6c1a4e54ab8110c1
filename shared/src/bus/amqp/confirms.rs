//! Which of the confirmed messages had no queue.
//!
//! A message that no queue takes is returned *and* confirmed. lapin hands a returned message to
//! whichever confirmation arrives next, which need not be its own when many are under way. So each
//! message carries a number, and a confirmation that carries somebody else's return says nothing
//! of its own message yet. It is settled once
//! - its own return appears with another confirmation: it had no queue; or
//! - a later confirmation carries no return: all returns up to then have been handed out; or
//! - nothing is under way any more: each return comes before its own confirmation, so none is left.

use std::collections::HashSet;

/// What became of one confirmed message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    /// A queue has it.
    Routed,
    /// No queue took it.
    Unroutable,
}

/// A confirmation as it arrived.
#[derive(Debug)]
pub(super) struct Confirmed<T> {
    /// The message's number.
    pub(super) number: u64,
    /// The number of the returned message that it carried.
    pub(super) carried: Option<u64>,
    /// Who waits for it.
    pub(super) waiting: T,
}

/// The confirmations that are not settled yet.
#[derive(Debug)]
pub(super) struct Confirms<T> {
    doubtful: Vec<Confirmed<T>>,
    returned: HashSet<u64>,
}

impl<T> Default for Confirms<T> {
    fn default() -> Self {
        Self {
            doubtful: Vec::new(),
            returned: HashSet::new(),
        }
    }
}

impl<T> Confirms<T> {
    /// Takes every confirmation that is there (all of them, in any order) and gives back what is
    /// settled now. `under_way` is how many messages are still unconfirmed.
    pub(super) fn settle(
        &mut self,
        arrived: Vec<Confirmed<T>>,
        under_way: usize,
    ) -> Vec<(T, Verdict)> {
        self.returned
            .extend(arrived.iter().filter_map(|confirmed| confirmed.carried));
        // Within one call the order is unknown: an empty confirmation speaks for itself and for
        // those of earlier calls, not for its neighbours.
        let one_was_empty = arrived.iter().any(|confirmed| confirmed.carried.is_none());
        let mut settled = Vec::with_capacity(arrived.len());
        let mut still_doubtful = Vec::new();
        let earlier = std::mem::take(&mut self.doubtful)
            .into_iter()
            .map(|confirmed| (one_was_empty, confirmed));
        let now = arrived
            .into_iter()
            .map(|confirmed| (confirmed.carried.is_none(), confirmed));
        for (handed_out, confirmed) in earlier.chain(now) {
            if self.returned.remove(&confirmed.number) {
                settled.push((confirmed.waiting, Verdict::Unroutable));
            } else if handed_out || under_way == 0 {
                settled.push((confirmed.waiting, Verdict::Routed));
            } else {
                still_doubtful.push(confirmed);
            }
        }
        self.doubtful = still_doubtful;
        settled
    }

    /// Everybody who still waits, when the channel is gone.
    pub(super) fn abandon(&mut self) -> Vec<T> {
        self.returned.clear();
        self.doubtful
            .drain(..)
            .map(|confirmed| confirmed.waiting)
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::VecDeque;

    #[test]
    fn a_return_that_came_with_another_confirmation_is_found() {
        let mut confirms = Confirms::default();
        let first = vec![Confirmed {
            number: 1,
            carried: Some(2),
            waiting: 'a',
        }];
        assert_eq!(confirms.settle(first, 1), []);
        let second = vec![Confirmed {
            number: 2,
            carried: None,
            waiting: 'b',
        }];
        let mut settled = confirms.settle(second, 0);
        settled.sort_by_key(|(waiting, _)| *waiting);
        assert_eq!(
            settled,
            [('a', Verdict::Routed), ('b', Verdict::Unroutable)]
        );
    }

    proptest! {
        /// lapin's way of handing out returns, against messages that are confirmed in any order and
        /// seen in batches of any size.
        #[test]
        fn every_message_is_settled_rightly(
            routable in prop::collection::vec(any::<bool>(), 1..40),
            order in any::<prop::sample::Index>(),
            seed in prop::collection::vec(any::<u16>(), 40),
            batch in 1usize..5,
        ) {
            let count = routable.len();
            let mut numbers: Vec<usize> = (0..count).collect();
            numbers.sort_by_key(|number| seed[(number + order.index(40)) % 40]);
            // The broker returns a message just before it confirms it, or with a few others.
            let mut waiting_returns = VecDeque::new();
            let mut arrived = Vec::new();
            for chunk in numbers.chunks(3) {
                waiting_returns.extend(chunk.iter().filter(|number| !routable[**number]).map(|number| *number as u64));
                for number in chunk {
                    arrived.push(Confirmed { number: *number as u64, carried: waiting_returns.pop_front(), waiting: *number });
                }
            }
            let mut confirms = Confirms::default();
            let mut verdicts = vec![None; count];
            let mut under_way = count;
            let mut arrived = arrived.into_iter();
            loop {
                let mut seen: Vec<_> = arrived.by_ref().take(batch).collect();
                seen.reverse();
                if seen.is_empty() { break }
                under_way -= seen.len();
                for (number, verdict) in confirms.settle(seen, under_way) {
                    prop_assert!(verdicts[number].replace(verdict).is_none());
                }
            }
            for (number, verdict) in verdicts.into_iter().enumerate() {
                let right = if routable[number] { Verdict::Routed } else { Verdict::Unroutable };
                prop_assert_eq!(verdict, Some(right));
            }
        }
    }
}
