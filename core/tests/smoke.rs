//! smoke
use samara_core::exec::*;
use samara_core::graph::*;
use samara_core::math::Real;
use samara_core::model::gpt::*;
use samara_core::ops;
use samara_core::params::*;
use samara_core::plan::*;
use samara_core::threads::Serial;

fn loss_and_grads<R: Real>(config: &GptConfig, w: &[f64], recompute: Recompute) -> (f64, Vec<f64>, usize) {
    let mut infos = vec![ParamInfo::default(); config.param_count()];
    let mut registry = Registry::new(&mut infos);
    let gpt = GptParams::register(config, &mut registry);
    let params = registry.finish(size_of::<R>()).unwrap();
    let mut tensors = vec![TensorRecord::EMPTY; 2 * config.tensor_count()];
    let mut nodes = vec![NodeRecord::EMPTY; 2 * config.node_count()];
    let g = Graph::new(params, &mut tensors, &mut nodes);
    let inputs = GptInputs::new(&g, config, 2, 5);
    let targets = g.ints(&[2, 5], -100, config.vocab_size as i32 - 1);
    let up = g.input(&[1]);
    let h = hidden(&g, config, &gpt, &inputs, None);
    let losses = g.output(g.head_loss(h, g.param(gpt.wte()), None, targets, 0.0));
    g.backward(&[(losses, up)], Wrt::Trainable, recompute);
    let program = g.finish().unwrap();
    let kernels = ops::reference::<R>();
    let cpu = Cpu::new(&kernels, &Serial);
    let n = storage_len(&program);
    let (mut slots, mut order) = (vec![Slot::default(); n], vec![0u16; n]);
    let plan = Plan::new(&program, &|n| cpu.scratch_len(n), &mut slots, &mut order).unwrap();
    plan.check().unwrap();
    let mut arena = vec![R::from_f64(f64::NAN); plan.arena_len()];
    let mut ints = vec![0i32; program.info().ints_len as usize];
    let mut trainable: Vec<R> = w.iter().map(|&x| R::from_f64(x)).collect();
    trainable.resize(params.trainable_len(), R::ZERO);
    let mut grads = vec![R::ZERO; params.trainable_len()];
    write_ints(&program, &mut ints, inputs.tokens, &[1, 2, 3, 4, 5, 6, 0, 1, 2, 3]).unwrap();
    write_ints(&program, &mut ints, inputs.positions, &[0, 1, 2, 3, 4, 0, 1, 2, 3, 4]).unwrap();
    write_ints(&program, &mut ints, targets, &[2, 3, 4, 5, 6, -100, 1, 2, 3, 4]).unwrap();
    write_real(&program, &plan, &mut arena, up, &[R::from_f64(0.1)]).unwrap();
    let mut memory = Memory {
        arena: &mut arena,
        state: &mut [],
        ints: &mut ints,
        trainable: &mut trainable,
        grads: &mut grads,
        moments: &mut [],
        frozen: &[],
    };
    cpu.run(&program, &plan, &mut memory, 0..program.nodes().len(), Gradients::Overwrite);
    let loss: f64 = real(&plan, &arena, losses).iter().map(|x| x.to_f64() * 0.1).sum();
    (loss, grads.iter().map(|x| x.to_f64()).collect(), plan.arena_len())
}

#[test]
fn gpt_gradient() {
    for post_norm in [false, true] {
        let config = GptConfig {
            vocab_size: 7,
            n_positions: 6,
            n_embd: 8,
            n_layer: 3,
            n_head: 2,
            n_inner: 16,
            window_size: 2,
            post_norm,
            ..GptConfig::GPT2
        };
        let len = 20000;
        let mut seed = 1u64;
        let w: Vec<f64> = (0..len)
            .map(|_| {
                seed = seed.wrapping_mul(6364136223846793005).wrapping_add(1);
                (seed >> 40) as f64 / (1u64 << 24) as f64 * 0.6 - 0.2
            })
            .collect();
        let w = {
            let (_, g, _) = loss_and_grads::<f64>(&config, &[], Recompute::None);
            w[..g.len()].to_vec()
        };
        let (loss, g, a0) = loss_and_grads::<f64>(&config, &w, Recompute::None);
        assert!(loss.is_finite());
        let (_, g1, a1) = loss_and_grads::<f64>(&config, &w, Recompute::Cheap);
        let (_, g2, a2) = loss_and_grads::<f64>(&config, &w, Recompute::Blocks);
        println!("{loss} arena {a0} {a1} {a2}");
        assert_eq!(g, g1);
        assert_eq!(g, g2);
        let mut worst: f64 = 0.0;
        for i in (0..g.len()).step_by(37) {
            let f = |d: f64| {
                let mut w = w.clone();
                w[i] += d;
                loss_and_grads::<f64>(&config, &w, Recompute::None).0
            };
            let h = 1e-3;
            let fd = (8.0 * (f(h) - f(-h)) - (f(2.0 * h) - f(-2.0 * h))) / (12.0 * h);
            worst = worst.max((fd - g[i]).abs());
        }
        println!("worst {worst:e} of max {}", g.iter().fold(0f64, |m, x| m.max(x.abs())));
        assert!(worst < 1e-8);
    }
}
