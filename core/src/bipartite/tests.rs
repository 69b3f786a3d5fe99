//! Matchings against their covers, the ladder on which searches without dead ends are exponential, and cycles.

use std::vec;
use std::vec::Vec;

use proptest::prelude::*;

use super::*;

fn rows_of(edges: &[(u32, u32)], rows: usize) -> (Vec<u32>, Vec<u32>) {
    let mut starts = vec![0];
    let mut neighbours = Vec::new();
    for row in 0..rows as u32 {
        neighbours.extend(edges.iter().filter(|e| e.0 == row).map(|e| e.1));
        starts.push(neighbours.len() as u32);
    }
    (starts, neighbours)
}

/// The size of a maximum matching, after its pairs and its cover have been checked.
fn matched(graph: Graph<'_>, columns: usize) -> usize {
    let rows = graph.len();
    let (mut column_of, mut row_of, mut scratch) = (vec![0; rows], vec![0; columns], vec![0; scratch_len(rows)]);
    let size = maximum_matching(graph, &mut column_of, &mut row_of, &mut scratch);
    let pairs: Vec<(usize, u32)> = column_of.iter().copied().enumerate().filter(|p| p.1 != NONE).collect();
    assert_eq!(pairs.len(), size);
    for (row, column) in pairs {
        assert!(graph.of(row).contains(&column) && row_of[column as usize] as usize == row);
    }
    let (mut in_rows, mut in_columns) = (vec![false; rows], vec![false; columns]);
    let cover = cover(graph, &column_of, &row_of, &mut in_rows, &mut in_columns, &mut scratch);
    assert_eq!(cover.rows + cover.columns, size, "the cover is a proof");
    assert!((0..rows).all(|i| graph.of(i).iter().all(|&j| in_rows[i] || in_columns[j as usize])));
    size
}

#[test]
fn small_graphs() {
    assert_eq!(matched(Graph::new(&[], &[]), 0), 0);
    assert_eq!(matched(Graph::new(&[0, 0, 0], &[]), 3), 0);
    // An augmentation is needed, and edges repeat.
    assert_eq!(matched(Graph::new(&[0, 4, 6], &[0, 0, 1, 1, 0, 0]), 2), 2);
    // Columns beyond memory and starts beyond the slice are no edges.
    assert_eq!(matched(Graph::new(&[0, 2, 9], &[7, 1]), 2), 1);
}

/// Levels of two columns, complete from each to the next, and one chain that leads out: paths double with every level.
fn ladder(levels: u32) -> (Vec<u32>, Vec<u32>) {
    let rows = 2 * levels + 1;
    let mut edges = Vec::new();
    for level in 0..levels {
        for side in 0..2 {
            let row = 2 * level + side;
            edges.push((row, row));
            if level + 1 < levels {
                edges.extend([(row, 2 * level + 2), (row, 2 * level + 3)]);
            }
        }
    }
    edges.extend([(rows - 1, 0), (rows - 1, 1)]);
    rows_by_sort(edges, rows)
}

fn rows_by_sort(mut edges: Vec<(u32, u32)>, rows: u32) -> (Vec<u32>, Vec<u32>) {
    edges.sort_unstable();
    let mut starts = vec![0];
    starts.extend((0..rows).map(|row| edges.partition_point(|e| e.0 <= row) as u32));
    (starts, edges.into_iter().map(|e| e.1).collect())
}

#[test]
fn ladders_take_linear_time_and_no_stack() {
    let levels = 20_000;
    let (starts, neighbours) = ladder(levels);
    assert_eq!(matched(Graph::new(&starts, &neighbours), 2 * levels as usize), 2 * levels as usize);
    // One more column at the end: the path to it passes all levels.
    let (mut starts, mut neighbours) = ladder(levels);
    let at = starts[2 * levels as usize] as usize;
    neighbours.insert(at, 2 * levels);
    starts[2 * levels as usize..].iter_mut().for_each(|s| *s += 1);
    assert_eq!(matched(Graph::new(&starts, &neighbours), 2 * levels as usize + 1), 2 * levels as usize + 1);
}

#[test]
fn odd_cycles_are_shown() {
    let pentagon: Vec<(u32, u32)> = (0..5).flat_map(|i| [(i, (i + 1) % 5), ((i + 1) % 5, i)]).collect();
    let (starts, neighbours) = rows_of(&pentagon, 5);
    let (mut colours, mut scratch) = ([0; 5], [0; 10]);
    let Coloured::OddCycle(cycle) = two_colour(Graph::new(&starts, &neighbours), &mut colours, &mut scratch) else {
        panic!("a pentagon has no two colours")
    };
    assert_eq!(cycle.len(), 5);
}

proptest! {
    #[test]
    fn matchings_are_as_large_as_covers(rows in 1..30_usize, columns in 1..30_usize, edges in prop::collection::vec((0..30_u32, 0..30_u32), 0..120)) {
        let edges: Vec<_> = edges.into_iter().map(|(i, j)| (i % rows as u32, j % columns as u32)).collect();
        let (starts, neighbours) = rows_of(&edges, rows);
        matched(Graph::new(&starts, &neighbours), columns);
    }

    /// Few edges a row: long paths, and many that cross.
    #[test]
    fn thin_graphs(rows in 1..200_usize, columns in 1..200_usize, thinness in 0..3_usize, edges in prop::collection::vec((0..200_u32, 0..200_u32), 0..600)) {
        let edges: Vec<_> = edges.into_iter().map(|(i, j)| (i % rows as u32, j % columns as u32)).collect();
        let (starts, neighbours) = rows_by_sort(edges.into_iter().step_by(1 + thinness).collect(), rows as u32);
        matched(Graph::new(&starts, &neighbours), columns);
    }

    #[test]
    fn first_pairs_leave_no_edge_between_free_ends(
        rows in 1..30_usize, columns in 1..30_usize, edges in prop::collection::vec((0..30_u32, 0..30_u32), 0..120),
    ) {
        let edges: Vec<_> = edges.into_iter().map(|(i, j)| (i % rows as u32, j % columns as u32)).collect();
        let (starts, neighbours) = rows_of(&edges, rows);
        let (mut column_of, mut row_of) = (vec![NONE; rows], vec![NONE; columns]);
        let counted = matching::first_pairs(Graph::new(&starts, &neighbours), &mut column_of, &mut row_of);
        let pairs: Vec<_> = (0..rows as u32).zip(column_of.iter().copied()).filter(|pair| pair.1 != NONE).collect();
        let used: std::collections::BTreeSet<_> = edges.iter().map(|edge| edge.1).collect();
        prop_assert_eq!(counted, (pairs.len(), used.len()));
        prop_assert_eq!(row_of.iter().filter(|row| **row != NONE).count(), pairs.len());
        prop_assert!(pairs.iter().all(|pair| edges.contains(pair) && row_of[pair.1 as usize] == pair.0));
        prop_assert!(edges.iter().all(|&(i, j)| column_of[i as usize] != NONE || row_of[j as usize] != NONE));
    }

    #[test]
    fn colours_or_an_odd_cycle(n in 1..20_usize, edges in prop::collection::vec((0..20_u32, 0..20_u32), 0..30)) {
        let edges: Vec<_> = edges.into_iter().map(|(i, j)| (i % n as u32, j % n as u32)).flat_map(|(i, j)| [(i, j), (j, i)]).collect();
        let (starts, neighbours) = rows_of(&edges, n);
        let (mut colours, mut scratch) = (vec![0; n], vec![0; 2 * n]);
        match two_colour(Graph::new(&starts, &neighbours), &mut colours, &mut scratch) {
            Coloured::Yes => prop_assert!(edges.iter().all(|&(i, j)| colours[i as usize] != colours[j as usize])),
            Coloured::OddCycle(cycle) => {
                prop_assert!(cycle.len() % 2 == 1);
                let next = cycle.iter().cycle().skip(1);
                prop_assert!(cycle.iter().zip(next).all(|(&i, &j)| edges.contains(&(i, j))));
                let mut once = cycle.to_vec();
                once.sort_unstable();
                once.dedup();
                prop_assert_eq!(once.len(), cycle.len());
            }
        }
    }
}

proptest! {
    #[test]
    fn full_matchings_weigh_as_little_as_dense_assignments(
        rows in 0..12_usize, more in 0..6_usize, edges in prop::collection::vec((0..12_u32, 0..18_u32, -6..9_i64), 0..110),
    ) {
        use crate::assignment::shared::linear_sum_assignment;
        use crate::assignment::{Costs, Error, Options, Workspace, workspace_len};
        let columns = rows + more;
        let mut edges: Vec<_> = edges.into_iter().filter(|e| (e.0 as usize) < rows && (e.1 as usize) < columns).collect();
        edges.sort_unstable();
        let (starts, neighbours) = rows_of(&edges.iter().map(|e| (e.0, e.1)).collect::<Vec<_>>(), rows);
        // The largest weights stand for forbidden edges.
        let weights: Vec<i64> = edges.iter().map(|e| if e.2 == 8 { i64::MAX } else { e.2 }).collect();
        let mut dense = vec![i64::MAX; rows * columns];
        for (edge, &weight) in edges.iter().zip(&weights) {
            let cell = &mut dense[edge.0 as usize * columns + edge.1 as usize];
            *cell = weight.min(*cell);
        }
        let len = workspace_len(rows, columns);
        let (mut reals, mut indices) = (vec![0; len.costs], vec![0_u32; len.indices]);
        let mut workspace = Workspace::new(&mut reals, &mut indices, rows, columns).expect("room");
        let view = Costs::new(&dense, rows, columns).expect("costs");
        let expected = linear_sum_assignment(view, &Options::default(), &mut workspace).map(|answer| answer.total(&view));

        let (mut column_of, mut row_of) = (vec![0; rows], vec![0; columns]);
        let (mut row_duals, mut column_duals) = (vec![0; rows], vec![0; columns]);
        let mut to = FullMatching { column_of: &mut column_of, row_of: &mut row_of, row_duals: &mut row_duals, column_duals: &mut column_duals };
        let (costs, ints) = full_scratch_len(columns);
        let graph = Graph::new(&starts, &neighbours);
        let found = minimum_weight_full_matching(graph, &weights, &mut to, &mut vec![0; costs], &mut vec![0; ints]);
        match (expected, found) {
            (Ok(total), Ok(())) => {
                let pairs: i64 = column_of.iter().enumerate().map(|(i, &j)| dense[i * columns + j as usize]).sum();
                prop_assert_eq!(pairs, total);
                prop_assert_eq!(row_duals.iter().chain(&column_duals).sum::<i64>(), total);
                for (edge, &weight) in edges.iter().zip(&weights) {
                    prop_assert!(row_duals[edge.0 as usize] + column_duals[edge.1 as usize] <= weight);
                }
                for (j, &row) in row_of.iter().enumerate() {
                    let partners = row == NONE || column_of[row as usize] as usize == j;
                    let dual = if row == NONE { column_duals[j] == 0 } else { column_duals[j] <= 0 };
                    prop_assert!(partners && dual, "column {}", j);
                }
            }
            (Err(Error::Infeasible { .. }), Err(FullMatchingError::Infeasible { .. })) => {}
            (expected, found) => prop_assert!(false, "{:?} {:?}", expected, found),
        }
    }
}

#[test]
fn full_matchings_refuse_what_they_cannot_weigh() {
    let graph = Graph::new(&[0, 2], &[0, 1]);
    let solve = |weights: &[f64], room: usize| {
        let (mut a, mut b, mut c, mut d) = ([0], [0; 2], [0.0], [0.0; 2]);
        let mut to = FullMatching { column_of: &mut a, row_of: &mut b, row_duals: &mut c, column_duals: &mut d };
        minimum_weight_full_matching(graph, weights, &mut to, &mut [0.0; 2], &mut vec![0; room])
    };
    assert_eq!(solve(&[1.0, 2.0], 8), Ok(()));
    assert_eq!(solve(&[1.0, 2.0], 7), Err(FullMatchingError::Memory { needed: 8, found: 7 }));
    assert_eq!(solve(&[1.0], 8), Err(FullMatchingError::Memory { needed: 2, found: 1 }));
    assert!(matches!(solve(&[1.0, f64::NAN], 8), Err(FullMatchingError::Invalid { edge: 1, .. })));
    assert_eq!(solve(&[f64::INFINITY; 2], 8), Err(FullMatchingError::Infeasible { row: 0 }));
}
