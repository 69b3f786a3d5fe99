//! Assignment and bipartite graphs in fixed memory.

use core::hint::black_box;

use samara_core::assignment::{
    Changed, Cost, Costs, Dirty, Fixed, Objective, Options, Portable, Ties, assign_pairs, bottleneck_assignment,
    linear_sum_assignment, linear_sum_assignment_lazy, reassign, refine, verify,
};
use samara_core::bipartite::{Coloured, FullMatching, Graph, cover, maximum_matching, minimum_weight_full_matching, two_colour};

pub fn assign(n: usize) -> Option<()> {
    solve(black_box([4.0_f32, 1.0, 3.0, 2.0, 0.0, 5.0]), n)?;
    solve(black_box([4.0_f64, 1.0, 3.0, 2.0, 0.0, 5.0]), n)?;
    solve(black_box([4_i32, 1, 3, 2, 0, 5]), n)?;
    solve(black_box([4_i64, 1, 3, 2, 0, 5]), n)?;
    refined(n)?;
    graphs(n)
}

fn refined(n: usize) -> Option<()> {
    let costs = black_box([4.0_f32, 1.0, 3.0, 2.0]);
    let view = Costs::new(&costs, 2, 2 - n).ok()?;
    let (mut single, mut double) = (Fixed::<2, 2, f32, u16>::default(), Fixed::<2, 2, f64, u16>::default());
    let (mut from, mut to) = (single.workspace(2, 2 - n).ok()?, double.workspace(2, 2 - n).ok()?);
    linear_sum_assignment(view, &Options::default(), &mut from).ok()?;
    refine(Portable, view, &from, &Options::default(), &mut to).ok()?;
    Some(())
}

fn solve<T: Cost>(costs: [T; 6], n: usize) -> Option<()> {
    let mut memory = Fixed::<6, 6, T, u16>::default();
    for (rows, columns) in [(2, 2 + n), (2 + n, 2)] {
        let view = Costs::new(&costs, rows, columns).ok()?;
        for (ties, objective) in [(Ties::Any, Objective::Minimize), (Ties::Scipy, Objective::Maximize)] {
            let options = Options { ties, objective, dirty: Dirty::Forbid, ..Options::default() };
            let mut workspace = memory.workspace(rows, columns).ok()?;
            let answer = linear_sum_assignment(view, &options, &mut workspace).ok()?;
            verify(view, &answer, &options, 1e-6).ok()?;
            let limited = Options { cost_limit: costs.get(n).copied(), ties: Ties::Any, ..options };
            linear_sum_assignment(view, &limited, &mut workspace).ok()?;
            let changed = Changed::Only { rows: &[n.min(1)], columns: &[0] };
            reassign(Portable, view, changed, &limited, &mut workspace).ok()?;
            assign_pairs(view, n, &options, &mut workspace).ok()?;
            bottleneck_assignment(view, &options, &mut workspace).ok()?;
        }
    }
    let fill = |row: usize, to: &mut [T]| {
        for (to, &cost) in to.iter_mut().zip(costs.iter().skip(row)) {
            *to = cost;
        }
    };
    let mut workspace = memory.workspace(2, 3).ok()?;
    linear_sum_assignment_lazy(Portable, &fill, &Options::default(), &mut workspace).ok()?;
    Some(())
}

fn graphs(n: usize) -> Option<()> {
    let (starts, neighbours) = (black_box([0, 2, 3]), black_box([0, 1, 0]));
    let graph = Graph::new(&starts, &neighbours);
    let (mut columns, mut rows, mut scratch) = ([0; 2], [0; 2], [0; 6]);
    if maximum_matching(graph, &mut columns, &mut rows, &mut scratch) != 1 + n {
        return None;
    }
    let (mut row_duals, mut column_duals) = ([0_i32; 2], [0_i32; 3]);
    let mut partners = [0; 3];
    let mut to = FullMatching {
        column_of: &mut columns,
        row_of: &mut partners,
        row_duals: &mut row_duals,
        column_duals: &mut column_duals,
    };
    minimum_weight_full_matching(graph, &black_box([3, 1, 2]), &mut to, &mut [0; 3], &mut [0; 12]).ok()?;
    cover(graph, &columns, &rows, &mut [false; 2], &mut [false; 2], &mut scratch);
    matches!(two_colour(graph, &mut columns, &mut scratch), Coloured::OddCycle(_)).then_some(())
}
