//! Operations that work on state, parameters and moments: caches, gradient norm, optimizers, moving averages.

use samara_core::exec::Gradients;
use samara_core::graph::{DType, Epsilon, Graph, Momentum, Recompute, Rule, Tensor};
use samara_core::math::Real;
use samara_core::params::{Init, ParamId};

use super::{Coverage, Size, is_double};
use crate::draw::Draw;
use crate::fd;
use crate::session::{Session, Table, registry};

/// Writes tokens twice into a state, from a column on, and past its end.
pub(super) fn cache<R: Real>(table: Table<'_, R>, d: &mut Draw, size: Size, coverage: &mut Coverage) {
    let (batch, t, c) = (d.extent(3), d.extent(size.of(3, 20)), d.extent(size.of(4, 40)));
    let (room, column, cols) = (t + d.extent(5), 2, c + 5);
    let (params, ()) = registry::<R, _>(0, |_| ());
    let build = |g: &Graph<'static>| {
        let (x, starts) = (g.input(&[batch, t, cols]), g.ints(&[batch], 0, 1000));
        let state = g.cache_write(x.from_column(column), starts, g.state(&[batch, room, c]));
        // Reading the state after the write.
        (x, starts, g.output(g.scale(state, 1.0)))
    };
    let (mut session, (x, starts, y)) = Session::build(table, params, 8, build).unwrap();
    coverage.add(&session.program);
    let mut expected = vec![0.0; batch * room * c];
    for _ in 0..2 {
        let (values, at) = (d.values(batch * t * cols, -1.0, 1.0), d.ints(batch, 0, room as i32));
        for (b, &start) in at.iter().enumerate() {
            for i in (0..t).filter(|i| start as usize + i < room) {
                let to = (b * room + start as usize + i) * c;
                let from = (b * t + i) * cols + column;
                expected[to..to + c].copy_from_slice(&values[from..from + c]);
            }
        }
        session.set(x, &values);
        session.set_ints(starts, &at);
        session.run(Gradients::Overwrite);
        assert_eq!(session.get(y), expected, "cache write ({batch}, {t}, {c}) into {room} at {at:?}");
    }
}

/// Writes tokens into states of every element type and reads the live ones back.
pub(super) fn cache_in_blocks<R: Real>(table: Table<'_, R>, d: &mut Draw, size: Size, coverage: &mut Coverage) {
    for (dtype, step) in [(DType::Real, 0.0), (DType::F16, 5e-4), (DType::Q8, 0.5 / 127.0 + 1e-3)] {
        let (batch, t, c) = (d.extent(3), d.extent(size.of(3, 20)), 32 * d.extent(size.of(2, 4)));
        let room = t + d.extent(5);
        let (params, ()) = registry::<R, _>(0, |_| ());
        let build = |g: &Graph<'static>| {
            let x = g.input(&[batch, t, c]);
            let (starts, live) = (g.ints(&[batch], 0, 1000), g.ints(&[batch], 0, 1000));
            let state = g.cache_write(x.into(), starts, g.state_of(dtype, &[batch, room, c]));
            (x, starts, live, g.output(g.cache_read(state, live)))
        };
        let (mut session, (x, starts, live, y)) = Session::build(table, params, 8, build).unwrap();
        coverage.add(&session.program);
        let (values, at) = (d.values(batch * t * c, -1.0, 1.0), d.ints(batch, 0, room as i32));
        session.set(x, &values);
        session.set_ints(starts, &at);
        session.set_ints(live, &at.iter().map(|at| at + t as i32).collect::<Vec<_>>());
        session.run(Gradients::Overwrite);
        let found = session.get(y);
        for (b, &start) in at.iter().enumerate() {
            // The state was 0 before.
            assert!(found[b * room * c..][..start as usize * c].iter().all(|&x| x == 0.0), "{dtype:?}");
            for i in (0..t).filter(|i| start as usize + i < room) {
                let (found, given) = (&found[(b * room + start as usize + i) * c..][..c], &values[(b * t + i) * c..][..c]);
                assert!(
                    found.iter().zip(given).all(|(a, b)| (a - b).abs() <= step),
                    "{dtype:?}: {given:?} came back as {found:?}"
                );
            }
        }
    }
}

#[derive(Clone, Copy, Debug)]
enum Change {
    Update(Rule),
    Ema,
}

/// Where an update finds its gradients.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Source {
    /// In the gradient buffer.
    Buffer,
    /// In the gradient buffer, and their norm beside them.
    Clipped,
    /// In the arena.
    Arena,
}

/// Two steps of every optimizer on parameters with and without decay, with and without clipping, and with gradients in the arena.
pub(super) fn optimizers<R: Real>(table: Table<'_, R>, d: &mut Draw, size: Size, coverage: &mut Coverage) {
    let rules = [
        Rule::AdamW(Epsilon::AfterCorrection),
        Rule::AdamW(Epsilon::BeforeCorrection),
        Rule::Sgd(Momentum::Classical),
        Rule::Sgd(Momentum::Nesterov),
        Rule::Sgd(Momentum::None),
    ];
    for rule in rules {
        for from in [Source::Buffer, Source::Clipped, Source::Arena] {
            optimizer(table, d, size, Change::Update(rule), from, coverage);
        }
    }
    optimizer(table, d, size, Change::Ema, Source::Buffer, coverage);
}

fn optimizer<R: Real>(table: Table<'_, R>, d: &mut Draw, size: Size, change: Change, from: Source, coverage: &mut Coverage) {
    let shapes = [vec![d.extent(4), d.extent(size.of(7, 900))], vec![d.extent(size.of(9, 700))], vec![d.extent(3), 1, 5]];
    let (params, ids) = registry::<R, _>(3, |r| [0, 1, 2].map(|i| r.scope().item("p", i).add("weight", &shapes[i], Init::Zeros)));
    let built = Session::build(table, params, 8, |g| program(g, change, from, &ids, &shapes));
    let (mut session, Inputs { hyper, norm, gradients }) = built.unwrap();
    if from == Source::Arena {
        assert_eq!(session.program.grads_len(), 0);
        session.grads.clear();
    }
    coverage.add(&session.program);
    let [lr, beta1, beta2, eps, decay, limit] = [0.01, 0.9, 0.99, 1e-3, 0.1, if from == Source::Clipped { 0.5 } else { 0.0 }];
    let mut model: Vec<[Vec<f64>; 3]> = Vec::new(); // weights, first and second moment
    for (&id, shape) in ids.iter().zip(&shapes) {
        let n = shape.iter().product();
        let weights = d.values(n, -1.0, 1.0);
        session.set_param(id, &weights);
        model.push([weights, vec![0.0; n], vec![0.0; n]]);
    }
    for t in 1..=2 {
        let grads: Vec<Vec<f64>> = model.iter().map(|[w, ..]| d.values(w.len(), -1.0, 1.0)).collect();
        gradients.iter().zip(&grads).for_each(|(&t, g)| session.set(t, g));
        for (&id, g) in ids.iter().zip(&grads).filter(|_| from != Source::Arena) {
            let range = params.infos()[id.index()].range();
            session.grads[range].iter_mut().zip(g).for_each(|(to, &g)| *to = R::from_f64(g));
        }
        let (c1, c2) = (1.0 - f64::powi(beta1, t), 1.0 - f64::powi(beta2, t));
        match change {
            Change::Ema => session.set(hyper, &[beta1]),
            Change::Update(_) => session.set(hyper, &[lr, beta1, beta2, eps, decay, c1, c2, limit]),
        }
        session.run(Gradients::Overwrite);
        let size = grads.iter().flatten().map(|g| g * g).sum::<f64>().sqrt();
        if let Some(norm) = norm {
            assert!((session.get(norm)[0] - size).abs() < 1e-6 * size, "gradient norm");
        }
        let factor = if from == Source::Clipped { (0.5 / (size + 1e-6)).min(1.0) } else { 1.0 };
        for (([w, m, v], g), shape) in model.iter_mut().zip(&grads).zip(&shapes) {
            let wd = if shape.len() >= 2 { decay } else { 0.0 };
            for i in 0..w.len() {
                let g = g[i] * factor;
                match change {
                    Change::Update(Rule::AdamW(epsilon)) => {
                        m[i] = beta1 * m[i] + (1.0 - beta1) * g;
                        v[i] = beta2 * v[i] + (1.0 - beta2) * g * g;
                        let step = match epsilon {
                            Epsilon::AfterCorrection => (m[i] / c1) / ((v[i] / c2).sqrt() + eps),
                            Epsilon::BeforeCorrection => c2.sqrt() / c1 * m[i] / (v[i].sqrt() + eps),
                        };
                        w[i] = w[i] - lr * wd * w[i] - lr * step;
                    }
                    Change::Update(Rule::Sgd(momentum)) => {
                        let g = g + wd * w[i];
                        m[i] = beta1 * m[i] + g;
                        w[i] -= lr
                            * match momentum {
                                Momentum::None => g,
                                Momentum::Classical => m[i],
                                Momentum::Nesterov => g + beta1 * m[i],
                            };
                    }
                    Change::Ema => m[i] = beta1 * m[i] + (1.0 - beta1) * w[i],
                }
            }
        }
    }
    let tolerance = if is_double::<R>() { 1e-12 } else { 4e-6 };
    for (&id, [w, m, v]) in ids.iter().zip(&model) {
        let range = params.infos()[id.index()].range();
        let moment = |slot: usize| -> Vec<f64> {
            let at = slot * params.trainable_len();
            session.moments[at + range.start..at + range.end].iter().map(|x| x.to_f64()).collect()
        };
        let check = |what: &str, found: &[f64], expected: &[f64]| {
            let error = fd::error(found, expected);
            assert!(error <= tolerance, "{change:?}, {from:?}: {what} differ by {error:e}");
        };
        check("weights", &session.param(id), w);
        let moments = match change {
            Change::Update(rule) => rule.moments(),
            Change::Ema => 1,
        };
        assert_eq!(session.program.info().moments as usize, moments, "{change:?}");
        for (slot, expected) in [m, v].into_iter().enumerate().take(moments) {
            check("moments", &moment(slot), expected);
        }
    }
}

/// The tensors that the host writes and reads.
struct Inputs {
    hyper: Tensor,
    norm: Option<Tensor>,
    /// One per parameter, with gradients in the arena.
    gradients: Vec<Tensor>,
}

fn program(g: &Graph<'static>, change: Change, from: Source, ids: &[ParamId], shapes: &[Vec<usize>]) -> Inputs {
    let norm = (from == Source::Clipped).then(|| g.output(g.global_norm()));
    let hyper = g.input(&[if matches!(change, Change::Ema) { 1 } else { 8 }]);
    let mut gradients = Vec::new();
    match change {
        Change::Ema => g.ema(hyper, 0),
        Change::Update(rule) if from == Source::Arena => {
            // The gradient of a parameter without readers is its upstream gradient.
            let pair = |(&id, shape): (&ParamId, &Vec<usize>)| (g.param(id), g.input(shape));
            let pairs: Vec<_> = ids.iter().zip(shapes).map(pair).collect();
            g.backward_updating(&pairs, rule, hyper, Recompute::None);
            gradients.extend(pairs.iter().map(|&(_, gradient)| gradient));
        }
        Change::Update(Rule::AdamW(epsilon)) => g.adamw(hyper, norm, epsilon),
        Change::Update(Rule::Sgd(momentum)) => g.sgd(hyper, norm, momentum),
    }
    Inputs { hyper, norm, gradients }
}
