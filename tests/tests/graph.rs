//! What the builder refuses, and where it says the mistake is.

use samara_core::graph::{
    Activation, AttentionMask, AttentionSpec, BinaryKind, Columns, Epsilon, Graph, GraphError, GraphErrorKind as E, NodeRecord,
    Op, Over, Recompute, ReduceKind, Shape, Tensor, TensorRecord, UnaryKind, Upstream, Wrt,
};
use samara_core::params::{Init, ParamId};
use samara_tests::session::{graph, registry};

const SPEC: AttentionSpec = AttentionSpec { heads: 2, kv_heads: 2, head_dim: 3, causal: true, window: 0, scale: 1.0, site: 0 };

/// The first error of a graph over one parameter (4, 6), and the line that `build` returns.
fn refused(build: impl FnOnce(&Graph<'static>) -> u32) -> GraphError {
    let (params, _) = registry::<f32, _>(1, |r| r.scope().add("w", &[4, 6], Init::Zeros));
    let g = graph(params, 32);
    let line = build(&g);
    let error = g.finish().map(|_| ()).expect_err("an error");
    assert!(error.location.file().ends_with("graph.rs"), "{error}");
    assert_eq!(error.location.line(), line, "{error}");
    assert!(error.to_string().ends_with(&format!(", at {}:{line}", error.location.file())), "{error}");
    error
}

fn w(g: &Graph<'static>) -> Tensor {
    g.param(ParamId::FIRST)
}

fn shape(extents: &[usize]) -> Shape {
    Shape::new(extents).unwrap()
}

#[test]
fn wrong_shapes() {
    let error = refused(|g| {
        let x = g.input(&[2, 5]);
        (g.linear(x, w(g), None), line!()).1
    });
    assert_eq!(error.kind, E::Shape { input: 1, found: shape(&[4, 6]), expected: shape(&[4, 5]) });
    assert!(error.to_string().starts_with("linear: input 1 has shape [4, 6], expected [4, 5], at "), "{error}");
    let cases: [fn(&Graph<'static>) -> u32; 10] = [
        |g| (g.linear(g.input(&[2, 6]), w(g), Some(g.input(&[3]))), line!()).1,
        |g| (g.layer_norm(g.input(&[2, 6]), Some(g.input(&[5])), None, 1e-5), line!()).1,
        |g| (g.add(g.input(&[2, 6]), g.input(&[6, 2, 2])), line!()).1,
        |g| (g.binary(BinaryKind::Mul, Over::Row, g.input(&[2, 6]), g.input(&[2])), line!()).1,
        |g| (g.broadcast(g.input(&[2]), Over::Row, shape(&[2, 6])), line!()).1,
        |g| (g.reshape(g.input(&[2, 6]), &[3, 5]), line!()).1,
        |g| (g.token_concat(g.input(&[2, 3, 4]), g.input(&[2, 3, 5])), line!()).1,
        |g| (g.token_slice(g.input(&[2, 3]), 0, 1), line!()).1,
        |g| (g.head_loss(g.input(&[2, 6]), w(g), None, g.ints(&[3], -100, 3), 0.0), line!()).1,
        |g| (g.cache_write(g.input(&[1, 5, 2]).into(), g.ints(&[1], 0, 9), g.state(&[1, 4, 2])), line!()).1,
    ];
    for (n, case) in cases.into_iter().enumerate() {
        let error = refused(case);
        assert!(matches!(error.kind, E::Shape { .. }), "case {n}: {error}");
    }
}

/// What is refused is named: an operation, one whose gradient was asked for, a helper of several operations; a leaf has no name.
#[test]
fn errors_name_the_operation() {
    /// What a model author writes, and the line on which it stands.
    type Faulty = fn(&Graph<'static>) -> u32;
    let cases: [(&str, Faulty); 6] = [
        ("embedding: input 0 has the wrong element type, at ", |g| (g.embedding(g.input(&[2]), w(g), None), line!()).1),
        ("layer norm: output 1 has no gradient: use the first, at ", |g| {
            let [_, statistics, _] = g.push(Op::LayerNorm { eps: 1e-5, centre: true }, &[w(g).into()]);
            (g.backward(&[(g.sum(statistics), g.input(&[1]))], Wrt::Trainable, Recompute::None), line!()).1
        }),
        ("column slice: columns 4..7 of a tensor with 6 columns, at ", |g| (g.column_slice(w(g), 4, 3), line!()).1),
        ("column slice: columns 4294967295..4294967295 of a tensor with 6 columns, at ", |g| {
            (g.column_slice(w(g), usize::MAX, 1), line!()).1
        }),
        ("column concat: input 1 has shape [3, 2], expected [4, 2], at ", |g| {
            (g.column_concat(w(g), g.input(&[3, 2])), line!()).1
        }),
        ("more than four extents or more than 2147483647 elements, at ", |g| (g.input(&[1; 5]), line!()).1),
    ];
    for (start, case) in cases {
        let error = refused(case).to_string();
        assert!(error.starts_with(start), "{error}");
    }
}

#[test]
fn wrong_element_types() {
    let error = refused(|g| (g.linear(g.ints(&[2, 6], 0, 1), w(g), None), line!()).1);
    assert_eq!(error.kind, E::DType { input: 0 });
    let error = refused(|g| (g.embedding(g.input(&[2]), w(g), None), line!()).1);
    assert_eq!(error.kind, E::DType { input: 0 });
}

#[test]
fn attributes_out_of_range() {
    type Case = fn(&Graph<'static>) -> u32;
    let cases: [(&str, f64, Case); 10] = [
        ("eps", 0.0, |g| (g.layer_norm(g.input(&[2]), None, None, 0.0), line!()).1),
        ("smoothing", 1.0, |g| (g.head_loss(g.input(&[2, 6]), w(g), None, g.ints(&[2], 0, 3), 1.0), line!()).1),
        ("last token", 4.0, |g| (g.token_slice(g.input(&[1, 3, 2]), 2, 2), line!()).1),
        ("last token", f64::from(u32::MAX) + 1.0, |g| (g.token_slice(g.input(&[1, 3, 2]), 1 << 40, 1), line!()).1),
        ("first token", 2.0, |g| (g.token_replace(g.input(&[1, 3, 2]), g.input(&[1, 2, 2]), 2), line!()).1),
        ("largest id", 4.0, |g| (g.embedding(g.ints(&[2], 0, 4), w(g), None), line!()).1),
        ("smallest id", -1.0, |g| (g.embedding(g.ints(&[2], -1, 3), w(g), None), line!()).1),
        ("largest id", 4.0, |g| (g.head_loss(g.input(&[2, 6]), w(g), None, g.ints(&[2], -100, 4), 0.0), line!()).1),
        ("kv_heads", 2.0, |g| {
            let (x, spec) = (g.input(&[1, 2, 9]), AttentionSpec { heads: 3, ..SPEC });
            (g.attention(spec, x.into(), x.into(), x.into(), AttentionMask::NONE), line!()).1
        }),
        ("head_dim", 0.0, |g| {
            let (x, spec) = (g.input(&[1, 2, 9]), AttentionSpec { head_dim: 0, ..SPEC });
            (g.attention(spec, x.into(), x.into(), x.into(), AttentionMask::NONE), line!()).1
        }),
    ];
    for (name, value, case) in cases {
        let error = refused(case);
        assert_eq!(error.kind, E::Attribute { name, value }, "{error}");
    }
}

#[test]
fn impossible_shapes() {
    let cases: [fn(&Graph<'static>) -> u32; 7] = [
        |g| (g.input(&[1 << 16, 1 << 16]), line!()).1,
        |g| (g.ints(&[1; 5], 0, 1), line!()).1,
        |g| (g.state(&[usize::MAX, 2]), line!()).1,
        |g| (g.constant(0.0, &[1 << 16, 1 << 16]), line!()).1,
        |g| (g.reshape(g.input(&[1]), &[1; 5]), line!()).1,
        |g| (g.embedding(g.ints(&[1, 1, 1, 2], 0, 3), w(g), None), line!()).1,
        |g| (g.token_concat(g.input(&[1, 1 << 30, 1]), g.input(&[1, 1 << 30, 1])), line!()).1,
    ];
    for (n, case) in cases.into_iter().enumerate() {
        let error = refused(case);
        assert_eq!(error.kind, E::ShapeTooLarge, "case {n}: {error}");
    }
}

#[test]
fn columns() {
    let error = refused(|g| {
        let x = g.input(&[1, 2, 17]);
        (g.attention(SPEC, x.into(), x.from_column(6), x.from_column(12), AttentionMask::NONE), line!()).1
    });
    assert_eq!(error.kind, E::Columns { first: 12, count: 6, cols: 17 });
    let error = refused(|g| {
        let (x, out) = (g.input(&[1, 2, 6]), 1usize << 40);
        (g.attention(SPEC, x.from_column(out), x.into(), x.into(), AttentionMask::NONE), line!()).1
    });
    assert!(matches!(error.kind, E::Columns { first: u32::MAX, .. }), "{error}");
    // Only attention and the cache read from a column on.
    let error = refused(|g| {
        let inputs = [g.input(&[2, 6]).from_column(1), w(g).into()];
        (g.push(Op::Linear { activation: Activation::None, slope: false }, &inputs), line!()).1
    });
    assert!(matches!(error.kind, E::Columns { first: 1, .. }), "{error}");
    // The gradient of a part that nobody reads would be undefined.
    let error = refused(|g| {
        let x = g.input(&[1, 2, 20]);
        let y = g.attention(SPEC, x.into(), x.from_column(6), x.from_column(12), AttentionMask::NONE);
        let u = g.input(&[1]);
        (g.backward(&[(y, u)], Wrt::Tensors(&[x]), Recompute::None), line!()).1
    });
    assert_eq!(error.kind, E::ColumnsNotCovered);
    // So would that of a part that is read twice.
    for parts in [[0, 0, 0], [0, 0, 6], [0, 3, 12]] {
        let error = refused(|g| {
            let (x, u) = (g.input(&[1, 2, 18]), g.input(&[1]));
            let [q, k, v] = parts.map(|column| x.from_column(column));
            let y = g.attention(SPEC, q, k, v, AttentionMask::NONE);
            (g.backward(&[(y, u)], Wrt::Tensors(&[x]), Recompute::None), line!()).1
        });
        assert_eq!(error.kind, E::ColumnsNotCovered);
    }
}

#[test]
fn missing_and_unknown_inputs() {
    let error = refused(|g| (g.push(Op::TokenConcat, &[g.input(&[1, 2, 3]).into()]), line!()).1);
    assert_eq!(error.kind, E::MissingInput { input: 1 });
    let error = refused(|g| {
        let (x, s) = (g.input(&[1, 2, 18]), g.ints(&[1, 2], -1, 1));
        let inputs: [Columns; 5] = [x.into(), x.from_column(6), x.from_column(12), Tensor::NONE.into(), s.into()];
        (g.push(Op::Attention(SPEC), &inputs), line!()).1
    });
    assert_eq!(error.kind, E::MissingInput { input: 3 });
    let error = refused(|g| {
        let (params, ()) = registry::<f32, _>(0, |_| ());
        let other = graph(params, 32);
        let foreign = (0..9).map(|_| other.input(&[2])).last().unwrap();
        (g.scale(foreign, 2.0), line!()).1
    });
    assert_eq!(error.kind, E::UnknownTensor);
}

#[test]
fn full_storage() {
    let (params, ()) = registry::<f32, _>(0, |_| ());
    let g = Graph::new(params, vec![TensorRecord::EMPTY; 8].leak(), vec![NodeRecord::EMPTY; 1].leak());
    let x = g.scale(g.input(&[2]), 2.0);
    let line = (g.scale(x, 3.0), line!()).1;
    let error = g.finish().map(|_| ()).unwrap_err();
    assert_eq!((error.kind, error.location.line()), (E::TooManyNodes, line));
    let g = Graph::new(params, vec![TensorRecord::EMPTY; 1].leak(), vec![NodeRecord::EMPTY; 8].leak());
    let x = g.input(&[2]);
    let line = (g.scale(x, 3.0), line!()).1;
    let error = g.finish().map(|_| ()).unwrap_err();
    assert_eq!((error.kind, error.location.line()), (E::TooManyTensors, line));
    let (params, _) = registry::<f32, _>(1, |r| r.scope().add("w", &[4], Init::Zeros));
    let (g, line) = (Graph::new(params, &mut [], &mut []), line!());
    let error = g.finish().map(|_| ()).unwrap_err();
    assert_eq!((error.kind, error.location.line()), (E::TooManyTensors, line));
}

#[test]
fn state_is_read_before_it_is_replaced() {
    let error = refused(|g| {
        let state = g.state(&[1, 4, 2]);
        g.cache_write(g.input(&[1, 1, 2]).into(), g.ints(&[1], 0, 3), state);
        (g.scale(state, 1.0), line!()).1
    });
    assert_eq!(error.kind, E::StaleState);
    // Only states can be written.
    let error = refused(|g| {
        let (x, starts) = (g.input(&[1, 1, 2]), g.ints(&[1], 0, 3));
        (g.cache_write(x.into(), starts, g.input(&[1, 4, 2])), line!()).1
    });
    assert_eq!(error.kind, E::StaleState);
}

#[test]
fn gradients_that_do_not_exist() {
    let error = refused(|g| {
        let (x, u) = (g.input(&[2, 3]), g.input(&[2]));
        let y = g.scale(x, 2.0);
        (g.backward(&[(y, u)], Wrt::Tensors(&[x]), Recompute::None), line!()).1
    });
    assert_eq!(error.kind, E::Upstream { found: shape(&[2]), expected: shape(&[2, 3]) });
    let error = refused(|g| {
        let (x, u, live) = (g.input(&[1, 2, 18]), g.input(&[1]), g.ints(&[1], 0, 2));
        let mask = AttentionMask { live: Some(live), ..AttentionMask::NONE };
        let y = g.attention(SPEC, x.into(), x.from_column(6), x.from_column(12), mask);
        (g.backward(&[(y, u)], Wrt::Tensors(&[x]), Recompute::None), line!()).1
    });
    assert_eq!(error.kind, E::NoGradientThroughLiveLengths);
    let error = refused(|g| {
        let (x, u) = (g.input(&[2]), g.input(&[2]));
        let y = g.mul(x, u);
        (g.backward(&[(y, Upstream::After(u))], Wrt::Tensors(&[x]), Recompute::None), line!()).1
    });
    assert_eq!(error.kind, E::LateUpstream);
    let error = refused(|g| {
        let x = g.input(&[2]);
        let (y, u) = (g.scale(x, 2.0), g.constant(1.0, &[2]));
        (g.backward(&[(y, Upstream::After(u))], Wrt::Tensors(&[x]), Recompute::None), line!()).1
    });
    assert_eq!(error.kind, E::LateUpstream);
    let error = refused(|g| {
        let (x, u) = (g.input(&[2, 3]), g.input(&[1]));
        let [y, statistics, _] = g.push(Op::LayerNorm { eps: 1e-5, centre: true }, &[x.into()]);
        let loss = g.add(g.sum(y), g.sum(statistics));
        (g.backward(&[(loss, u)], Wrt::Tensors(&[x]), Recompute::None), line!()).1
    });
    assert_eq!(error.kind, E::NoGradientThroughOutput { output: 1 });
}

#[test]
fn one_backward_pass_before_the_first_update() {
    let error = refused(|g| {
        let (y, u) = (g.sum(w(g)), g.input(&[1]));
        g.backward(&[(y, u)], Wrt::Trainable, Recompute::None);
        (g.backward(&[(y, u)], Wrt::Trainable, Recompute::None), line!()).1
    });
    assert_eq!(error.kind, E::Sections);
    let error = refused(|g| {
        let (y, u, hyper) = (g.sum(w(g)), g.input(&[1]), g.input(&[8]));
        g.adamw(hyper, None, Epsilon::AfterCorrection);
        (g.backward(&[(y, u)], Wrt::Trainable, Recompute::None), line!()).1
    });
    assert_eq!(error.kind, E::Sections);
}

/// Later mistakes are consequences: the first one is reported, and building goes on without a panic.
#[test]
fn the_first_error_stays() {
    let error = refused(|g| {
        let (bad, line) = (g.linear(g.input(&[2, 5]), w(g), None), line!());
        let y = g.add(g.layer_norm(bad, None, None, 1e-5), g.unary(UnaryKind::Exp, 0.0, 0.0, bad));
        let loss = g.output(g.reduce(ReduceKind::Max, Over::Scalar, y));
        g.backward(&[(loss, bad)], Wrt::Trainable, Recompute::Blocks);
        assert_eq!(g.gradient(bad), None);
        line
    });
    assert!(matches!(error.kind, E::Shape { input: 1, .. }), "{error}");
}
