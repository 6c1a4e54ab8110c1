//! Which ports a deployment may use on a node: a pure choice among those that nobody holds.
//!
//! Ports 3000 to 65499 lie in 625 blocks of a hundred. Each new deployment on a node begins at the
//! node's cursor, which then moves on and wraps around; inside a block ports are chosen at random;
//! a block that cannot yield enough spills into the next.

use rand::Rng;
use rand::seq::SliceRandom;
use std::collections::HashSet;
use std::ops::RangeInclusive;

/// The lowest port that is leased.
pub const FIRST_PORT: u16 = 3000;
/// The highest port that is leased.
pub const LAST_PORT: u16 = 65_499;
/// How many ports a block has.
pub const BLOCK_SIZE: u16 = 100;
/// How many blocks there are.
pub const BLOCKS: u16 = (LAST_PORT - FIRST_PORT + 1) / BLOCK_SIZE;

/// A block of a hundred ports.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Block(u16);

impl Block {
    /// The block that a cursor or port lies in; the first one for anything outside.
    #[must_use]
    pub const fn containing(port: u16) -> Self {
        if port < FIRST_PORT || port > LAST_PORT {
            Self(0)
        } else {
            Self((port - FIRST_PORT) / BLOCK_SIZE)
        }
    }

    /// Its first port, which is also how a cursor names it.
    #[must_use]
    pub const fn first_port(self) -> u16 {
        FIRST_PORT + self.0 * BLOCK_SIZE
    }

    /// Its ports.
    #[must_use]
    pub const fn ports(self) -> RangeInclusive<u16> {
        self.first_port()..=self.first_port() + (BLOCK_SIZE - 1)
    }

    /// The ports of that many blocks from this one on: two ranges when that is around the end.
    pub fn run(self, blocks: u16) -> impl Iterator<Item = RangeInclusive<u16>> {
        let blocks = blocks.min(BLOCKS);
        let here = blocks.min(BLOCKS - self.0);
        [(self, here), (Self(0), blocks - here)]
            .into_iter()
            .filter(|(_, blocks)| *blocks > 0)
            .map(|(first, blocks)| {
                first.first_port()..=first.first_port() + (blocks * BLOCK_SIZE - 1)
            })
    }

    /// How many blocks further on `other` is, around the end.
    #[must_use]
    pub const fn distance_to(self, other: Self) -> u16 {
        (other.0 + BLOCKS - self.0) % BLOCKS
    }

    /// The block that many further on, around the end.
    #[must_use]
    pub const fn plus(self, blocks: u16) -> Self {
        Self((self.0 + blocks % BLOCKS) % BLOCKS)
    }
}

/// What was chosen.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Choice {
    /// The ports, in the order in which to try them; fewer than asked for when nothing else is free.
    pub ports: Vec<u16>,
    /// Where the next new deployment begins: after the last block that was looked at.
    pub next: Block,
}

/// Chooses `count` ports that are not `taken`, beginning in block `start` and looking at no more than
/// `blocks` of them.
pub fn choose(
    rng: &mut impl Rng,
    start: Block,
    blocks: u16,
    count: usize,
    taken: &HashSet<u16>,
) -> Choice {
    let mut ports = Vec::with_capacity(count);
    let mut next = start;
    for step in 0..blocks.min(BLOCKS) {
        if ports.len() == count {
            break;
        }
        let block = start.plus(step);
        let mut free: Vec<u16> = block.ports().filter(|port| !taken.contains(port)).collect();
        free.shuffle(rng);
        free.truncate(count - ports.len());
        ports.extend(free);
        next = block.plus(1);
    }
    Choice { ports, next }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use rand::SeedableRng;
    use rand::rngs::StdRng;

    fn all() -> HashSet<u16> {
        (FIRST_PORT..=LAST_PORT).collect()
    }

    #[test]
    fn there_are_625_blocks_and_they_cover_every_port_once() {
        assert_eq!(BLOCKS, 625);
        let mut seen = HashSet::new();
        for step in 0..BLOCKS {
            let block = Block::containing(FIRST_PORT).plus(step);
            assert_eq!(block.ports().count(), 100);
            assert_eq!(Block::containing(block.first_port()), block);
            assert_eq!(Block::containing(FIRST_PORT).distance_to(block), step);
            assert!(block.ports().all(|port| seen.insert(port)));
        }
        assert_eq!(seen, all());
        assert_eq!(Block::containing(LAST_PORT).first_port(), 65_400);
        assert_eq!(
            Block::containing(LAST_PORT).plus(1).first_port(),
            FIRST_PORT
        );
    }

    #[test]
    fn a_run_of_blocks_goes_around_the_end() {
        let run =
            |start: u16, blocks: u16| Block::containing(start).run(blocks).collect::<Vec<_>>();
        assert_eq!(run(3000, 2), [3000..=3199]);
        assert_eq!(run(65_400, 3), [65_400..=65_499, 3000..=3199]);
        assert_eq!(run(65_400, 1), [65_400..=65_499]);
        assert_eq!(run(3000, u16::MAX), [FIRST_PORT..=LAST_PORT]);
        assert_eq!(run(5000, 0), []);
    }

    #[test]
    fn what_lies_outside_begins_at_the_first_block() {
        for port in [0, 80, 2999, 65_500, u16::MAX] {
            assert_eq!(Block::containing(port).first_port(), FIRST_PORT);
        }
    }

    #[test]
    fn seven_hundred_deployments_wrap_the_cursor_and_never_share_a_port() {
        let mut rng = StdRng::seed_from_u64(1);
        let (mut taken, mut cursor) = (HashSet::new(), Block::containing(FIRST_PORT));
        for deployment in 0..700_u16 {
            let choice = choose(&mut rng, cursor, BLOCKS, 8, &taken);
            assert_eq!(choice.ports.len(), 8);
            let home = Block::containing(FIRST_PORT).plus(deployment);
            assert!(
                choice.ports.iter().all(|port| home.ports().contains(port)),
                "deployment {deployment}"
            );
            assert!(choice.ports.iter().all(|port| taken.insert(*port)));
            cursor = choice.next;
        }
        assert_eq!(cursor, Block::containing(FIRST_PORT).plus(75));
    }

    #[test]
    fn a_full_block_spills_into_the_next_and_the_cursor_goes_on_from_there() {
        let mut rng = StdRng::seed_from_u64(2);
        let start = Block::containing(LAST_PORT);
        let mut taken: HashSet<u16> = start.ports().collect();
        taken.remove(&65_450);
        let choice = choose(&mut rng, start, BLOCKS, 3, &taken);
        assert_eq!(choice.ports[0], 65_450);
        assert!(
            choice.ports[1..]
                .iter()
                .all(|port| (3000..=3099).contains(port))
        );
        assert_eq!(choice.next.first_port(), 3100);
    }

    #[test]
    fn a_full_node_yields_nothing() {
        let mut rng = StdRng::seed_from_u64(3);
        let choice = choose(&mut rng, Block::containing(5000), BLOCKS, 8, &all());
        assert!(choice.ports.is_empty());
    }

    proptest! {
        #[test]
        fn what_is_chosen_is_free_distinct_and_as_much_as_there_is(
            seed: u64,
            start in FIRST_PORT..=LAST_PORT,
            blocks in 0..700_u16,
            count in 0..300_usize,
            holes in prop::collection::vec((0..625_u16, 0..100_u16), 0..50),
        ) {
            // Everything near the start is taken but for a few holes, so that spilling is the rule.
            let start = Block::containing(start);
            let mut taken: HashSet<u16> = (0..300).flat_map(|step| start.plus(step).ports()).collect();
            for (block, offset) in holes {
                taken.remove(&(start.plus(block).first_port() + offset));
            }
            let choice = choose(&mut StdRng::seed_from_u64(seed), start, blocks, count, &taken);
            let within: HashSet<u16> = (0..blocks.min(BLOCKS)).flat_map(|step| start.plus(step).ports()).collect();
            let free = within.iter().filter(|port| !taken.contains(port)).count();
            let distinct: HashSet<u16> = choice.ports.iter().copied().collect();
            prop_assert_eq!(distinct.len(), choice.ports.len());
            prop_assert_eq!(choice.ports.len(), count.min(free));
            prop_assert!(choice.ports.iter().all(|port| within.contains(port) && !taken.contains(port)));
        }
    }
}
