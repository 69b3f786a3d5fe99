//! Random graphs of smooth operations, for the planner, for gradients of compositions, and for recomputation.

use samara_core::exec::Gradients;
use samara_core::graph::{Activation, AttentionMask, AttentionSpec, BinaryKind, Graph, Over, Recompute, Tensor, UnaryKind, Wrt};
use samara_core::math::Real;
use samara_core::params::{Init, ParamId, Params, Registry};

use crate::draw::Draw;
use crate::session::{Session, Table, registry};

/// B, T, C of all tensors between operations.
const SHAPE: [usize; 3] = [2, 3, 4];
const VOCAB: usize = 5;

/// Tensors that the host writes and reads.
pub struct Random {
    /// Floating-point inputs and their lengths.
    pub inputs: Vec<(Tensor, usize)>,
    /// Ids.
    pub ids: Tensor,
    /// Dropout control.
    pub control: Tensor,
    /// The differentiated tensors and their upstream gradients.
    pub pairs: Vec<(Tensor, Tensor)>,
    /// Gradients with respect to inputs.
    pub gradients: Vec<(Tensor, Tensor)>,
}

/// The parameters of all random graphs.
pub fn parameters(r: &mut Registry<'_>) -> [ParamId; 8] {
    let [_, t, c] = SHAPE;
    let shapes: [&[usize]; 8] = [&[c, c], &[c], &[c, c], &[c * c], &[t, c], &[VOCAB, c], &[3 * c, c], &[c]];
    let mut number = 0..;
    shapes.map(|s| r.scope().item("p", number.next().unwrap()).add("weight", s, Init::Zeros))
}

/// A graph of `count` operations, chosen and ordered by `draw`.
pub fn build(g: &Graph<'static>, p: &[ParamId; 8], d: &mut Draw, count: usize, recompute: Recompute) -> Random {
    let [b, t, c] = SHAPE;
    let x = g.input(&SHAPE);
    let ids = g.ints(&[b, t], 0, VOCAB as i32 - 1);
    let control = g.ints(&[5], i32::MIN, i32::MAX);
    let mut pool = vec![x, g.embedding(ids, g.param(p[5]), None)];
    let mut marked = Vec::new();
    for _ in 0..count {
        let y = append(g, p, d, &pool, ids, control);
        match d.int(0, 9) {
            0 => marked.push(g.output(y)),
            1 | 2 => {
                g.checkpoint(y);
            }
            _ => {}
        }
        pool.push(y);
    }
    let last = *pool.last().unwrap();
    let losses = g.output(g.head_loss(last, g.param(p[5]), None, ids, 0.1));
    let (u, scalar, all) = (g.input(&[b, t]), g.input(&[1]), g.input(&SHAPE));
    let mut pairs = vec![(losses, if d.coin() { u } else { scalar })];
    if d.coin() {
        pairs.push((g.output(d.pick(&pool)), if d.coin() { all } else { scalar }));
    }
    let mut wrt: Vec<Tensor> = p.iter().map(|&id| g.param(id)).collect();
    wrt.push(x);
    g.backward(&pairs, Wrt::Tensors(&wrt), recompute);
    let gradients = g.gradient(x).map(|dx| vec![(x, g.output(dx))]).unwrap_or_default();
    let inputs = vec![(x, b * t * c), (u, b * t), (scalar, 1), (all, b * t * c)];
    Random { inputs, ids, control, pairs, gradients }
}

fn append(g: &Graph<'static>, p: &[ParamId; 8], d: &mut Draw, pool: &[Tensor], ids: Tensor, control: Tensor) -> Tensor {
    let [b, t, c] = SHAPE;
    let param = |i: usize| g.param(p[i]);
    let mut any = || if d.coin() { *pool.last().unwrap() } else { d.pick(pool) };
    let (x, y, z) = (any(), any(), any());
    let tame = |x: Tensor| g.unary(UnaryKind::Tanh, 0.0, 0.0, x);
    let spec = AttentionSpec { heads: 2, kv_heads: 2, head_dim: 2, causal: d.coin(), window: 0, scale: 0.7, site: 3 };
    match d.int(0, 18) {
        0 => g.linear_with(x, param(0), Some(param(1)), Activation::GeluTanh, d.coin().then_some(y)),
        1 => g.linear_with(x, param(2), None, Activation::GeluErf, d.coin().then_some(x)),
        2 => g.linear(x, g.reshape(param(3), &[c, c]), Some(param(7))),
        3 => g.layer_norm(x, Some(param(1)), Some(param(7)), 0.3),
        4 => g.add(x, y),
        5 => g.binary(BinaryKind::Sub, Over::Same, x, y),
        6 => tame(g.mul(x, y)),
        7 => g.binary(BinaryKind::Mul, Over::Row, x, param(1)),
        8 => g.binary(BinaryKind::Add, Over::Batch, x, param(4)),
        9 => g.binary(BinaryKind::Add, Over::Scalar, x, tame(g.sum(y))),
        10 => tame(x),
        11 => {
            let qkv = g.linear(x, param(6), None);
            g.attention(spec, qkv.into(), qkv.from_column(c), qkv.from_column(2 * c), AttentionMask::NONE)
        }
        12 => {
            let mask = AttentionMask { segments: Some((ids, ids)), live: None, dropout: Some(control) };
            // The same tensor twice would be read twice: copies.
            g.attention(spec, g.scale(x, 1.0).into(), g.scale(y, 1.0).into(), g.scale(z, 1.0).into(), mask)
        }
        13 => {
            let both = g.token_concat(x, y);
            g.token_slice(both, d.int(0, t as i32) as usize, t)
        }
        14 => g.token_replace(x, g.token_slice(y, 1, t - 1), d.int(0, 1) as usize),
        15 => g.reshape(g.scale(g.reshape(x, &[b * t * c]), 0.9), &SHAPE),
        16 => g.dropout(x, control),
        17 => g.embedding(ids, param(5), Some(x)),
        // Rows of an activation.
        _ => g.embedding(ids, g.reshape(x, &[b * t, c]), Some(y)),
    }
}

/// The results of a run: every pinned tensor, every gradient.
#[derive(Clone, Debug, PartialEq)]
pub struct Outcome {
    /// Differentiated tensors.
    pub values: Vec<Vec<f64>>,
    /// Gradients of inputs.
    pub gradients: Vec<Vec<f64>>,
    /// The whole gradient buffer.
    pub grads: Vec<f64>,
}

/// A random program with random inputs and parameters.
pub struct Program<'k, R> {
    /// The program and its memory.
    pub session: Session<'k, R>,
    /// Its tensors.
    pub random: Random,
    /// Its parameters.
    pub ids: [ParamId; 8],
    upstream: Vec<(Tensor, Vec<f64>)>,
}

impl<'k, R: Real> Program<'k, R> {
    /// Program `seed`: the same operations and values for the same seed, under every recomputation policy.
    pub fn new(table: Table<'k, R>, seed: u64, recompute: Recompute) -> Self {
        let mut d = Draw::new(seed);
        let (params, ids): (Params<'static>, _) = registry::<R, _>(8, parameters);
        let count = d.int(1, 20) as usize;
        let built = Session::build(table, params, 512, |g| build(g, &ids, &mut d, count, recompute));
        let (mut session, random) = built.unwrap_or_else(|e| panic!("seed {seed}: {e}"));
        for &id in &ids {
            let n = params.infos()[id.index()].shape.len();
            session.set_param(id, &d.values(n, -0.9, 0.9));
        }
        let upstream: Vec<_> = random.inputs.iter().map(|&(t, n)| (t, d.values(n, -1.0, 1.0))).collect();
        upstream.iter().for_each(|(t, values)| session.set(*t, values));
        session.set_ints(random.ids, &d.ints(6, 0, VOCAB as i32 - 1));
        session.set_ints(random.control, &[7, 0, 1, 0, 1 << 22]);
        Self { session, random, ids, upstream }
    }

    /// Runs it on cleared gradients.
    pub fn run(&mut self) -> Outcome {
        let session = &mut self.session;
        session.grads.fill(R::ZERO);
        session.run(Gradients::Overwrite);
        Outcome {
            values: self.random.pairs.iter().map(|(y, _)| session.get(*y)).collect(),
            gradients: self.random.gradients.iter().map(|(_, dx)| session.get(*dx)).collect(),
            grads: session.grads.iter().map(|x| x.to_f64()).collect(),
        }
    }

    /// Σ ⟨value, upstream⟩ of a run.
    pub fn objective(&mut self) -> f64 {
        let outcome = self.run();
        let of = |t: Tensor| &self.upstream.iter().find(|(u, _)| *u == t).expect("an upstream gradient").1;
        let term = |(y, (_, u)): (&Vec<f64>, &(Tensor, Tensor))| -> f64 {
            let u = of(*u);
            y.iter().enumerate().map(|(i, y)| y * u[if u.len() == 1 { 0 } else { i }]).sum()
        };
        outcome.values.iter().zip(&self.random.pairs).map(term).sum()
    }

    /// The values of the first input.
    pub fn input(&self) -> (Tensor, Vec<f64>) {
        self.upstream[0].clone()
    }
}
