//! From an operation to the rules of its family.

use super::adjoint::Step;
use super::args::{Args, Outputs, Refused};
use super::error::GraphErrorKind as E;
use super::family::{Cheap, Differentiable, Operation, Reach, Update};
use super::op::{Op, of};
use super::record::NodeRecord;
use super::table::operations;
use super::tape::Tape;
use super::tensor::Tensor;
use super::work::Work;

macro_rules! gradient {
    (none, $op:expr, $tape:expr, $step:expr) => {{
        let _ = $op;
        Ok(())
    }};
    ([$($input:literal),+], $op:expr, $tape:expr, $step:expr) => {
        Differentiable::gradient($op, $tape, $step)
    };
}

macro_rules! again {
    ($op:expr, $tape:expr, $node:expr) => {{
        let _ = $op;
        Ok(None)
    }};
    ($op:expr, $tape:expr, $node:expr, cheap) => {
        Cheap::again($op, $tape, $node)
    };
}

macro_rules! reach {
    (Update, $op:expr, $len:expr) => {
        Some(Update::reach($op, $len))
    };
    ($effect:ident, $op:expr, $len:expr) => {{
        let _ = $op;
        None
    }};
}

macro_rules! dispatch {
    ($(
        $(#[$doc:meta])*
        $code:literal $variant:ident
            $({ $($(#[$field_doc:meta])* $field:ident: $ty:ty $(=> $codec:ty)?,)* })?
            $(($spec:ident: $spec_ty:ty))?
            = $name:literal, gradient: $gradient:tt, in_place: $in_place:expr, effect: $effect:ident
            $(, columns: [$($column:literal),*])?
            $(, quantised: $role:ident [$($quantised:literal),*])?
            $(, gradients: $gradients:expr)?
            $(, product: [$x:literal, $w:literal])?
            $(, again: $again:ident)?
            $(, through: [$($through:literal),+])?
            ;
    )*) => {
        /// The shapes of the outputs of `op`, or the error in its inputs.
        #[inline(always)]
        pub(crate) fn infer<F: From<E>>(op: &Op, args: &Args<'_, F>) -> Result<Outputs, F> {
            match *op {
                $(Op::$variant $({ $($field),* })? $(($spec))? =>
                    of::$variant { $($($field,)*)? $($spec,)? }.shapes(args),)*
            }
        }

        /// Floating-point operations and bytes of a node.
        pub(crate) fn flops_and_bytes(op: &Op, work: &Work<'_>) -> (u64, u64) {
            match *op {
                $(Op::$variant $({ $($field),* })? $(($spec))? => {
                    let op = of::$variant { $($($field,)*)? $($spec,)? };
                    (op.flops(work), op.bytes(work))
                })*
            }
        }

        /// Appends the gradient of a node.
        pub(super) fn differentiate(op: &Op, tape: &mut Tape<'_>, step: &Step) -> Result<(), E> {
            match *op {
                $(Op::$variant $({ $($field),* })? $(($spec))? =>
                    gradient!($gradient, (of::$variant { $($($field,)*)? $($spec,)? }), tape, step),)*
            }
        }

        /// Computes output 0 of a node again if that is cheap.
        pub(super) fn again(op: &Op, tape: &mut Tape<'_>, node: &NodeRecord) -> Result<Option<Tensor>, E> {
            match *op {
                $(Op::$variant $({ $($field),* })? $(($spec))? =>
                    again!((of::$variant { $($($field,)*)? $($spec,)? }), tape, node $(, $again)?),)*
            }
        }

        /// The parameters that an update changes; `None` for an operation that is not an update.
        pub(crate) fn reach(op: &Op, trainable_len: usize) -> Option<Reach> {
            match *op {
                $(Op::$variant $({ $($field),* })? $(($spec))? =>
                    reach!($effect, (of::$variant { $($($field,)*)? $($spec,)? }), trainable_len),)*
            }
        }
    };
}

operations!(dispatch);

/// The shape rule of an operation on a device: it tells only that a node is refused, without the reason.
pub(crate) type Rule = fn(&Op, &Args<'_, Refused>) -> Result<Outputs, Refused>;

/// The shape rule of one operation alone: a device links only the rules of its table of kernels.
pub(crate) fn only<const OPCODE: u8>(op: &Op, args: &Args<'_, Refused>) -> Result<Outputs, Refused> {
    if op.opcode() == OPCODE { infer(op, args) } else { Err(Refused) }
}

/// The rule of an operation for a kernel that computes output 0 alone: it refuses a node whose other outputs are read.
pub(crate) fn only_first<const OPCODE: u8>(op: &Op, args: &Args<'_, Refused>) -> Result<Outputs, Refused> {
    let [first, ..] = only::<OPCODE>(op, args)?;
    Ok([first, None, None])
}

/// The rule of attention for a kernel that computes output 0 alone, without dropout.
pub(crate) fn without_dropout<const OPCODE: u8>(op: &Op, args: &Args<'_, Refused>) -> Result<Outputs, Refused> {
    if args.get(6).is_none() { only_first::<OPCODE>(op, args) } else { Err(Refused) }
}
