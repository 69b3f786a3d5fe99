//! Training as a device does it: most parameters frozen, perhaps in blocks, and every gradient used where it is computed.

use samara::kernels::cpu;
use samara::kernels::gemm::Gemm;
use samara_core::exec::{Gradients, Kernels};
use samara_core::graph::{
    BinaryKind, DType, Epsilon, Graph, GraphErrorKind, Momentum, Op, Over, Recompute, ReduceKind, Role, Rule, Tensor, UnaryKind,
    Wrt,
};
use samara_core::model::gpt::{Gpt, GptConfig};
use samara_core::model::lm::{self, LanguageModel, LmInputs};
use samara_core::ops::reference;
use samara_core::params::{Init, ParamId, ParamInfo, Params};
use samara_core::tune::{Tune, store_as, tune};
use samara_tests::draw::Draw;
use samara_tests::session::{Session, Table, graph, registry};
use samara_tests::suite::frozen::Stored;

const CONFIG: GptConfig =
    GptConfig { vocab_size: 256, n_positions: 32, n_embd: 32, n_layer: 2, n_head: 4, n_inner: 128, ..GptConfig::GPT2 };
const LEN: usize = 32;
const PARTS: [Tune; 3] = [Tune::Head, Tune::Bias, Tune::LastBlock];
const ADAMW: Rule = Rule::AdamW(Epsilon::AfterCorrection);
const DESCENT: Rule = Rule::Sgd(Momentum::None);

/// A model of which a part is trained.
#[derive(Clone, Copy)]
struct Model {
    params: Params<'static>,
    gpt: Gpt,
}

impl Model {
    fn new(part: Tune, dtype: DType) -> Self {
        let (params, gpt) = registry::<f32, _>(CONFIG.param_count() + part.added_params(), |r| {
            let mut gpt = Gpt::register(&CONFIG, &mut r.scope());
            if dtype != DType::Real {
                store_as(dtype, r);
            }
            tune(part, &mut gpt, r);
            gpt
        });
        Self { params, gpt }
    }

    fn names(&self, frozen: bool) -> Vec<String> {
        self.params.infos().iter().filter(|p| p.frozen == frozen).map(|p| p.name.to_string()).collect()
    }

    /// The values of a parameter, whatever is trained; the head's are those of the token embedding.
    fn values(&self, number: usize) -> Vec<f64> {
        let info = &self.params.infos()[number];
        let source = if number == self.gpt.head().index() { self.gpt.embedding().index() } else { number };
        let name = info.name.to_string();
        let (centre, spread) = if name.contains("ln_") && name.ends_with("weight") { (1.0, 0.1) } else { (0.0, 0.2) };
        Draw::new(source as u64).values(info.shape.len(), centre - spread, centre + spread)
    }
}

/// A training program of a model with its memory.
struct Trainer<'k> {
    session: Session<'k, f32>,
    losses: Tensor,
    inputs: LmInputs,
    targets: Tensor,
    upstream: Tensor,
    hyper: Tensor,
    batch: usize,
    step: i32,
}

impl<'k> Trainer<'k> {
    /// With updates in the backward pass, or after it.
    fn new(kernels: &'k Kernels<f32>, model: Model, batch: usize, rule: Rule, in_backward: bool, recompute: Recompute) -> Self {
        let built = Session::build(Table::serial(kernels), model.params, 400, |g| {
            let inputs = LmInputs::new(g, &model.gpt, batch, LEN);
            let targets = g.ints(&[batch, LEN], -1, CONFIG.vocab_size as i32 - 1);
            let (upstream, hyper) = (g.input(&[1]), g.input(&[8]));
            let losses = g.output(lm::losses(g, &model.gpt, &inputs, targets));
            if in_backward {
                g.backward_updating(&[(losses, upstream)], rule, hyper, recompute);
            } else {
                g.backward(&[(losses, upstream)], Wrt::Trainable, recompute);
                match rule {
                    Rule::AdamW(epsilon) => g.adamw(hyper, None, epsilon),
                    Rule::Sgd(momentum) => g.sgd(hyper, None, momentum),
                }
            }
            (losses, inputs, targets, upstream, hyper)
        });
        let (mut session, (losses, inputs, targets, upstream, hyper)) = built.expect("graph");
        session.grads.truncate(session.program.grads_len());
        load(&mut session, model);
        Self { session, losses, inputs, targets, upstream, hyper, batch, step: 0 }
    }

    /// One step on a batch; returns the mean loss before it.
    fn step(&mut self, tokens: &[i32], lr: f64) -> f64 {
        self.step += 1;
        let rows = self.batch * LEN;
        let targets: Vec<i32> = tokens.chunks(LEN).flat_map(|row| row[1..].iter().copied().chain([-1])).collect();
        let positions: Vec<i32> = (0..rows as i32).map(|i| i % LEN as i32).collect();
        let session = &mut self.session;
        session.set_ints(self.inputs.tokens, tokens);
        session.set_ints(self.inputs.positions, &positions);
        session.set_ints(self.targets, &targets);
        let predicted = (self.batch * (LEN - 1)) as f64;
        session.set(self.upstream, &[1.0 / predicted]);
        let corrections = [0.9f64, 0.99].map(|beta| 1.0 - beta.powi(self.step));
        session.set(self.hyper, &[lr, 0.9, 0.99, 1e-8, 0.1, corrections[0], corrections[1], 0.0]);
        session.run(Gradients::Overwrite);
        session.get(self.losses).iter().sum::<f64>() / predicted
    }
}

fn load(session: &mut Session<'_, f32>, model: Model) {
    for (number, info) in model.params.infos().iter().enumerate() {
        let values = model.values(number);
        if !info.frozen {
            session.set_param(ParamId::FIRST.plus(number), &values);
            continue;
        }
        let bytes = match info.dtype {
            DType::Real => values.iter().flat_map(|&x| (x as f32).to_le_bytes()).collect(),
            dtype => Stored::new(dtype, &values, info.shape.cols()).bytes,
        };
        session.frozen[info.frozen_bytes(4)].copy_from_slice(&bytes);
    }
}

fn bits(values: &[f32]) -> Vec<u32> {
    values.iter().map(|x| x.to_bits()).collect()
}

#[test]
fn what_is_trained() {
    let all = Model::new(Tune::All, DType::Q8);
    assert_eq!((all.names(true).len(), all.names(false).len()), (0, CONFIG.param_count()));
    assert_eq!(Model::new(Tune::None, DType::Real).names(false), [""; 0]);
    let head = Model::new(Tune::Head, DType::Q8);
    assert_eq!(head.names(false), ["lm_head.weight"]);
    assert_eq!(head.params.infos()[head.gpt.head().index()].shape, head.params.infos()[head.gpt.embedding().index()].shape);
    let bias = Model::new(Tune::Bias, DType::Q4);
    assert!(bias.names(false).iter().all(|name| name.ends_with(".bias") || name.contains("ln_")));
    assert_eq!(bias.names(false).len(), 8 * CONFIG.n_layer + 2);
    let last = Model::new(Tune::LastBlock, DType::F16);
    assert!(last.names(false).iter().all(|name| name.starts_with("h.1.") || name.starts_with("ln_f.")));
    assert_eq!(last.names(false).len(), 12 + 2);
    // What is trained is numbers, and so is every vector and the position embedding.
    for model in [all, head, bias, last] {
        for info in model.params.infos() {
            let stays = !info.frozen || info.shape.rank() == 1 || info.name.to_string() == "wpe.weight";
            assert_eq!(info.dtype == DType::Real, stays, "{}", info.name);
        }
    }
}

/// A registry that holds exactly as many parameters as the configuration says, in both forms, with and without biases.
#[test]
fn parameters_are_counted() {
    for (post_norm, bias) in [(false, false), (false, true), (true, false), (true, true)] {
        let config = GptConfig { post_norm, bias, ..CONFIG };
        for part in [Tune::Head, Tune::LastBlock] {
            let count = config.param_count() + part.added_params();
            let (params, ()) = registry::<f32, _>(count, |r| {
                let mut gpt = Gpt::register(&config, &mut r.scope());
                tune(part, &mut gpt, r);
            });
            assert_eq!(params.infos().len(), count);
            let trained = params.infos().iter().filter(|p| !p.frozen).count();
            let block = if bias { 12 } else { 6 };
            let norm = if post_norm { 0 } else { block / 6 };
            assert_eq!(trained, if part == Tune::Head { 1 } else { block + norm }, "{config:?}");
        }
    }
}

/// Parameters and moments after several steps have the bits of those that gradients in their buffer and updates at the end give.
#[test]
fn updates_in_the_backward_pass_change_no_bit() {
    let kernels = reference();
    for (tune, dtype) in PARTS.into_iter().flat_map(|tune| [(tune, DType::Real), (tune, DType::Q8)]) {
        let model = Model::new(tune, dtype);
        for rule in [ADAMW, DESCENT, Rule::Sgd(Momentum::Nesterov)] {
            // What is computed again does not depend on the rule.
            for recompute in if rule == ADAMW { &Recompute::ALL[..] } else { &[Recompute::None] } {
                let [mut now, mut later] =
                    [true, false].map(|in_backward| Trainer::new(&kernels, model, 2, rule, in_backward, *recompute));
                let start = bits(&now.session.trainable);
                for step in 0..3 {
                    let tokens = Draw::new(step).ints(2 * LEN, 0, 255);
                    let losses = [now.step(&tokens, 0.01), later.step(&tokens, 0.01)];
                    assert_eq!(losses[0].to_bits(), losses[1].to_bits(), "{tune:?}, {dtype:?}, {rule:?}, {recompute:?}");
                }
                let what = format!("{tune:?}, {dtype:?}, {rule:?}, {recompute:?}");
                assert_ne!(bits(&now.session.trainable), start, "{what}");
                assert_eq!(bits(&now.session.trainable), bits(&later.session.trainable), "{what}");
                assert_eq!(bits(&now.session.moments), bits(&later.session.moments), "{what}");
            }
        }
    }
}

/// Not more than the largest gradients that stand together, those of one linear layer, are added to what the arena holds anyway.
#[test]
fn gradients_never_coexist() {
    let kernels = reference();
    for tune in [Tune::Bias, Tune::LastBlock] {
        let model = Model::new(tune, DType::Q8);
        let [now, later] =
            [true, false].map(|in_backward| Trainer::new(&kernels, model, 1, ADAMW, in_backward, Recompute::None).session);
        assert_eq!((now.grads.len(), now.program.grads_len()), (0, 0));
        assert_eq!(later.program.grads_len(), model.params.trainable_len());
        let largest = |of: &dyn Fn(&ParamInfo) -> bool| {
            model.params.infos().iter().filter(|p| !p.frozen && of(p)).map(|p| p.shape.len().next_multiple_of(16)).max().unwrap()
        };
        let together =
            if tune == Tune::Bias { 0 } else { largest(&|p| p.shape.rank() == 2) } + 2 * largest(&|p| p.shape.rank() == 1);
        let (with, without) = (now.plan.arena_len(), later.plan.arena_len());
        assert!(together < model.params.trainable_len() / 2, "{tune:?}");
        assert!(with <= without + together, "{tune:?}: {with} and {without}, {together}");
        assert!(with < without + later.grads.len(), "{tune:?}");
    }
}

/// Below the lowest trainable parameter there is no gradient, and none of a frozen parameter.
#[test]
fn gradients_stop_where_nothing_is_trained() {
    let kernels = reference();
    let codes = |tune: Tune| {
        let trainer = Trainer::new(&kernels, Model::new(tune, DType::Q8), 1, ADAMW, true, Recompute::None);
        let program = trainer.session.program;
        assert!(program.tensors().iter().all(|t| t.role != Role::Grad));
        let mut count = [0; Op::COUNT];
        for (i, record) in program.nodes().iter().enumerate() {
            count[usize::from(record.opcode)] += 1;
            let node = program.node(i).unwrap();
            if node.op() == Some(Op::LinearBackward) {
                let frozen = node.input(2).unwrap().role == Role::Frozen;
                assert_eq!([node.has_input(1), record.output(1).is_some()], [!frozen; 2], "{tune:?}: {node}");
            }
        }
        let count = |op: Op| count[usize::from(op.opcode())];
        let norms: Vec<bool> = program
            .nodes()
            .iter()
            .filter(|n| n.op() == Some(Op::LayerNormBackward { centre: true }))
            .map(|n| program.tensor(n.output(0)).is_some())
            .collect();
        let attention = program.nodes().iter().filter(|n| matches!(n.op(), Some(Op::AttentionBackward(_)))).count();
        assert_eq!(count(Op::EmbeddingBackward { vocab: 0 }), 0);
        (count(Op::LinearBackward), attention, norms)
    };
    assert_eq!(codes(Tune::Head), (0, 0, vec![]));
    // The input of the lowest norm has no gradient.
    assert_eq!(codes(Tune::LastBlock), (4, 1, vec![true, true, false]));
    assert_eq!(codes(Tune::Bias), (8, 2, vec![true, true, true, true, false]));
}

/// What a frozen linear layer reads is not kept for its gradient.
#[test]
fn inputs_of_frozen_weights_are_not_kept() {
    let arena = |frozen: bool| {
        let kernels = reference::<f32>();
        let (params, ids) = registry::<f32, _>(6, |r| {
            let weights = [0, 1, 2].map(|i| r.scope().item("w", i).add("weight", &[64, 64], Init::Zeros));
            r.infos_mut().iter_mut().for_each(|info| info.frozen = frozen);
            (weights, [0, 1, 2].map(|i| r.scope().item("b", i).add("bias", &[64], Init::Zeros)))
        });
        let built = Session::build(Table::serial(&kernels), params, 64, |g| {
            let layer = |x, i: usize| g.linear(x, g.param(ids.0[i]), Some(g.param(ids.1[i])));
            let y = (0..3).fold(g.input(&[100, 64]), layer);
            g.backward_updating(&[(y, g.input(&[1]))], DESCENT, g.input(&[8]), Recompute::None);
        });
        built.unwrap().0.plan.arena_len()
    };
    assert!(arena(true) + 6400 < arena(false), "{} and {}", arena(true), arena(false));
}

/// The gradient of a linear layer's input is that through the weight read back, bit for bit: nothing in it is rounded.
#[test]
fn gradients_through_weights_of_every_type() {
    let kernels = reference::<f32>();
    for dtype in [DType::F16, DType::Q8, DType::Q4] {
        let (n, k, m) = (50, 96, 7);
        let mut draw = Draw::new(1);
        let stored = Stored::new(dtype, &draw.values(n * k, -0.5, 0.5), k);
        let up = draw.values(m * n, -1.0, 1.0);
        let [found, expected] = [dtype, DType::Real].map(|dtype| {
            let (params, id) = registry::<f32, _>(1, |r| {
                let id = r.scope().add("w", &[n, k], Init::Zeros);
                r.infos_mut().iter_mut().for_each(|info| (info.frozen, info.dtype) = (true, dtype));
                id
            });
            let built = Session::build(Table::serial(&kernels), params, 16, |g| {
                let (x, u) = (g.input(&[m, k]), g.input(&[m, n]));
                let y = g.linear(x, g.param(id), None);
                g.backward(&[(y, u)], Wrt::Tensors(&[x]), Recompute::None);
                (u, g.output(g.gradient(x).unwrap()))
            });
            let (mut session, (u, dx)) = built.unwrap();
            session.frozen = match dtype {
                DType::Real => stored.values.iter().flat_map(|&x| (x as f32).to_le_bytes()).collect(),
                _ => stored.bytes.clone(),
            };
            session.set(u, &up);
            session.run(Gradients::Overwrite);
            session.get(dx)
        });
        assert!(expected.iter().any(|&x| x != 0.0));
        assert_eq!(found, expected, "{dtype:?}");
    }
}

/// A text that repeats is learnt, whatever part is trained, with weights in blocks below it, on the reference and on the fast kernels.
#[test]
fn the_loss_falls() {
    let tokens: Vec<i32> = (0..2 * LEN as i32).map(|i| i % 7 + 40).collect();
    for (name, kernels) in [("reference", reference()), ("fast", cpu(Gemm::Samara))] {
        for tune in PARTS {
            for (rule, lr) in [(ADAMW, 0.02), (DESCENT, 0.5)] {
                let mut trainer = Trainer::new(&kernels, Model::new(tune, DType::Q8), 2, rule, true, Recompute::None);
                let losses: Vec<f64> = (0..30).map(|_| trainer.step(&tokens, lr)).collect();
                assert!(losses[29] < 0.8 * losses[0], "{name}, {tune:?}, {rule:?}: {losses:?}");
            }
        }
    }
}

/// The token embedding is also the head: both gradients are summed before the one update.
#[test]
fn contributions_to_one_parameter_are_summed() {
    let kernels = reference();
    let model = Model::new(Tune::All, DType::Real);
    let [mut now, mut later] =
        [true, false].map(|in_backward| Trainer::new(&kernels, model, 2, DESCENT, in_backward, Recompute::None));
    let tokens = Draw::new(5).ints(2 * LEN, 0, 255);
    let start = now.session.trainable.clone();
    now.step(&tokens, 0.1);
    later.step(&tokens, 0.1);
    let updates = now.session.program.nodes().iter().filter(|n| matches!(n.op(), Some(Op::Sgd { .. }))).count();
    assert_eq!(updates, CONFIG.param_count());
    for ((now, later), start) in now.session.trainable.iter().zip(&later.session.trainable).zip(&start) {
        assert!((now - later).abs() <= 1e-6 * start.abs().max(1e-2), "{now} and {later} from {start}");
    }
}

/// A weight that two layers read: the lower layer's gradient goes through the old weight, and one update takes both contributions.
#[test]
fn old_values_stand_until_the_last_reader() {
    let kernels = reference::<f64>();
    let (params, id) = registry::<f64, _>(1, |r| r.scope().add("w", &[3, 3], Init::Zeros));
    let mut draw = Draw::new(3);
    let (x, w, up) = (draw.values(6, -1.0, 1.0), draw.values(9, -1.0, 1.0), draw.values(6, -1.0, 1.0));
    for recompute in Recompute::ALL {
        let [now, later] = [true, false].map(|in_backward| {
            let built = Session::build(Table::serial(&kernels), params, 64, |g| {
                let (input, u, hyper) = (g.input(&[2, 3]), g.input(&[2, 3]), g.input(&[8]));
                let weight = g.param(id);
                let h = g.checkpoint(g.unary(UnaryKind::Tanh, 0.0, 0.0, g.linear(input, weight, None)));
                // A third reader sums its columns.
                let sums = g.reduce(ReduceKind::Sum, Over::Row, weight);
                let y = g.binary(BinaryKind::Mul, Over::Row, g.linear(h, weight, None), sums);
                let pairs = [(y, u)];
                if in_backward {
                    g.backward_updating(&pairs, DESCENT, hyper, recompute);
                } else {
                    g.backward(&pairs, Wrt::Trainable, recompute);
                    g.sgd(hyper, None, Momentum::None);
                }
                (input, u, hyper)
            });
            let (mut session, (input, u, hyper)) = built.unwrap();
            session.set_param(id, &w);
            session.set(input, &x);
            session.set(u, &up);
            session.set(hyper, &[0.1, 0.0, 0.0, 0.0, 0.0, 1.0, 1.0, 0.0]);
            session.run(Gradients::Overwrite);
            session.param(id)
        });
        assert!(now.iter().zip(&later).all(|(a, b)| (a - b).abs() < 1e-13), "{recompute:?}: {now:?} and {later:?}");
        assert!(now.iter().zip(&w).all(|(a, b)| a != b));
    }
}

/// Neither a norm nor another update finds gradients after a backward pass that used them; a moving average comes after it.
#[test]
fn nothing_reads_gradients_that_are_gone() {
    let build = |after: &dyn Fn(&Graph<'static>, Tensor)| {
        let (params, id) = registry::<f32, _>(2, |r| {
            r.scope().add("unread", &[4], Init::Zeros);
            r.scope().add("w", &[4], Init::Zeros)
        });
        let g = graph(params, 16);
        let hyper = g.input(&[8]);
        let loss = g.sum(g.mul(g.param(id), g.param(id)));
        g.backward_updating(&[(loss, g.input(&[1]))], ADAMW, hyper, Recompute::None);
        after(&g, hyper);
        g.finish()
    };
    for after in [
        &(|g: &Graph<'static>, _| {
            g.global_norm();
        }) as &dyn Fn(&Graph<'static>, Tensor),
        &|g, hyper| g.adamw(hyper, None, Epsilon::AfterCorrection),
        &|g, hyper| g.sgd(hyper, None, Momentum::None),
    ] {
        let error = build(after).expect_err("an error");
        assert_eq!(error.kind, GraphErrorKind::NoGradientBuffer);
        assert!(error.to_string().contains("updates parameters"), "{error}");
    }
    let again = build(&|g, hyper| g.backward_updating::<Tensor>(&[], ADAMW, hyper, Recompute::None)).expect_err("an error");
    assert_eq!(again.kind, GraphErrorKind::Sections);
    let program = build(&|g, _| g.ema(g.input(&[1]), 2)).unwrap();
    let updates = |range: std::ops::Range<usize>| {
        let record = |i: usize| program.nodes()[i].op();
        range.filter(|&i| matches!(record(i), Some(Op::AdamW { .. } | Op::Ema { .. }))).count()
    };
    // Only the parameter that has a gradient is updated.
    assert_eq!([updates(program.forward()), updates(program.backward()), updates(program.update())], [0, 1, 1]);
    assert_eq!((program.info().moments, program.grads_len()), (3, 0));
    assert!(build(&|_, _| ()).unwrap().update().is_empty());
}

/// A gradient from the arena has as many elements as the range that it changes.
#[test]
fn gradients_from_the_arena_have_their_length() {
    let (params, _) = registry::<f32, _>(1, |r| r.scope().add("w", &[2, 4], Init::Zeros));
    let push = |len: usize| {
        let g = graph(params, 4);
        let (hyper, gradient) = (g.input(&[8]), g.input(&[len]));
        let op = Op::Sgd { start: 0, len: 8, decay: true, momentum: Momentum::None };
        g.push(op, &[hyper.into(), Tensor::NONE.into(), gradient.into()]);
        g.finish()
    };
    assert!(push(8).is_ok());
    assert!(matches!(push(7).expect_err("an error").kind, GraphErrorKind::Shape { input: 2, .. }));
}

/// Without momentum there is no moment buffer, and the bits are those of a momentum of 0, as in PyTorch.
#[test]
fn descent_without_momentum() {
    for kernels in [reference(), cpu(Gemm::Samara)] {
        let [without, zero] = [Momentum::None, Momentum::Classical].map(|momentum| {
            let (params, ids) = registry::<f32, _>(2, |r| {
                [r.scope().add("decayed", &[3, 41], Init::Zeros), r.scope().add("plain", &[50], Init::Zeros)]
            });
            let built = Session::build(Table::serial(&kernels), params, 8, |g| {
                let hyper = g.input(&[8]);
                g.sgd(hyper, None, momentum);
                hyper
            });
            let (mut session, hyper) = built.unwrap();
            assert_eq!(session.moments.is_empty(), momentum == Momentum::None);
            let mut draw = Draw::new(2);
            ids.iter().for_each(|&id| session.set_param(id, &draw.values(params.infos()[id.index()].shape.len(), -1.0, 1.0)));
            session.set(hyper, &[0.03, 0.0, 0.0, 0.0, 0.1, 1.0, 1.0, 0.0]);
            for _ in 0..5 {
                session.grads.iter_mut().for_each(|g| *g = draw.values(1, -1.0, 1.0)[0] as f32);
                session.run(Gradients::Overwrite);
            }
            bits(&session.trainable)
        });
        assert_eq!(without, zero);
    }
}
