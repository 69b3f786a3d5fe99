//! Gradients through weights frozen in half precision or quantised must equal those through the same weights dequantised.

use samara_core::exec::Gradients;
use samara_core::graph::{Activation, DType, Graph, Recompute, Tensor, Wrt};
use samara_core::math::Real;
use samara_core::params::{Init, ParamId};
use samara_core::quant::{BLOCK, dequantise_row, quantise_row};

use super::{Coverage, Size, is_double};
use crate::draw::Draw;
use crate::fd;
use crate::session::{Session, Table, registry};

/// A weight (N, K) in another element type, and read back.
pub struct Stored {
    /// The storage type.
    pub dtype: DType,
    /// N, K.
    pub shape: [usize; 2],
    /// The stored bytes.
    pub bytes: Vec<u8>,
    /// The dequantised values.
    pub values: Vec<f64>,
}

impl Stored {
    /// Rows of `cols` values, rounded to the storage type.
    pub fn new(dtype: DType, values: &[f64], cols: usize) -> Self {
        let (mut bytes, mut back) = (Vec::new(), Vec::new());
        for row in values.chunks(cols) {
            let row: Vec<f32> = row.iter().map(|&x| x as f32).collect();
            let mut stored = vec![0; dtype.bytes(cols, 4).expect("whole blocks")];
            quantise_row(dtype, &row, &mut stored);
            let mut numbers = vec![0.0f64; cols];
            dequantise_row(dtype, &stored, &mut numbers);
            bytes.extend(stored);
            back.extend(numbers);
        }
        Self { dtype, shape: [values.len() / cols, cols], bytes, values: back }
    }
}

/// The layer of the weight, through which the input's gradient flows.
#[derive(Clone, Copy, Debug)]
enum Layer {
    /// x Wᵀ, plus x where the shapes agree, so that the gradient accumulates.
    Linear { beside: bool },
    /// A head whose upstream gradient is known before, or after.
    Head { before: bool, bias: bool },
    /// The entropy of a head.
    Entropy,
}

/// Linear layers and heads with weights of every type.
pub(super) fn all<R: Real>(table: Table<'_, R>, d: &mut Draw, size: Size, coverage: &mut Coverage) {
    for dtype in [DType::F16, DType::Q8, DType::Q4] {
        let head = |before, bias| Layer::Head { before, bias };
        let heads = [head(true, false), head(false, false), head(false, true), Layer::Entropy];
        for layer in [Layer::Linear { beside: false }, Layer::Linear { beside: true }].into_iter().chain(heads) {
            // Past the rows that a fast kernel reads at a time.
            let k = BLOCK * d.extent(size.of(2, 12));
            let n = if matches!(layer, Layer::Linear { beside: true }) { k } else { d.extent(size.of(9, 900)) };
            let stored = Stored::new(dtype, &d.values(n * k, -0.5, 0.5), k);
            check(table, d, size, layer, &stored, coverage);
        }
    }
}

fn check<R: Real>(table: Table<'_, R>, d: &mut Draw, size: Size, layer: Layer, w: &Stored, coverage: &mut Coverage) {
    let ([n, k], m) = (w.shape, d.extent(size.of(4, 150)));
    // Quantisation changes none of these values, so that the logits are equal, too.
    let mut x: Vec<f64> = d.ints(m * k, -127, 127).iter().map(|&x| f64::from(x) / 64.0).collect();
    x.iter_mut().step_by(BLOCK).for_each(|x| *x = 127.0 / 64.0);
    let (targets, bias) = (d.ints(m, -1, n as i32 - 1), d.values(n, -1.0, 1.0));
    let up = d.values(if matches!(layer, Layer::Linear { .. }) { m * n } else { m }, -1.0, 1.0);
    let [found, expected] = [true, false].map(|frozen| {
        let (params, ()) = registry::<R, _>(1, |r| {
            if frozen {
                r.scope().add("w", &[n, k], Init::Zeros);
                r.infos_mut().iter_mut().for_each(|info| (info.frozen, info.dtype) = (true, w.dtype));
            }
        });
        let built = Session::build(table, params, 16, |g| {
            let weight = if frozen { g.param(ParamId::FIRST) } else { g.input(&[n, k]) };
            program(g, layer, weight, m)
        });
        let (mut session, t) = built.expect("graph");
        coverage.add(&session.program);
        session.frozen.clone_from(&if frozen { w.bytes.clone() } else { Vec::new() });
        if !frozen {
            session.set(t.weight, &w.values);
        }
        for (t, values) in [(t.x, &x), (t.up, &up), (t.bias, &bias)] {
            if t.is_some() {
                session.set(t, values);
            }
        }
        if t.targets.is_some() {
            session.set_ints(t.targets, &targets);
        }
        session.run(Gradients::Overwrite);
        session.get(t.dx)
    });
    let error = fd::error(&found, &expected);
    // Roundings of logits count as they are in the entropy of a peaked distribution, whose gradient is small.
    let single = if matches!(layer, Layer::Entropy) { 5e-4 } else { 5e-6 };
    let tolerance = if is_double::<R>() { 1e-12 } else { single };
    assert!(error <= tolerance, "{layer:?} with {:?} ({n}, {k}), {m} rows: gradients differ by {error:e}", w.dtype);
}

struct Tensors {
    x: Tensor,
    weight: Tensor,
    bias: Tensor,
    targets: Tensor,
    up: Tensor,
    dx: Tensor,
}

fn program(g: &Graph<'static>, layer: Layer, weight: Tensor, m: usize) -> Tensors {
    let (n, k) = (g.shape(weight).rows(), g.shape(weight).cols());
    let (x, none) = (g.input(&[m, k]), Tensor::NONE);
    let (y, up, bias, targets) = match layer {
        Layer::Linear { beside } => {
            let y = g.linear_with(x, weight, None, Activation::None, beside.then_some(x));
            (y, g.input(&[m, n]), none, none)
        }
        Layer::Head { before, bias } => {
            let (up, targets) = (g.input(&[m]), g.ints(&[m], -1, n as i32 - 1));
            let bias = bias.then(|| g.input(&[n]));
            let y = g.head_loss(x, weight, bias, targets, 0.1);
            let later = if before { up } else { g.scale(up, 1.0) };
            g.backward(&[(y, later)], Wrt::Tensors(&[x]), Recompute::None);
            (none, up, bias.unwrap_or(none), targets)
        }
        Layer::Entropy => {
            let targets = g.ints(&[m], -1, n as i32 - 1);
            let [_, entropy] = g.head_loss_and_entropy(x, weight, None, targets);
            (entropy, g.input(&[m]), none, targets)
        }
    };
    if y.is_some() {
        g.backward(&[(y, up)], Wrt::Tensors(&[x]), Recompute::None);
    }
    let dx = g.output(g.gradient(x).expect("a gradient"));
    Tensors { x, weight, bias, targets, up, dx }
}
