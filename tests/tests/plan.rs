//! The planner: no two live values share memory, sharing changes no bit, dead nodes never run, large models fit their numbers.

use proptest::prelude::*;
use samara_core::exec::{Backend, Buffer, Cpu, Gradients, Kernel, Kernels, Memory, MemoryError, Views, real, real_mut};
use samara_core::graph::op::InPlace;
use samara_core::graph::{
    Activation, DType, Epsilon, Graph, GraphErrorKind, HYPER_LEN, Node, NodeRecord, Op, Recompute, Role, Tensor, TensorRecord,
    Wrt,
};
use samara_core::math::Real;
use samara_core::model::gpt::{Gpt, GptConfig};
use samara_core::model::llama::{Llama, LlamaConfig};
use samara_core::model::lm::{self, DecodeShape, LanguageModel, LmInputs, decode_step};
use samara_core::ops::reference;
use samara_core::params::{Init, ParamInfo, Params, ParamsError, Registry};
use samara_core::plan::{Plan, PlanError, Slot, storage_len};
use samara_core::shape::UNIT;
use samara_core::threads::{Serial, Threads};
use samara_tests::fd;
use samara_tests::gpt::{Batch, Model};
use samara_tests::random::Program;
use samara_tests::session::{Session, Table, graph, registry, without_sharing};

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(300) })]

    /// A plan that shares memory, one that shares nothing, and recomputation give the same bits, on memory full of NaN.
    #[test]
    fn sharing_changes_no_bit(seed: u64) {
        let kernels = reference::<f32>();
        let table = Table::serial(&kernels);
        let mut shared = Program::new(table, seed, Recompute::None);
        let outcome = shared.run();
        prop_assert!(outcome.values.iter().flatten().chain(&outcome.grads).all(|x| x.is_finite()));
        prop_assert_eq!(&shared.run(), &outcome, "a second run");
        let (program, plan) = (shared.session.program, shared.session.plan);
        let apart_plan = without_sharing(&program, &plan);
        apart_plan.check().unwrap();
        prop_assert!(plan.arena_len() <= apart_plan.arena_len().next_multiple_of(16));
        let mut apart = Program::new(table, seed, Recompute::None);
        apart.session.plan = apart_plan;
        apart.session.arena = vec![0.0; apart_plan.arena_len()];
        prop_assert_eq!(&apart.run(), &outcome, "apart");
        for recompute in [Recompute::Cheap, Recompute::Blocks] {
            prop_assert_eq!(&Program::new(table, seed, recompute).run(), &outcome, "{:?}", recompute);
        }
    }

    /// Moving any slot onto another that lives at the same time is noticed, and so is a slot beyond the end.
    #[test]
    fn the_checker_finds_overlaps(seed: u64) {
        let kernels = reference::<f32>();
        let plan = Program::new(Table::serial(&kernels), seed, Recompute::None).session.plan;
        let slots = plan.slots().to_vec();
        let tensors = slots.len() - Program::new(Table::serial(&kernels), seed, Recompute::None).session.program.nodes().len();
        let owners: Vec<usize> = (0..slots.len()).filter(|&i| slots[i].len > 0 && usize::from(slots[i].owner) == i).collect();
        for &a in &owners {
            for &b in owners.iter().filter(|&&b| b != a) {
                let together = slots[a].first <= slots[b].last && slots[b].first <= slots[a].last;
                let mut moved = slots.clone();
                // Onto the last unit of the other.
                moved[a].offset = slots[b].offset + (slots[b].len - 1) / 16;
                let found = Plan::from_parts(&moved, tensors, usize::MAX).check();
                if together {
                    prop_assert!(matches!(found, Err(PlanError::Overlap { .. })), "not noticed");
                }
            }
        }
        prop_assert!(Plan::from_parts(&slots, tensors, plan.arena_len() - 16).check().is_err());
    }
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(60) })]

    /// Gradients of compositions: tensors used many times, views, packed parts, parameters in several places.
    #[test]
    fn gradients_of_random_graphs(seed: u64) {
        let kernels = reference::<f64>();
        let mut program = Program::new(Table::serial(&kernels), seed, Recompute::None);
        let outcome = program.run();
        let grads = program.ids.map(|id| program.session.grad(id));
        let (mut found, mut expected) = (Vec::new(), Vec::new());
        for (id, grad) in program.ids.into_iter().zip(grads) {
            let values = program.session.param(id);
            for i in (0..values.len()).step_by(5) {
                let mut moved = values.clone();
                expected.push(fd::derivative_near(grad[i], |h| {
                    moved[i] = values[i] + h;
                    program.session.set_param(id, &moved);
                    program.objective()
                }));
                program.session.set_param(id, &values);
                found.push(grad[i]);
            }
        }
        let (x, values) = program.input();
        for (i, value) in values.iter().enumerate() {
            let mut moved = values.clone();
            let gradient = outcome.gradients.first().map_or(0.0, |g| g[i]);
            expected.push(fd::derivative_near(gradient, |h| {
                moved[i] = value + h;
                program.session.set(x, &moved);
                program.objective()
            }));
            found.push(gradient);
        }
        let error = fd::error(&found, &expected);
        prop_assert!(error <= 1e-6, "{error:e}");
    }
}

/// A kernel for what must not run.
fn refuse<R: Real>(node: &Node<'_>, _: Views<'_, R>, _: &dyn Threads) {
    panic!("dead node ran: {node}");
}

#[test]
fn dead_nodes_never_run() {
    let kernels = reference::<f32>();
    let exp = Op::Unary { kind: samara_core::graph::UnaryKind::Exp, a: 0.0, b: 0.0 };
    let trap: Kernels<f32> = reference().with(exp.opcode(), Kernel { run: refuse, scratch_len: |_| 1 << 20 });
    let (params, ()) = registry::<f32, _>(0, |_| ());
    let build = |g: &Graph<'static>| {
        let x = g.input(&[4]);
        let unused = g.unary(samara_core::graph::UnaryKind::Exp, 0.0, 0.0, x);
        g.layer_norm(unused, None, None, 1e-5);
        g.output(g.add(x, x))
    };
    let (mut session, y) = Session::build(Table::serial(&trap), params, 8, build).unwrap();
    assert!(session.plan.arena_len() <= 32, "dead nodes take memory: {}", session.plan.arena_len());
    session.run(Gradients::Overwrite);
    assert_eq!(session.get(y).len(), 4);
    // Only live nodes of a model run: with a trap for every operation that no live node has, nothing changes.
    let model = Model::random(
        GptConfig { vocab_size: 7, n_positions: 8, n_embd: 8, n_layer: 2, n_head: 2, n_inner: 16, ..GptConfig::GPT2 },
        1,
    );
    let batch = Batch::new(1, vec![1, 2, 3, 4]);
    for recompute in [Recompute::None, Recompute::Cheap, Recompute::Blocks] {
        let program = model.trainer(Table::serial(&kernels), &batch, recompute).session.program;
        let mut table: Kernels<f32> = reference();
        for opcode in 0..Op::COUNT as u8 {
            if !program.nodes().iter().any(|n| !n.dead && n.opcode == opcode) {
                table = table.with(opcode, Kernel { run: refuse, scratch_len: |_| 0 });
            }
        }
        let trapped = model.train(Table::serial(&table), &batch, recompute);
        assert_eq!(trapped.grads, model.train(Table::serial(&kernels), &batch, recompute).grads);
    }
}

/// Every operation that may work in place does when its input ends there.
#[test]
fn outputs_take_the_place_of_inputs_that_end() {
    use samara_core::graph::{BinaryKind, Over, Pairing, RotarySpec, UnaryKind};
    type Case = fn(&Graph<'static>, Tensor) -> Tensor;
    let cases: [(&str, Case); 7] = [
        ("linear", |g, x| g.linear_with(g.input(&[2, 3, 5]), g.input(&[4, 5]), None, Activation::None, Some(x))),
        ("embedding", |g, x| g.embedding(g.ints(&[2, 3], 0, 8), g.input(&[9, 4]), Some(x))),
        ("dropout", |g, x| g.dropout(x, g.ints(&[5], 0, 1))),
        ("unary", |g, x| g.unary(UnaryKind::Exp, 0.0, 0.0, x)),
        ("binary", |g, x| g.binary(BinaryKind::Mul, Over::Row, x, g.input(&[4]))),
        ("rotary", |g, x| {
            let spec = RotarySpec { heads: 1, head_dim: 4, rotated: 2, pairs: Pairing::Halves, base: 1e4, inverse: false };
            g.rotary(x, g.ints(&[2, 3], 0, 9), spec)
        }),
        ("token replace", |g, x| g.token_replace(x, g.input(&[2, 1, 4]), 1)),
    ];
    let kernels = reference::<f32>();
    for (name, case) in cases {
        for keep in [false, true] {
            let (params, ()) = registry::<f32, _>(0, |_| ());
            let built = Session::build(Table::serial(&kernels), params, 8, |g| {
                let x = g.scale(g.input(&[2, 3, 4]), 2.0);
                if keep {
                    g.output(x);
                }
                (x, g.output(case(g, x)))
            });
            let (session, (x, y)) = built.unwrap();
            let node = session.program.nodes().last().unwrap();
            assert!(matches!(node.op().unwrap().in_place(), InPlace::Inputs(_)), "{name}");
            assert_eq!(session.plan.value(x) == session.plan.value(y), !keep, "{name}, kept {keep}");
        }
    }
}

/// The gradient of a linear layer's input takes the place of that input when nobody reads it later; an addend's place comes first.
#[test]
fn gradients_take_the_place_of_activations_that_end() {
    let kernels = reference::<f32>();
    for (keep, residual) in [(false, false), (true, false), (false, true)] {
        let (params, id) = registry::<f32, _>(1, |r| r.scope().add("w", &[4, 4], Init::Ones));
        let built = Session::build(Table::serial(&kernels), params, 32, |g| {
            let x0 = g.input(&[3, 4]);
            let x = g.scale(x0, 2.0);
            if keep {
                g.output(x);
            }
            let y = g.linear_with(x, g.param(id), None, Activation::None, residual.then_some(x));
            g.backward(&[(y, g.input(&[3, 4]))], Wrt::Tensors(&[x0, g.param(id)]), Recompute::None);
            (x, g.output(g.gradient(x).unwrap()))
        });
        let (session, (x, dx)) = built.unwrap();
        let node = session.program.nodes().iter().find(|n| n.op() == Some(Op::LinearBackward)).unwrap();
        assert_eq!(node.input(3).is_some(), residual);
        assert_eq!(session.plan.value(x) == session.plan.value(dx), !keep, "kept {keep}, residual {residual}");
    }
}

/// The arena of a model has gaps of at most one activation (B, T, C) when it is fullest, and shrinks with what is computed again.
#[test]
fn arenas_have_hardly_any_gaps() {
    const ACTIVATION: usize = 2 * 16 * 32;
    let kernels = reference::<f32>();
    for (n_layer, post_norm, window_size) in [(1, false, 0), (4, false, 0), (4, true, 0), (9, false, 2)] {
        let config =
            GptConfig { n_embd: 32, n_layer, n_head: 4, n_inner: 128, vocab_size: 65, n_positions: 16, ..GptConfig::GPT2 };
        let model = Model::random(GptConfig { post_norm, window_size, ..config }, 1);
        let batch = Batch::new(2, (0..32).collect());
        let mut arenas = Vec::new();
        for recompute in Recompute::ALL {
            let plan = model.trainer(Table::serial(&kernels), &batch, recompute).session.plan;
            let node = plan.peak();
            let peak: usize = plan.taken_at(node).map(|slot| slot.range().len()).sum();
            let found = plan.arena_len();
            assert!(peak <= found && found <= peak + ACTIVATION + 64, "{n_layer} layers, {recompute:?}: {found} for {peak}");
            arenas.push(found);
        }
        assert!(arenas.is_sorted_by(|a, b| a > b || n_layer == 1), "{n_layer} layers: {arenas:?}");
    }
}

/// Training, scoring and decoding over one buffer of parameters; gradients of two programs add up.
#[test]
fn several_programs_share_a_registry() {
    let kernels = reference::<f32>();
    let table = Table::serial(&kernels);
    let config = GptConfig { vocab_size: 9, n_positions: 8, n_embd: 8, n_layer: 2, n_head: 2, n_inner: 16, ..GptConfig::GPT2 };
    let model = Model::random(config, 3);
    let (long, short) = (Batch::new(2, vec![1, 2, 3, 4, 5, 6, 7, 8]), Batch::new(1, vec![5, 4, 3]));
    let mut first = model.trainer(table, &long, Recompute::None);
    let mut second = model.trainer(table, &short, Recompute::Blocks);
    let apart = [model.train(table, &long, Recompute::None).grads, model.train(table, &short, Recompute::Blocks).grads];
    first.session.run(Gradients::Overwrite);
    second.session.grads.clone_from(&first.session.grads);
    second.session.run(Gradients::Add);
    for (id, (a, b)) in model.ids().zip(apart[0].iter().zip(&apart[1])) {
        let sum: Vec<f64> = a.iter().zip(b).map(|(a, b)| a + b).collect();
        assert!(fd::error(&second.session.grad(id), &sum) < 1e-5, "gradients of two programs");
    }
    // One step of descent in the shared buffer: the decoding program sees the new weights.
    let mut changed = Model::random(config, 3);
    for (values, grad) in changed.values.iter_mut().zip(&apart[0]) {
        values.iter_mut().zip(grad).for_each(|(w, g)| *w = f64::from((*w - 0.1 * g) as f32));
    }
    let mut decoder = model.decoder(table, 1, 3, 8);
    for (id, values) in model.ids().zip(&changed.values) {
        decoder.session.set_param(id, values);
    }
    assert_eq!(decoder.step(&short.tokens, &[0]), changed.score(table, &short).logits);
    assert_ne!(decoder.step(&short.tokens, &[0]), model.score(table, &short).logits);
}

/// Forward, backward and update ranges lie one after the other and make up the program.
#[test]
fn ranges() {
    let kernels = reference::<f32>();
    let (params, id) = registry::<f32, _>(1, |r| r.scope().add("w", &[3, 3], Init::Zeros));
    let built = Session::build(Table::serial(&kernels), params, 32, |g| {
        let y = g.linear(g.input(&[2, 3]), g.param(id), None);
        let forward = g.position();
        g.backward(&[(y, g.input(&[1]))], Wrt::Trainable, Recompute::None);
        let norm = g.global_norm();
        let backward = g.position();
        g.adamw(g.input(&[8]), Some(norm), Epsilon::AfterCorrection);
        (forward, backward, g.position())
    });
    let (session, (forward, backward, end)) = built.unwrap();
    let program = session.program;
    assert_eq!((program.forward(), program.backward(), program.update()), (0..forward, forward..backward, backward..end));
    assert!(end > backward && end == program.nodes().len());
}

/// GPT-2 1558M, one sequence of 1024 tokens: the graph and its plan fit records of 16 bits and an arena of 2³¹ elements.
#[test]
fn the_largest_gpt2_is_planned() {
    let config = GptConfig { n_embd: 1600, n_layer: 48, n_head: 25, n_inner: 6400, ..GptConfig::GPT2 };
    let mut infos = vec![ParamInfo::default(); config.param_count()];
    let mut registry = Registry::new(&mut infos);
    let gpt = Gpt::register(&config, &mut registry.scope());
    let params = registry.finish(4).unwrap();
    assert_eq!(params.trainable_count(), 1_557_611_200);
    let (t, c) = (1024, config.n_embd);
    // What a layer keeps: input, norm, q k v, attention, sum, norm, 4 C before and 4 C after the activation.
    let kept = 48 * t * c * 16;
    for (recompute, low, high) in [
        (Recompute::None, kept, kept + kept / 10),
        (Recompute::Cheap, kept / 2, kept * 3 / 4),
        (Recompute::Blocks, 48 * t * c, kept / 8),
    ] {
        let mut tensors = vec![TensorRecord::EMPTY; 2 * gpt.dims().tensor_count(params.infos().len())];
        let mut nodes = vec![NodeRecord::EMPTY; 2 * gpt.dims().node_count()];
        let g = Graph::new(params, &mut tensors, &mut nodes);
        let inputs = LmInputs::new(&g, &gpt, 1, t);
        let targets = g.ints(&[1, t], -100, 50256);
        let (upstream, hyper) = (g.input(&[1]), g.input(&[8]));
        let losses = g.output(lm::losses(&g, &gpt, &inputs, targets));
        g.backward(&[(losses, upstream)], Wrt::Trainable, recompute);
        g.adamw(hyper, Some(g.global_norm()), Epsilon::AfterCorrection);
        let program = g.finish().unwrap();
        let kernels = reference::<f32>();
        let scratch = |n: &Node<'_>| kernels.get(n.record().opcode).map_or(0, |k| (k.scratch_len)(n));
        let n = storage_len(&program);
        let (mut slots, mut order) = (vec![Slot::default(); n], vec![0; n]);
        let plan = Plan::new(&program, &scratch, &mut slots, &mut order).unwrap();
        plan.check().unwrap();
        let found = plan.arena_len();
        assert!((low..=high).contains(&found), "{recompute:?}: {found} is not in {low}..={high}");
    }
}

/// Llama 2 7B. Where parameters, gradients and moments end is beyond 2³² elements and 4 GiB, and no memory is needed to know it.
const LLAMA2_7B: LlamaConfig = LlamaConfig {
    vocab_size: 32000,
    hidden_size: 4096,
    intermediate_size: 11008,
    num_hidden_layers: 32,
    num_attention_heads: 32,
    num_key_value_heads: 32,
    head_dim: 128,
    max_position_embeddings: 4096,
    rms_norm_eps: 1e-5,
    tie_word_embeddings: false,
    ..LlamaConfig::SMOLLM2_135M
};

/// Its registry with room for as many parameters, all trained or all frozen.
fn seven_billion(frozen: bool) -> (Llama, Params<'static>) {
    let mut llama = None;
    let (params, ()) = registry::<f32, _>(300, |r| {
        llama = Some(Llama::register(&LLAMA2_7B, &mut r.scope()));
        r.infos_mut().iter_mut().for_each(|info| info.frozen = frozen);
    });
    (llama.unwrap(), params)
}

#[test]
fn seven_billion_parameters_are_trained_in_plan() {
    let (llama, params) = seven_billion(false);
    assert_eq!((params.trainable_count(), params.trainable_len()), (6_738_415_616, 6_738_415_616));
    let t = 512;
    let mut tensors = vec![TensorRecord::EMPTY; 4 * llama.dims().tensor_count(params.infos().len())];
    let mut nodes = vec![NodeRecord::EMPTY; 4 * llama.dims().node_count()];
    let g = Graph::new(params, &mut tensors, &mut nodes);
    let inputs = LmInputs::new(&g, &llama, 1, t);
    let targets = lm::targets(&g, &llama, 1, t);
    let (upstream, hyper) = (g.input(&[1]), g.input(&[8]));
    let losses = g.output(lm::losses(&g, &llama, &inputs, targets));
    g.backward(&[(losses, upstream)], Wrt::Trainable, Recompute::Blocks);
    g.adamw(hyper, Some(g.global_norm()), Epsilon::AfterCorrection);
    let program = g.finish().unwrap();
    let places = program.tensors().iter().filter(|r| matches!(r.role, Role::Trainable | Role::Grad));
    assert!(places.clone().any(|r| r.role == Role::Grad && r.start() > 1 << 32));
    for record in places {
        assert_eq!(record.start(), params.infos()[record.index as usize].offset, "{:?}", record.role);
    }
    // Updates lie one behind the other, each in its group, and cover everything.
    let mut end = 0;
    for op in program.nodes().iter().filter_map(NodeRecord::op) {
        if let Op::AdamW { start, len, decay, .. } = op {
            assert_eq!(start as usize * UNIT, end);
            end += len as usize;
            let group = params.groups().find(|(_, range)| range.contains(&(end - 1))).unwrap().0;
            assert_eq!(decay, group.decay());
        }
    }
    assert_eq!(end, params.trainable_len());
    let kernels = reference::<f32>();
    let scratch = |n: &Node<'_>| kernels.get(n.record().opcode).map_or(0, |k| (k.scratch_len)(n));
    let n = storage_len(&program);
    let (mut slots, mut order) = (vec![Slot::default(); n], vec![0; n]);
    let plan = Plan::new(&program, &scratch, &mut slots, &mut order).unwrap();
    plan.check().unwrap();
    // A checkpoint for each block, and what one block keeps while it is differentiated.
    let kept = 32 * t * 4096;
    assert!((kept..3 * kept).contains(&plan.arena_len()), "{} and {kept}", plan.arena_len());
}

#[test]
fn seven_billion_frozen_parameters_have_their_places() {
    let (llama, params) = seven_billion(true);
    assert_eq!((params.trainable_len(), params.frozen_bytes()), (0, 4 * 6_738_415_616));
    let (mut tensors, mut nodes) = (vec![TensorRecord::EMPTY; 4096], vec![NodeRecord::EMPTY; 1024]);
    let g = Graph::new(params, &mut tensors, &mut nodes);
    // Keys and values of 128 sequences: 2³⁵ elements of state.
    let shape = DecodeShape { batch: 128, len: 1, capacity: 1024, dtype: DType::Real, read_in_place: true };
    decode_step(&g, &llama, &shape);
    let program = g.finish().unwrap();
    assert_eq!(program.info().state_len(), 2 * 32 * 128 * 1024 * 4096);
    let states = program.tensors().iter().enumerate().filter(|(i, r)| r.role == Role::State && r.root.index() == *i);
    let places: Vec<usize> = states.map(|(_, r)| r.start()).collect();
    assert_eq!(places, (0..64).map(|i| i * 128 * 1024 * 4096).collect::<Vec<_>>());
    let last = program.tensors().iter().filter(|r| r.role == Role::Frozen).map(TensorRecord::start).max();
    assert_eq!(last, params.infos().iter().map(|info| info.offset).max());
    assert!(last.is_some_and(|last| last > 1 << 34));
}

/// Positions are 32 bits of units of 16 elements; what is beyond is refused with the name of the parameter.
#[test]
fn what_positions_do_not_reach_is_refused() {
    let finish = |count: usize, extents: &[usize], frozen: bool| {
        let mut infos = vec![ParamInfo::default(); count];
        let mut registry = Registry::new(&mut infos);
        for i in 0..count {
            registry.scope().item("h", i).add("w", extents, Init::Zeros);
        }
        registry.infos_mut().iter_mut().for_each(|info| info.frozen = frozen);
        registry.finish(4).map(|params| params.layout())
    };
    let billion = [1 << 15, 1 << 15];
    assert_eq!(finish(63, &billion, false).unwrap().trainable_len, 63 << 30);
    assert_eq!(finish(63, &billion, true).unwrap().frozen_bytes, 63 << 32);
    for frozen in [false, true] {
        let error = finish(65, &billion, frozen).unwrap_err();
        assert!(matches!(error, ParamsError::NoPlace { .. }) && error.to_string().contains("parameter h.63.w"), "{error}");
    }
    let error = finish(2, &[1 << 16, 1 << 16], false).unwrap_err();
    assert!(
        matches!(error, ParamsError::TooLarge { .. }) && error.to_string().contains("h.0.w has more than 2147483647"),
        "{error}"
    );
    // A program's state, too.
    let (params, ()) = registry::<f32, _>(0, |_| ());
    let (mut tensors, mut nodes) = (vec![TensorRecord::EMPTY; 80], vec![NodeRecord::EMPTY; 1]);
    let g = Graph::new(params, &mut tensors, &mut nodes);
    (0..65).for_each(|_| _ = g.state(&billion));
    assert_eq!(g.finish().unwrap_err().kind, GraphErrorKind::BufferTooLarge);
}

#[test]
fn too_little_storage_is_an_error() {
    let kernels = reference::<f32>();
    let program = Program::new(Table::serial(&kernels), 1, Recompute::None).session.program;
    let n = storage_len(&program);
    for (slots, order) in [(n - 1, n), (n, n - 1), (0, 0)] {
        let found = Plan::new(&program, &|_| 0, &mut vec![Slot::default(); slots], &mut vec![0; order]).map(|_| ());
        assert_eq!(found, Err(PlanError::Storage { needed: n }));
    }
    // More scratch than an arena can hold.
    let found = Plan::new(&program, &|_| usize::MAX, &mut vec![Slot::default(); n], &mut vec![0; n]).map(|_| ());
    assert_eq!(found, Err(PlanError::TooLarge));
}

/// One layer with every kind of memory: Σ of (x W + table[ids] + state), its gradient, AdamW; and the tensors x, the layer, Σ.
fn every_buffer() -> (samara_core::graph::Program<'static>, Plan<'static>, [Tensor; 3]) {
    let (params, [weight, table]) = registry::<f32, _>(2, |r| {
        let ids = [("w", 16), ("table", 4)].map(|(name, rows)| r.scope().add(name, &[rows, 16], Init::Zeros));
        r.infos_mut()[1].frozen = true;
        ids
    });
    let g = graph(params, 64);
    let x = g.input(&[2, 16]);
    let rows = g.embedding(g.ints(&[2], 0, 3), g.param(table), Some(g.state(&[2, 16])));
    let y = g.linear(x, g.param(weight), None);
    let loss = g.output(g.sum(g.add(y, rows)));
    g.backward(&[(loss, g.input(&[1]))], Wrt::Trainable, Recompute::None);
    g.adamw(g.input(&[HYPER_LEN]), None, Epsilon::AfterCorrection);
    let program = g.finish().unwrap();
    let (slots, mut order) = (vec![Slot::EMPTY; storage_len(&program)].leak(), vec![0; storage_len(&program)]);
    let kernels = reference::<f32>();
    let cpu = Cpu::new(&kernels, &Serial);
    (program, Plan::new(&program, &|node| cpu.scratch_len(node), slots, &mut order).unwrap(), [x, y, loss])
}

/// Lends buffers of these lengths, in the order of [`Memory`]'s fields; the last is in bytes.
fn lend<T>(lengths: [usize; 7], f: impl FnOnce(&mut Memory<'_, f32>) -> T) -> T {
    let [mut arena, mut state, mut trainable, mut grads, mut moments] = [0, 1, 3, 4, 5].map(|i: usize| vec![0.0f32; lengths[i]]);
    let (mut ints, frozen) = (vec![0; lengths[2]], vec![0.0f32; lengths[6] / 4 + 1]);
    f(&mut Memory {
        arena: &mut arena,
        state: &mut state,
        ints: &mut ints,
        trainable: &mut trainable,
        grads: &mut grads,
        moments: &mut moments,
        frozen: &bytemuck::cast_slice(&frozen)[..lengths[6]],
    })
}

#[test]
fn memory_that_is_too_short_is_named() {
    let (program, plan, _) = every_buffer();
    let (arena, words) = (plan.arena_len(), "arena has 10 elements, the plan needs ");
    let right = [arena, 32, 2, 256, 256, 512, 256];
    assert_eq!(lend(right, |memory| memory.check(&program, &plan)), Ok(()));
    let buffers = [Buffer::Arena, Buffer::State, Buffer::Ints, Buffer::Trainable, Buffer::Grads, Buffer::Moments, Buffer::Frozen];
    for (i, buffer) in buffers.into_iter().enumerate() {
        let mut lengths = right;
        lengths[i] -= 1;
        let expected = MemoryError::Short { buffer, found: right[i] - 1, needed: right[i] };
        assert_eq!(lend(lengths, |memory| memory.check(&program, &plan)), Err(expected));
    }
    let error = lend([10, 32, 2, 256, 256, 512, 256], |memory| memory.check(&program, &plan)).unwrap_err();
    assert_eq!(error.to_string(), format!("{words}{arena}: Plan::arena_len"));
    let error = MemoryError::Short { buffer: Buffer::Moments, found: 0, needed: 512 };
    assert_eq!(
        error.to_string(),
        "moments has 0 elements, the program needs 512: ProgramInfo::moments times Params::trainable_len"
    );
    let shifted = [0.0f32; 65];
    let frozen = &bytemuck::cast_slice(&shifted)[1..257];
    let unaligned = lend(right, |memory| Memory { frozen, ..memory_of(memory) }.check(&program, &plan));
    assert_eq!(unaligned, Err(MemoryError::Unaligned { needed: 4 }));
}

/// The same buffers, lent on.
fn memory_of<'a>(memory: &'a mut Memory<'_, f32>) -> Memory<'a, f32> {
    let Memory { arena, state, ints, trainable, grads, moments, frozen } = memory;
    Memory { arena, state, ints, trainable, grads, moments, frozen }
}

#[cfg(debug_assertions)]
#[test]
#[should_panic(expected = "Memory::check")]
fn a_run_on_short_memory_panics_in_debug_builds() {
    let (program, plan, _) = every_buffer();
    let kernels = reference::<f32>();
    let run = |memory: &mut Memory<'_, f32>| {
        Cpu::new(&kernels, &Serial).run(&program, &plan, memory, program.forward(), Gradients::Overwrite);
    };
    lend([plan.arena_len(), 32, 2, 256, 256, 0, 256], run);
}

#[test]
fn only_inputs_and_outputs_are_read_after_a_run() {
    let (program, plan, [x, y, loss]) = every_buffer();
    let mut arena = vec![1.0f32; plan.arena_len()];
    assert_eq!(real(&program, &plan, &arena, x), Some(&[1.0; 32][..]));
    assert_eq!(real(&program, &plan, &arena, loss), Some(&[1.0][..]));
    assert_eq!(real(&program, &plan, &arena, y), None, "no output: other values take its place");
    assert_eq!(real_mut(&program, &plan, &mut arena, y), None);
    assert_eq!(real(&program, &plan, &arena, Tensor::NONE), None);
    assert_eq!(real(&program, &plan, &arena[..1], x), None, "a short arena");
}
