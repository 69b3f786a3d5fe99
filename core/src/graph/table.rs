//! The operations, one row each: every property of an operation that does not depend on shapes.
//!
//! A row is
//!
//! ```text
//! code Variant { attribute: Type, … } = "name",
//!     gradient: none | [differentiable inputs], in_place: …, effect: …, options;
//! ```
//!
//! and `operations!(m)` passes all rows to the macro `m`: `op/mod.rs` generates the enum [`super::op::Op`] from them, `rules.rs` the dispatch to the
//! families' rules. The families import the enum, and the dispatch imports the families; both read these rows, so that no two files import each
//! other.
//!
//! **Codes are append-only**: stored programs contain them. So are attributes: a record stored before an attribute was added holds 0 in its field
//! (`Type => Codec` selects another encoding, such as [`super::attribute::Inverted`]).
//!
//! Options, in this order: `columns`: inputs that may be read from a first column on. `quantised`: inputs of a role (frozen parameters, states) that
//! may have any element type. `gradients`: how the gradient buffer is read. `product`: the inputs x (M, K) and W (N, K) of a matrix product. `again:
//! cheap`: recomputed in the backward pass with `Recompute::Cheap`, where the family implements it. `through`: differentiable outputs
//! besides the first.

macro_rules! operations {
    ($generate:ident) => {
        $generate! {
            // Linear layers.

            /// y = act(x Wᵀ + b) + r. In: x (…, K), W (N, K), b (N)?, r (…, N)?. Out: y (…, N), pre-activation or its slope (…, N)?.
            0 Linear {
                /// The activation.
                activation: Activation,
                /// Whether output 1 is the derivative of the activation instead of its argument: it suffices for the gradient without recomputation.
                slope: bool,
            } = "linear",
                gradient: [0, 1, 2, 3], in_place: InPlace::Inputs(&[3]), effect: None,
                quantised: Frozen [1], product: [0, 1], again: cheap;
            /// In: dy (…, N), x (…, K)?, W (N, K), addend (…, K)?. Out: dx = dy W + addend?, dW = dyᵀ x?, db = Σ dy?. Only dW reads x: without dW, x
            /// need not be kept. dx has the shape of x, which is read before dx is written.
            1 LinearBackward = "linear backward",
                gradient: none, in_place: InPlace::Inputs(&[3, 1]), effect: None,
                quantised: Frozen [2], product: [0, 2];

            // Norms.

            /// Layer norm over columns, y = (x − μ)/√(σ² + ε) · w + b; or, without `centre`, RMS norm, y = x/√(mean x² + ε) · w + b.
            /// In: x (…, C), w (C)?, b (C)?. Out: y (…, C), statistics (rows, 2)?: (μ, 1/√(σ² + ε)), or (0, 1/√(mean x² + ε)).
            2 LayerNorm {
                /// ε.
                eps: f64,
                /// Whether the mean is subtracted.
                centre: bool => Inverted,
            } = "layer norm",
                gradient: [0, 1, 2], in_place: InPlace::Never, effect: None, again: cheap;
            /// In: dy (…, C), x (…, C), w (C)?, statistics (rows, 2), addend (…, C)?. Out: dx + addend (…, C)?, dw (C)?, db (C)?.
            3 LayerNormBackward {
                /// Whether the mean was subtracted.
                centre: bool => Inverted,
            } = "layer norm backward",
                gradient: none, in_place: InPlace::Inputs(&[4]), effect: None;

            // Embeddings.

            /// `y = table[id] + addend`. In: ids (…) i32, table (V, C), addend (…, C)?. Out: y (…, C).
            4 Embedding = "embedding",
                gradient: [1, 2], in_place: InPlace::Inputs(&[2]), effect: None, quantised: Frozen [1];
            /// In: ids (…) i32, dy (…, C). Out: dtable (V, C).
            5 EmbeddingBackward {
                /// V.
                vocab: u32,
            } = "embedding backward",
                gradient: none, in_place: InPlace::Never, effect: None;

            // Attention, positions, caches.

            /// softmax(scale q kᵀ + mask) v per head. In: q (B, Tq, ·), k (B, Tk, ·), v (B, Tk, ·), query segments (B, Tq)?, key segments (B, Tk)?,
            /// live keys (B)?, dropout control (5)?. Out: o (B, Tq, heads·head_dim), log-sum-exp (B, heads, Tq)?.
            6 Attention(spec: AttentionSpec) = "attention",
                gradient: [0, 1, 2], in_place: InPlace::Never, effect: None,
                columns: [0, 1, 2], quantised: State [1, 2];
            /// In: do, q, k, v, o, log-sum-exp, query segments?, key segments?, dropout control?. Out: the gradient of every distinct tensor among q, k, v.
            7 AttentionBackward(spec: AttentionSpec) = "attention backward",
                gradient: none, in_place: InPlace::Never, effect: None, columns: [1, 2, 3];
            /// Rotary position embedding of every row. In: x (…, ·), positions i32, as many as x has rows. Out: y in the shape of x.
            32 Rotary(spec: RotarySpec) = "rotary",
                gradient: [0], in_place: InPlace::Inputs(&[0]), effect: None;
            /// `state[b, start[b] + t] = x[b, t]`. In: x (B, T, ·) from a first column, starts (B) i32, state (B, Tmax, C). Out: the state, written.
            8 CacheWrite = "cache write",
                gradient: none, in_place: InPlace::Alias(2), effect: State, columns: [0], quantised: State [2];
            /// Converts the live tokens of a state of any element type to `Real`; other tokens are left unchanged. In: state (B, Tmax, C), live
            /// tokens (B) i32. Out: (B, Tmax, C).
            31 CacheRead = "cache read",
                gradient: none, in_place: InPlace::Never, effect: None, quantised: State [0];

            // The head of a language model.

            /// Cross-entropy of softmax(x Wᵀ + b) per row, in nats; a negative target gives 0. In: x (…, C), W (V, C), b (V)?, targets (…) i32.
            /// Out: losses (…), log-sum-exp (…)?, entropy (…)?.
            9 HeadLoss {
                /// Label smoothing α: target distribution (1−α)·one-hot + α/V.
                smoothing: f64,
            } = "head loss",
                gradient: [0, 1, 2], in_place: InPlace::Never, effect: None, quantised: Frozen [1], product: [0, 1], through: [2];
            /// The same and its gradients in one pass over chunks of rows. In: x, W, -, targets, upstream (1 or rows). Out: losses (…), dx?, dW?.
            10 HeadLossTrain {
                /// Label smoothing α.
                smoothing: f64,
            } = "head loss and gradients",
                gradient: none, in_place: InPlace::Never, effect: None, quantised: Frozen [1], product: [0, 1];
            /// In: x, W, b?, targets, upstream (1 or rows), log-sum-exp (…). Out: dx?, dW?, db?.
            11 HeadLossBackward {
                /// Label smoothing α.
                smoothing: f64,
            } = "head loss backward",
                gradient: none, in_place: InPlace::Never, effect: None, quantised: Frozen [1], product: [0, 1];
            /// The same with an upstream gradient of the entropy. In: x, W, b?, targets, upstream (1 or rows)?, log-sum-exp (…), upstream of the entropy
            /// (1 or rows). Out: dx?, dW?, db?.
            33 HeadEntropyBackward {
                /// Label smoothing α.
                smoothing: f64,
            } = "head loss and entropy backward",
                gradient: none, in_place: InPlace::Never, effect: None, quantised: Frozen [1], product: [0, 1];

            /// Cross-entropy −Σ t ln softmax(z) per row against t = q or t = (1 − mix)·one-hot + mix·q. In: z (…, V), q (…, V), classes (…) i32?, mix
            /// (1)?. Out: losses (…), their slope in z: softmax(z) Σ t − t (…, V).
            38 SoftLoss = "soft loss",
                gradient: [0], in_place: InPlace::Never, effect: None;

            // Images.

            /// act(s ⊙ (x ∗ W) + b + r). In: x (N, H, W, C), weight (O, kh·kw·C), s (O)?, b (O)?, r (N, Ho, Wo, O)?. Out: y (N, Ho, Wo, O).
            34 Conv2d {
                /// The windows.
                window: Window,
                /// Whether act is max(·, 0).
                relu: bool,
            } = "conv2d",
                gradient: [0, 1, 2, 3, 4], in_place: InPlace::Never, effect: None;
            /// In: dy before the activation (N, Ho, Wo, O), x (N, H, W, C), weight (O, kh·kw·C), s (O)?, addend (N, H, W, C)?. Out: dx + addend, dW,
            /// ds (O).
            35 Conv2dBackward {
                /// The windows.
                window: Window,
            } = "conv2d backward",
                gradient: none, in_place: InPlace::Inputs(&[4]), effect: None;
            /// The maximum of every window and channel. In: x (N, H, W, C). Out: (N, Ho, Wo, C).
            36 MaxPool {
                /// The windows.
                window: Window,
            } = "max pool",
                gradient: [0], in_place: InPlace::Never, effect: None;
            /// The gradient goes to the first maximum of a window, row by row. In: dy (N, Ho, Wo, C), x (N, H, W, C). Out: dx.
            37 MaxPoolBackward {
                /// The windows.
                window: Window,
            } = "max pool backward",
                gradient: none, in_place: InPlace::Never, effect: None;

            // Functions of one or two elements.

            /// Zeroes elements with probability p and divides the others by 1 − p. In: x, dropout control (5). Out: y.
            12 Dropout {
                /// The dropout site, part of the random counter.
                site: u32,
            } = "dropout",
                gradient: [0], in_place: InPlace::Inputs(&[0]), effect: None;
            /// In: x. Out: f(x).
            13 Unary {
                /// f.
                kind: UnaryKind,
                /// First attribute of f.
                a: f64,
                /// Second attribute of f.
                b: f64,
            } = "unary",
                gradient: [0], in_place: InPlace::Inputs(&[0]), effect: None, again: cheap;
            /// In: dy, x. Out: dy f′(x).
            14 UnaryBackward {
                /// f.
                kind: UnaryKind,
                /// First attribute of f.
                a: f64,
                /// Second attribute of f.
                b: f64,
            } = "unary backward",
                gradient: none, in_place: InPlace::Inputs(&[0]), effect: None;
            /// In: a, b (smaller or equal, broadcast to a). Out: f(a, b) in the shape of a.
            15 Binary {
                /// f.
                kind: BinaryKind,
                /// How b is broadcast to a.
                over: Over,
            } = "binary",
                gradient: [0, 1], in_place: InPlace::Inputs(&[0]), effect: None;
            /// The share of dy that goes to a in min(a, b) or max(a, b); ties split equally. In: dy, a, b. Out: da.
            16 SelectBackward {
                /// Maximum if true, minimum if false.
                max: bool,
                /// How b is broadcast to a.
                over: Over,
            } = "select backward",
                gradient: none, in_place: InPlace::Inputs(&[0]), effect: None;

            // Broadcasts and reductions.

            /// Broadcasts a small tensor. In: x. Out: a tensor of the given shape.
            17 Broadcast {
                /// How x spreads.
                over: Over,
                /// Extents of the result, 1 beyond the rank.
                dims: [u32; 4],
                /// Rank of the result.
                rank: u32,
            } = "broadcast",
                gradient: [0], in_place: InPlace::Never, effect: None;
            /// The reverse of a broadcast. In: x. Out: the reduced tensor.
            18 Reduce {
                /// Sum or maximum.
                kind: ReduceKind,
                /// Which dimensions are reduced.
                over: Over,
            } = "reduce",
                gradient: [0], in_place: InPlace::Never, effect: None;
            /// Gradient of a maximum; ties share equally. In: dy, x, y. Out: dx.
            19 ReduceMaxBackward {
                /// Which dimensions were reduced.
                over: Over,
            } = "reduce max backward",
                gradient: none, in_place: InPlace::Never, effect: None;

            // Tokens of sequences, and shapes.

            /// Tokens first..first+count of every sequence. In: x (B, T, C). Out: (B, count, C).
            20 TokenSlice {
                /// The first token.
                first: u32,
                /// How many.
                count: u32,
            } = "token slice",
                gradient: [0], in_place: InPlace::Never, effect: None;
            /// The inverse: pads with zero tokens. In: x (B, count, C). Out: (B, T, C).
            21 TokenPad {
                /// Position of the first token.
                first: u32,
                /// T.
                tokens: u32,
            } = "token pad",
                gradient: [0], in_place: InPlace::Never, effect: None;
            /// In: a (B, Ta, C), b (B, Tb, C). Out: (B, Ta + Tb, C).
            22 TokenConcat = "token concat",
                gradient: [0, 1], in_place: InPlace::Never, effect: None;
            /// x with tokens from `first` on replaced. In: x (B, T, C), p (B, P, C). Out: (B, T, C).
            23 TokenReplace {
                /// The first token replaced.
                first: u32,
            } = "token replace",
                gradient: [0, 1], in_place: InPlace::Inputs(&[0]), effect: None;
            /// The same elements with another shape; no work at run time. In: x. Out: x.
            24 Reshape {
                /// Extents of the result, 1 beyond the rank.
                dims: [u32; 4],
                /// Rank of the result.
                rank: u32,
            } = "reshape",
                gradient: [0], in_place: InPlace::Alias(0), effect: None;
            /// A tensor filled with one value. Out: the tensor.
            26 Constant {
                /// The value.
                value: f64,
                /// Extents, 1 beyond the rank.
                dims: [u32; 4],
                /// Rank.
                rank: u32,
            } = "constant",
                gradient: none, in_place: InPlace::Never, effect: None;

            // Optimizers.

            /// Adds a gradient in the arena to the parameter's gradient. In: g. Out: the parameter's gradient.
            25 AccumulateGrad = "accumulate gradient",
                gradient: none, in_place: InPlace::Never, effect: None;
            /// ‖all gradients‖₂. Out: (1).
            27 GlobalNorm = "global norm",
                gradient: none, in_place: InPlace::Never, effect: None, gradients: ReadsGradients::Always;
            /// Adam with decoupled weight decay on a range of the trainable parameters. In: hyper-parameters (8), gradient norm (1)?, gradient
            /// (len)?. The gradient, in the arena, is that of the range; without it the range of the gradient buffer is read. Loshchilov and Hutter
            /// 2019.
            28 AdamW {
                /// Start of the range, in units ([`crate::shape::UNIT`]).
                start: u32,
                /// Elements of the range.
                len: u32,
                /// Whether weight decay applies.
                decay: bool,
                /// The position of ε.
                epsilon: Epsilon,
            } = "AdamW",
                gradient: none, in_place: InPlace::Never, effect: Update, gradients: ReadsGradients::UnlessInput(2);
            /// Stochastic gradient descent, with weight decay added to the gradient. In: hyper-parameters (8), gradient norm (1)?, gradient (len)?,
            /// as for AdamW.
            29 Sgd {
                /// Start of the range, in units ([`crate::shape::UNIT`]).
                start: u32,
                /// Elements of the range.
                len: u32,
                /// Whether weight decay applies.
                decay: bool,
                /// How past gradients count.
                momentum: Momentum,
            } = "SGD",
                gradient: none, in_place: InPlace::Never, effect: Update, gradients: ReadsGradients::UnlessInput(2);
            /// Moving average of all trainable parameters, in the moment buffer `slot`: e = d e + (1 − d) w. In: d (1).
            30 Ema {
                /// The moment buffer of the average.
                slot: u32,
            } = "moving average",
                gradient: none, in_place: InPlace::Never, effect: Update;
        }
    };
}

pub(super) use operations;
