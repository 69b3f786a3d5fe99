//! One suite for every table of kernels: each operation over random shapes against naive formulas in `f64`, its gradients against finite differences
//! of these formulas, in place and not, overwriting and accumulating, as inputs and as parameters.
//!
//! Inputs avoid kinks, where no derivative exists: ReLU, |x|, clamp, minimum, maximum and the maximum of a reduction.

mod attention;
mod cases;
mod composed;
pub mod frozen;
mod images;
mod state;
mod tokens;

use samara_core::exec::Gradients;
use samara_core::graph::{Graph, Op, Program, Recompute, Tensor, Wrt};
use samara_core::math::Real;
use samara_core::params::Init;

use crate::draw::Draw;
use crate::fd;
use crate::session::{Session, Table, registry};

/// How large shapes are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Size {
    /// A few elements: gradients are compared with finite differences.
    Small,
    /// Larger than the blocks and panels of fast kernels: gradients are compared with those of another table.
    Large,
}

impl Size {
    /// One of two values.
    pub fn of(self, small: usize, large: usize) -> usize {
        if self == Self::Small { small } else { large }
    }
}

/// A floating-point input.
pub struct Reals {
    /// Its shape.
    pub shape: Vec<usize>,
    /// Its values.
    pub values: Vec<f64>,
    /// Whether its gradient is checked.
    pub differentiable: bool,
}

/// An input of integers.
pub struct Ints {
    /// Its shape.
    pub shape: Vec<usize>,
    /// Its values.
    pub values: Vec<i32>,
}

type Build = Box<dyn Fn(&Graph<'static>, &[Tensor], &[Tensor]) -> Tensor>;
type Naive = Box<dyn Fn(&[Vec<f64>], &[Vec<i32>]) -> Vec<f64>>;

/// An operation with inputs.
pub struct Case {
    /// What it is.
    pub name: String,
    /// Floating-point inputs.
    pub reals: Vec<Reals>,
    /// Inputs of integers.
    pub ints: Vec<Ints>,
    /// Appends the operation and returns its result.
    pub build: Build,
    /// The same by plain loops.
    pub naive: Naive,
    /// The tolerance of `f32` against `f64`, relative to the largest entry: values, gradients.
    pub tolerance: [f64; 2],
}

impl Case {
    fn new(name: impl Into<String>) -> Self {
        Self {
            name: name.into(),
            reals: Vec::new(),
            ints: Vec::new(),
            build: Box::new(|_, _, _| Tensor::NONE),
            naive: Box::new(|_, _| Vec::new()),
            tolerance: [2e-6, 1e-5],
        }
    }

    fn real(mut self, shape: &[usize], values: Vec<f64>) -> Self {
        assert_eq!(values.len(), shape.iter().product::<usize>());
        self.reals.push(Reals { shape: shape.to_vec(), values, differentiable: true });
        self
    }

    fn int(mut self, shape: &[usize], values: Vec<i32>) -> Self {
        self.ints.push(Ints { shape: shape.to_vec(), values });
        self
    }

    fn build(mut self, build: impl Fn(&Graph<'static>, &[Tensor], &[Tensor]) -> Tensor + 'static) -> Self {
        self.build = Box::new(build);
        self
    }

    fn naive(mut self, naive: impl Fn(&[Vec<f64>], &[Vec<i32>]) -> Vec<f64> + 'static) -> Self {
        self.naive = Box::new(naive);
        self
    }

    fn tolerance(mut self, value: f64, gradient: f64) -> Self {
        self.tolerance = [value, gradient];
        self
    }

    /// Without a gradient with respect to input `i`.
    fn frozen(mut self, i: usize) -> Self {
        self.name = format!("{}, input {i} frozen", self.name);
        self.reals[i].differentiable = false;
        self
    }

    fn without_gradient(mut self) -> Self {
        self.reals.iter_mut().for_each(|r| r.differentiable = false);
        self
    }

    fn values(&self) -> Vec<Vec<f64>> {
        self.reals.iter().map(|r| r.values.clone()).collect()
    }

    fn ints_values(&self) -> Vec<Vec<i32>> {
        self.ints.iter().map(|r| r.values.clone()).collect()
    }

    fn differentiable(&self) -> Vec<usize> {
        (0..self.reals.len()).filter(|&i| self.reals[i].differentiable).collect()
    }

    fn values_by_loops(&self) -> Vec<f64> {
        (self.naive)(&self.values(), &self.ints_values())
    }

    /// Gradients of ⟨result, upstream⟩ by finite differences of the naive formula, one per differentiable input.
    fn gradients_by_differences(&self, upstream: &[f64]) -> Vec<Vec<f64>> {
        let (values, ints) = (self.values(), self.ints_values());
        let objective = |x: &[Vec<f64>]| (self.naive)(x, &ints).iter().zip(upstream).map(|(y, u)| y * u).sum();
        self.differentiable().into_iter().map(|i| fd::gradient(&values, i, objective)).collect()
    }
}

/// How the inputs of a case enter its graph.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Mode {
    /// As inputs written by the host, whose memory no result reuses.
    Inputs,
    /// As values whose lifetime ends at the operation, so that a result may reuse their memory.
    Dying,
    /// As trainable parameters.
    Params,
}

/// The result and the gradients of a case.
struct Outcome {
    value: Vec<f64>,
    gradients: Vec<Vec<f64>>,
}

/// How an upstream gradient enters a graph.
#[derive(Clone, Copy, Debug)]
enum Upstream<'a> {
    /// Known before the operation, with its shape: a head fuses its gradient.
    Before(&'a [f64], &'a [usize]),
    /// Computed after the operation.
    After(&'a [f64]),
    /// One value for all elements.
    Scalar(f64),
}

/// Which operations a suite has run.
pub struct Coverage([bool; Op::COUNT]);

impl Coverage {
    /// Empty.
    pub const NONE: Self = Self([false; Op::COUNT]);

    /// Notes the nodes of a program that run.
    pub fn add(&mut self, program: &Program<'_>) {
        for node in program.nodes().iter().filter(|n| !n.dead) {
            self.0[usize::from(node.opcode)] = true;
        }
    }

    /// Codes of operations that never ran.
    pub fn missing(&self) -> Vec<usize> {
        (0..Op::COUNT).filter(|&i| !self.0[i]).collect()
    }
}

/// Runs every case of the suite for a seed; `oracle` is the table in `f64` that gradients over large shapes are compared with.
pub fn run<R: Real>(table: Table<'_, R>, oracle: Table<'_, f64>, size: Size, seed: u64, coverage: &mut Coverage) {
    let mut draw = Draw::new(seed);
    for mut case in all(&mut draw, size) {
        case.name = format!("{} (seed {seed}, {size:?})", case.name);
        check(table, oracle, size, &case, &mut draw, coverage);
    }
    state::cache(table, &mut draw, size, coverage);
    state::cache_in_blocks(table, &mut draw, size, coverage);
    state::optimizers(table, &mut draw, size, coverage);
    frozen::all(table, &mut draw, size, coverage);
}

fn all(draw: &mut Draw, size: Size) -> Vec<Case> {
    let mut list = cases::all(draw, size);
    list.extend(tokens::all(draw, size));
    list.extend(composed::all(draw, size));
    list.extend(attention::all(draw, size));
    list.extend(images::all(draw, size));
    list.extend(cases::frozen(draw, size));
    list
}

fn is_double<R>() -> bool {
    size_of::<R>() == 8
}

/// Differences relative to the largest entry; in `f32`, where 1 + tanh(−4) has three digits, at least to 0.1.
fn difference<R>(found: &[f64], expected: &[f64]) -> f64 {
    fd::error_over(found, expected, if is_double::<R>() { 1e-3 } else { 0.1 })
}

fn check<R: Real>(
    table: Table<'_, R>,
    oracle: Table<'_, f64>,
    size: Size,
    case: &Case,
    draw: &mut Draw,
    coverage: &mut Coverage,
) {
    let name = &case.name;
    let [value_tolerance, gradient_tolerance] = if is_double::<R>() { [1e-12, 1e-7] } else { case.tolerance };
    let expected = case.values_by_loops();
    let (value, shape) = forward(table, case, Mode::Inputs, coverage);
    let error = difference::<R>(&value, &expected);
    assert!(error <= value_tolerance, "{name}: values differ by {error:e}");
    let in_place = forward(table, case, Mode::Dying, coverage).0;
    let error = difference::<R>(&in_place, &expected);
    assert!(error <= value_tolerance, "{name}: values in place differ by {error:e}");
    if case.differentiable().is_empty() {
        return;
    }
    let up = draw.values(expected.len(), -1.0, 1.0);
    let (gradients, tolerance) = match size {
        Size::Small => (case.gradients_by_differences(&up), gradient_tolerance),
        Size::Large => {
            let exact = backward(oracle, case, Mode::Inputs, Upstream::Before(&up, &shape), coverage).gradients;
            (exact, if is_double::<R>() { 1e-11 } else { gradient_tolerance })
        }
    };
    let compare = |what: &str, found: &[Vec<f64>], factor: f64| {
        for ((found, expected), input) in found.iter().zip(&gradients).zip(case.differentiable()) {
            let scaled: Vec<f64> = expected.iter().map(|x| factor * x).collect();
            let error = difference::<R>(found, &scaled);
            assert!(error <= tolerance, "{name}: gradient of input {input}, {what}, differs by {error:e}");
        }
    };
    let before = backward(table, case, Mode::Inputs, Upstream::Before(&up, &shape), coverage);
    compare("inputs", &before.gradients, 1.0);
    compare("inputs, upstream after", &backward(table, case, Mode::Inputs, Upstream::After(&up), coverage).gradients, 1.0);
    let dying = backward(table, case, Mode::Dying, Upstream::Before(&up, &shape), coverage);
    compare("in place", &dying.gradients, 1.0);
    // Fast kernels may add a residual before or after the product; the reference kernels add in one order.
    if is_double::<R>() {
        assert_eq!(value, in_place, "{name}: in place");
        assert_eq!(before.gradients, dying.gradients, "{name}: gradients in place");
    }
    let [once, twice] = as_parameters(table, case, &up, &shape, coverage);
    compare("parameters", &once, 1.0);
    compare("parameters, added", &twice, 2.0);
    let one = backward(table, case, Mode::Inputs, Upstream::Scalar(0.75), coverage);
    let all = backward(table, case, Mode::Inputs, Upstream::After(&vec![0.75; expected.len()]), coverage);
    for (a, b) in one.gradients.iter().zip(&all.gradients) {
        let error = difference::<R>(a, b);
        assert!(error <= if is_double::<R>() { 1e-11 } else { gradient_tolerance }, "{name}: scalar upstream: {error:e}");
    }
    assert!(before.value.is_empty() || before.value == value, "{name}: value of the training program");
}

/// Declares the inputs of a case; returns those of the host, those of the operation, and the integers.
fn declare(g: &Graph<'static>, case: &Case, mode: Mode) -> [Vec<Tensor>; 3] {
    let mut number = 0;
    let mut leaves = Vec::new();
    for r in &case.reals {
        if mode == Mode::Params && r.differentiable {
            leaves.push(g.param(samara_core::params::ParamId::FIRST.plus(number)));
            number += 1;
        } else {
            leaves.push(g.input(&r.shape));
        }
    }
    let used = leaves.iter().map(|&t| if mode == Mode::Dying { g.scale(t, 1.0) } else { t }).collect();
    let bounds = |x: &[i32]| (x.iter().copied().min().unwrap_or(0), x.iter().copied().max().unwrap_or(0));
    let declare = |i: &Ints| {
        let (low, high) = bounds(&i.values);
        g.ints(&i.shape, low, high)
    };
    let ints = case.ints.iter().map(declare).collect();
    [leaves, used, ints]
}

fn fill<R: Real>(session: &mut Session<'_, R>, case: &Case, mode: Mode, leaves: &[Tensor], ints: &[Tensor]) {
    let mut number = 0;
    for (r, &t) in case.reals.iter().zip(leaves) {
        if mode == Mode::Params && r.differentiable {
            session.set_param(samara_core::params::ParamId::FIRST.plus(number), &r.values);
            number += 1;
        } else {
            session.set(t, &r.values);
        }
    }
    for (i, &t) in case.ints.iter().zip(ints) {
        session.set_ints(t, &i.values);
    }
}

fn forward<R: Real>(table: Table<'_, R>, case: &Case, mode: Mode, coverage: &mut Coverage) -> (Vec<f64>, Vec<usize>) {
    let (params, ()) = registry::<R, _>(0, |_| ());
    let built = Session::build(table, params, 64, |g| {
        let [leaves, used, ints] = declare(g, case, mode);
        let y = g.output((case.build)(g, &used, &ints));
        (y, g.shape(y), leaves, ints)
    });
    let (mut session, (y, shape, leaves, ints)) = built.unwrap_or_else(|e| panic!("{}: {e}", case.name));
    coverage.add(&session.program);
    fill(&mut session, case, mode, &leaves, &ints);
    session.run(Gradients::Overwrite);
    (session.get(y), shape.dims().iter().map(|&d| d as usize).collect())
}

/// One training program; the result of the operation is kept only when the upstream gradient comes before it.
fn backward<R: Real>(table: Table<'_, R>, case: &Case, mode: Mode, up: Upstream<'_>, coverage: &mut Coverage) -> Outcome {
    let (params, ()) = registry::<R, _>(0, |_| ());
    let keep = matches!(up, Upstream::Before(..)) && mode == Mode::Inputs;
    let built = Session::build(table, params, 64, |g| {
        let [leaves, used, ints] = declare(g, case, mode);
        let (u, y) = match up {
            Upstream::Before(_, shape) => {
                let u = g.input(shape);
                let u_used = if mode == Mode::Dying { g.scale(u, 1.0) } else { u };
                let y = (case.build)(g, &used, &ints);
                ((u, u_used), y)
            }
            Upstream::After(values) => {
                let y = (case.build)(g, &used, &ints);
                // Only the number of elements matters.
                let u = g.input(&[values.len()]);
                ((u, g.scale(u, 1.0)), y)
            }
            Upstream::Scalar(_) => {
                let y = (case.build)(g, &used, &ints);
                let u = g.input(&[1]);
                ((u, u), y)
            }
        };
        if keep {
            g.output(y);
        }
        let wrt: Vec<Tensor> = case.differentiable().into_iter().map(|i| leaves[i]).collect();
        g.backward(&[(y, u.1)], Wrt::Tensors(&wrt), Recompute::None);
        let gradients: Vec<Tensor> = wrt.iter().map(|&t| g.gradient(t).unwrap_or(Tensor::NONE)).collect();
        gradients.iter().for_each(|&t| {
            g.output(t);
        });
        (y, u.0, leaves, ints, gradients)
    });
    let (mut session, (y, u, leaves, ints, gradients)) = built.unwrap_or_else(|e| panic!("{}: {e}", case.name));
    coverage.add(&session.program);
    fill(&mut session, case, mode, &leaves, &ints);
    match up {
        Upstream::Before(values, _) | Upstream::After(values) => session.set(u, values),
        Upstream::Scalar(value) => session.set(u, &[value]),
    }
    session.run(Gradients::Overwrite);
    let value = if keep { session.get(y) } else { Vec::new() };
    Outcome { value, gradients: gradients.iter().map(|&t| session.get(t)).collect() }
}

/// Gradients with respect to parameters: from buffers full of NaN, and added to themselves.
fn as_parameters<R: Real>(
    table: Table<'_, R>,
    case: &Case,
    up: &[f64],
    shape: &[usize],
    coverage: &mut Coverage,
) -> [Vec<Vec<f64>>; 2] {
    let (params, ids) = registry::<R, _>(case.reals.len(), |registry| {
        let add = |&i: &usize| registry.scope().item("p", i).add("weight", &case.reals[i].shape, Init::Zeros);
        case.differentiable().iter().map(add).collect::<Vec<_>>()
    });
    let built = Session::build(table, params, 64, |g| {
        let [leaves, used, ints] = declare(g, case, Mode::Params);
        let u = g.input(shape);
        let y = (case.build)(g, &used, &ints);
        g.backward(&[(y, u)], Wrt::Trainable, Recompute::None);
        (u, leaves, ints)
    });
    let (mut session, (u, leaves, ints)): (Session<'_, R>, _) = built.unwrap_or_else(|e| panic!("{}: {e}", case.name));
    coverage.add(&session.program);
    assert_eq!(session.program.untouched().count(), 0, "{}: untouched", case.name);
    fill(&mut session, case, Mode::Params, &leaves, &ints);
    session.set(u, up);
    session.grads.fill(R::from_f64(f64::NAN));
    session.run(Gradients::Overwrite);
    let once = ids.iter().map(|&id| session.grad(id)).collect();
    session.run(Gradients::Add);
    [once, ids.iter().map(|&id| session.grad(id)).collect()]
}
