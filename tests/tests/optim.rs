//! Optimizers against PyTorch, step by step.

use samara_core::exec::Gradients;
use samara_core::graph::{Epsilon, Momentum};
use samara_core::ops::reference;
use samara_core::params::Init;
use samara_tests::golden::{json, numbers};
use samara_tests::session::{Session, Table, registry};

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
