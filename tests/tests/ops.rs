//! Every operation on every table of kernels.

use proptest::prelude::*;
use samara::kernels::cpu;
use samara::kernels::gemm::Gemm;
use samara::threads::Pool;
use samara_core::exec::Gradients;
use samara_core::graph::{
    AttentionMask, AttentionSpec, BinaryKind, Columns, Graph, Op, Over, Pairing, Recompute, ReduceKind, RotarySpec, Tensor,
    UnaryKind, Upstream, Wrt,
};
use samara_core::ops::reference;
use samara_tests::draw::Draw;
use samara_tests::session::{Session, Table, registry};
use samara_tests::suite::{Coverage, Size, run};
use samara_tests::{fd, golden};

/// Values to rounding, gradients to 10⁻⁷ of finite differences; no operation without a case.
#[test]
fn double_precision_reference() {
    let kernels = reference::<f64>();
    let table = Table::serial(&kernels);
    let mut coverage = Coverage::NONE;
    for seed in 0..6 {
        run(table, table, Size::Small, seed, &mut coverage);
    }
    run(table, table, Size::Large, 100, &mut coverage);
    assert_eq!(coverage.missing(), [0; 0], "operations without a case");
}

fn single_precision(table: Table<'_, f32>) {
    let exact = reference::<f64>();
    let oracle = Table::serial(&exact);
    let mut coverage = Coverage::NONE;
    for seed in 200..203 {
        run(table, oracle, Size::Small, seed, &mut coverage);
    }
    for seed in 300..303 {
        run(table, oracle, Size::Large, seed, &mut coverage);
    }
    assert_eq!(coverage.missing(), [0; 0], "operations without a case");
}

#[test]
fn single_precision_reference() {
    single_precision(Table::serial(&reference::<f32>()));
}

#[test]
fn fast_kernels() {
    let pool = Pool::new(3).unwrap();
    for gemm in [Gemm::Samara, Gemm::Portable, Gemm::MatrixMultiply] {
        let kernels = cpu(gemm);
        single_precision(Table::serial(&kernels));
        single_precision(Table { kernels: &kernels, threads: &pool });
    }
}

/// Runs one operation on the reference kernels in double precision.
fn evaluate(inputs: &[(&[usize], Vec<f64>)], build: impl FnOnce(&Graph<'static>, &[Tensor]) -> Tensor) -> Vec<f64> {
    let kernels = reference::<f64>();
    let (params, ()) = registry::<f64, _>(0, |_| ());
    let built = Session::build(Table::serial(&kernels), params, 32, |g| {
        let leaves: Vec<Tensor> = inputs.iter().map(|(shape, _)| g.input(shape)).collect();
        (g.output(build(g, &leaves)), leaves)
    });
    let (mut session, (y, leaves)) = built.unwrap();
    leaves.iter().zip(inputs).for_each(|(&t, (_, values))| session.set(t, values));
    session.run(Gradients::Overwrite);
    session.get(y)
}

/// The value and the gradient of Σ y u with respect to the first input, in one program.
fn differentiate(
    inputs: &[(&[usize], Vec<f64>)],
    upstream: &[f64],
    ints: &[i32],
    build: impl FnOnce(&Graph<'static>, &[Tensor], Tensor) -> Tensor,
) -> (Vec<f64>, Vec<f64>) {
    let kernels = reference::<f64>();
    let (params, ()) = registry::<f64, _>(0, |_| ());
    let built = Session::build(Table::serial(&kernels), params, 32, |g| {
        let leaves: Vec<Tensor> = inputs.iter().map(|(shape, _)| g.input(shape)).collect();
        let control = g.ints(&[ints.len()], i32::MIN, ints.iter().copied().max().unwrap_or(0));
        let y = g.output(build(g, &leaves, control));
        let u = g.input(&[upstream.len()]);
        g.backward(&[(y, u)], Wrt::Tensors(&leaves[..1]), Recompute::None);
        (y, g.output(g.gradient(leaves[0]).expect("a gradient")), u, control, leaves)
    });
    let (mut session, (y, dx, u, control, leaves)) = built.unwrap();
    leaves.iter().zip(inputs).for_each(|(&t, (_, values))| session.set(t, values));
    session.set(u, upstream);
    session.set_ints(control, ints);
    session.run(Gradients::Overwrite);
    (session.get(y), session.get(dx))
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// A row of attention is a convex combination of values; a value that all keys share comes out as it is.
    #[test]
    fn attention_is_convex(seed: u64, causal: bool, window in 0u32..4) {
        let mut d = Draw::new(seed);
        let (t, dim) = (d.extent(6), d.extent(5));
        let spec = AttentionSpec { heads: 1, kv_heads: 1, head_dim: dim as u32, causal, window, scale: 1.0, site: 0 };
        let shape = [1, t, dim];
        let [q, k, v] = [0; 3].map(|_| d.values(t * dim, -2.0, 2.0));
        let attend = |v: Vec<f64>| {
            let inputs = [(&shape[..], q.clone()), (&shape[..], k.clone()), (&shape[..], v)];
            evaluate(&inputs, |g, x| g.attention(spec, x[0].into(), x[1].into(), x[2].into(), AttentionMask::NONE))
        };
        for y in attend(vec![1.0; t * dim]) {
            prop_assert!((y - 1.0).abs() < 1e-14);
        }
        for (i, y) in attend(v.clone()).into_iter().enumerate() {
            let column = v.iter().skip(i % dim).step_by(dim);
            let (low, high) = column.fold((f64::MAX, f64::MIN), |(l, h), &x| (l.min(x), h.max(x)));
            prop_assert!(y >= low - 1e-14 && y <= high + 1e-14);
        }
    }

    /// Rows of a layer norm have mean 0 and, with ε beside it, variance 1; x + c and a x have the norm of x.
    #[test]
    fn layer_norm_normalises(seed: u64, shift in -5.0..5.0, scale in 0.5..4.0) {
        let mut d = Draw::new(seed);
        let (m, c) = (d.extent(4), 4 + d.extent(9));
        let x = d.values(m * c, -2.0, 2.0);
        let norm = |x: Vec<f64>| evaluate(&[(&[m, c], x)], |g, x| g.layer_norm(x[0], None, None, 1e-12));
        let y = norm(x.clone());
        for row in y.chunks(c) {
            let mean = row.iter().sum::<f64>() / c as f64;
            let variance = row.iter().map(|y| (y - mean).powi(2)).sum::<f64>() / c as f64;
            prop_assert!(mean.abs() < 1e-12 && (variance - 1.0).abs() < 1e-9);
        }
        let moved = norm(x.iter().map(|x| scale * x + shift).collect());
        prop_assert!(y.iter().zip(&moved).all(|(a, b)| (a - b).abs() < 1e-8));
    }

    /// Rows of an RMS norm have mean square 1 with ε beside it; a x has the norm of x, x + c has not.
    #[test]
    fn rms_norm_normalises(seed: u64, scale in 0.5..4.0) {
        let mut d = Draw::new(seed);
        let (m, c) = (d.extent(4), 4 + d.extent(9));
        let x = d.values(m * c, -2.0, 2.0);
        let norm = |x: Vec<f64>| evaluate(&[(&[m, c], x)], |g, x| g.rms_norm(x[0], None, 1e-12));
        let y = norm(x.clone());
        for row in y.chunks(c) {
            let square = row.iter().map(|y| y * y).sum::<f64>() / c as f64;
            prop_assert!((square - 1.0).abs() < 1e-9);
        }
        let larger = norm(x.iter().map(|x| scale * x).collect());
        prop_assert!(y.iter().zip(&larger).all(|(a, b)| (a - b).abs() < 1e-8));
        let moved = norm(x.iter().map(|x| x + 3.0).collect());
        prop_assert!(y.iter().zip(&moved).any(|(a, b)| (a - b).abs() > 1e-3));
    }

    /// A rotary embedding keeps lengths, turned back it is the identity, and a product of two rows depends on their distance alone.
    #[test]
    fn rotary_embeddings_are_rotations(seed: u64, adjacent: bool, distance in 0i32..40, moved in 1i32..400) {
        let mut d = Draw::new(seed);
        let (heads, dim) = (d.extent(3), 2 * d.extent(8));
        let c = heads * dim;
        let pairs = if adjacent { Pairing::Adjacent } else { Pairing::Halves };
        let spec = RotarySpec { heads: heads as u32, head_dim: dim as u32, rotated: dim as u32, pairs, base: 1e4, inverse: false };
        let x = d.values(2 * c, -1.0, 1.0);
        let turn = |x: &[f64], at: [i32; 2], spec| {
            differentiate(&[(&[2, c], x.to_vec())], &vec![1.0; 2 * c], &at, |g, x, at| g.rotary(x[0], at, spec)).0
        };
        let dot = |y: &[f64]| y[..c].iter().zip(&y[c..]).map(|(a, b)| a * b).sum::<f64>();
        let (y, far) = (turn(&x, [0, distance], spec), turn(&x, [moved, moved + distance], spec));
        prop_assert!((dot(&y) - dot(&far)).abs() < 1e-4);
        let back = turn(&far, [moved, moved + distance], RotarySpec { inverse: true, ..spec });
        prop_assert!(x.iter().zip(&back).all(|(a, b)| (a - b).abs() < 1e-14));
        let square = |x: &[f64]| x.iter().map(|x| x * x).sum::<f64>();
        prop_assert!((square(&far) - square(&x)).abs() < 1e-12);
    }

    /// Cross-entropy is not negative, ln V for equal logits, and 0 for masked rows; with bias and smoothing as well.
    #[test]
    fn cross_entropy_is_not_negative(seed: u64, smoothing in 0.0..0.9) {
        let mut d = Draw::new(seed);
        let (m, c, vocab) = (d.extent(5), d.extent(5), 1 + d.extent(7));
        let targets = d.ints(m, -2, vocab as i32 - 1);
        let inputs = [
            (&[m, c][..], d.values(m * c, -3.0, 3.0)),
            (&[vocab, c][..], d.values(vocab * c, -3.0, 3.0)),
            (&[vocab][..], d.values(vocab, -3.0, 3.0)),
        ];
        let (losses, dx) = differentiate(&inputs, &vec![1.0; m], &targets, |g, x, t| g.head_loss(x[0], x[1], Some(x[2]), t, smoothing));
        for ((loss, dx), &target) in losses.iter().zip(dx.chunks(c)).zip(&targets) {
            if target < 0 {
                prop_assert!(*loss == 0.0 && dx.iter().all(|&x| x == 0.0));
            } else {
                prop_assert!(*loss >= 0.0 && loss.is_finite());
            }
        }
        let equal = [(&[m, c][..], vec![0.0; m * c]), inputs[1].clone()];
        let (losses, _) = differentiate(&equal, &vec![1.0; m], &targets, |g, x, t| g.head_loss(x[0], x[1], None, t, smoothing));
        for (loss, &target) in losses.iter().zip(&targets) {
            prop_assert!(target < 0 || (loss - (vocab as f64).ln()).abs() < 1e-13);
        }
    }

    /// GELU lies below ReLU and above −0.171, and both forms agree to 10⁻³.
    #[test]
    fn gelu_is_bounded(x in -20.0..20.0) {
        let gelu = |kind| evaluate(&[(&[1], vec![x])], |g, t| g.unary(kind, 0.0, 0.0, t[0]))[0];
        let (tanh, erf) = (gelu(UnaryKind::GeluTanh), gelu(UnaryKind::GeluErf));
        for y in [tanh, erf] {
            prop_assert!(y <= x.max(0.0) && y >= x.max(0.0) - 0.171);
        }
        prop_assert!((tanh - erf).abs() < 1e-3);
    }

    /// SiLU lies below ReLU and above −0.279, the quick form of GELU below ReLU and above −0.164.
    #[test]
    fn swishes_are_bounded(x in -20.0..20.0) {
        for (kind, least) in [(UnaryKind::Silu, -0.279), (UnaryKind::QuickGelu, -0.164)] {
            let y = evaluate(&[(&[1], vec![x])], |g, t| g.unary(kind, 0.0, 0.0, t[0]))[0];
            prop_assert!(y <= x.max(0.0) && y >= least);
        }
    }

    /// What was concatenated, padded or put in place comes back by slicing.
    #[test]
    fn token_operations_are_inverse(seed: u64) {
        let mut d = Draw::new(seed);
        let (b, ta, tb, c) = (d.extent(3), d.extent(4), d.extent(4), d.extent(3));
        let inputs = [(&[b, ta, c][..], d.values(b * ta * c, -1.0, 1.0)), (&[b, tb, c][..], d.values(b * tb * c, -1.0, 1.0))];
        let back = |first: usize, count: usize, replace: bool| {
            evaluate(&inputs, |g, x| {
                let joined = g.token_concat(x[0], x[1]);
                let joined = if replace { g.token_replace(joined, g.scale(x[1], 2.0), ta) } else { joined };
                g.token_slice(joined, first, count)
            })
        };
        prop_assert_eq!(&back(0, ta, false), &inputs[0].1);
        prop_assert_eq!(&back(ta, tb, false), &inputs[1].1);
        prop_assert_eq!(&back(0, ta, true), &inputs[0].1);
        prop_assert_eq!(back(ta, tb, true), inputs[1].1.iter().map(|x| 2.0 * x).collect::<Vec<_>>());
    }

    /// The gradient goes where the value went, with the same factor; the mask depends on seed, step, micro-batch and site.
    #[test]
    fn dropout_has_one_mask(seed: u64, step: u32, micro in 0u32..4) {
        let control = samara_core::ops::dropout::control(seed, step, micro, 0.3);
        let drop = |control: [i32; 5], sites: usize| {
            differentiate(&[(&[400], vec![1.0; 400])], &[1.0; 400], &control, |g, x, control| {
                (1..sites).for_each(|_| {
                    g.site();
                });
                g.dropout(x[0], control)
            })
        };
        let (y, dx) = drop(control, 1);
        prop_assert_eq!(&y, &dx);
        prop_assert!(y.iter().all(|&y| y == 0.0 || (y - 1.0 / 0.7).abs() < 1e-6));
        for (position, change) in [(0, 1), (1, 1), (2, 1), (3, 1)] {
            let mut other = control;
            other[position] ^= change;
            prop_assert_ne!(&drop(other, 1).0, &y);
        }
        prop_assert_ne!(&drop(control, 2).0, &y);
    }
}

/// The mean over many elements is the value, to five standard errors; p = 0 changes nothing.
#[test]
fn dropout_keeps_the_expectation() {
    let n = 100_000;
    for p in [0.1, 0.5, 0.9] {
        let control = samara_core::ops::dropout::control(1, 2, 3, p);
        let (y, _) = differentiate(&[(&[n], vec![1.0; n])], &vec![1.0; n], &control, |g, x, control| g.dropout(x[0], control));
        let mean = y.iter().sum::<f64>() / n as f64;
        let deviation = (p / (1.0 - p) / n as f64).sqrt();
        assert!((mean - 1.0).abs() < 5.0 * deviation, "p {p}: mean {mean}");
    }
    let control = samara_core::ops::dropout::control(1, 2, 3, 0.0);
    let (y, dx) = differentiate(&[(&[3], vec![1.0, 2.0, 3.0])], &[4.0, 5.0, 6.0], &control, |g, x, c| g.dropout(x[0], c));
    assert_eq!((y, dx), (vec![1.0, 2.0, 3.0], vec![4.0, 5.0, 6.0]));
}

/// What a derivative is where there is none: 0 for ReLU and |x| at 0, 1 on the bounds of a clamp, equal shares for ties.
#[test]
fn kinks() {
    let slope = |kind, a, b, x| differentiate(&[(&[1], vec![x])], &[1.0], &[], |g, t, _| g.unary(kind, a, b, t[0])).1[0];
    assert_eq!(slope(UnaryKind::Relu, 0.0, 0.0, 0.0), 0.0);
    assert_eq!(slope(UnaryKind::Abs, 0.0, 0.0, 0.0), 0.0);
    assert_eq!(slope(UnaryKind::Clamp, -1.0, 1.0, 1.0), 1.0);
    assert_eq!(slope(UnaryKind::Clamp, -1.0, 1.0, -1.0), 1.0);
    for kind in [BinaryKind::Min, BinaryKind::Max] {
        for swap in [false, true] {
            let tie = [(&[1][..], vec![2.0]), (&[1][..], vec![2.0])];
            let (_, dx) = differentiate(&tie, &[1.0], &[], |g, t, _| {
                if swap { g.binary(kind, Over::Same, t[1], t[0]) } else { g.binary(kind, Over::Same, t[0], t[1]) }
            });
            assert_eq!(dx, [0.5]);
        }
    }
    let (_, dx) = differentiate(&[(&[1, 4], vec![3.0, 1.0, 3.0, 3.0])], &[6.0], &[], |g, t, _| {
        g.reduce(ReduceKind::Max, Over::Column, t[0])
    });
    assert_eq!(dx, [2.0, 0.0, 2.0, 2.0]);
}

/// A query that the mask leaves without keys gives 0 and takes no gradient, in every direction.
#[test]
fn a_row_without_keys_is_zero() {
    let spec = AttentionSpec { heads: 2, kv_heads: 1, head_dim: 2, causal: false, window: 0, scale: 1.0, site: 0 };
    let mut d = Draw::new(1);
    let qkv = [(&[1, 3, 8][..], d.values(24, -1.0, 1.0))];
    for (segments, masked) in [([-1, 0, 0], vec![0]), ([0, 1, -1], vec![2]), ([-1, -1, -1], vec![0, 1, 2])] {
        let (y, dx) = differentiate(&qkv, &[1.0; 12], &segments, |g, x, s| {
            let s = g.reshape(s, &[1, 3]);
            let mask = AttentionMask { segments: Some((s, s)), ..AttentionMask::NONE };
            g.attention(spec, x[0].into(), x[0].from_column(4), x[0].from_column(6), mask)
        });
        for row in masked {
            assert_eq!(y[4 * row..4 * row + 4], [0.0; 4]);
            assert_eq!(dx[8 * row..8 * row + 8], [0.0; 8]);
        }
        assert!(y.iter().chain(&dx).all(|x| x.is_finite()));
    }
}

/// The fused head (losses, dx and dW in one pass) and the pass after the forward one, with one upstream number and with one per row.
#[test]
fn fused_head_is_the_unfused_one() {
    let mut d = Draw::new(2);
    let (m, c, vocab) = (7, 5, 11);
    let inputs = [(&[m, c][..], d.values(m * c, -1.0, 1.0)), (&[vocab, c][..], d.values(vocab * c, -1.0, 1.0))];
    let targets = [3, -100, 0, 10, 5, 5, -1];
    for smoothing in [0.0, 0.2] {
        for upstream in [vec![0.5], d.values(m, -1.0, 1.0)] {
            let [fused, unfused, biased] = ["fused", "unfused", "biased"].map(|how| {
                let kernels = reference::<f64>();
                let (params, ()) = registry::<f64, _>(0, |_| ());
                let built = Session::build(Table::serial(&kernels), params, 32, |g| {
                    let leaves = inputs.clone().map(|(shape, _)| g.input(shape));
                    let t = g.ints(&[m], -100, vocab as i32 - 1);
                    let bias = (how == "biased").then(|| g.constant(0.0, &[vocab]));
                    let y = g.output(g.head_loss(leaves[0], leaves[1], bias, t, smoothing));
                    let u = g.input(&[upstream.len()]);
                    let late = if how == "unfused" { g.scale(u, 1.0) } else { u };
                    g.backward(&[(y, late)], Wrt::Tensors(&leaves), Recompute::None);
                    let gradients = leaves.map(|t| g.output(g.gradient(t).unwrap()));
                    (y, gradients, leaves, t, u)
                });
                let (mut session, (y, gradients, leaves, t, u)) = built.unwrap();
                let codes: Vec<u8> = session.program.nodes().iter().map(|n| n.opcode).collect();
                let train = Op::HeadLossTrain { smoothing }.opcode();
                assert_eq!(codes.contains(&train), how == "fused", "{how}: {codes:?}");
                leaves.iter().zip(&inputs).for_each(|(&t, (_, values))| session.set(t, values));
                session.set_ints(t, &targets);
                session.set(u, &upstream);
                session.run(Gradients::Overwrite);
                [session.get(y), session.get(gradients[0]), session.get(gradients[1])]
            });
            assert_eq!(fused, unfused);
            assert_eq!(fused, biased);
        }
    }
}

/// An upstream gradient that the host writes between forward and backward: never used in the forward range, and the gradients are those of one that is
/// known before.
#[test]
fn late_upstream_is_never_fused() {
    let mut d = Draw::new(3);
    let (m, c, vocab) = (4, 3, 6);
    let inputs = [(&[m, c][..], d.values(m * c, -1.0, 1.0)), (&[vocab, c][..], d.values(vocab * c, -1.0, 1.0))];
    for upstream in [vec![0.5], d.values(m, -1.0, 1.0)] {
        let gradients = [true, false].map(|late| {
            let kernels = reference::<f64>();
            let (params, ()) = registry::<f64, _>(0, |_| ());
            let built = Session::build(Table::serial(&kernels), params, 32, |g| {
                let leaves = inputs.clone().map(|(shape, _)| g.input(shape));
                let t = g.ints(&[m], -100, vocab as i32 - 1);
                let y = g.output(g.head_loss(leaves[0], leaves[1], None, t, 0.0));
                let u = g.input(&[upstream.len()]);
                let given = if late { Upstream::After(u) } else { Upstream::Before(u) };
                g.backward(&[(y, given)], Wrt::Tensors(&leaves), Recompute::None);
                (leaves.map(|t| g.output(g.gradient(t).unwrap())), leaves, t, u)
            });
            let (mut session, (gradients, leaves, t, u)) = built.unwrap();
            leaves.iter().zip(&inputs).for_each(|(&t, (_, values))| session.set(t, values));
            session.set_ints(t, &[3, -100, 0, 5]);
            let before = if late { vec![f64::NAN; upstream.len()] } else { upstream.clone() };
            session.set(u, &before);
            session.poison();
            let (forward, backward) = (session.program.forward(), session.program.backward());
            session.run_range(forward, Gradients::Overwrite);
            session.arena[session.plan.value(u)].copy_from_slice(&upstream);
            session.run_range(backward, Gradients::Overwrite);
            gradients.map(|t| session.get(t))
        });
        assert!(gradients[0].iter().flatten().all(|g| g.is_finite()));
        assert_eq!(gradients[0], gradients[1]);
    }
}

/// Norms, activations, cross-entropy, rotary embeddings and attention in all its masks, against PyTorch in double precision.
#[test]
fn golden_operations() {
    let (list, arrays) = (golden::json("ops/ops.json"), golden::arrays("ops/ops.safetensors"));
    let cases = list["cases"].as_object().unwrap();
    for (name, settings) in cases {
        let get = |part: &str| arrays.get(&format!("{name}.{part}"));
        let kernels = reference::<f64>();
        let (params, ()) = registry::<f64, _>(0, |_| ());
        let built = Session::build(Table::serial(&kernels), params, 32, |g| golden_program(g, name, settings, &get));
        let (mut session, (reals, ints, results)) = built.unwrap_or_else(|e| panic!("{name}: {e}"));
        reals.iter().for_each(|(t, values)| session.set(*t, values));
        ints.iter().for_each(|(t, values)| session.set_ints(*t, values));
        session.run(Gradients::Overwrite);
        for (part, t) in results {
            let expected = get(&part).unwrap_or_else(|| panic!("{name}.{part}"));
            // The file has 0 for ln 0.
            let found: Vec<f64> = session.get(t).iter().map(|&x| if x == f64::NEG_INFINITY { 0.0 } else { x }).collect();
            let error = fd::error(&found, &expected.values);
            // With a mean of 100 two digits are gone before the first operation; sines and cosines of rotary embeddings are torch's in `f32`.
            let tolerance = match name.as_str() {
                "layer_norm_offset" => 1e-11,
                _ if name.starts_with("rotary") => 2e-7,
                _ => 1e-12,
            };
            assert!(error <= tolerance, "{name}.{part} differs by {error:e}");
        }
    }
}

type GoldenProgram = (Vec<(Tensor, Vec<f64>)>, Vec<(Tensor, Vec<i32>)>, Vec<(String, Tensor)>);

/// Inputs with their values, and the tensors to compare with `get(name)`.
fn golden_program<'a>(
    g: &Graph<'static>,
    name: &str,
    settings: &serde_json::Value,
    get: &dyn Fn(&str) -> Option<&'a golden::Array>,
) -> GoldenProgram {
    let (mut reals, mut ints) = (Vec::new(), Vec::new());
    let mut input = |part: &str| {
        let array = get(part)?;
        let t = g.input(&array.shape);
        reals.push((t, array.values.clone()));
        Some(t)
    };
    let mut int_input = |part: &str| {
        let array = get(part)?;
        let t = g.ints(&array.shape, -100, if part == "positions" { 10_000 } else { 10 });
        ints.push((t, array.ints()));
        Some(t)
    };
    let number = |key: &str| settings[key].as_f64().unwrap();
    let wanted: &[&str];
    let mut results = Vec::new();
    let (y, upstream) = if name.starts_with("layer_norm") {
        let [x, w, b] = ["x", "w", "b"].map(&mut input);
        wanted = if b.is_some() { &["x", "w", "b"] } else { &["x", "w"] };
        (g.layer_norm(x.unwrap(), w, b, number("eps")), input("dy").unwrap())
    } else if name.starts_with("rms_norm") {
        let [x, w] = ["x", "w"].map(|p| input(p).unwrap());
        wanted = &["x", "w"];
        (g.rms_norm(x, Some(w), number("eps")), input("dy").unwrap())
    } else if name.starts_with("rotary") {
        let x = input("x").unwrap();
        wanted = &["x"];
        let spec = RotarySpec {
            heads: number("heads") as u32,
            head_dim: number("head_dim") as u32,
            rotated: number("rotated") as u32,
            pairs: if name.contains("adjacent") { Pairing::Adjacent } else { Pairing::Halves },
            base: number("base"),
            inverse: false,
        };
        (g.rotary(x, int_input("positions").unwrap(), spec), input("dy").unwrap())
    } else if ["gelu_tanh", "gelu_erf", "silu", "quick_gelu"].contains(&name) {
        let kind = match name {
            "gelu_tanh" => UnaryKind::GeluTanh,
            "gelu_erf" => UnaryKind::GeluErf,
            "silu" => UnaryKind::Silu,
            _ => UnaryKind::QuickGelu,
        };
        wanted = &["x"];
        (g.unary(kind, 0.0, 0.0, input("x").unwrap()), input("dy").unwrap())
    } else if name.starts_with("cross_entropy") {
        let [x, w] = ["x", "w"].map(|p| input(p).unwrap());
        wanted = &["x", "w"];
        let losses = g.head_loss(x, w, None, int_input("targets").unwrap(), number("label_smoothing"));
        let count = get("targets").unwrap().values.iter().filter(|&&t| t >= 0.0).count();
        results.push(("row_losses".to_owned(), g.output(losses)));
        let mean = g.scale(g.sum(losses), 1.0 / count as f64);
        results.push(("loss".to_owned(), g.output(mean)));
        (mean, g.constant(1.0, &[1]))
    } else {
        let [q, k, v] = ["q", "k", "v"].map(|p| input(p).unwrap());
        wanted = &["q", "k", "v"];
        let spec = AttentionSpec {
            heads: number("heads") as u32,
            kv_heads: number("kv_heads") as u32,
            head_dim: number("head_dim") as u32,
            causal: settings["causal"].as_bool().unwrap(),
            window: number("window") as u32,
            scale: number("scale"),
            site: 0,
        };
        let segments = int_input("q_segments").zip(int_input("k_segments"));
        let (q_segments, k_segments) = segments.unwrap_or((Tensor::NONE, Tensor::NONE));
        let [y, lse, _] = g.push(Op::Attention(spec), &[q, k, v, q_segments, k_segments].map(Columns::from));
        results.push(("lse".to_owned(), g.output(lse)));
        (y, input("dy").unwrap())
    };
    if get("y").is_some() {
        results.push(("y".to_owned(), g.output(y)));
    }
    let leaves: Vec<Tensor> = reals.iter().map(|(t, _)| *t).take(wanted.len()).collect();
    g.backward(&[(y, upstream)], Wrt::Tensors(&leaves), Recompute::None);
    for (part, &t) in wanted.iter().zip(&leaves) {
        results.push((format!("d{part}"), g.output(g.gradient(t).unwrap())));
    }
    (reals, ints, results)
}
