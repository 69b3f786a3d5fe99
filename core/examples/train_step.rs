//! A GPT of one block learns three sentences on memory that its caller lends: ask for sizes, lend buffers, run.
//!
//! `cargo run --release -p samara-core --example train_step`

use samara_core::exec::{Backend, Cpu, Gradients, Memory, real, write_ints, write_real};
use samara_core::graph::{Epsilon, Graph, HYPER_LEN, NodeRecord, Recompute, TensorRecord, Wrt};
use samara_core::model::gpt::{Gpt, GptConfig};
use samara_core::model::lm::{self, LanguageModel, LmInputs};
use samara_core::ops;
use samara_core::params::{ParamInfo, Registry};
use samara_core::plan::{Plan, Slot, storage_len};
use samara_core::threads::Serial;

const TEXTS: [&[u8; 17]; 3] = [b"the cat sat down ", b"the dog ran away ", b"a bird flew home "];
const BLOCK: usize = 16;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let config =
        GptConfig { vocab_size: 128, n_positions: BLOCK, n_embd: 32, n_layer: 1, n_head: 2, n_inner: 128, ..GptConfig::GPT2 };

    // Parameters exist before any graph.
    let mut infos = vec![ParamInfo::default(); config.param_count()];
    let mut registry = Registry::new(&mut infos);
    let gpt = Gpt::register(&config, &mut registry.scope());
    let params = registry.finish(size_of::<f32>())?;

    // The graph: model, loss, gradient, update.
    let mut tensors = vec![TensorRecord::EMPTY; gpt.dims().tensor_count(params.infos().len())];
    let mut nodes = vec![NodeRecord::EMPTY; gpt.dims().node_count()];
    let g = Graph::new(params, &mut tensors, &mut nodes);
    let inputs = LmInputs::new(&g, &gpt, TEXTS.len(), BLOCK);
    let targets = g.ints(&[TEXTS.len(), BLOCK], -100, config.vocab_size as i32 - 1);
    let (upstream, hyper) = (g.input(&[1]), g.input(&[HYPER_LEN]));
    let losses = g.output(lm::losses(&g, &gpt, &inputs, targets));
    g.backward(&[(losses, upstream)], Wrt::Trainable, Recompute::None);
    let norm = g.global_norm();
    g.adamw(hyper, Some(norm), Epsilon::AfterCorrection);
    let program = g.finish()?;

    // The plan says how much memory all of it takes.
    let kernels = ops::reference::<f32>();
    let cpu = Cpu::new(&kernels, &Serial);
    let count = storage_len(&program);
    let (mut slots, mut order) = (vec![Slot::default(); count], vec![0; count]);
    let plan = Plan::new(&program, &|node| cpu.scratch_len(node), &mut slots, &mut order)?;
    plan.check()?;
    println!("{} parameters, {} nodes, arena of {} bytes", params.trainable_count(), program.nodes().len(), plan.arena_len() * 4);

    let mut arena = vec![0.0; plan.arena_len()];
    let mut ints = vec![0; program.info().ints_len as usize];
    let flat = params.trainable_len();
    let (mut trainable, mut grads, mut moments) = (vec![0.0; flat], vec![0.0; flat], vec![0.0; 2 * flat]);
    params.initialise(1, &mut trainable);

    let column =
        |shift: usize| TEXTS.iter().flat_map(move |text| (0..BLOCK).map(move |i| i32::from(text[i + shift]))).collect::<Vec<_>>();
    let positions: Vec<i32> = TEXTS.iter().flat_map(|_| 0..BLOCK as i32).collect();
    write_ints(&program, &mut ints, inputs.tokens, &column(0))?;
    write_ints(&program, &mut ints, targets, &column(1))?;
    write_ints(&program, &mut ints, inputs.positions, &positions)?;
    let scale = 1.0 / (TEXTS.len() * BLOCK) as f32;
    write_real(&program, &plan, &mut arena, upstream, &[scale])?;
    for step in 1..=200 {
        let correction = |beta: f32| 1.0 - beta.powi(step);
        let numbers = [3e-3, 0.9, 0.99, 1e-8, 0.0, correction(0.9), correction(0.99), 1.0];
        write_real(&program, &plan, &mut arena, hyper, &numbers)?;
        let mut memory = Memory {
            arena: &mut arena,
            state: &mut [],
            ints: &mut ints,
            trainable: &mut trainable,
            grads: &mut grads,
            moments: &mut moments,
            frozen: &[],
        };
        memory.check(&program, &plan)?; // a run itself cannot say that a buffer is too short
        cpu.run(&program, &plan, &mut memory, 0..program.nodes().len(), Gradients::Overwrite);
        if step % 50 == 0 || step == 1 {
            let losses = real(&program, &plan, &arena, losses).unwrap_or_default();
            println!("step {step:3}: loss {:.4}", losses.iter().sum::<f32>() * scale);
        }
    }
    Ok(())
}
