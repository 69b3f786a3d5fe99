//! Profile of a program: every node is timed, and the nodes of one kind are summed and compared with their floor.

use samara_core::cost::Cost;
use samara_core::exec::Gradients;
use samara_core::graph::Node;
use serde::Serialize;

use super::measure::median;
use super::rates::Rates;
use crate::session::{On, OwnedProgram, Session};

/// The nodes of one kind and shape.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct ProfileRow {
    /// The operation, and the shape of its matrix product if it has one: rows × inputs × outputs.
    pub name: String,
    /// How often it runs.
    pub calls: u64,
    /// Their time in milliseconds: the sum over nodes of each one's median.
    pub milliseconds: f64,
    /// Part of the time of all nodes.
    pub share: f64,
    /// Billions of floating-point operations in a second.
    pub gflop_per_s: f64,
    /// Billions of bytes read and written in a second.
    pub gb_per_s: f64,
    /// The least time in which this machine, as measured, could do that much.
    pub floor_milliseconds: f64,
    /// Part of its time that the floor is.
    pub floor_share: f64,
}

/// Where the time goes.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Profile {
    /// The machine's measured rates.
    pub machine: Rates,
    /// Kinds of nodes, the slowest first.
    pub rows: Vec<ProfileRow>,
    /// All nodes together.
    pub total: ProfileRow,
    /// The time of the same work without the profiler, in milliseconds.
    pub whole_milliseconds: f64,
}

impl Profile {
    /// Runs programs `repeats` times node by node; each program has a weight, the number of its runs. Inputs must have been written.
    pub fn new(
        session: &mut Session,
        on: On,
        programs: &[(&OwnedProgram, usize)],
        machine: Rates,
        repeats: usize,
        live_keys: Option<usize>,
    ) -> Self {
        let mut kinds: Vec<(String, Sum)> = Vec::new();
        for &(program, calls) in programs {
            let view = program.view();
            let mut times = vec![Vec::with_capacity(repeats); view.nodes().len()];
            for _ in 0..repeats {
                session.run_each(program, on, Gradients::Overwrite, &mut |i, seconds| times[i].push(seconds));
            }
            for (i, times) in times.into_iter().enumerate() {
                let cost = Cost::of(&view, &program.plan(), i, size_of::<f32>(), live_keys);
                let (Some(cost), Some(node)) = (cost, view.node(i)) else { continue };
                let sum = Sum::new(calls as f64, median(times), cost, &machine);
                let name = name(&node);
                match kinds.iter_mut().find(|(other, _)| *other == name) {
                    Some((_, all)) => all.add(&sum),
                    None => kinds.push((name, sum)),
                }
            }
        }
        Self::from_kinds(machine, kinds)
    }

    fn from_kinds(machine: Rates, mut kinds: Vec<(String, Sum)>) -> Self {
        kinds.sort_by(|a, b| b.1.seconds.total_cmp(&a.1.seconds));
        let mut all = Sum::default();
        kinds.iter().for_each(|(_, sum)| all.add(sum));
        let rows = kinds.into_iter().map(|(name, sum)| sum.row(name, all.seconds)).collect();
        let total = all.row("all".to_owned(), all.seconds);
        Self { machine, rows, total, whole_milliseconds: 0.0 }
    }
}

/// The floor of a whole program that runs `calls` times.
pub(super) fn program_cost(program: &OwnedProgram, calls: usize) -> Cost {
    let (view, plan) = (program.view(), program.plan());
    let costs = (0..view.nodes().len()).filter_map(|i| Cost::of(&view, &plan, i, size_of::<f32>(), None));
    let once = costs.fold(Cost::default(), Cost::plus);
    (0..calls).fold(Cost::default(), |all, _| all.plus(once))
}

/// The totals of the nodes of one kind.
#[derive(Clone, Copy, Debug, Default)]
struct Sum {
    calls: f64,
    seconds: f64,
    flops: f64,
    bytes: f64,
    floor_s: f64,
}

impl Sum {
    fn new(calls: f64, seconds: f64, cost: Cost, machine: &Rates) -> Self {
        Self {
            calls,
            seconds: calls * seconds,
            flops: calls * cost.flops as f64,
            bytes: calls * cost.bytes as f64,
            floor_s: calls * machine.floor_s(cost),
        }
    }

    fn add(&mut self, other: &Self) {
        self.calls += other.calls;
        self.seconds += other.seconds;
        self.flops += other.flops;
        self.bytes += other.bytes;
        self.floor_s += other.floor_s;
    }

    fn row(&self, name: String, all_seconds: f64) -> ProfileRow {
        let seconds = self.seconds.max(1e-12);
        ProfileRow {
            name,
            calls: self.calls as u64,
            milliseconds: 1e3 * self.seconds,
            share: self.seconds / all_seconds.max(1e-12),
            gflop_per_s: 1e-9 * self.flops / seconds,
            gb_per_s: 1e-9 * self.bytes / seconds,
            floor_milliseconds: 1e3 * self.floor_s,
            floor_share: self.floor_s / seconds,
        }
    }
}

/// The operation of a node, and the extents of its product.
fn name(node: &Node<'_>) -> String {
    let Some(op) = node.op() else { return "unknown".to_owned() };
    let Some([x, w]) = op.product() else { return op.name().to_owned() };
    let (x, w) = (node.input_shape(x), node.input_shape(w));
    format!("{} {}x{}x{}", op.name(), x.rows(), w.cols(), w.rows())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nodes_of_a_kind_add_up() {
        let machine = Rates { threads: 1, flops_per_s: 1e9, bytes_per_s: 1e9 };
        let cost = Cost { flops: 2_000_000, bytes: 1_000_000 };
        let mut linear = Sum::new(3.0, 4e-3, cost, &machine);
        linear.add(&Sum::new(1.0, 8e-3, cost, &machine));
        let update = Sum::new(1.0, 30e-3, Cost { flops: 1, bytes: 15_000_000 }, &machine);
        let profile = Profile::from_kinds(machine, vec![("linear".to_owned(), linear), ("AdamW".to_owned(), update)]);
        let [update, linear] = profile.rows.as_slice() else { panic!("two kinds") };
        let near = |a: f64, b: f64| assert!((a - b).abs() < 1e-9, "{a} {b}");
        assert_eq!((update.name.as_str(), linear.name.as_str(), linear.calls), ("AdamW", "linear", 4));
        near(linear.milliseconds, 20.0);
        near(linear.share, 0.4);
        near(linear.gflop_per_s, 0.4);
        near(linear.gb_per_s, 0.2);
        near(linear.floor_milliseconds, 8.0);
        near(linear.floor_share, 0.4);
        near(update.floor_share, 0.5);
        let total = profile.total;
        near(total.milliseconds, 50.0);
        near(total.floor_milliseconds, 23.0);
        near(total.share, 1.0);
    }
}
