//! Elementwise functions of one or two tensors, with their derivatives.

use super::{UNARY, copy, no_scratch};
use crate::exec::{Kernel, Kernels, Views};
use crate::graph::args::{Args, Outputs, Refused};
use crate::graph::rules::only;
use crate::graph::{Activation, BinaryKind, Node, Op, Over, Shape, UnaryKind};
use crate::math::Real;
use crate::threads::Threads;

/// Adds the functions of two tensors to a table.
pub const fn binary_kernels<R: Real>(table: Kernels<R>) -> Kernels<R> {
    const BINARY: u8 = Op::Binary { kind: BinaryKind::Add, over: Over::Same }.opcode();
    table.define::<BINARY>(Kernel { run: binary_forward, scratch_len: no_scratch })
}

/// Adds what a backward pass that recomputes needs of these activations: their values again, and the gradient from their arguments.
pub const fn activation_kernels<R: Real, A: Activations>(table: Kernels<R>) -> Kernels<R> {
    const BACKWARD: u8 = Op::UnaryBackward { kind: UnaryKind::Scale, a: 0.0, b: 0.0 }.opcode();
    table
        .define_by::<{ UNARY.opcode() }>(
            only_activation::<{ UNARY.opcode() }, A>,
            Kernel { run: activation_forward::<R, A>, scratch_len: no_scratch },
        )
        .define_by::<BACKWARD>(
            only_activation::<BACKWARD, A>,
            Kernel { run: activation_backward::<R, A>, scratch_len: no_scratch },
        )
}

/// Adds the kernels of this file to a table.
pub const fn kernels<R: Real>(table: Kernels<R>) -> Kernels<R> {
    const UNARY_BACKWARD: u8 = Op::UnaryBackward { kind: UnaryKind::Scale, a: 0.0, b: 0.0 }.opcode();
    const SELECT_BACKWARD: u8 = Op::SelectBackward { max: false, over: Over::Same }.opcode();
    binary_kernels(table)
        .define::<{ UNARY.opcode() }>(Kernel { run: unary_forward, scratch_len: no_scratch })
        .define::<UNARY_BACKWARD>(Kernel { run: unary_backward, scratch_len: no_scratch })
        .define::<SELECT_BACKWARD>(Kernel { run: select_backward, scratch_len: no_scratch })
}

/// √(2/π).
const SQRT_2_OVER_PI: f64 = 0.797_884_560_802_865_4;
/// The cubic coefficient of GPT-2's GELU.
const GELU_CUBIC: f64 = 0.044_715;

/// The factor in the quick form of GELU.
const QUICK_GELU: f64 = 1.702;

/// The activations that the linear layers of a device support; ReLU costs no extra code and is always included.
pub trait Activations {
    /// GELU in its tanh form.
    const GELU_TANH: bool;
    /// GELU by the error function.
    const GELU_ERF: bool;
    /// SiLU and the quick form of GELU.
    const SWISH: bool;
}

/// Every activation.
pub struct Every;

impl Activations for Every {
    const GELU_TANH: bool = true;
    const GELU_ERF: bool = true;
    const SWISH: bool = true;
}

/// ReLU and both forms of GELU: the activations of GPT models.
pub struct Gelu;

impl Activations for Gelu {
    const GELU_TANH: bool = true;
    const GELU_ERF: bool = true;
    const SWISH: bool = false;
}

/// ReLU and the tanh form of GELU (`gelu_new`): the activations of GPT-2. Leaves out the error function, which takes 650 bytes of flash.
pub struct GeluTanh;

impl Activations for GeluTanh {
    const GELU_TANH: bool = true;
    const GELU_ERF: bool = false;
    const SWISH: bool = false;
}

/// ReLU and the exact form of GELU: the activations of most image models.
pub struct GeluErf;

impl Activations for GeluErf {
    const GELU_TANH: bool = false;
    const GELU_ERF: bool = true;
    const SWISH: bool = false;
}

/// ReLU, SiLU and the quick form of GELU: the activations of Llama models.
pub struct Swish;

impl Activations for Swish {
    const GELU_TANH: bool = false;
    const GELU_ERF: bool = false;
    const SWISH: bool = true;
}

/// Whether it contains an activation.
pub const fn has<A: Activations>(kind: Activation) -> bool {
    match kind {
        Activation::None | Activation::Relu => true,
        Activation::GeluTanh => A::GELU_TANH,
        Activation::GeluErf => A::GELU_ERF,
        Activation::Silu | Activation::QuickGelu => A::SWISH,
    }
}

/// The activation of a linear layer; the identity for one that is not in `A`, which the rule of its kernel refuses. A device links only these
/// functions.
pub fn activation<R: Real, A: Activations>(kind: Activation, x: R) -> R {
    let half = R::from_f64(0.5);
    match kind {
        Activation::Relu => x.max(R::ZERO),
        Activation::GeluTanh if A::GELU_TANH => half * x * (R::ONE + gelu_argument(x).tanh()),
        Activation::GeluErf if A::GELU_ERF => half * x * (R::ONE + (x * R::from_f64(core::f64::consts::FRAC_1_SQRT_2)).erf()),
        Activation::Silu if A::SWISH => x * sigmoid(x),
        Activation::QuickGelu if A::SWISH => x * sigmoid(R::from_f64(QUICK_GELU) * x),
        Activation::None | Activation::GeluTanh | Activation::GeluErf | Activation::Silu | Activation::QuickGelu => x,
    }
}

/// The derivative of [`activation`], 0 for ReLU at 0, as in PyTorch.
pub fn activation_derivative<R: Real, A: Activations>(kind: Activation, x: R) -> R {
    let half = R::from_f64(0.5);
    match kind {
        Activation::Relu => {
            if x > R::ZERO {
                R::ONE
            } else {
                R::ZERO
            }
        }
        Activation::GeluTanh if A::GELU_TANH => {
            let t = gelu_argument(x).tanh();
            let inner = R::from_f64(SQRT_2_OVER_PI) * (R::ONE + R::from_f64(3.0 * GELU_CUBIC) * x * x);
            half * (R::ONE + t) + half * x * (R::ONE - t * t) * inner
        }
        Activation::GeluErf if A::GELU_ERF => {
            let cdf = half * (R::ONE + (x * R::from_f64(core::f64::consts::FRAC_1_SQRT_2)).erf());
            // φ(x) = e^(−x²/2)/√(2π)
            let pdf = (-half * x * x).exp() * R::from_f64(0.398_942_280_401_432_7);
            cdf + x * pdf
        }
        Activation::Silu if A::SWISH => swish_derivative(R::ONE, x),
        Activation::QuickGelu if A::SWISH => swish_derivative(R::from_f64(QUICK_GELU), x),
        Activation::None | Activation::GeluTanh | Activation::GeluErf | Activation::Silu | Activation::QuickGelu => R::ONE,
    }
}

/// The derivative of x σ(β x): s + β x s (1 − s) with s = σ(β x).
fn swish_derivative<R: Real>(beta: R, x: R) -> R {
    let s = sigmoid(beta * x);
    s + beta * x * s * sigmoid(-(beta * x))
}

/// f(x).
pub fn unary<R: Real>(kind: UnaryKind, a: R, b: R, x: R) -> R {
    match kind {
        UnaryKind::Scale => a * x,
        UnaryKind::Offset => x + a,
        UnaryKind::Exp => x.exp(),
        UnaryKind::Ln => x.ln(),
        UnaryKind::Tanh => x.tanh(),
        UnaryKind::Sigmoid => sigmoid(x),
        UnaryKind::LogSigmoid => x.min(R::ZERO) - (-x.abs()).exp().ln_1p(),
        UnaryKind::Relu => activation::<R, Every>(Activation::Relu, x),
        UnaryKind::GeluTanh => activation::<R, Every>(Activation::GeluTanh, x),
        UnaryKind::GeluErf => activation::<R, Every>(Activation::GeluErf, x),
        UnaryKind::Square => x * x,
        UnaryKind::Sqrt => x.sqrt(),
        UnaryKind::Reciprocal => R::ONE / x,
        UnaryKind::Abs => x.abs(),
        UnaryKind::Clamp => x.max(a).min(b),
        UnaryKind::Silu => activation::<R, Every>(Activation::Silu, x),
        UnaryKind::QuickGelu => activation::<R, Every>(Activation::QuickGelu, x),
    }
}

/// f′(x). At kinks: 0 for ReLU at 0, 0 for |x| at 0, 1 on the bounds of a clamp, as in PyTorch.
pub fn derivative<R: Real>(kind: UnaryKind, a: R, b: R, x: R) -> R {
    let half = R::from_f64(0.5);
    match kind {
        UnaryKind::Scale => a,
        UnaryKind::Offset => R::ONE,
        UnaryKind::Exp => x.exp(),
        UnaryKind::Ln => R::ONE / x,
        UnaryKind::Reciprocal => -(R::ONE / (x * x)),
        UnaryKind::Tanh => R::ONE - x.tanh() * x.tanh(),
        UnaryKind::Sigmoid => sigmoid(x) * (R::ONE - sigmoid(x)),
        UnaryKind::LogSigmoid => R::ONE - sigmoid(x),
        UnaryKind::Relu => activation_derivative::<R, Every>(Activation::Relu, x),
        UnaryKind::GeluTanh => activation_derivative::<R, Every>(Activation::GeluTanh, x),
        UnaryKind::GeluErf => activation_derivative::<R, Every>(Activation::GeluErf, x),
        UnaryKind::Silu => activation_derivative::<R, Every>(Activation::Silu, x),
        UnaryKind::QuickGelu => activation_derivative::<R, Every>(Activation::QuickGelu, x),
        UnaryKind::Square => x + x,
        UnaryKind::Sqrt => half / x.sqrt(),
        UnaryKind::Abs => {
            if x > R::ZERO {
                R::ONE
            } else if x < R::ZERO {
                -R::ONE
            } else {
                R::ZERO
            }
        }
        UnaryKind::Clamp => {
            if x >= a && x <= b {
                R::ONE
            } else {
                R::ZERO
            }
        }
    }
}

fn gelu_argument<R: Real>(x: R) -> R {
    R::from_f64(SQRT_2_OVER_PI) * (x + R::from_f64(GELU_CUBIC) * x * x * x)
}

/// 1/(1 + e⁻ˣ) without overflow.
fn sigmoid<R: Real>(x: R) -> R {
    let e = (-x.abs()).exp();
    if x >= R::ZERO { R::ONE / (R::ONE + e) } else { e / (R::ONE + e) }
}

/// f(a, b).
pub fn binary<R: Real>(kind: BinaryKind, a: R, b: R) -> R {
    match kind {
        BinaryKind::Add => a + b,
        BinaryKind::Sub => a - b,
        BinaryKind::Mul => a * b,
        BinaryKind::Div => a / b,
        BinaryKind::Min => a.min(b),
        BinaryKind::Max => a.max(b),
    }
}

/// The element of the smaller operand for element i of a tensor of shape `full`: (i / divisor) mod period.
#[derive(Clone, Copy, Debug)]
pub struct Spread {
    divisor: usize,
    period: usize,
}

impl Spread {
    /// The rule for `over`.
    pub fn new(over: Over, full: Shape) -> Self {
        let (divisor, period) = match over {
            Over::Same => (1, full.len()),
            Over::Scalar => (full.len(), 1),
            Over::Row => (1, full.cols()),
            Over::Column => (full.cols(), full.rows()),
            Over::Batch => (1, full.without_batch().len()),
        };
        Self { divisor: divisor.max(1), period: period.max(1) }
    }

    /// The element that belongs to element `i`.
    pub fn index(&self, i: usize) -> usize {
        i.checked_div(self.divisor).and_then(|i| i.checked_rem(self.period)).unwrap_or(0)
    }
}

fn unary_forward<R: Real>(node: &Node<'_>, views: Views<'_, R>, _: &dyn Threads) {
    let Some(Op::Unary { kind, a, b }) = node.op() else { return };
    let [x, ..] = views.inputs;
    let [y, ..] = views.outputs;
    copy(y, x);
    let (a, b) = (R::from_f64(a), R::from_f64(b));
    y.iter_mut().for_each(|y| *y = unary(kind, a, b, *y));
}

fn unary_backward<R: Real>(node: &Node<'_>, views: Views<'_, R>, _: &dyn Threads) {
    let Some(Op::UnaryBackward { kind, a, b }) = node.op() else { return };
    let [dy, x, ..] = views.inputs;
    let [dx, ..] = views.outputs;
    copy(dx, dy);
    let (a, b) = (R::from_f64(a), R::from_f64(b));
    dx.iter_mut().zip(x).for_each(|(dx, &x)| *dx *= derivative(kind, a, b, x));
}

/// The rule of an elementwise function for kernels that have these activations alone.
fn only_activation<const OPCODE: u8, A: Activations>(op: &Op, args: &Args<'_, Refused>) -> Result<Outputs, Refused> {
    if activation_of(op).is_some_and(has::<A>) { only::<OPCODE>(op, args) } else { Err(Refused) }
}

/// The activation that an elementwise function is.
fn activation_of(op: &Op) -> Option<Activation> {
    let (Op::Unary { kind, .. } | Op::UnaryBackward { kind, .. }) = op else { return None };
    kind.activation()
}

fn activation_forward<R: Real, A: Activations>(node: &Node<'_>, views: Views<'_, R>, _: &dyn Threads) {
    let Some(kind) = node.op().as_ref().and_then(activation_of) else { return };
    let [x, ..] = views.inputs;
    let [y, ..] = views.outputs;
    copy(y, x);
    y.iter_mut().for_each(|y| *y = activation::<R, A>(kind, *y));
}

fn activation_backward<R: Real, A: Activations>(node: &Node<'_>, views: Views<'_, R>, _: &dyn Threads) {
    let Some(kind) = node.op().as_ref().and_then(activation_of) else { return };
    let [dy, x, ..] = views.inputs;
    let [dx, ..] = views.outputs;
    copy(dx, dy);
    dx.iter_mut().zip(x).for_each(|(dx, &x)| *dx *= activation_derivative::<R, A>(kind, x));
}

fn binary_forward<R: Real>(node: &Node<'_>, views: Views<'_, R>, _: &dyn Threads) {
    let Some(Op::Binary { kind, over }) = node.op() else { return };
    let [a, b, ..] = views.inputs;
    let [y, ..] = views.outputs;
    copy(y, a);
    let spread = Spread::new(over, node.output_shape(0));
    for (i, y) in y.iter_mut().enumerate() {
        *y = binary(kind, *y, b.get(spread.index(i)).copied().unwrap_or(R::ZERO));
    }
}

fn select_backward<R: Real>(node: &Node<'_>, views: Views<'_, R>, _: &dyn Threads) {
    let Some(Op::SelectBackward { max, over }) = node.op() else { return };
    let [dy, a, b, ..] = views.inputs;
    let [da, ..] = views.outputs;
    copy(da, dy);
    let spread = Spread::new(over, node.output_shape(0));
    for (i, (da, &a)) in da.iter_mut().zip(a).enumerate() {
        let b = b.get(spread.index(i)).copied().unwrap_or(R::ZERO);
        let share = if a == b {
            R::from_f64(0.5)
        } else if (a > b) == max {
            R::ONE
        } else {
            R::ZERO
        };
        *da *= share;
    }
}
