//! The operations, and what is decided for each of them in exhaustive matches.
//!
//! Append only: the position of an operation in [`Op::opcode`] is its code in a stored program.

/// Attributes of a node record.
pub const MAX_ATTRIBUTES: usize = 8;
/// Inputs of a node.
pub const MAX_INPUTS: usize = 10;
/// Outputs of a node.
pub const MAX_OUTPUTS: usize = 3;

macro_rules! code_enum {
    ($(#[$meta:meta])* $name:ident { $($(#[$vmeta:meta])* $variant:ident = $code:literal,)* }) => {
        $(#[$meta])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        #[repr(u8)]
        pub enum $name { $($(#[$vmeta])* $variant = $code,)* }
        impl $name {
            fn from_code(code: u32) -> Option<Self> {
                match code { $($code => Some(Self::$variant),)* _ => None }
            }
            fn code(self) -> f64 { f64::from(self as u8) }
        }
    };
}

code_enum! {
    /// The activation in the epilogue of a linear layer.
    Activation {
        /// None.
        None = 0,
        /// max(x, 0).
        Relu = 1,
        /// 0.5 x (1 + tanh(√(2/π)(x + 0.044715 x³))): GPT-2's GELU.
        GeluTanh = 2,
        /// x Φ(x): the exact GELU.
        GeluErf = 3,
        /// x σ(x).
        Silu = 4,
        /// x σ(1.702 x): CLIP's approximation of GELU.
        QuickGelu = 5,
    }
}

impl Activation {
    /// The elementwise function that it is, if it is one.
    pub const fn unary(self) -> Option<UnaryKind> {
        match self {
            Self::None => None,
            Self::Relu => Some(UnaryKind::Relu),
            Self::GeluTanh => Some(UnaryKind::GeluTanh),
            Self::GeluErf => Some(UnaryKind::GeluErf),
            Self::Silu => Some(UnaryKind::Silu),
            Self::QuickGelu => Some(UnaryKind::QuickGelu),
        }
    }
}

code_enum! {
    /// Which elements of the smaller operand belong to an element of the larger one, seen as a matrix (rows, cols) or as (batch, rest).
    Over {
        /// The same element.
        Same = 0,
        /// The only element.
        Scalar = 1,
        /// The element of the same column: the operand is one row.
        Row = 2,
        /// The element of the same row: the operand is one column.
        Column = 3,
        /// The same element of every item of the batch: the operand is one item.
        Batch = 4,
    }
}

code_enum! {
    /// Functions of one number; `a` and `b` are attributes.
    UnaryKind {
        /// a x.
        Scale = 0,
        /// x + a.
        Offset = 1,
        /// eˣ.
        Exp = 2,
        /// ln x.
        Ln = 3,
        /// tanh x.
        Tanh = 4,
        /// 1/(1 + e⁻ˣ).
        Sigmoid = 5,
        /// ln(1/(1 + e⁻ˣ)).
        LogSigmoid = 6,
        /// max(x, 0).
        Relu = 7,
        /// GPT-2's GELU.
        GeluTanh = 8,
        /// The exact GELU.
        GeluErf = 9,
        /// x².
        Square = 10,
        /// √x.
        Sqrt = 11,
        /// 1/x.
        Reciprocal = 12,
        /// |x|.
        Abs = 13,
        /// min(max(x, a), b).
        Clamp = 14,
        /// x σ(x).
        Silu = 15,
        /// x σ(1.702 x): CLIP's approximation of GELU.
        QuickGelu = 16,
    }
}

code_enum! {
    /// Functions of two numbers.
    BinaryKind {
        /// a + b.
        Add = 0,
        /// a − b.
        Sub = 1,
        /// a b.
        Mul = 2,
        /// a / b.
        Div = 3,
        /// min(a, b).
        Min = 4,
        /// max(a, b).
        Max = 5,
    }
}

code_enum! {
    /// How elements are reduced.
    ReduceKind {
        /// Their sum.
        Sum = 0,
        /// Their maximum.
        Max = 1,
    }
}

code_enum! {
    /// Where Adam's ε stands.
    Epsilon {
        /// m̂ / (√v̂ + ε), after the bias corrections: PyTorch, the paper's Algorithm 1.
        AfterCorrection = 0,
        /// lr √(1−β₂ᵗ)/(1−β₁ᵗ) · m / (√v + ε): TensorFlow, the paper's "ε̂".
        BeforeCorrection = 1,
    }
}

code_enum! {
    /// How stochastic gradient descent uses past gradients; g is the gradient with weight decay, b the moment, μ the momentum.
    Momentum {
        /// b = μ b + g, w −= lr b.
        Classical = 0,
        /// b = μ b + g, w −= lr (g + μ b): Nesterov's.
        Nesterov = 1,
        /// w −= lr g: no moment, and no memory for one.
        None = 2,
    }
}

code_enum! {
    /// Which numbers of a head a rotary embedding turns together; R of them are turned.
    Pairing {
        /// xᵢ and xᵢ₊ᵣ/₂, as in Hugging Face's Llama.
        Halves = 0,
        /// x₂ᵢ and x₂ᵢ₊₁, as in Llama's own code and in GGUF.
        Adjacent = 1,
    }
}

/// A rotary position embedding (Su et al. 2021): pair i of a head at position p is turned by the angle p · base^(−2i/rotated).
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct RotarySpec {
    /// Heads of a row that are turned, from its first column on.
    pub heads: u32,
    /// Columns of one head.
    pub head_dim: u32,
    /// The first columns of a head that are turned, an even number.
    pub rotated: u32,
    /// Which numbers make a pair.
    pub pairs: Pairing,
    /// The base of the angles, usually 10000.
    pub base: f64,
    /// Whether pairs are turned back: the gradient.
    pub inverse: bool,
}

/// The one mask mechanism of attention, and how queries and keys are cut into heads.
///
/// Query i of sequence b (its absolute position is p = live − Tq + i, where live is the number of live keys, Tk without counts) attends to key j iff
/// j < live, and j ≤ p when `causal`, and j > p − `window` when `window` > 0, and the segment ids are equal and not negative where they are given.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct AttentionSpec {
    /// Query heads.
    pub heads: u32,
    /// Key and value heads; divides `heads`.
    pub kv_heads: u32,
    /// Columns of one head.
    pub head_dim: u32,
    /// Whether a query sees no later key.
    pub causal: bool,
    /// How many keys up to its own position a query sees; 0 means all.
    pub window: u32,
    /// The factor of the scores, usually 1/√head_dim.
    pub scale: f64,
    /// The dropout site of the attention probabilities; used when a dropout control is given.
    pub site: u32,
}

impl AttentionSpec {
    /// The keys that position alone allows query `t` of `queries` to see when `live` keys are there: `from..to`.
    pub fn span(&self, live: usize, queries: usize, t: usize) -> (usize, usize) {
        // The position of the query is live − Tq + t; one past it ends the causal span.
        let end = (live + t + 1).saturating_sub(queries);
        let to = if self.causal { end.min(live) } else { live };
        let from = if self.window > 0 { end.saturating_sub(self.window as usize) } else { 0 };
        (from.min(to), to)
    }
}

/// An operation with its attributes. Inputs and outputs are listed beside each; `?` marks optional ones, `rows` is the product of all but the last extent.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Op {
    /// y = act(x Wᵀ + b) + r. In: x (…, K), W (N, K), b (N)?, r (…, N)?. Out: y (…, N), value before the activation, or slope (…, N)?.
    Linear {
        /// The activation.
        activation: Activation,
        /// Whether output 1 is the derivative of the activation instead of its argument: all that the gradient needs if nothing is computed again.
        slope: bool,
    },
    /// In: dy (…, N), x (…, K)?, W (N, K), addend (…, K)?. Out: dx = dy W + addend?, dW = dyᵀ x?, db = Σ dy?. Only dW reads x: without x there
    /// is no dW, and x need not be kept.
    LinearBackward,
    /// y = (x − μ)/√(σ² + ε) · w + b over columns. In: x (…, C), w (C)?, b (C)?. Out: y, (μ, 1/√(σ² + ε)) (rows, 2)?.
    LayerNorm {
        /// ε.
        eps: f64,
        /// Whether the mean is taken off; without, μ = 0 and σ² is the mean of x²: RMS norm.
        centre: bool,
    },
    /// In: dy, x, w?, statistics (rows, 2), addend?. Out: dx + addend?, dw?, db?.
    LayerNormBackward {
        /// As in the forward pass.
        centre: bool,
    },
    /// `y = table[id] + addend`. In: ids (…) i32, table (V, C), addend (…, C)?. Out: y (…, C).
    Embedding,
    /// In: ids (…) i32, dy (…, C). Out: dtable (V, C).
    EmbeddingBackward {
        /// V.
        vocab: u32,
    },
    /// softmax(scale q kᵀ + mask) v per head. In: q (B, Tq, ·), k (B, Tk, ·), v (B, Tk, ·), query segments (B, Tq)?, key segments (B, Tk)?, live keys (B)?,
    /// dropout control (5)?. Out: o (B, Tq, heads·head_dim), log-sum-exp (B, heads, Tq)?.
    Attention(AttentionSpec),
    /// In: do, q, k, v, o, log-sum-exp, query segments?, key segments?, dropout control?. Out: the gradient of every distinct tensor among q, k, v.
    AttentionBackward(AttentionSpec),
    /// `state[b, start[b] + t] = x[b, t]`. In: x (B, T, ·) from a first column, starts (B) i32, state (B, Tmax, C). Out: the state, written.
    CacheWrite,
    /// Cross-entropy of softmax(x Wᵀ + b) per row; a negative target gives 0. In: x (…, C), W (V, C), b (V)?, targets (…) i32.
    /// Out: losses (rows), log-sum-exp (rows)?.
    HeadLoss {
        /// Label smoothing α: target distribution (1−α)·one-hot + α/V.
        smoothing: f64,
    },
    /// The same and its gradients in one pass over chunks of rows. In: x, W, -, targets, upstream (1 or rows). Out: losses (rows), dx?, dW?.
    HeadLossTrain {
        /// Label smoothing α.
        smoothing: f64,
    },
    /// In: x, W, b?, targets, upstream (1 or rows), log-sum-exp (rows). Out: dx?, dW?, db?.
    HeadLossBackward {
        /// Label smoothing α.
        smoothing: f64,
    },
    /// Zeroes elements with probability p and divides the others by 1 − p. In: x, dropout control (5). Out: y.
    Dropout {
        /// The number of this place in the model, part of the random counter.
        site: u32,
    },
    /// In: x. Out: f(x).
    Unary {
        /// f.
        kind: UnaryKind,
        /// First attribute of f.
        a: f64,
        /// Second attribute of f.
        b: f64,
    },
    /// In: dy, x. Out: dy f′(x).
    UnaryBackward {
        /// f.
        kind: UnaryKind,
        /// First attribute of f.
        a: f64,
        /// Second attribute of f.
        b: f64,
    },
    /// In: a, b (smaller or equal, spread over a). Out: f(a, b) in the shape of a.
    Binary {
        /// f.
        kind: BinaryKind,
        /// How b spreads over a.
        over: Over,
    },
    /// The part of dy that goes to a in min(a, b) or max(a, b); ties share equally. In: dy, a, b. Out: da.
    SelectBackward {
        /// Whether the maximum was taken.
        max: bool,
        /// How b spreads over a.
        over: Over,
    },
    /// Spreads a small tensor. In: x. Out: a tensor of the given shape.
    Broadcast {
        /// How x spreads.
        over: Over,
        /// Extents of the result, 1 beyond the rank.
        dims: [u32; 4],
        /// Rank of the result.
        rank: u32,
    },
    /// The reverse of a broadcast. In: x. Out: the reduced tensor.
    Reduce {
        /// Sum or maximum.
        kind: ReduceKind,
        /// Which elements fall together.
        over: Over,
    },
    /// Gradient of a maximum; ties share equally. In: dy, x, y. Out: dx.
    ReduceMaxBackward {
        /// Which elements fell together.
        over: Over,
    },
    /// Tokens first..first+count of every sequence. In: x (B, T, C). Out: (B, count, C).
    TokenSlice {
        /// The first token.
        first: u32,
        /// How many.
        count: u32,
    },
    /// The reverse: zeros but for the given tokens. In: x (B, count, C). Out: (B, T, C).
    TokenPad {
        /// Where the first token goes.
        first: u32,
        /// T.
        tokens: u32,
    },
    /// In: a (B, Ta, C), b (B, Tb, C). Out: (B, Ta + Tb, C).
    TokenConcat,
    /// x with tokens first.. replaced. In: x (B, T, C), p (B, P, C). Out: (B, T, C).
    TokenReplace {
        /// The first token replaced.
        first: u32,
    },
    /// The same elements with another shape; no work at run time. In: x. Out: x.
    Reshape {
        /// Extents of the result, 1 beyond the rank.
        dims: [u32; 4],
        /// Rank of the result.
        rank: u32,
    },
    /// Adds a gradient that lies in the arena to the parameter's gradient. In: g. Out: the parameter's gradient.
    AccumulateGrad,
    /// A tensor filled with one value. Out: the tensor.
    Constant {
        /// The value.
        value: f64,
        /// Extents, 1 beyond the rank.
        dims: [u32; 4],
        /// Rank.
        rank: u32,
    },
    /// ‖all gradients‖₂. Out: (1).
    GlobalNorm,
    /// Adam with decoupled weight decay on a range of the trainable parameters. In: hyper-parameters (8), gradient norm (1)?, gradient (len)?.
    /// The gradient is that of the range, from the arena; without it the range of the gradient buffer is read.
    AdamW {
        /// First element of the range.
        start: u32,
        /// Elements of the range.
        len: u32,
        /// Whether weight decay applies.
        decay: bool,
        /// Where ε stands.
        epsilon: Epsilon,
    },
    /// Stochastic gradient descent, weight decay added to the gradient. In: hyper-parameters (8), gradient norm (1)?, gradient (len)?, as for
    /// AdamW.
    Sgd {
        /// First element of the range.
        start: u32,
        /// Elements of the range.
        len: u32,
        /// Whether weight decay applies.
        decay: bool,
        /// How past gradients count.
        momentum: Momentum,
    },
    /// Moving average of all trainable parameters, in the moment buffer `slot`: e = d e + (1 − d) w. In: d (1).
    Ema {
        /// Which moment buffer holds the average.
        slot: u32,
    },
    /// The live tokens of a state of any element type, as numbers; the others are left as they are. In: state (B, Tmax, C), live tokens (B) i32.
    /// Out: (B, Tmax, C).
    CacheRead,
    /// A rotary embedding. In: x (…, C), positions (as many as rows) i32. Out: y (…, C).
    Rotary(RotarySpec),
}

/// Where an output may take the place of an input.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum InPlace {
    /// Nowhere.
    Never,
    /// Output 0 may overwrite the first of these inputs that nobody reads later.
    Inputs(&'static [u8]),
    /// Output 0 is this input.
    Alias(u8),
}

/// How a run of the node shows outside the arena.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Effect {
    /// Only through its outputs.
    None,
    /// It changes parameters or moments.
    Update,
}

impl Op {
    /// How many operations there are.
    pub const COUNT: usize = 33;

    /// The code of the operation in a node record.
    pub const fn opcode(&self) -> u8 {
        match self {
            Self::Linear { .. } => 0,
            Self::LinearBackward => 1,
            Self::LayerNorm { .. } => 2,
            Self::LayerNormBackward { .. } => 3,
            Self::Embedding => 4,
            Self::EmbeddingBackward { .. } => 5,
            Self::Attention(_) => 6,
            Self::AttentionBackward(_) => 7,
            Self::CacheWrite => 8,
            Self::HeadLoss { .. } => 9,
            Self::HeadLossTrain { .. } => 10,
            Self::HeadLossBackward { .. } => 11,
            Self::Dropout { .. } => 12,
            Self::Unary { .. } => 13,
            Self::UnaryBackward { .. } => 14,
            Self::Binary { .. } => 15,
            Self::SelectBackward { .. } => 16,
            Self::Broadcast { .. } => 17,
            Self::Reduce { .. } => 18,
            Self::ReduceMaxBackward { .. } => 19,
            Self::TokenSlice { .. } => 20,
            Self::TokenPad { .. } => 21,
            Self::TokenConcat => 22,
            Self::TokenReplace { .. } => 23,
            Self::Reshape { .. } => 24,
            Self::AccumulateGrad => 25,
            Self::Constant { .. } => 26,
            Self::GlobalNorm => 27,
            Self::AdamW { .. } => 28,
            Self::Sgd { .. } => 29,
            Self::Ema { .. } => 30,
            Self::CacheRead => 31,
            Self::Rotary(_) => 32,
        }
    }

    /// The operation's name.
    pub const fn name(&self) -> &'static str {
        match self {
            Self::Linear { .. } => "linear",
            Self::LinearBackward => "linear backward",
            Self::LayerNorm { .. } => "layer norm",
            Self::LayerNormBackward { .. } => "layer norm backward",
            Self::Embedding => "embedding",
            Self::EmbeddingBackward { .. } => "embedding backward",
            Self::Attention(_) => "attention",
            Self::AttentionBackward(_) => "attention backward",
            Self::CacheWrite => "cache write",
            Self::HeadLoss { .. } => "head loss",
            Self::HeadLossTrain { .. } => "head loss and gradients",
            Self::HeadLossBackward { .. } => "head loss backward",
            Self::Dropout { .. } => "dropout",
            Self::Unary { .. } => "unary",
            Self::UnaryBackward { .. } => "unary backward",
            Self::Binary { .. } => "binary",
            Self::SelectBackward { .. } => "select backward",
            Self::Broadcast { .. } => "broadcast",
            Self::Reduce { .. } => "reduce",
            Self::ReduceMaxBackward { .. } => "reduce max backward",
            Self::TokenSlice { .. } => "token slice",
            Self::TokenPad { .. } => "token pad",
            Self::TokenConcat => "token concat",
            Self::TokenReplace { .. } => "token replace",
            Self::Reshape { .. } => "reshape",
            Self::AccumulateGrad => "accumulate gradient",
            Self::Constant { .. } => "constant",
            Self::GlobalNorm => "global norm",
            Self::AdamW { .. } => "AdamW",
            Self::Sgd { .. } => "SGD",
            Self::Ema { .. } => "moving average",
            Self::CacheRead => "cache read",
            Self::Rotary(_) => "rotary",
        }
    }

    /// Where output 0 may take the place of an input.
    pub const fn in_place(&self) -> InPlace {
        match self {
            Self::Linear { .. } => InPlace::Inputs(&[3]),
            // dx is as large as x, which is read before it is written.
            Self::LinearBackward => InPlace::Inputs(&[3, 1]),
            Self::LayerNormBackward { .. } => InPlace::Inputs(&[4]),
            Self::Embedding => InPlace::Inputs(&[2]),
            Self::Dropout { .. }
            | Self::Unary { .. }
            | Self::UnaryBackward { .. }
            | Self::Binary { .. }
            | Self::TokenReplace { .. }
            | Self::Rotary(_)
            | Self::SelectBackward { .. } => InPlace::Inputs(&[0]),
            Self::Reshape { .. } => InPlace::Alias(0),
            Self::CacheWrite => InPlace::Alias(2),
            Self::LayerNorm { .. }
            | Self::EmbeddingBackward { .. }
            | Self::Attention(_)
            | Self::AttentionBackward(_)
            | Self::HeadLoss { .. }
            | Self::HeadLossTrain { .. }
            | Self::HeadLossBackward { .. }
            | Self::Broadcast { .. }
            | Self::Reduce { .. }
            | Self::ReduceMaxBackward { .. }
            | Self::TokenSlice { .. }
            | Self::TokenPad { .. }
            | Self::TokenConcat
            | Self::AccumulateGrad
            | Self::Constant { .. }
            | Self::GlobalNorm
            | Self::AdamW { .. }
            | Self::Sgd { .. }
            | Self::Ema { .. }
            | Self::CacheRead => InPlace::Never,
        }
    }

    /// Whether the operation can read input `i` from a first column on.
    pub(crate) const fn reads_columns(&self, i: usize) -> bool {
        match self {
            Self::Attention(_) => i < 3,
            Self::AttentionBackward(_) => 1 <= i && i < 4,
            Self::CacheWrite => i == 0,
            _ => false,
        }
    }

    /// Whether a run changes parameters or moments.
    pub const fn effect(&self) -> Effect {
        match self {
            Self::AdamW { .. } | Self::Sgd { .. } | Self::Ema { .. } => Effect::Update,
            Self::Linear { .. }
            | Self::LinearBackward
            | Self::LayerNorm { .. }
            | Self::LayerNormBackward { .. }
            | Self::Rotary(_)
            | Self::Embedding
            | Self::EmbeddingBackward { .. }
            | Self::Attention(_)
            | Self::AttentionBackward(_)
            | Self::CacheWrite
            | Self::CacheRead
            | Self::HeadLoss { .. }
            | Self::HeadLossTrain { .. }
            | Self::HeadLossBackward { .. }
            | Self::Dropout { .. }
            | Self::Unary { .. }
            | Self::UnaryBackward { .. }
            | Self::Binary { .. }
            | Self::SelectBackward { .. }
            | Self::Broadcast { .. }
            | Self::Reduce { .. }
            | Self::ReduceMaxBackward { .. }
            | Self::TokenSlice { .. }
            | Self::TokenPad { .. }
            | Self::TokenConcat
            | Self::TokenReplace { .. }
            | Self::Reshape { .. }
            | Self::AccumulateGrad
            | Self::Constant { .. }
            | Self::GlobalNorm => Effect::None,
        }
    }

    /// The attributes as they stand in a node record.
    pub fn attributes(&self) -> [f64; MAX_ATTRIBUTES] {
        let mut out = [0.0; MAX_ATTRIBUTES];
        let mut set = |values: &[f64]| {
            for (to, &from) in out.iter_mut().zip(values) {
                *to = from;
            }
        };
        match *self {
            Self::Linear { activation, slope } => set(&[activation.code(), f64::from(u8::from(slope))]),
            Self::LayerNorm { eps, centre } => set(&[eps, f64::from(u8::from(!centre))]),
            Self::LayerNormBackward { centre } => set(&[0.0, f64::from(u8::from(!centre))]),
            Self::Rotary(s) => set(&[
                f64::from(s.heads),
                f64::from(s.head_dim),
                f64::from(s.rotated),
                s.pairs.code(),
                s.base,
                f64::from(u8::from(s.inverse)),
            ]),
            Self::EmbeddingBackward { vocab } => set(&[f64::from(vocab)]),
            Self::Attention(s) | Self::AttentionBackward(s) => set(&[
                f64::from(s.heads),
                f64::from(s.kv_heads),
                f64::from(s.head_dim),
                f64::from(u8::from(s.causal)),
                f64::from(s.window),
                s.scale,
                f64::from(s.site),
            ]),
            Self::HeadLoss { smoothing } | Self::HeadLossTrain { smoothing } | Self::HeadLossBackward { smoothing } => {
                set(&[smoothing])
            }
            Self::Dropout { site } => set(&[f64::from(site)]),
            Self::Unary { kind, a, b } | Self::UnaryBackward { kind, a, b } => set(&[kind.code(), a, b]),
            Self::Binary { kind, over } => set(&[kind.code(), over.code()]),
            Self::SelectBackward { max, over } => set(&[f64::from(u8::from(max)), over.code()]),
            Self::Broadcast { over, dims: [d0, d1, d2, d3], rank } => {
                set(&[over.code(), f64::from(d0), f64::from(d1), f64::from(d2), f64::from(d3), f64::from(rank)]);
            }
            Self::Reduce { kind, over } => set(&[kind.code(), over.code()]),
            Self::ReduceMaxBackward { over } => set(&[over.code()]),
            Self::TokenSlice { first, count } => set(&[f64::from(first), f64::from(count)]),
            Self::TokenPad { first, tokens } => set(&[f64::from(first), f64::from(tokens)]),
            Self::TokenReplace { first } => set(&[f64::from(first)]),
            Self::Reshape { dims: [d0, d1, d2, d3], rank } => {
                set(&[f64::from(d0), f64::from(d1), f64::from(d2), f64::from(d3), f64::from(rank)]);
            }
            Self::Constant { value, dims: [d0, d1, d2, d3], rank } => {
                set(&[value, f64::from(d0), f64::from(d1), f64::from(d2), f64::from(d3), f64::from(rank)]);
            }
            Self::AdamW { start, len, decay, epsilon } => {
                set(&[f64::from(start), f64::from(len), f64::from(u8::from(decay)), epsilon.code()]);
            }
            Self::Sgd { start, len, decay, momentum } => {
                set(&[f64::from(start), f64::from(len), f64::from(u8::from(decay)), momentum.code()]);
            }
            Self::Ema { slot } => set(&[f64::from(slot)]),
            Self::LinearBackward
            | Self::Embedding
            | Self::CacheWrite
            | Self::CacheRead
            | Self::TokenConcat
            | Self::AccumulateGrad
            | Self::GlobalNorm => {}
        }
        out
    }

    /// The operation that a node record describes; `None` for an unknown code or an impossible attribute.
    pub fn decode(opcode: u8, attributes: &[f64; MAX_ATTRIBUTES]) -> Option<Self> {
        let &[a0, a1, a2, _, a4, a5, ..] = attributes;
        // Most attributes are integers: all that are one are converted in one place.
        let integers = attributes.map(integer);
        let n = |i: usize| integers.get(i).copied().flatten();
        let dims = |first: usize| Some([n(first)?, n(first + 1)?, n(first + 2)?, n(first + 3)?]);
        let attention = || {
            Some(AttentionSpec {
                heads: n(0)?,
                kv_heads: n(1)?,
                head_dim: n(2)?,
                causal: boolean(n(3)?)?,
                window: n(4)?,
                scale: a5,
                site: n(6)?,
            })
        };
        Some(match opcode {
            0 => Self::Linear { activation: Activation::from_code(n(0)?)?, slope: boolean(n(1)?)? },
            1 => Self::LinearBackward,
            2 => Self::LayerNorm { eps: a0, centre: !boolean(n(1)?)? },
            3 => Self::LayerNormBackward { centre: !boolean(n(1)?)? },
            4 => Self::Embedding,
            5 => Self::EmbeddingBackward { vocab: n(0)? },
            6 => Self::Attention(attention()?),
            7 => Self::AttentionBackward(attention()?),
            8 => Self::CacheWrite,
            9 => Self::HeadLoss { smoothing: a0 },
            10 => Self::HeadLossTrain { smoothing: a0 },
            11 => Self::HeadLossBackward { smoothing: a0 },
            12 => Self::Dropout { site: n(0)? },
            13 => Self::Unary { kind: UnaryKind::from_code(n(0)?)?, a: a1, b: a2 },
            14 => Self::UnaryBackward { kind: UnaryKind::from_code(n(0)?)?, a: a1, b: a2 },
            15 => Self::Binary { kind: BinaryKind::from_code(n(0)?)?, over: Over::from_code(n(1)?)? },
            16 => Self::SelectBackward { max: boolean(n(0)?)?, over: Over::from_code(n(1)?)? },
            17 => Self::Broadcast { over: Over::from_code(n(0)?)?, dims: dims(1)?, rank: n(5)? },
            18 => Self::Reduce { kind: ReduceKind::from_code(n(0)?)?, over: Over::from_code(n(1)?)? },
            19 => Self::ReduceMaxBackward { over: Over::from_code(n(0)?)? },
            20 => Self::TokenSlice { first: n(0)?, count: n(1)? },
            21 => Self::TokenPad { first: n(0)?, tokens: n(1)? },
            22 => Self::TokenConcat,
            23 => Self::TokenReplace { first: n(0)? },
            24 => Self::Reshape { dims: dims(0)?, rank: n(4)? },
            25 => Self::AccumulateGrad,
            26 => Self::Constant { value: a0, dims: dims(1)?, rank: n(5)? },
            27 => Self::GlobalNorm,
            28 => Self::AdamW { start: n(0)?, len: n(1)?, decay: boolean(n(2)?)?, epsilon: Epsilon::from_code(n(3)?)? },
            29 => Self::Sgd { start: n(0)?, len: n(1)?, decay: boolean(n(2)?)?, momentum: Momentum::from_code(n(3)?)? },
            30 => Self::Ema { slot: n(0)? },
            31 => Self::CacheRead,
            32 => Self::Rotary(RotarySpec {
                heads: n(0)?,
                head_dim: n(1)?,
                rotated: n(2)?,
                pairs: Pairing::from_code(n(3)?)?,
                base: a4,
                inverse: boolean(n(5)?)?,
            }),
            _ => return None,
        })
    }
}

/// The integer that a number is, if it is one that 32 bits hold. From its bits, since many devices have no numbers of this size.
#[inline(never)]
fn integer(x: f64) -> Option<u32> {
    const FRACTION_BITS: u32 = 52;
    let bits = x.to_bits();
    if bits == 0 {
        return Some(0);
    }
    // A negative number has an exponent beyond all that fit.
    let exponent = ((bits >> FRACTION_BITS) as u32).checked_sub(1023).filter(|&e| e < u32::BITS)?;
    let below = FRACTION_BITS.saturating_sub(exponent);
    let significand = bits & ((1 << FRACTION_BITS) - 1) | 1 << FRACTION_BITS;
    (significand.trailing_zeros() >= below).then_some((significand >> below) as u32)
}

fn boolean(n: u32) -> Option<bool> {
    match n {
        0 => Some(false),
        1 => Some(true),
        _ => None,
    }
}
