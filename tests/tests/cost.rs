//! What nodes cost, against closed forms.

use samara_core::cost::Cost;
use samara_core::graph::{
    Activation, AttentionMask, AttentionSpec, Epsilon, Graph, Over, Pairing, Recompute, ReduceKind, RotarySpec, Tensor,
    UnaryKind, Wrt,
};
use samara_core::model::gpt::{Gpt, GptConfig};
use samara_core::model::lm::{self, LmInputs};
use samara_core::ops::reference;
use samara_core::params::{Init, ParamId, Params};
use samara_tests::session::{Session, Table, registry};

/// Name and cost of every live node of a program in f32 over the given parameters.
fn costs(params: Params<'static>, live_keys: Option<usize>, build: impl FnOnce(&Graph<'static>)) -> Vec<(&'static str, Cost)> {
    let kernels = reference::<f32>();
    let (session, ()) = Session::build(Table::serial(&kernels), params, 256, build).expect("graph");
    let nodes = 0..session.program.nodes().len();
    let name = |i: usize| session.program.node(i).and_then(|n| n.op()).map_or("?", |op| op.name());
    nodes.filter_map(|i| Some((name(i), Cost::of(&session.program, &session.plan, i, 4, live_keys)?))).collect()
}

/// One parameter w (5, 4).
fn params() -> Params<'static> {
    registry::<f32, _>(2, |r| r.scope().add("w", &[5, 4], Init::Zeros)).0
}

fn of<'c>(costs: &'c [(&str, Cost)], name: &str) -> &'c Cost {
    &costs.iter().find(|(n, _)| *n == name).unwrap_or_else(|| panic!("no {name} in {costs:?}")).1
}

fn cost(flops: usize, elements: usize) -> Cost {
    Cost { flops: flops as u64, bytes: 4 * elements as u64 }
}

fn w(g: &Graph<'_>) -> Tensor {
    g.param(ParamId::FIRST)
}

#[test]
fn a_linear_layer_with_bias_and_residual() {
    let costs = costs(params(), None, |g| {
        let (x, b, r) = (g.input(&[2, 3, 4]), g.input(&[5]), g.input(&[2, 3, 5]));
        g.output(g.linear_with(x, w(g), Some(b), Activation::Relu, Some(r)));
    });
    // x, W, b, r and y; nobody reads the value before the activation.
    assert_eq!(costs, [("linear", cost(2 * 6 * 5 * 4, 24 + 20 + 5 + 30 + 30))]);
}

#[test]
fn gradients_that_nobody_wants_cost_nothing() {
    let step = |wanted: bool| {
        costs(params(), None, move |g| {
            let (x, upstream) = (g.input(&[6, 4]), g.input(&[6, 5]));
            let x = if wanted {
                g.mul(x, g.broadcast(g.reduce(ReduceKind::Sum, Over::Scalar, w(g)), Over::Scalar, x_shape()))
            } else {
                x
            };
            g.backward(&[(g.linear(x, w(g), None), upstream)], Wrt::Trainable, Recompute::None);
        })
    };
    let product = 2 * 6 * 5 * 4;
    // dY, x and dW; with dX also W and dX.
    assert_eq!(*of(&step(false), "linear backward"), cost(product, 30 + 24 + 20));
    assert_eq!(*of(&step(true), "linear backward"), cost(2 * product, 30 + 24 + 20 + 20 + 24));
}

fn x_shape() -> samara_core::graph::Shape {
    samara_core::graph::Shape::new(&[6, 4]).expect("a shape")
}

#[test]
fn an_rms_norm_reads_and_writes_once() {
    let found = costs(params(), None, |g| {
        let (x, weight) = (g.input(&[6, 4]), g.input(&[4]));
        let y = g.rms_norm(x, Some(weight), 1e-5);
        g.backward(&[(y, g.input(&[6, 4]))], Wrt::Tensors(&[x]), Recompute::None);
        g.output(g.gradient(x).expect("a gradient"));
    });
    // The forward node has nothing to write but its statistics; then dy, x, w, statistics and dx.
    assert_eq!(found, [("layer norm", cost(4 * 24, 24 + 4 + 12)), ("layer norm backward", cost(10 * 24, 24 + 24 + 4 + 12 + 24))]);
}

#[test]
fn a_rotary_embedding_in_place_touches_what_it_turns() {
    // Two heads of four columns, two of them turned, in rows of ten.
    let spec = RotarySpec { heads: 2, head_dim: 4, rotated: 2, pairs: Pairing::Halves, base: 1e4, inverse: false };
    for in_place in [false, true] {
        let found = costs(params(), None, |g| {
            let x = g.input(&[6, 10]);
            let x = if in_place { g.scale(x, 2.0) } else { x };
            g.output(g.rotary(x, g.ints(&[6], 0, 9), spec));
        });
        assert_eq!(*of(&found, "rotary"), cost(3 * 24, 6 + 2 * if in_place { 24 } else { 60 }), "in place: {in_place}");
    }
}

#[test]
fn attention_counts_what_the_mask_allows() {
    let (batch, tokens, heads, dim) = (2, 7, 3, 4);
    let width = heads * dim;
    let spec = |causal, window| AttentionSpec {
        heads: heads as u32,
        kv_heads: heads as u32,
        head_dim: dim as u32,
        causal,
        window,
        scale: 0.5,
        site: 0,
    };
    let pairs = [
        (spec(false, 0), tokens * tokens),
        (spec(true, 0), tokens * (tokens + 1) / 2),
        // Windows of 3 keys: 1, 2, then 3 for each.
        (spec(true, 3), 1 + 2 + 3 * (tokens - 2)),
    ];
    for (spec, pairs) in pairs {
        let found = costs(params(), None, |g| {
            let qkv = g.input(&[batch, tokens, 3 * width]);
            let part = |i: usize| qkv.from_column(i * width);
            g.output(g.attention(spec, part(0), part(1), part(2), AttentionMask::NONE));
        });
        let rows = batch * tokens;
        assert_eq!(found, [("attention", cost(4 * dim * batch * heads * pairs, rows * 4 * width))], "{spec:?}");
    }
}

#[test]
fn a_cache_costs_its_live_keys() {
    let (capacity, width, live) = (64, 8, 10);
    let spec = AttentionSpec { heads: 2, kv_heads: 2, head_dim: 4, causal: true, window: 0, scale: 0.5, site: 0 };
    let at = |live_keys| {
        costs(params(), live_keys, |g| {
            let (q, starts) = (g.input(&[1, 1, width]), g.ints(&[1], 0, capacity as i32 - 1));
            let state = |_| g.cache_write(q.into(), starts, g.state(&[1, capacity, width]));
            let [k, v] = [0, 1].map(state);
            let mask = AttentionMask { live: Some(g.ints(&[1], 0, capacity as i32)), ..AttentionMask::NONE };
            g.output(g.attention(spec, q.into(), k.into(), v.into(), mask));
        })
    };
    // q, k, v, o and the count.
    assert_eq!(*of(&at(Some(live)), "attention"), cost(4 * width * live, 2 * width + 2 * live * width + 1));
    assert_eq!(*of(&at(None), "attention"), cost(4 * width * capacity, 2 * width + 2 * capacity * width + 1));
    assert_eq!(*of(&at(None), "cache write"), cost(0, 2 * width + 1));
}

#[test]
fn a_reshape_is_free_and_a_function_reads_and_writes() {
    let found = costs(params(), None, |g| {
        g.output(g.unary(UnaryKind::Exp, 0.0, 0.0, g.reshape(g.unary(UnaryKind::Relu, 0.0, 0.0, g.input(&[3, 8])), &[24])));
    });
    assert_eq!(found, [("unary", cost(24, 48)), ("reshape", cost(0, 0)), ("unary", cost(24, 48))]);
}

#[test]
fn a_training_step_is_six_operations_for_every_weight_and_token() {
    let config = GptConfig { vocab_size: 11, n_positions: 6, n_embd: 8, n_layer: 3, n_head: 2, n_inner: 32, ..GptConfig::GPT2 };
    let (batch, block) = (2, 5);
    let (params, gpt) = registry::<f32, _>(config.param_count(), |r| Gpt::register(&config, &mut r.scope()));
    let found = costs(params, None, |g| {
        let inputs = LmInputs::new(g, &gpt, batch, block);
        let targets = g.ints(&[batch, block], -1, config.vocab_size as i32 - 1);
        let (upstream, hyper) = (g.input(&[1]), g.input(&[8]));
        let losses = g.output(lm::losses(g, &gpt, &inputs, targets));
        g.backward(&[(losses, upstream)], Wrt::Trainable, Recompute::None);
        g.adamw(hyper, Some(g.global_norm()), Epsilon::AfterCorrection);
    });
    let sum = |names: &[&str]| {
        found.iter().filter(|(name, _)| names.contains(name)).fold(Cost::default(), |sum, (_, cost)| sum.plus(*cost))
    };
    let (c, tokens) = (config.n_embd, batch * block);
    let weights = config.vocab_size * c + config.n_layer * (4 * c * c + 2 * c * config.n_inner);
    assert_eq!(sum(&["linear", "linear backward", "head loss and gradients"]).flops, (6 * tokens * weights) as u64);
    let pairs = config.n_layer * config.n_head * batch * block * (block + 1) / 2;
    assert_eq!(sum(&["attention", "attention backward"]).flops, (14 * pairs * c / config.n_head) as u64);
    assert_eq!(sum(&["AdamW"]).bytes, (7 * 4 * params.trainable_len()) as u64);
    assert_eq!(sum(&["global norm"]).bytes, (4 * params.trainable_count()) as u64);
    // The table's gradient comes from the head first: the embedding adds its rows, read and written, to it.
    let rows = tokens * c;
    assert_eq!(sum(&["embedding backward"]).bytes / 4, (2 * tokens + 3 * rows + rows + config.n_positions * c) as u64);
    assert!(matches!(found.last(), Some(("AdamW", _))));
}
