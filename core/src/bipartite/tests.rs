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
