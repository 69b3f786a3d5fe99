//! Attributes of operations: enumerations and specifications, and their encoding in a node record.

/// Attributes of a node record.
pub const MAX_ATTRIBUTES: usize = 8;

/// How an attribute is encoded in a node record and decoded.
pub(super) trait Stored {
    /// What is stored.
    type Value: Copy;
    /// Takes the next places.
    fn write(value: Self::Value, to: &mut Writer);
    /// Decodes what [`Stored::write`] wrote; `None` for any other content.
    fn read(from: &mut Reader<'_>) -> Option<Self::Value>;
}

/// The attribute fields of a record during encoding; unused fields are 0.
#[derive(Default)]
pub(super) struct Writer {
    pub(super) places: [f64; MAX_ATTRIBUTES],
    at: usize,
}

impl Writer {
    fn number(&mut self, value: f64) {
        if let Some(place) = self.places.get_mut(self.at) {
            *place = value;
        }
        self.at = self.at.saturating_add(1);
    }
}

/// The attributes of a record while they are read.
pub(super) struct Reader<'a> {
    numbers: &'a [f64; MAX_ATTRIBUTES],
    /// The integer types share one conversion.
    integers: [Option<u32>; MAX_ATTRIBUTES],
    at: usize,
}

impl<'a> Reader<'a> {
    #[inline(always)]
    pub(super) fn new(numbers: &'a [f64; MAX_ATTRIBUTES]) -> Self {
        Self { numbers, integers: numbers.map(integer), at: 0 }
    }

    #[inline(always)]
    fn number(&mut self) -> Option<f64> {
        let value = self.numbers.get(self.at).copied();
        self.at = self.at.wrapping_add(1);
        value
    }

    #[inline(always)]
    fn integer(&mut self) -> Option<u32> {
        let value = self.integers.get(self.at).copied().flatten();
        self.at = self.at.wrapping_add(1);
        value
    }
}

impl Stored for f64 {
    type Value = Self;
    fn write(value: Self, to: &mut Writer) {
        to.number(value);
    }
    #[inline(always)]
    fn read(from: &mut Reader<'_>) -> Option<Self> {
        from.number()
    }
}

impl Stored for u32 {
    type Value = Self;
    fn write(value: Self, to: &mut Writer) {
        to.number(f64::from(value));
    }
    #[inline(always)]
    fn read(from: &mut Reader<'_>) -> Option<Self> {
        from.integer()
    }
}

impl Stored for bool {
    type Value = Self;
    fn write(value: Self, to: &mut Writer) {
        to.number(f64::from(u8::from(value)));
    }
    #[inline(always)]
    fn read(from: &mut Reader<'_>) -> Option<Self> {
        boolean(from.integer()?)
    }
}

fn boolean(n: u32) -> Option<bool> {
    match n {
        0 => Some(false),
        1 => Some(true),
        _ => None,
    }
}

/// A boolean stored inverted, so that records older than the attribute (0) decode as true.
pub(super) struct Inverted;

impl Stored for Inverted {
    type Value = bool;
    fn write(value: bool, to: &mut Writer) {
        bool::write(!value, to);
    }
    #[inline(always)]
    fn read(from: &mut Reader<'_>) -> Option<bool> {
        Some(!bool::read(from)?)
    }
}

impl Stored for [u32; 4] {
    type Value = Self;
    fn write(value: Self, to: &mut Writer) {
        value.iter().for_each(|&n| u32::write(n, to));
    }
    #[inline(always)]
    fn read(from: &mut Reader<'_>) -> Option<Self> {
        Some([from.integer()?, from.integer()?, from.integer()?, from.integer()?])
    }
}

/// Two numbers of four bytes each: what a device that has no images does without is little code.
impl Stored for Window {
    type Value = Self;
    fn write(value: Self, to: &mut Writer) {
        let Self { kernel: [ky, kx], stride: [sy, sx], padding: [py, px], dilation } = value;
        u32::write(u32::from_le_bytes([ky, kx, sy, sx]), to);
        u32::write(u32::from_le_bytes([py, px, dilation, 0]), to);
    }
    #[inline(always)]
    fn read(from: &mut Reader<'_>) -> Option<Self> {
        let ([ky, kx, sy, sx], [py, px, dilation, 0]) = (from.integer()?.to_le_bytes(), from.integer()?.to_le_bytes()) else {
            return None;
        };
        Some(Self { kernel: [ky, kx], stride: [sy, sx], padding: [py, px], dilation })
    }
}

impl Stored for RotarySpec {
    type Value = Self;
    fn write(value: Self, to: &mut Writer) {
        let Self { heads, head_dim, rotated, pairs, base, inverse } = value;
        u32::write(heads, to);
        u32::write(head_dim, to);
        u32::write(rotated, to);
        Pairing::write(pairs, to);
        f64::write(base, to);
        bool::write(inverse, to);
    }
    #[inline(always)]
    fn read(from: &mut Reader<'_>) -> Option<Self> {
        // It is the only attribute of its operation, so it starts at the first field.
        let ([Some(heads), Some(head_dim), Some(rotated), Some(pairs), _, Some(inverse), ..], [_, _, _, _, base, ..]) =
            (from.integers, *from.numbers)
        else {
            return None;
        };
        Some(Self { heads, head_dim, rotated, pairs: Pairing::from_code(pairs)?, base, inverse: boolean(inverse)? })
    }
}

impl Stored for AttentionSpec {
    type Value = Self;
    fn write(value: Self, to: &mut Writer) {
        let Self { heads, kv_heads, head_dim, causal, window, scale, site } = value;
        u32::write(heads, to);
        u32::write(kv_heads, to);
        u32::write(head_dim, to);
        bool::write(causal, to);
        u32::write(window, to);
        f64::write(scale, to);
        u32::write(site, to);
    }
    #[inline(always)]
    fn read(from: &mut Reader<'_>) -> Option<Self> {
        // It is the only attribute of its operation, so it starts at the first field.
        let (
            [Some(heads), Some(kv_heads), Some(head_dim), Some(causal), Some(window), _, Some(site), _],
            [_, _, _, _, _, scale, ..],
        ) = (from.integers, *from.numbers)
        else {
            return None;
        };
        Some(Self { heads, kv_heads, head_dim, causal: boolean(causal)?, window, scale, site })
    }
}

/// The `u32` that an f64 equals, if any. Decoded from its bits, since many devices have no f64 arithmetic.
#[inline(never)]
fn integer(x: f64) -> Option<u32> {
    const FRACTION_BITS: u32 = 52;
    let bits = x.to_bits();
    if bits == 0 {
        return Some(0);
    }
    // The sign bit of a negative value makes the exponent too large.
    let exponent = ((bits >> FRACTION_BITS) as u32).checked_sub(1023).filter(|&e| e < u32::BITS)?;
    let below = FRACTION_BITS.saturating_sub(exponent);
    let significand = bits & ((1 << FRACTION_BITS) - 1) | 1 << FRACTION_BITS;
    (significand.trailing_zeros() >= below).then_some((significand >> below) as u32)
}

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
        }

        impl Stored for $name {
            type Value = Self;
            fn write(value: Self, to: &mut Writer) {
                to.number(f64::from(value as u8));
            }
            #[inline(always)]
            fn read(from: &mut Reader<'_>) -> Option<Self> {
                Self::from_code(from.integer()?)
            }
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
        /// x σ(x): SiLU, or swish. Elfwing, Uchibe and Doya 2017.
        Silu = 4,
        /// x σ(1.702 x): the approximation of GELU in CLIP.
        QuickGelu = 5,
    }
}

impl Activation {
    /// The equivalent elementwise function, if there is one.
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

impl UnaryKind {
    /// The activation of a linear layer that is this function, if one is.
    pub const fn activation(self) -> Option<Activation> {
        match self {
            Self::Relu => Some(Activation::Relu),
            Self::GeluTanh => Some(Activation::GeluTanh),
            Self::GeluErf => Some(Activation::GeluErf),
            Self::Silu => Some(Activation::Silu),
            Self::QuickGelu => Some(Activation::QuickGelu),
            Self::Scale | Self::Offset | Self::Exp | Self::Ln | Self::Tanh | Self::Sigmoid | Self::LogSigmoid => None,
            Self::Square | Self::Sqrt | Self::Reciprocal | Self::Abs | Self::Clamp => None,
        }
    }
}

code_enum! {
    /// Which element of the smaller operand pairs with an element of the larger one, seen as a matrix (rows, cols) or as (batch, rest).
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
    /// Functions of one value; `a` and `b` are attributes.
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
        /// x σ(1.702 x).
        QuickGelu = 16,
    }
}

code_enum! {
    /// Functions of two values.
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
    /// The position of ε in Adam's denominator.
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
    /// Which columns of a head a rotary position embedding rotates as pairs, out of R rotated columns.
    Pairing {
        /// Columns i and i + R/2: Llama as Hugging Face stores it.
        Halves = 0,
        /// Columns 2i and 2i + 1: GPT-J, and Llama in GGUF files.
        Adjacent = 1,
    }
}

/// Rotary position embedding: pair i of the R rotated columns of a head, (a, b), becomes (a cos θ − b sin θ, a sin θ + b cos θ) with θ = position ·
/// base^(−2i/R), in radians. Other columns of a head, and columns after the heads, are copied unchanged. Su et al. 2021.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct RotarySpec {
    /// Heads of a row that are rotated; of packed queries, keys and values, the query and key heads.
    pub heads: u32,
    /// Columns of one head.
    pub head_dim: u32,
    /// R: columns of a head that are rotated, its first ones; even, and usually all.
    pub rotated: u32,
    /// Which columns are rotated together.
    pub pairs: Pairing,
    /// The base of the wavelengths, usually 10,000.
    pub base: f64,
    /// Whether by −θ: the gradient of the rotation by θ.
    pub inverse: bool,
}

/// The windows of an image that a convolution or a pooling reads; each pair is (vertical, horizontal).
///
/// All of them are below 256: a device that reads an operation moves it in two registers.
///
/// Tap (i, j) of window (y, x) is the element (y·stride − padding + i·dilation, x·stride − padding + j·dilation), which may be outside of the image.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Window {
    /// Taps of a window.
    pub kernel: [u8; 2],
    /// Elements from a window to the next.
    pub stride: [u8; 2],
    /// Elements outside of the image that the first window begins with, and that may follow the image at its end.
    pub padding: [u8; 2],
    /// Elements from a tap to the next.
    pub dilation: u8,
}

impl Window {
    /// A square window without dilation.
    pub const fn square(kernel: u8, stride: u8, padding: u8) -> Self {
        Self { kernel: [kernel; 2], stride: [stride; 2], padding: [padding; 2], dilation: 1 }
    }

    /// The number of taps.
    pub fn taps(&self) -> usize {
        self.kernel.iter().fold(1usize, |n, &k| n.saturating_mul(k.into()))
    }

    /// How many windows an image of these extents has: ⌊(n + 2·padding − dilation·(kernel − 1) − 1)/stride⌋ + 1 in each direction; `None` without any.
    pub fn extents(&self, image: [usize; 2]) -> Option<[usize; 2]> {
        let mut windows = [0; 2];
        let fields = self.kernel.into_iter().zip(self.stride).zip(self.padding);
        for ((to, n), ((kernel, stride), padding)) in windows.iter_mut().zip(image).zip(fields) {
            let span = usize::from(kernel.checked_sub(1)?).checked_mul(self.dilation.into())?.checked_add(1)?;
            let room = n.checked_add(usize::from(padding).checked_mul(2)?)?.checked_sub(span)?;
            *to = room.checked_div(stride.into())?.checked_add(1)?;
        }
        Some(windows)
    }

    /// The coordinate that tap `tap` of window `window` reads in direction `axis` (0 or 1), if it is below `extent`.
    pub fn place(&self, axis: usize, window: usize, tap: usize, extent: usize) -> Option<usize> {
        let (stride, padding) = (usize::from(*self.stride.get(axis)?), usize::from(*self.padding.get(axis)?));
        let at = window.wrapping_mul(stride).wrapping_add(tap.wrapping_mul(self.dilation.into())).checked_sub(padding)?;
        (at < extent).then_some(at)
    }
}

/// The only mask mechanism of attention, and the split of queries and keys into heads.
///
/// Query i of sequence b has the absolute position p = live − Tq + i, where live is the number of live keys (Tk without counts). It attends to key j
/// iff j < live, and j ≤ p when `causal`, and j > p − `window` when `window` > 0, and, where segment ids are given, both ids are equal and not
/// negative.
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
    /// The dropout site of the attention probabilities; used with a dropout control.
    pub site: u32,
}

impl AttentionSpec {
    /// The keys that the position of query `t` of `queries` permits when `live` keys are in the cache: `from..to`.
    pub fn span(&self, live: usize, queries: usize, t: usize) -> (usize, usize) {
        // The position of the query is live − Tq + t; one past it ends the causal span.
        let end = (live + t + 1).saturating_sub(queries);
        let to = if self.causal { end.min(live) } else { live };
        let from = if self.window > 0 { end.saturating_sub(self.window as usize) } else { 0 };
        (from.min(to), to)
    }
}
