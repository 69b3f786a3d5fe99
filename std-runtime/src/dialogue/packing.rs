//! Several examples in one row of tokens.

use std::collections::BTreeMap;

/// Which examples stand in which row of `room` tokens: the longest first, each into the row with the least room that it fits into, or a new one
/// (best fit decreasing; within 11/9 of the fewest rows, Johnson et al. 1974). Longer examples than a row have one of their own. The order of equal
/// lengths is that of their numbers.
pub fn best_fit(lengths: &[usize], room: usize) -> Vec<Vec<usize>> {
    let mut order: Vec<usize> = (0..lengths.len()).collect();
    order.sort_by_key(|&i| std::cmp::Reverse(lengths[i]));
    let mut rows: Vec<Vec<usize>> = Vec::new();
    // Rows by the room that they have left, the oldest last.
    let mut by_room: BTreeMap<usize, Vec<usize>> = BTreeMap::new();
    for i in order {
        let length = lengths[i];
        let fitting = by_room.range_mut(length..).next().map(|(&left, rows)| (left, rows.pop()));
        let (left, row) = match fitting {
            Some((left, Some(row))) => (left, row),
            _ => {
                rows.push(Vec::new());
                (room.max(length), rows.len() - 1)
            }
        };
        if by_room.get(&left).is_some_and(Vec::is_empty) {
            by_room.remove(&left);
        }
        rows[row].push(i);
        by_room.entry(left - length).or_default().push(row);
    }
    rows
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn the_fullest_row_that_fits_is_taken() {
        assert_eq!(best_fit(&[5, 3, 7, 2, 1], 8), [vec![2, 4], vec![0, 1], vec![3]]);
        assert_eq!(best_fit(&[9, 8], 8), [vec![0], vec![1]]);
        assert_eq!(best_fit(&[], 8), Vec::<Vec<usize>>::new());
    }

    proptest! {
        #[test]
        fn every_example_stands_once_and_rows_hold_what_fits(lengths in proptest::collection::vec(1_usize..20, 0..60)) {
            let rows = best_fit(&lengths, 20);
            let mut all: Vec<usize> = rows.iter().flatten().copied().collect();
            all.sort_unstable();
            prop_assert_eq!(all, (0..lengths.len()).collect::<Vec<_>>());
            let fill: Vec<usize> = rows.iter().map(|row| row.iter().map(|&i| lengths[i]).sum()).collect();
            prop_assert!(fill.iter().all(|&fill| fill <= 20));
            // No two rows would fit into one but for the last steps of the greedy rule: at most one row is half empty or less.
            prop_assert!(fill.iter().filter(|&&fill| fill <= 10).count() <= 1);
        }
    }
}
