//! Optimizers against PyTorch, step by step, and as a configuration asks for them.

use std::fs;

use samara::kernels::gemm::Gemm;
use samara::session::update::{Update, UpdateNumbers};
use samara::session::{self, CpuDevice, Engine, OwnedParams};
use samara::train::config::{Optimizer, TrainConfig};
use samara::train::shape::update_numbers;
use samara_core::exec::Gradients;
use samara_core::graph::{Epsilon, Momentum, Rule};
use samara_core::ops::reference;
use samara_core::params::{Group, Init};
use samara_tests::golden::{json, numbers};
use samara_tests::session::{Session, Table, registry};
use samara_tests::training::{newest_checkpoint, records, resume, tensors, text, tiny, train, training_state};
use serde_json::Value;

/// Two parameters, one with weight decay and one without, five steps with their own learning rates, all state after every step.
#[test]
fn golden_steps() {
    for file in ["adamw", "adamw_clip", "adamw_large_eps", "adam_epsilon_hat", "sgd_momentum", "sgd_nesterov"] {
        let golden = json(&format!("optim/{file}.json"));
        let sgd = file.starts_with("sgd");
        let number = |key: &str| golden[key].as_f64().unwrap_or(0.0);
        let names = ["decayed", "plain"];
        let (params, ids) = registry::<f64, _>(2, |r| {
            names.map(|name| {
                let n = numbers(&golden["start"][name]).len();
                // Rank 2 puts a parameter into the group with decay.
                if name == "decayed" { r.scope().add(name, &[1, n], Init::Zeros) } else { r.scope().add(name, &[n], Init::Zeros) }
            })
        });
        let kernels = reference::<f64>();
        let built = Session::build(Table::serial(&kernels), params, 8, |g| {
            let norm = g.output(g.global_norm());
            let hyper = g.input(&[8]);
            let epsilon = if file == "adam_epsilon_hat" { Epsilon::BeforeCorrection } else { Epsilon::AfterCorrection };
            if sgd {
                g.sgd(hyper, Some(norm), if file == "sgd_nesterov" { Momentum::Nesterov } else { Momentum::Classical });
            } else {
                g.adamw(hyper, Some(norm), epsilon);
            }
            (hyper, norm)
        });
        let (mut session, (hyper, norm)) = built.unwrap();
        ids.iter().zip(names).for_each(|(&id, name)| session.set_param(id, &numbers(&golden["start"][name])));
        let steps = golden["steps"].as_array().unwrap();
        assert_eq!(steps.len(), 5, "{file}");
        for (t, step) in (1..).zip(steps) {
            for (&id, name) in ids.iter().zip(names) {
                let range = params.infos()[id.index()].range();
                session.grads[range].copy_from_slice(&numbers(&step["grads"][name]));
            }
            let beta1 = if sgd { number("momentum") } else { number("beta1") };
            let corrections = [1.0 - beta1.powi(t), 1.0 - number("beta2").powi(t)];
            let [lr, decay] = [step["lr"].as_f64().unwrap(), golden["weight_decay"]["decayed"].as_f64().unwrap()];
            let [c1, c2] = corrections;
            session.set(hyper, &[lr, beta1, number("beta2"), number("eps"), decay, c1, c2, number("max_norm")]);
            session.run(Gradients::Overwrite);
            if let Some(expected) = step["grad_norm"].as_f64() {
                assert!((session.get(norm)[0] - expected).abs() < 1e-14, "{file}: norm");
            }
            let check = |what: &str, slot: Option<usize>| {
                for (&id, name) in ids.iter().zip(names) {
                    let range = params.infos()[id.index()].range();
                    let found = match slot {
                        None => &session.trainable[range],
                        Some(slot) => {
                            let at = slot * params.trainable_len();
                            &session.moments[at + range.start..at + range.end]
                        }
                    };
                    for (a, b) in found.iter().zip(numbers(&step[what][name])) {
                        assert!((a - b).abs() <= 1e-14 * b.abs().max(1.0), "{file}, step {t}, {what} of {name}: {a} {b}");
                    }
                }
            };
            check("weights", None);
            if sgd {
                check("momentum_buffer", Some(0));
            } else {
                check("exp_avg", Some(0));
                check("exp_avg_sq", Some(1));
            }
        }
    }
}

/// The configuration of PyTorch's steps in a golden file.
fn config_of(file: &str, golden: &Value) -> TrainConfig {
    let number = |key: &str| golden[key].as_f64().unwrap_or(0.0);
    let weight_decay = golden["weight_decay"]["decayed"].as_f64().unwrap();
    let common = TrainConfig { weight_decay, grad_clip: number("max_norm"), ..TrainConfig::default() };
    if file.starts_with("sgd") {
        let nesterov = file == "sgd_nesterov";
        return TrainConfig { optimizer: Optimizer::Sgd, momentum: number("momentum"), nesterov, ..common };
    }
    TrainConfig { beta1: number("beta1"), beta2: number("beta2"), eps: number("eps"), ..common }
}

fn cpu() -> session::Session {
    session::Session::new(CpuDevice::new(Engine::new(1, Gemm::Samara).unwrap()))
}

/// `train.optimizer` on this machine's kernels: the same weights after every step, as far as f32 goes.
#[test]
fn a_configured_optimizer_steps_as_in_pytorch() {
    for file in ["adamw", "adamw_clip", "sgd_momentum", "sgd_nesterov"] {
        let golden = json(&format!("optim/{file}.json"));
        let config = config_of(file, &golden);
        let start = ["decayed", "plain"].map(|name| numbers(&golden["start"][name]));
        let (owned, _) = OwnedParams::of(|s| {
            s.add("decayed", &[1, start[0].len()], Init::Zeros);
            s.add("plain", &[start[1].len()], Init::Zeros)
        })
        .unwrap();
        let ranges: Vec<_> = owned.view().infos().iter().map(|info| info.range()).collect();
        let copy = |to: &mut [f32], values: [Vec<f64>; 2]| {
            let pairs = ranges.iter().zip(values);
            pairs.for_each(|(range, values)| to[range.clone()].iter_mut().zip(values).for_each(|(to, x)| *to = x as f32));
        };
        let mut s = cpu();
        let set = s.add_set("model", &owned).unwrap();
        let update = Update::new(&mut s, set, config.rule(), &[], &[]).unwrap();
        copy(s.set_mut(set).0.weights.get_mut(), start);
        for (count, step) in (1..).zip(golden["steps"].as_array().unwrap()) {
            copy(s.set_mut(set).0.grads[0].get_mut(), ["decayed", "plain"].map(|name| numbers(&step["grads"][name])));
            let ticket = update.norm(&mut s);
            s.sync().unwrap();
            let norm = s.fetched(&ticket)[0];
            let lr = step["lr"].as_f64().unwrap();
            update.apply(&mut s, &UpdateNumbers { count, ..update_numbers(&config, lr) }, norm);
            s.sync().unwrap();
            let mut expected = vec![0.0; s.set(set).weights.get().len()];
            copy(&mut expected, ["decayed", "plain"].map(|name| numbers(&step["weights"][name])));
            for (a, b) in s.set(set).weights.get().iter().zip(expected) {
                assert!((a - b).abs() <= 2e-6 * b.abs().max(1.0), "{file}, step {count}: {a} {b}");
            }
        }
    }
}

/// Without momentum w − s lr (min(1, c / ‖g‖) g + λ w), with a factor s of the learning rate for a group, and no memory for moments.
#[test]
fn plain_descent_is_the_formula_in_every_group() {
    let (owned, head) = OwnedParams::new(2, |r| {
        let head = r.add_group(Group { decay: true });
        r.scope().add("body", &[2, 1], Init::Ones);
        r.scope().groups(head, head).add("head", &[2, 1], Init::Ones);
        head
    })
    .unwrap();
    let config = TrainConfig { optimizer: Optimizer::Sgd, weight_decay: 0.5, grad_clip: 2.5, ..TrainConfig::default() };
    assert_eq!(config.rule(), Rule::Sgd(Momentum::None));
    let mut s = cpu();
    let set = s.add_set("model", &owned).unwrap();
    let update = Update::new(&mut s, set, config.rule(), &[(head, 10.0)], &[]).unwrap();
    assert!(s.set(set).moments.get().is_empty());
    let ranges = [0, 1].map(|i| owned.view().infos()[i].range());
    let (params, _) = s.set_mut(set);
    owned.view().initialise(0, params.weights.get_mut());
    params.grads[0].get_mut()[ranges[0].start] = 3.0;
    params.grads[0].get_mut()[ranges[1].start] = 4.0;
    let norm = update.norm(&mut s);
    s.sync().unwrap();
    let norm = s.fetched(&norm)[0];
    assert_eq!(norm, 5.0);
    update.apply(&mut s, &UpdateNumbers { count: 1, ..update_numbers(&config, 0.01) }, norm);
    s.sync().unwrap();
    let found = ranges.map(|range| s.set(set).weights.get()[range].to_vec());
    let expected = [(0.01, 3.0), (0.1, 4.0)].map(|(lr, g)| [g, 0.0].map(|g: f32| 1.0 - lr * (0.5 * g + 0.5)));
    for (found, expected) in found.iter().zip(expected) {
        assert!(found.iter().zip(expected).all(|(a, b)| (a - b).abs() < 1e-6), "{found:?} {expected:?}");
    }
}

/// Every optimizer learns, keeps its own moments in checkpoints, and goes on to the bit; another one is refused.
#[test]
fn a_run_with_any_optimizer_goes_on_to_the_bit() {
    for (momentum, nesterov, moments) in [
        (0.0, false, &["ema", "weight"][..]),
        (0.9, false, &["ema", "momentum_buffer", "weight"]),
        (0.9, true, &["ema", "momentum_buffer", "weight"]),
    ] {
        let mut config = tiny(&text(), 8);
        config.train = TrainConfig {
            optimizer: Optimizer::Sgd,
            momentum,
            nesterov,
            lr: 0.1,
            checkpoint_every: 3,
            ema_decay: 0.5,
            ..config.train
        };
        let [whole, killed] = [(); 2].map(|()| tempfile::tempdir().unwrap());
        let losses = [whole.path(), killed.path()].map(|out| train(&config, out).unwrap().train_loss);
        let first = records(whole.path())[0].get("train_loss").unwrap();
        assert!(losses[0].unwrap() < first - 0.1, "{momentum} {nesterov}: {first} {losses:?}");
        let names = tensors(&newest_checkpoint(whole.path()).join("training.safetensors"));
        let mut suffixes: Vec<&str> = names.iter().filter_map(|(name, _)| Some(name.rsplit_once('/')?.1)).collect();
        suffixes.sort_unstable();
        suffixes.dedup();
        assert_eq!(suffixes, moments);
        // As if it had been killed after step 6 and before step 8.
        fs::remove_dir_all(newest_checkpoint(killed.path())).unwrap();
        assert!(newest_checkpoint(killed.path()).ends_with("step-0000006"));
        resume(&config, killed.path()).unwrap();
        assert!(training_state(killed.path()) == training_state(whole.path()), "{momentum} {nesterov}");
        config.train.optimizer = Optimizer::AdamW;
        let error = resume(&config, killed.path()).unwrap_err().to_string();
        assert!(error.contains("train.optimizer = \"sgd\", now \"adamw\""), "{error}");
    }
}
