//! Every fast kernel against the reference kernel on random shapes, and the same bits for any number of threads.

use std::cell::RefCell;
use std::sync::LazyLock;

use proptest::prelude::*;
use samara_core::exec::{Backend, Cpu, Gradients, Kernels, Memory, real, write_ints, write_real};
use samara_core::graph::{
    Activation, AttentionMask, AttentionSpec, BinaryKind, Columns, DROPOUT_CONTROL_LEN, Epsilon, Graph, Momentum, NodeRecord,
    Over, Pairing, Recompute, ReduceKind, RotarySpec, Tensor, TensorRecord, UnaryKind, Wrt,
};
use samara_core::ops::dropout::control;
use samara_core::params::{Init, ParamId, ParamInfo, Registry};
use samara_core::plan::{Plan, Slot, storage_len};
use samara_core::threads::{Serial, Threads};

use super::cpu;
use super::gemm::Gemm;
use crate::threads::Pool;

/// A graph under construction whose inputs get values in the order of their declaration.
struct Build<'g, 'a> {
    g: &'g Graph<'a>,
    reals: RefCell<Vec<(Tensor, Vec<f32>)>>,
    ints: RefCell<Vec<(Tensor, Vec<i32>)>>,
    params: usize,
}

impl Build<'_, '_> {
    fn input(&self, shape: &[usize]) -> Tensor {
        let t = self.g.input(shape);
        let seed = self.reals.borrow().len() as u32 + 11;
        self.reals.borrow_mut().push((t, numbers(shape.iter().product(), seed)));
        t
    }

    fn input_of(&self, values: &[f32]) -> Tensor {
        let t = self.g.input(&[values.len()]);
        self.reals.borrow_mut().push((t, values.to_vec()));
        t
    }

    fn ints(&self, shape: &[usize], values: impl Fn(usize) -> i32) -> Tensor {
        let values: Vec<i32> = (0..shape.iter().product()).map(values).collect();
        let bounds = |b: (i32, i32), &v: &i32| (b.0.min(v), b.1.max(v));
        let (low, high) = values.iter().fold((i32::MAX, i32::MIN), bounds);
        let t = self.g.ints(shape, low, high);
        self.ints.borrow_mut().push((t, values));
        t
    }

    fn dropout(&self, p: f64) -> Tensor {
        let values = control(77, 3, 1, p);
        self.ints(&[DROPOUT_CONTROL_LEN], |i| values[i])
    }

    fn param(&self, i: usize) -> Tensor {
        self.g.param(ParamId::FIRST.plus(i))
    }

    /// The gradient of y with a random upstream gradient.
    fn differentiate(&self, y: Tensor, shape: &[usize], wrt: &[Tensor]) -> Vec<Tensor> {
        self.differentiate_with(Recompute::None, y, shape, wrt)
    }

    /// The same, with some values recomputed.
    fn differentiate_with(&self, recompute: Recompute, y: Tensor, shape: &[usize], wrt: &[Tensor]) -> Vec<Tensor> {
        let upstream = self.input(shape);
        let params = (0..self.params).map(|i| self.param(i));
        let all: Vec<Tensor> = params.chain(wrt.iter().copied()).collect();
        self.g.backward(&[(y, upstream)], Wrt::Tensors(&all), recompute);
        wrt.iter().filter_map(|&t| self.g.gradient(t)).map(|t| self.g.output(t)).collect()
    }
}

/// Values in [-0.5, 0.5).
pub(super) fn numbers(len: usize, seed: u32) -> Vec<f32> {
    let mut state = seed.wrapping_mul(0x9E37_79B9);
    (0..len)
        .map(|_| {
            state = state.wrapping_mul(1664525).wrapping_add(1013904223);
            (state >> 8) as f32 / (1 << 24) as f32 - 0.5
        })
        .collect()
}

/// How a program is built; returns the tensors to look at.
type Recipe<'b> = &'b (dyn Fn(&Build<'_, '_>) -> Vec<Tensor> + Sync);

/// The results of a program: outputs, gradients, weights, moments.
type Results = Vec<Vec<f32>>;

/// Builds and runs a program with parameters of the given shapes, twice, the second time adding to gradients.
fn run(kernels: &Kernels<f32>, threads: &dyn Threads, params: &[&[usize]], build: Recipe<'_>) -> Results {
    let mut infos = vec![ParamInfo::default(); params.len()];
    let mut registry = Registry::new(&mut infos);
    for (i, shape) in params.iter().enumerate() {
        registry.scope().item("p", i).add("weight", shape, Init::Zeros);
    }
    let params = registry.finish(size_of::<f32>()).expect("registry");
    let (mut tensors, mut nodes) = (vec![TensorRecord::EMPTY; 200], vec![NodeRecord::EMPTY; 100]);
    let g = Graph::new(params, &mut tensors, &mut nodes);
    let builder = Build { g: &g, reals: RefCell::default(), ints: RefCell::default(), params: params.infos().len() };
    let outputs = build(&builder);
    let (reals, ints) = (builder.reals.into_inner(), builder.ints.into_inner());
    let program = g.finish().expect("graph");
    let cpu = Cpu::new(kernels, threads);
    let needed = storage_len(&program);
    let (mut slots, mut order) = (vec![Slot::default(); needed], vec![0; needed]);
    let plan = Plan::new(&program, &|node| cpu.scratch_len(node), &mut slots, &mut order).expect("plan");
    plan.check().expect("no overlap");
    let len = params.trainable_len();
    let mut arena = vec![f32::NAN; plan.arena_len()];
    let mut int_values = vec![0; program.info().ints_len as usize];
    for (t, values) in &reals {
        // An input without readers has no memory.
        let _ = write_real(&program, &plan, &mut arena, *t, values);
    }
    for (t, values) in &ints {
        write_ints(&program, &mut int_values, *t, values).expect("integers");
    }
    let mut trainable = numbers(len, 5);
    let (mut grads, mut moments) = (vec![0.0; len], vec![0.25; len * program.info().moments as usize]);
    for gradients in [Gradients::Overwrite, Gradients::Add] {
        let mut memory = Memory {
            arena: &mut arena,
            state: &mut [],
            ints: &mut int_values,
            trainable: &mut trainable,
            grads: &mut grads,
            moments: &mut moments,
            frozen: &[],
        };
        cpu.run(&program, &plan, &mut memory, 0..program.nodes().len(), gradients);
    }
    let mut results: Results =
        outputs.into_iter().map(|t| real(&program, &plan, &arena, t).expect("an output").to_vec()).collect();
    // The padding between parameters is unused.
    results.extend(params.infos().iter().flat_map(|p| [grads[p.range()].to_vec(), trainable[p.range()].to_vec()]));
    results.push(moments);
    results
}

/// Fast kernels give the reference's results within rounding, and the same bits with any number of threads.
fn check(params: &[&[usize]], build: Recipe<'_>) {
    let reference = run(&samara_core::ops::reference(), &Serial, params, build);
    for gemm in [Gemm::Samara, Gemm::Portable, Gemm::MatrixMultiply] {
        let kernels = cpu(gemm);
        let serial = run(&kernels, &Serial, params, build);
        assert_eq!(serial.len(), reference.len());
        for (i, (got, want)) in serial.iter().zip(&reference).enumerate() {
            assert_eq!(got.len(), want.len(), "result {i}");
            let size = want.iter().fold(0.1f32, |max, x| max.max(x.abs()));
            for (at, (got, want)) in got.iter().zip(want).enumerate() {
                assert!((got - want).abs() <= 2e-5 * size, "{gemm:?} result {i} at {at}: {got} against {want}");
            }
        }
        for pool in POOLS.iter() {
            let parallel = pool.install(|| run(&kernels, pool, params, build));
            assert!(parallel == serial, "{gemm:?} on {} threads", pool.threads());
        }
    }
}

static POOLS: LazyLock<[Pool; 4]> = LazyLock::new(|| [1, 2, 3, 8].map(|n| Pool::new(n).expect("threads")));

const ACTIVATIONS: [Activation; 6] =
    [Activation::None, Activation::Relu, Activation::GeluTanh, Activation::GeluErf, Activation::Silu, Activation::QuickGelu];

fn unary_kinds() -> Vec<UnaryKind> {
    use UnaryKind::*;
    vec![
        Scale, Offset, Exp, Ln, Tanh, Sigmoid, LogSigmoid, Relu, GeluTanh, GeluErf, Silu, QuickGelu, Square, Sqrt, Reciprocal,
        Abs, Clamp,
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn linear(
        (m, k, n) in (1usize..150, 1usize..50, 1usize..150),
        activation in 0usize..6,
        (bias, residual, taken_over, train, read, again) in any::<(bool, bool, bool, bool, bool, bool)>(),
    ) {
        check(&[&[n, k], &[n]], &|b| {
            let (x, r) = (b.input(&[m, k]), b.input(&[m, n]));
            // An activation without other readers is reused; an input is not.
            let r = if taken_over { b.g.scale(r, 2.0) } else { r };
            let bias = bias.then(|| b.param(1));
            let y = b.g.linear_with(x, b.param(0), bias, ACTIVATIONS[activation], residual.then_some(r));
            // A gradient may be requested for an activation without other readers; and for a recomputed layer, for its pre-activation only.
            let again = again && read;
            let y = if again { b.g.checkpoint(y) } else { y };
            let mut outputs = if read || !train { vec![b.g.output(y)] } else { Vec::new() };
            if train {
                let recompute = if again { Recompute::Blocks } else { Recompute::None };
                outputs.extend(b.differentiate_with(recompute, y, &[m, n], &[x]));
            }
            outputs
        });
    }

    #[test]
    fn linear_gradient_with_an_addend((m, k, n) in (1usize..80, 1usize..40, 1usize..80)) {
        check(&[&[n, k], &[n, k]], &|b| {
            let x = b.g.scale(b.input(&[m, k]), 1.0);
            let y = b.g.add(b.g.linear(x, b.param(0), None), b.g.linear(x, b.param(1), None));
            b.differentiate(y, &[m, n], &[x])
        });
    }

    #[test]
    fn head(
        (m, c, v) in (1usize..150, 1usize..40, 1usize..120),
        (bias, per_row, smooth, late) in any::<(bool, bool, bool, bool)>(),
    ) {
        check(&[&[v, c], &[v]], &|b| {
            let x = b.g.scale(b.input(&[m, c]), 3.0);
            let targets = b.ints(&[m], |i| if i % 5 == 3 { -100 } else { (i * 7 % v) as i32 });
            let bias = bias.then(|| b.param(1));
            let losses = b.g.output(b.g.head_loss(x, b.param(0), bias, targets, if smooth { 0.1 } else { 0.0 }));
            // An upstream gradient known only later keeps the two passes apart.
            let y = if late { b.g.mul(losses, losses) } else { losses };
            let mut outputs = vec![losses];
            outputs.extend(b.differentiate(y, if per_row || m == 1 { vec![m] } else { vec![1] }.as_slice(), &[x]));
            outputs
        });
    }

    #[test]
    fn layer_norm((m, c) in (1usize..200, 1usize..100), (affine, bias, addend) in any::<(bool, bool, bool)>()) {
        check(&[&[c], &[c]], &|b| {
            let x = b.g.scale(b.input(&[m, c]), 1.5);
            let w = affine.then(|| b.param(0));
            let bias = (affine && bias).then(|| b.param(1));
            // With ε = 0.01 rows of one or two columns do not blow rounding up.
            let y = b.g.output(b.g.layer_norm(x, w, bias, 1e-2));
            let sum = if addend { b.g.add(y, b.g.mul(x, x)) } else { y };
            let mut outputs = vec![y];
            outputs.extend(b.differentiate(sum, &[m, c], &[x]));
            outputs
        });
    }

    #[test]
    fn rms_norm((m, c) in (1usize..200, 1usize..100), (affine, addend) in any::<(bool, bool)>()) {
        check(&[&[c]], &|b| {
            let x = b.g.scale(b.input(&[m, c]), 1.5);
            let y = b.g.output(b.g.rms_norm(x, affine.then(|| b.param(0)), 1e-2));
            let sum = if addend { b.g.add(y, b.g.mul(x, x)) } else { y };
            let mut outputs = vec![y];
            outputs.extend(b.differentiate(sum, &[m, c], &[x]));
            outputs
        });
    }

    /// The fast kernel has the bits of the reference with any number of threads, in place and not.
    #[test]
    fn rotary(
        (m, heads, pairs, rest, more) in (1usize..200, 1usize..5, 1usize..90, 0usize..9, 0usize..20),
        (adjacent, inverse, taken_over) in any::<(bool, bool, bool)>(),
        first in -3i32..10_000,
    ) {
        let dim = 2 * pairs + rest;
        let spec = RotarySpec {
            heads: heads as u32,
            head_dim: dim as u32,
            rotated: 2 * pairs as u32,
            pairs: if adjacent { Pairing::Adjacent } else { Pairing::Halves },
            base: 1e4,
            inverse,
        };
        let c = heads * dim + more;
        let build = |b: &Build<'_, '_>| {
            let x = b.input(&[m, c]);
            let x = if taken_over { b.g.scale(x, 1.0) } else { x };
            let y = b.g.output(b.g.rotary(x, b.ints(&[m], |i| first + i as i32), spec));
            let mut outputs = vec![y];
            outputs.extend(b.differentiate(y, &[m, c], &[x]));
            outputs
        };
        let reference = run(&samara_core::ops::reference(), &Serial, &[], &build);
        let kernels = cpu(Gemm::Samara);
        prop_assert!(run(&kernels, &Serial, &[], &build) == reference);
        prop_assert!(POOLS.iter().all(|pool| pool.install(|| run(&kernels, pool, &[], &build)) == reference));
    }

    #[test]
    fn attention(
        (batch, queries, more_keys) in (1usize..4, 1usize..40, 0usize..30),
        (kv_heads, group, dim) in (1usize..4, 1usize..5, 1usize..40),
        (causal, segments, packed, drop) in any::<(bool, bool, bool, bool)>(),
        window in 0usize..12,
    ) {
        check_attention([batch, queries, more_keys], [kv_heads, group, dim], (causal, packed, drop), window, segments.then_some(7));
    }

    /// Long enough for several tiles of queries and of keys, with mask borders anywhere in a tile.
    #[test]
    fn attention_over_tiles(
        (queries, more_keys, window) in (1usize..170, 0usize..170, 0usize..150),
        (group, dim) in (1usize..5, 1usize..20),
        (causal, wide, packed, drop) in any::<(bool, bool, bool, bool)>(),
        segment in proptest::option::of(1usize..90),
    ) {
        let window = if wide { 0 } else { window };
        check_attention([1, queries, more_keys], [1, group, dim], (causal, packed, drop), window, segment);
    }

    #[test]
    fn attention_with_live_lengths(
        (batch, queries, keys) in (1usize..5, 1usize..6, 6usize..60),
        (kv_heads, group, dim) in (1usize..3, 1usize..5, 1usize..40),
    ) {
        let [heads, kv_heads] = [kv_heads * group, kv_heads].map(|n| n as u32);
        let spec = AttentionSpec { heads, kv_heads, head_dim: dim as u32, causal: true, window: 9, scale: 0.5, site: 0 };
        check(&[], &|b| {
            let [q, k, v] = [(queries, heads), (keys, kv_heads), (keys, kv_heads)]
                .map(|(rows, heads)| b.input(&[batch, rows, heads as usize * dim]));
            let live = b.ints(&[batch], |i| ((queries + i * 13) % (keys + 1)) as i32);
            let mask = AttentionMask { live: Some(live), ..AttentionMask::NONE };
            vec![b.g.output(b.g.attention(spec, q.into(), k.into(), v.into(), mask))]
        });
    }

    #[test]
    fn unary((m, c) in (1usize..300, 1usize..300), kind in 0usize..17) {
        let kind = unary_kinds()[kind];
        check(&[], &|b| {
            // Positive and away from 0 for roots and logarithms, of both signs for the others.
            let positive = matches!(kind, UnaryKind::Ln | UnaryKind::Sqrt | UnaryKind::Reciprocal);
            let x = b.g.unary(UnaryKind::Scale, 3.0, 0.0, b.input(&[m, c]));
            let x = if positive { b.g.unary(UnaryKind::Offset, 3.5, 0.0, x) } else { x };
            let y = b.g.output(b.g.unary(kind, -0.4, 0.6, x));
            let mut outputs = vec![y];
            outputs.extend(b.differentiate(y, &[m, c], &[x]));
            outputs
        });
    }

    #[test]
    fn binary((n, m, c) in (1usize..20, 1usize..40, 1usize..80), kind in 0usize..6, over in 0usize..5) {
        use BinaryKind::*;
        let kind = [Add, Sub, Mul, Div, Min, Max][kind];
        check(&[], &|b| {
            let (over, shape) = [
                (Over::Same, vec![n, m, c]),
                (Over::Scalar, vec![1]),
                (Over::Row, vec![c]),
                (Over::Column, vec![n, m]),
                (Over::Batch, vec![m, c]),
            ][over].clone();
            let x = b.g.scale(b.input(&[n, m, c]), 1.0);
            let z = b.g.unary(UnaryKind::Offset, if kind == Div { 2.0 } else { 0.0 }, 0.0, b.input(&shape));
            let y = b.g.output(b.g.binary(kind, over, x, z));
            vec![y]
        });
    }

    #[test]
    fn embedding((m, v, c) in (1usize..300, 1usize..60, 1usize..90), addend in any::<bool>()) {
        check(&[&[v, c], &[v, c]], &|b| {
            let ids = b.ints(&[m], |i| (i * i % v) as i32);
            let first = addend.then(|| b.g.embedding(ids, b.param(1), None));
            let y = b.g.output(b.g.embedding(ids, b.param(0), first));
            let mut outputs = vec![y];
            outputs.extend(b.differentiate(y, &[m, c], &[]));
            outputs
        });
    }

    #[test]
    fn dropout(len in 1usize..20_000, p in 0usize..3) {
        check(&[], &|b| {
            let x = b.g.scale(b.input(&[len]), 1.0);
            let y = b.g.output(b.g.dropout(x, b.dropout([0.0, 0.1, 0.5][p])));
            vec![y]
        });
    }

    #[test]
    fn updates(len in 1usize..40_000, optimizer in 0usize..5, (clip, ema) in any::<(bool, bool)>()) {
        check(&[&[len], &[len / 2 + 1, 2]], &|b| {
            for i in 0..2 {
                let shape = if i == 0 { vec![len] } else { vec![len / 2 + 1, 2] };
                let x = b.g.mul(b.param(i), b.input(&shape));
                if i == 1 {
                    let y = b.g.sum(x);
                    b.differentiate(y, &[1], &[]);
                }
            }
            let norm = b.g.output(b.g.global_norm());
            let hyper = b.input_of(&[1e-2, 0.9, 0.95, 1e-3, 0.1, 0.2, 0.1, 0.5]);
            let clip = clip.then_some(norm);
            match optimizer {
                0 => b.g.adamw(hyper, clip, Epsilon::AfterCorrection),
                1 => b.g.adamw(hyper, clip, Epsilon::BeforeCorrection),
                n => b.g.sgd(hyper, clip, [Momentum::Classical, Momentum::Nesterov, Momentum::None][n - 2]),
            }
            if ema {
                b.g.ema(b.input_of(&[0.9]), 2);
            }
            vec![norm]
        });
    }
}

/// Attention and its gradient with segments of random length; the first of them is padding.
fn check_attention(
    [batch, queries, more_keys]: [usize; 3],
    [kv_heads, group, dim]: [usize; 3],
    (causal, packed, drop): (bool, bool, bool),
    window: usize,
    segment: Option<usize>,
) {
    let heads = kv_heads * group;
    let keys = if packed { queries } else { queries + more_keys };
    let spec = AttentionSpec {
        heads: heads as u32,
        kv_heads: kv_heads as u32,
        head_dim: dim as u32,
        causal,
        window: window as u32,
        scale: 0.7,
        site: 4,
    };
    check(&[], &|b| {
        let (c, kv) = (heads * dim, kv_heads * dim);
        let one = |x: Tensor| (Columns::from(x), x);
        let ((q, qt), (k, kt), (v, vt)) = if packed {
            let x = b.g.scale(b.input(&[batch, queries, c + 2 * kv]), 1.0);
            ((x.from_column(2 * kv), x), (Columns::from(x), x), (x.from_column(kv), x))
        } else {
            let make = |rows, cols| one(b.g.scale(b.input(&[batch, rows, cols]), 1.0));
            (make(queries, c), make(keys, kv), make(keys, kv))
        };
        let segments = segment.map(|len| [queries, keys].map(|rows| b.ints(&[batch, rows], |i| (i % rows / len) as i32 % 3 - 1)));
        let mask = AttentionMask { segments: segments.map(|[q, k]| (q, k)), live: None, dropout: drop.then(|| b.dropout(0.3)) };
        let o = b.g.output(b.g.attention(spec, q, k, v, mask));
        let mut outputs = vec![o];
        let all = [qt, kt, vt];
        outputs.extend(b.differentiate(o, &[batch, queries, c], if packed { &all[..1] } else { &all }));
        outputs
    });
}

/// Many live keys in a long cache, some sequences without any, in a step of few queries and in one of more.
#[test]
fn attention_with_a_long_cache() {
    for queries in [1, 3, 4, 5, 20] {
        let spec = AttentionSpec { heads: 4, kv_heads: 2, head_dim: 24, causal: true, window: 0, scale: 0.2, site: 0 };
        check(&[], &|b| {
            let [q, k, v] = [(queries, 4), (300, 2), (300, 2)].map(|(rows, heads)| b.input(&[4, rows, heads * 24]));
            let live = b.ints(&[4], |i| [0, 300, 257, 64][i]);
            let mask = AttentionMask { live: Some(live), ..AttentionMask::NONE };
            vec![b.g.output(b.g.attention(spec, q.into(), k.into(), v.into(), mask))]
        });
    }
}

/// Masks of the fast kernel have the bits of the reference, for any number of elements drawn together.
#[test]
fn dropout_has_the_bits_of_the_reference() {
    for len in [1, 3, 63, 64, 65, 5_000, 300_001] {
        let build = |b: &Build<'_, '_>| vec![b.g.output(b.g.dropout(b.input(&[len]), b.dropout(0.4)))];
        let reference = run(&samara_core::ops::reference(), &Serial, &[], &build);
        assert!(run(&cpu(Gemm::Samara), &Serial, &[], &build) == reference, "{len} elements");
    }
}

/// The head's rows are divided into several chunks when the vocabulary is large.
#[test]
fn a_head_in_chunks() {
    let (m, c, v) = (130, 2, 60_000);
    check(&[&[v, c], &[v]], &|b| {
        let x = b.g.scale(b.input(&[m, c]), 1.0);
        let targets = b.ints(&[m], |i| (i * 461) as i32);
        let losses = b.g.output(b.g.head_loss(x, b.param(0), Some(b.param(1)), targets, 0.0));
        let mut outputs = vec![losses];
        outputs.extend(b.differentiate(losses, &[m], &[x]));
        outputs
    });
}

/// Every row alone has the bits that it has in its batch.
#[test]
fn a_sequence_alone_has_the_same_bits() {
    let (batch, tokens, c) = (5, 19, 24);
    let spec = AttentionSpec { heads: 3, kv_heads: 3, head_dim: 8, causal: true, window: 0, scale: 0.3, site: 0 };
    let block = |b: &Build<'_, '_>, x: Tensor| {
        let h = b.g.layer_norm(x, Some(b.param(0)), None, 1e-5);
        let qkv = b.g.linear(h, b.param(1), None);
        let (k, v) = (qkv.from_column(c), qkv.from_column(2 * c));
        let o = b.g.attention(spec, qkv.into(), k, v, AttentionMask::NONE);
        let y = b.g.linear_with(o, b.param(2), None, Activation::GeluErf, Some(x));
        b.g.output(b.g.reduce(ReduceKind::Sum, Over::Same, y))
    };
    let params: [&[usize]; 3] = [&[c], &[3 * c, c], &[c, c]];
    let values = numbers(batch * tokens * c, 3);
    let outputs = |first: usize, count: usize| {
        let values = &values[first * tokens * c..][..count * tokens * c];
        let build = |b: &Build<'_, '_>| {
            let x = b.g.reshape(b.input_of(values), &[count, tokens, c]);
            vec![block(b, x)]
        };
        run(&cpu(Gemm::Samara), &Serial, &params, &build).swap_remove(0)
    };
    let whole = outputs(0, batch);
    for first in 0..batch {
        assert!(outputs(first, 1)[..] == whole[first * tokens * c..][..tokens * c], "sequence {first}");
    }
}
