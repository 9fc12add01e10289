//! Whose turn it is among connections to one address that others stand behind.
//!
//! A gateway gives each whole connection to one of the workloads behind it, and says not to which. But the workload shows
//! its certificate, and no two have the same one: connections with one leaf lead to one workload, and are a lane.

/// A connection's leaf certificate, by hash; `None` where there is none.
pub(crate) type Leaf = Option<u64>;

/// Which of the connections has this turn: every lane in turn, and within a lane every connection.
pub(crate) fn in_turn(leaves: &[Leaf], turn: usize) -> Option<usize> {
    let lanes = leaves
        .iter()
        .enumerate()
        .filter(|(at, leaf)| is_first(leaves, *at, **leaf));
    let count = lanes.clone().count();
    let (first, leaf) = lanes.clone().nth(turn.checked_rem(count)?)?;
    if leaf.is_none() {
        return Some(first);
    }
    let members = (first..leaves.len()).filter(|at| leaves[*at] == *leaf);
    let round = turn / count;
    members.clone().nth(round % members.count())
}

/// How many lanes there are.
pub(crate) fn count(leaves: &[Leaf]) -> usize {
    let first = |(at, leaf): &(usize, &Leaf)| is_first(leaves, *at, **leaf);
    leaves.iter().enumerate().filter(first).count()
}

/// A connection of the lane with the most, when that has another.
pub(crate) fn spare(leaves: &[Leaf]) -> Option<usize> {
    let members = |leaf: Leaf| leaves.iter().filter(|other| **other == leaf).count();
    leaves
        .iter()
        .enumerate()
        .filter(|(_, leaf)| leaf.is_some())
        .map(|(at, leaf)| (members(*leaf), at))
        .filter(|(members, _)| *members > 1)
        .max()
        .map(|(_, at)| at)
}

fn is_first(leaves: &[Leaf], at: usize, leaf: Leaf) -> bool {
    leaf.is_none() || !leaves[..at].contains(&leaf)
}

#[cfg(test)]
mod tests {
    use super::*;

    const UNEVEN: [Leaf; 8] = [
        Some(1),
        Some(2),
        Some(3),
        Some(2),
        Some(3),
        Some(3),
        Some(4),
        Some(4),
    ];

    #[test]
    fn lanes_have_equal_turns_however_many_connections_they_have() {
        let mut turns = [0; 8];
        for turn in 0..96 {
            turns[in_turn(&UNEVEN, turn).unwrap()] += 1;
        }
        assert_eq!(turns, [24, 12, 8, 12, 8, 8, 12, 12]);
        assert_eq!(count(&UNEVEN), 4);
    }

    #[test]
    fn connections_without_a_certificate_are_lanes_of_their_own() {
        let leaves = [None, Some(1), None, Some(1)];
        let turns: Vec<_> = (0..6).map(|turn| in_turn(&leaves, turn).unwrap()).collect();
        assert_eq!(turns, [0, 1, 2, 0, 3, 2]);
        assert_eq!(count(&leaves), 3);
    }

    #[test]
    fn what_can_be_spared_is_of_the_fullest_lane() {
        assert_eq!(UNEVEN[spare(&UNEVEN).unwrap()], Some(3));
        assert_eq!(spare(&[Some(1), Some(2), None, None]), None);
        assert_eq!(in_turn(&[], 7), None);
    }
}
