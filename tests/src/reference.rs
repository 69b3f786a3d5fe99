//! Naive versions of the operations: plain loops in `f64` over the documented formulas, without any kernel of the engine.

use samara_core::graph::{Activation, AttentionSpec, BinaryKind, Over, Pairing, ReduceKind, RotarySpec, UnaryKind};

/// erf(x) = 2/√π e^(−x²) Σ 2ⁿ x^(2n+1) / (1·3·…·(2n+1)): all terms have one sign.
pub fn erf(x: f64) -> f64 {
    if x.abs() > 6.0 {
        return x.signum();
    }
    let mut term = x;
    let mut sum = x;
    let mut n = 0.0;
    while term.abs() > 1e-18 * sum.abs() {
        n += 1.0;
        term *= 2.0 * x * x / (2.0 * n + 1.0);
        sum += term;
    }
    2.0 / std::f64::consts::PI.sqrt() * (-x * x).exp() * sum
}

/// f(x).
pub fn unary(kind: UnaryKind, a: f64, b: f64, x: f64) -> f64 {
    match kind {
        UnaryKind::Scale => a * x,
        UnaryKind::Offset => x + a,
        UnaryKind::Exp => x.exp(),
        UnaryKind::Ln => x.ln(),
        UnaryKind::Tanh => x.tanh(),
        UnaryKind::Sigmoid => 1.0 / (1.0 + (-x).exp()),
        UnaryKind::LogSigmoid => -(1.0 + (-x).exp()).ln(),
        UnaryKind::Relu => x.max(0.0),
        UnaryKind::GeluTanh => 0.5 * x * (1.0 + ((2.0 / std::f64::consts::PI).sqrt() * (x + 0.044715 * x.powi(3))).tanh()),
        UnaryKind::GeluErf => 0.5 * x * (1.0 + erf(x / 2f64.sqrt())),
        UnaryKind::Square => x.powi(2),
        UnaryKind::Sqrt => x.sqrt(),
        UnaryKind::Reciprocal => x.recip(),
        UnaryKind::Abs => x.abs(),
        UnaryKind::Clamp => x.clamp(a, b),
        UnaryKind::Silu => x / (1.0 + (-x).exp()),
        UnaryKind::QuickGelu => x / (1.0 + (-1.702 * x).exp()),
    }
}

/// The activation of a linear layer.
pub fn activation(kind: Activation, x: f64) -> f64 {
    match kind {
        Activation::None => x,
        Activation::Relu => unary(UnaryKind::Relu, 0.0, 0.0, x),
        Activation::GeluTanh => unary(UnaryKind::GeluTanh, 0.0, 0.0, x),
        Activation::GeluErf => unary(UnaryKind::GeluErf, 0.0, 0.0, x),
        Activation::Silu => unary(UnaryKind::Silu, 0.0, 0.0, x),
        Activation::QuickGelu => unary(UnaryKind::QuickGelu, 0.0, 0.0, x),
    }
}

/// f(a, b).
pub fn binary(kind: BinaryKind, a: f64, b: f64) -> f64 {
    match kind {
        BinaryKind::Add => a + b,
        BinaryKind::Sub => a - b,
        BinaryKind::Mul => a * b,
        BinaryKind::Div => a / b,
        BinaryKind::Min => a.min(b),
        BinaryKind::Max => a.max(b),
    }
}

/// For every element of a tensor of shape `full`: the index of its element in the smaller tensor.
pub fn spread(over: Over, full: &[usize]) -> Vec<usize> {
    let len: usize = full.iter().product();
    let cols = full.last().copied().unwrap_or(1);
    let rest: usize = full.iter().skip(1).product();
    (0..len)
        .map(|i| match over {
            Over::Same => i,
            Over::Scalar => 0,
            Over::Row => i % cols,
            Over::Column => i / cols,
            Over::Batch => i % rest,
        })
        .collect()
}

/// The shape of the smaller tensor.
pub fn reduced(over: Over, full: &[usize]) -> Vec<usize> {
    match over {
        Over::Same => full.to_vec(),
        Over::Scalar => vec![],
        Over::Row => vec![full.last().copied().unwrap_or(1)],
        Over::Column => full[..full.len().saturating_sub(1)].to_vec(),
        Over::Batch => full.get(1..).unwrap_or(&[]).to_vec(),
    }
}

/// Sum or maximum of the elements that fall together.
pub fn reduce(kind: ReduceKind, over: Over, full: &[usize], x: &[f64]) -> Vec<f64> {
    let mut groups = vec![Vec::new(); reduced(over, full).iter().product()];
    for (to, &x) in spread(over, full).into_iter().zip(x) {
        groups[to].push(x);
    }
    let fold = |group: Vec<f64>| match kind {
        ReduceKind::Sum => group.iter().sum(),
        ReduceKind::Max => group.iter().fold(f64::NEG_INFINITY, |m, &x| m.max(x)),
    };
    groups.into_iter().map(fold).collect()
}

/// x Wᵀ + b for x (M, K), w (N, K), b (N).
pub fn product(x: &[f64], k: usize, w: &[f64], b: Option<&[f64]>) -> Vec<f64> {
    let (m, n) = (x.len() / k, w.len() / k);
    let mut y = vec![0.0; m * n];
    for i in 0..m {
        for j in 0..n {
            let sum: f64 = (0..k).map(|p| x[i * k + p] * w[j * k + p]).sum();
            y[i * n + j] = sum + b.map_or(0.0, |b| b[j]);
        }
    }
    y
}

/// (x − μ)/√(σ² + ε) · w + b for x (M, C).
pub fn layer_norm(x: &[f64], c: usize, w: Option<&[f64]>, b: Option<&[f64]>, eps: f64) -> Vec<f64> {
    let mut y = Vec::new();
    for row in x.chunks(c) {
        let mean = row.iter().sum::<f64>() / c as f64;
        let variance = row.iter().map(|x| (x - mean).powi(2)).sum::<f64>() / c as f64;
        for (j, x) in row.iter().enumerate() {
            y.push((x - mean) / (variance + eps).sqrt() * w.map_or(1.0, |w| w[j]) + b.map_or(0.0, |b| b[j]));
        }
    }
    y
}

/// x/√(mean x² + ε) · w + b for x (M, C).
pub fn rms_norm(x: &[f64], c: usize, w: Option<&[f64]>, b: Option<&[f64]>, eps: f64) -> Vec<f64> {
    let mut y = Vec::new();
    for row in x.chunks(c) {
        let square = row.iter().map(|x| x * x).sum::<f64>() / c as f64;
        for (j, x) in row.iter().enumerate() {
            y.push(x / (square + eps).sqrt() * w.map_or(1.0, |w| w[j]) + b.map_or(0.0, |b| b[j]));
        }
    }
    y
}

/// The pairs of the heads of x (M, C) as complex numbers, multiplied by e^(iφ) with φ = position / base^(2i/rotated) in `f32`.
pub fn rotary(x: &[f64], c: usize, positions: &[i32], spec: RotarySpec) -> Vec<f64> {
    let (dim, rotated) = (spec.head_dim as usize, spec.rotated as usize);
    let mut y = x.to_vec();
    for (row, &position) in y.chunks_mut(c).zip(positions) {
        for (head, i) in (0..spec.heads as usize).flat_map(|head| (0..rotated / 2).map(move |i| (head, i))) {
            let power = spec.base.powf(f64::from((2 * i) as f32 / rotated as f32)) as f32;
            let angle = f64::from(position as f32 * (1.0 / power)) * if spec.inverse { -1.0 } else { 1.0 };
            let [a, b] = match spec.pairs {
                Pairing::Halves => [i, i + rotated / 2],
                Pairing::Adjacent => [2 * i, 2 * i + 1],
            }
            .map(|column| head * dim + column);
            (row[a], row[b]) = (row[a] * angle.cos() - row[b] * angle.sin(), row[a] * angle.sin() + row[b] * angle.cos());
        }
    }
    y
}

/// Cross-entropy rows for logits (M, V): −Σ q ln p with q = (1 − α)·one-hot + α/V; 0 for a negative target.
pub fn cross_entropy(logits: &[f64], vocab: usize, targets: &[i32], smoothing: f64) -> Vec<f64> {
    let row = |(z, &target): (&[f64], &i32)| {
        if target < 0 {
            return 0.0;
        }
        let total: f64 = z.iter().map(|z| z.exp()).sum();
        let hit = |j: usize| if j == target as usize { 1.0 - smoothing } else { 0.0 };
        (0..vocab).map(|j| -(hit(j) + smoothing / vocab as f64) * (z[j].exp() / total).ln()).sum()
    };
    logits.chunks(vocab).zip(targets).map(row).collect()
}

/// The inputs of attention besides its attributes.
pub struct Attention<'a> {
    /// Attributes.
    pub spec: AttentionSpec,
    /// B, Tq, Tk.
    pub extents: [usize; 3],
    /// q (B, Tq, ·), k and v (B, Tk, ·): values, row length, first column.
    pub qkv: [(&'a [f64], usize, usize); 3],
    /// Segments (B, Tq) and (B, Tk).
    pub segments: Option<(&'a [i32], &'a [i32])>,
    /// Live keys (B).
    pub live: Option<&'a [i32]>,
    /// Dropout control.
    pub dropout: Option<&'a [i32]>,
}

impl Attention<'_> {
    /// Whether query i of sequence b sees key j.
    pub fn sees(&self, b: usize, i: usize, j: usize) -> bool {
        let [_, tq, tk] = self.extents;
        let live = self.live.map_or(tk as i64, |l| i64::from(l[b]));
        let position = live - tq as i64 + i as i64;
        let j64 = j as i64;
        j64 < live
            && (!self.spec.causal || j64 <= position)
            && (self.spec.window == 0 || j64 > position - i64::from(self.spec.window))
            && self.segments.is_none_or(|(q, k)| q[b * tq + i] == k[b * tk + j] && q[b * tq + i] >= 0)
    }

    /// The result (B, Tq, heads·head_dim).
    pub fn output(&self) -> Vec<f64> {
        let [batch, tq, tk] = self.extents;
        let (heads, dim) = (self.spec.heads as usize, self.spec.head_dim as usize);
        let group = heads / self.spec.kv_heads as usize;
        let [q, k, v] = self.qkv;
        let at = |(x, cols, first): (&[f64], usize, usize), row: usize, h: usize, d: usize| x[row * cols + first + h * dim + d];
        let mut out = vec![0.0; batch * tq * heads * dim];
        for b in 0..batch {
            for h in 0..heads {
                for i in 0..tq {
                    let keys: Vec<usize> = (0..tk).filter(|&j| self.sees(b, i, j)).collect();
                    let score = |j: usize| -> f64 {
                        let s: f64 = (0..dim).map(|d| at(q, b * tq + i, h, d) * at(k, b * tk + j, h / group, d)).sum();
                        (s * self.spec.scale).exp()
                    };
                    let total: f64 = keys.iter().map(|&j| score(j)).sum();
                    for j in keys {
                        let element = ((b * heads + h) * tq + i) * tk + j;
                        let p = score(j) / total * self.dropout.map_or(1.0, |c| dropout(c, self.spec.site, element as u64));
                        for d in 0..dim {
                            out[((b * tq + i) * heads + h) * dim + d] += p * at(v, b * tk + j, h / group, d);
                        }
                    }
                }
            }
        }
        out
    }
}

/// The factor of one element under dropout: 0 or 1/(1 − p). Philox4x32-10 on the counter (element / 4, site, step, micro-batch) under the seed;
/// an element is dropped when the upper 24 bits of its word are below p·2²⁴.
pub fn dropout(control: &[i32], site: u32, element: u64) -> f64 {
    let p = f64::from(control[4]) / f64::from(1 << 24);
    let mut x = [(element / 4) as u32, site, control[2] as u32, control[3] as u32];
    let mut key = [control[0] as u32, control[1] as u32];
    for _ in 0..10 {
        let (a, b) = (u64::from(x[0]) * 0xD251_1F53, u64::from(x[2]) * 0xCD9E_8D57);
        x = [(b >> 32) as u32 ^ x[1] ^ key[0], b as u32, (a >> 32) as u32 ^ x[3] ^ key[1], a as u32];
        key = [key[0].wrapping_add(0x9E37_79B9), key[1].wrapping_add(0xBB67_AE85)];
    }
    if f64::from(x[(element % 4) as usize] >> 8) < f64::from(control[4]) { 0.0 } else { 1.0 / (1.0 - p) }
}
