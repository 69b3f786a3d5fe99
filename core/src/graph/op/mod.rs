//! The operations as an enum, with what their rows in `table.rs` define. The files of this folder define shapes, gradients, costs and builder methods
//! of each family of operations.

pub(super) mod attention;
pub(super) mod cache;
mod composed;
pub(super) mod convolution;
pub(super) mod dropout;
pub(super) mod embedding;
pub(super) mod head;
pub(super) mod linear;
pub(super) mod norm;
pub(super) mod optimizer;
pub(super) mod pointwise;
pub(super) mod pooling;
pub(super) mod reduce;
pub(super) mod rotary;
pub(super) mod soft_loss;
pub(super) mod tokens;
pub(super) mod view;

use super::attribute::{
    Activation, AttentionSpec, BinaryKind, Epsilon, Inverted, MAX_ATTRIBUTES, Momentum, Over, Reader, ReduceKind, RotarySpec,
    Stored, UnaryKind, Window, Writer,
};
use super::table::operations;
use super::tensor::Role;

/// The most inputs of a node. Attention's gradient with segments and dropout has nine; one is in reserve.
pub const MAX_INPUTS: usize = 10;
/// Outputs of a node.
pub const MAX_OUTPUTS: usize = 3;

/// Whether an output may reuse the memory of an input.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum InPlace {
    /// Nowhere.
    Never,
    /// Output 0 may overwrite the first of these inputs that has no later reader.
    Inputs(&'static [u8]),
    /// Output 0 is this input.
    Alias(u8),
}

/// How a run of the node shows outside the arena, but for gradients.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Effect {
    /// Only through its outputs.
    None,
    /// It writes the state that its output 0 is.
    State,
    /// It changes parameters or moments.
    Update,
}

/// Whether a node reads the gradient buffer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ReadsGradients {
    /// Never.
    Never,
    /// Always.
    Always,
    /// Unless it has this input, which takes the buffer's place.
    UnlessInput(u8),
}

/// The encoding of an attribute: its type's, or the one named in its row.
macro_rules! codec {
    ($ty:ty) => {
        $ty
    };
    ($ty:ty, $codec:ty) => {
        $codec
    };
}

/// The value in a row, or the default where the row has none.
macro_rules! or {
    ($default:expr) => {
        $default
    };
    ($default:expr, $said:expr) => {
        $said
    };
}

macro_rules! differentiable {
    (none, $i:expr) => { false };
    ([$($input:literal),+], $i:expr) => { false $(|| $i == $input)+ };
}

macro_rules! define {
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
        /// An operation with its attributes. Each lists its inputs and outputs; `?` marks optional ones, `rows` is the product of all but
        /// the last extent.
        // The discriminant is the opcode, so that `rules::only` for one opcode compiles without the other rules, in any order of rows.
        #[derive(Clone, Copy, Debug, PartialEq)]
        #[repr(u8)]
        pub enum Op {
            $($(#[$doc])* $variant $({ $($(#[$field_doc])* $field: $ty,)* })? $(($spec_ty))? = $code,)*
        }

        /// One type per operation with its attributes, for which its family implements the rules.
        // No rule reads every attribute.
        #[allow(dead_code)]
        pub(super) mod of {
            use super::*;
            $(
                #[derive(Clone, Copy)]
                pub(crate) struct $variant { $($(pub(crate) $field: $ty,)*)? $(pub(crate) $spec: $spec_ty,)? }
            )*
        }

        impl Op {
            /// The number of operations.
            pub const COUNT: usize = [$($name),*].len();

            /// The code of the operation in a node record.
            pub const fn opcode(&self) -> u8 {
                match self { $(Self::$variant { .. } => $code,)* }
            }

            /// The operation's name.
            pub const fn name(&self) -> &'static str {
                match self { $(Self::$variant { .. } => $name,)* }
            }

            /// Where output 0 may reuse the memory of an input.
            pub const fn in_place(&self) -> InPlace {
                match self { $(Self::$variant { .. } => $in_place,)* }
            }

            /// How a run shows outside the arena.
            pub const fn effect(&self) -> Effect {
                match self { $(Self::$variant { .. } => Effect::$effect,)* }
            }

            /// The input indices of x (M, K) and W (N, K) of its matrix product, for the cost.
            pub const fn product(&self) -> Option<[usize; 2]> {
                match self { $(Self::$variant { .. } => or!(None $(, Some([$x, $w]))?),)* }
            }

            /// Whether input `i` is differentiable.
            pub(crate) const fn differentiable(&self, i: usize) -> bool {
                match self { $(Self::$variant { .. } => differentiable!($gradient, i),)* }
            }

            /// Whether a gradient can flow through output `i`: the first, and those that the row names.
            pub(crate) const fn differentiable_through(&self, i: usize) -> bool {
                match self { $(Self::$variant { .. } => i == 0 $($(|| i == $through)+)?,)* }
            }

            /// Whether the operation can read input `i` from a first column on.
            pub(crate) const fn reads_columns(&self, i: usize) -> bool {
                match self { $(Self::$variant { .. } => false $($(|| i == $column)*)?,)* }
            }

            /// Whether the operation reads input `i` in any element type if it has this role: read-only weights and caches, whose gradients are never
            /// computed.
            pub(crate) const fn reads_quantised(&self, i: usize, role: Role) -> bool {
                match self { $(Self::$variant { .. } => false $(|| matches!(role, Role::$role) && (false $(|| i == $quantised)*))?,)* }
            }

            /// Whether the operation reads the gradient buffer.
            pub(crate) const fn reads_gradients(&self) -> ReadsGradients {
                match self { $(Self::$variant { .. } => or!(ReadsGradients::Never $(, $gradients)?),)* }
            }

            /// The attributes as encoded in a node record.
            pub fn attributes(&self) -> [f64; MAX_ATTRIBUTES] {
                let mut to = Writer::default();
                match *self {
                    $(Self::$variant $({ $($field),* })? $(($spec))? => {
                        $($(<codec!($ty $(, $codec)?) as Stored>::write($field, &mut to);)*)?
                        $(<$spec_ty as Stored>::write($spec, &mut to);)?
                    })*
                }
                to.places
            }

            /// The operation of a node record; `None` for an unknown opcode or an invalid attribute.
            pub fn decode(opcode: u8, attributes: &[f64; MAX_ATTRIBUTES]) -> Option<Self> {
                let mut from = Reader::new(attributes);
                Some(match opcode {
                    $($code => Self::$variant
                        $({ $($field: <codec!($ty $(, $codec)?) as Stored>::read(&mut from)?),* })?
                        $((<$spec_ty as Stored>::read(&mut from)?))?,)*
                    _ => return None,
                })
            }
        }

        // Opcodes index tables: each is below the number of operations, and the compiler rejects duplicates.
        $(const _: () = assert!($code < Op::COUNT, "codes have no gaps");)*
    };
}

operations!(define);

#[cfg(test)]
mod tests {
    use super::super::attribute::Pairing;
    use super::*;

    #[test]
    fn records_from_before_an_attribute_read_as_they_meant() {
        let stored = [1e-5, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0];
        assert_eq!(Op::decode(2, &stored), Some(Op::LayerNorm { eps: 1e-5, centre: true }));
        assert_eq!(Op::decode(3, &[0.0; MAX_ATTRIBUTES]), Some(Op::LayerNormBackward { centre: true }));
    }

    #[test]
    fn attributes_are_read_as_they_were_written() {
        let spec = AttentionSpec { heads: 4, kv_heads: 2, head_dim: 8, causal: true, window: 5, scale: 0.25, site: 3 };
        let all = [
            Op::Linear { activation: Activation::QuickGelu, slope: true },
            Op::LayerNorm { eps: 1e-6, centre: false },
            Op::LayerNormBackward { centre: false },
            Op::Attention(spec),
            Op::AttentionBackward(spec),
            Op::Rotary(RotarySpec { heads: 4, head_dim: 8, rotated: 6, pairs: Pairing::Adjacent, base: 5e5, inverse: true }),
            Op::Conv2d { window: Window { kernel: [7, 5], stride: [2, 1], padding: [3, 2], dilation: 4 }, relu: true },
            Op::Broadcast { over: Over::Row, dims: [2, 3, 4, 1], rank: 3 },
            Op::Constant { value: -0.5, dims: [2, 1, 1, 1], rank: 1 },
            Op::AdamW { start: 16, len: 32, decay: true, epsilon: Epsilon::BeforeCorrection },
            Op::Sgd { start: 16, len: 32, decay: false, momentum: Momentum::None },
        ];
        for op in all {
            assert_eq!(Op::decode(op.opcode(), &op.attributes()), Some(op));
        }
        let mut broken = Op::AdamW { start: 0, len: 1, decay: true, epsilon: Epsilon::AfterCorrection }.attributes();
        broken[2] = 2.0;
        assert_eq!(Op::decode(28, &broken), None, "a boolean that is neither");
    }
}
