//! Reinforcement learning and preferences on a world small enough to know the answer.

use samara::align::base::Base;
use samara::align::completion::Completion;
use samara::align::config::{DpoConfig, KtoConfig, PairObjective, RewardConfig};
use samara::align::pairs::{PairTraining, PairsSpec};
use samara::align::policy::episodes::Episode;
use samara::align::policy::method::Method;
use samara::align::policy::rewards::{RewardFolder, RewardSource, Rewards};
use samara::align::policy::state::Policy;
use samara::align::reward::{Ranking, RankingLoss, RewardSpec, RewardTraining};
use samara::align::unpaired::{Labelled, UnpairedSpec, UnpairedTraining, Z0Scope};
use samara::config::Choice;
use samara::kernels::gemm::Gemm;
use samara::lm::register;
use samara::lm::scored::{ScoreInit, Scored};
use samara::lm::tokenwise::{Number, TokenBatch, TokensShape, Tokenwise};
use samara::model::adapters::BaseFormat;
use samara::model::folder::{FolderConfig, save_folder};
use samara::model::tune::config::{Method as TuneMethod, TuneConfig};
use samara::model::tune::peft::{Base as PeftBase, Source, checksum};
use samara::session::{CpuDevice, Engine, Session, SetId};
use samara::train::config::TrainConfig;
use samara::train::objective::Objective;
use samara::train::shape::update_numbers;
use samara::train::step::Stepper;
use samara_core::math::rng::{Purpose, Rng};
use samara_core::rl::ScoreAt;
use samara_core::rl::pairs::{Dpo, Pair, PairLoss};
use samara_tests::policies::{judged, ppo, rloo, run, run_to, spec, train};
use samara_tests::world::{BEGIN, END, LEN, completions, gold, log_probabilities, model, token_log_probabilities};

/// A policy reaches the optimum that is known: J within 2 % of it, and the distribution itself. The first minibatch has ratios of exactly 1, which the
/// objective checks in every step; the sampler's log-probs are those of the trainer.
#[test]
fn a_policy_reaches_the_closed_form() {
    let train = train(0, 50, 3e-3);
    let mut policy = Policy::new(spec(rloo(0.5), train.clone())).unwrap();
    let (mut stepper, last) = run(&mut policy, &train);
    assert!(last["rollout/sampler_gap"] < 1e-5 && last["val/ratio_min"] == 1.0 && last["val/ratio_max"] == 1.0, "{last:?}");
    let found = judged(&mut stepper, 0.5);
    assert!(found.share > 0.98 && found.from_optimum < 0.02 && found.from_reference > 0.5, "{found:?}");
}

/// All weights after some steps of PPO with four updates each.
fn weights_after(rows: usize, accumulation: usize, threads: usize, slots: usize) -> Vec<f32> {
    let train = TrainConfig { batch_size: rows, grad_accumulation: accumulation, threads, ..train(3, 3, 1e-3) };
    let method = Method { epochs: 2, ..ppo(0.1) };
    let mut spec = spec(method, train.clone());
    (spec.episodes, spec.rollout.rows) = (64, slots);
    let mut policy = Policy::new(spec).unwrap();
    let (stepper, _) = run(&mut policy, &train);
    let sets: Vec<_> = stepper.sets().map(|(_, id)| id).collect();
    [sets[0], sets[2]].into_iter().flat_map(|set| stepper.session.set(set).weights.get().to_vec()).collect()
}

/// Tokens, and so weights, do not depend on how many rows are sampled side by side nor on threads; micro-batches change roundings alone.
#[test]
fn rollouts_and_updates_do_not_depend_on_how_they_are_cut() {
    let whole = weights_after(32, 1, 1, 64);
    assert_eq!(whole, weights_after(32, 1, 2, 7), "threads, slots");
    let cut = weights_after(8, 4, 1, 1);
    let apart = whole.iter().zip(&cut).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
    assert!(apart < 1e-4, "{apart}");
}

/// Where the score goes to the last token of a row, completions go on behind a stop token, and the score is not lost.
#[test]
fn a_score_at_the_last_token_is_not_lost() {
    let train = train(4, 1, 1e-3);
    let mut method = ppo(0.0);
    method.rewards.score_at = ScoreAt::Last;
    let mut policy = Policy::new(spec(method, train.clone())).unwrap();
    let (_, last) = run(&mut policy, &train);
    assert_eq!(last["rollout/length"], LEN as f64);
    assert!(last["rollout/ended"] > 0.0 && last["rollout/ended"] < 1.0, "{last:?}");
    // Returns are the scores: a value function of 0 misses half of their mean square.
    assert!(last["loss/value"] > 0.1, "{last:?}");
}

fn pair_of(better: &[i32], worse: &[i32]) -> [Completion; 2] {
    [better, worse].map(|text| Completion { tokens: [&[BEGIN], text].concat(), picks: (0..text.len()).collect() })
}

/// A token is predicted at the one before it; the first token of a text never is.
#[test]
fn what_is_learnt_is_read_one_token_before() {
    let completion = Completion::new(&[4, 0, 1, 3], &[true, false, true, true]);
    assert_eq!(completion, Completion { tokens: vec![4, 0, 1, 3], picks: vec![1, 2] });
}

/// Where policy and reference are one, the loss of DPO is ln 2 to the bit, and every reward is 0.
#[test]
fn dpo_begins_at_ln_2() {
    let train = TrainConfig { batch_size: 4, grad_accumulation: 1, ..train(1, 1, 0.0) };
    let pairs = vec![
        pair_of(&[0, 1, END], &[2, 2, 2, 2]),
        pair_of(&[END], &[1, END]),
        pair_of(&[0, 0, 0, 0], &[1, 1, END]),
        pair_of(&[2, END], &[END]),
    ];
    let spec = PairsSpec {
        policy: Base { architecture: model().architecture().unwrap(), init: None },
        loss: Box::new(Dpo { beta: 0.1 }),
        beta: 0.1,
        pairs,
        held_out: Vec::new(),
        train: train.clone(),
    };
    let (_, first) = run(&mut PairTraining::new(spec).unwrap(), &train);
    assert_eq!(first["loss"], f64::from(std::f32::consts::LN_2));
    assert_eq!((first["rewards/chosen"], first["rewards/margins"], first["rewards/accuracies"]), (0.0, 0.0, 0.0));
}

/// What every objective on pairs gives through its trainer, from the log-probs of the same models, is what the function gives.
#[test]
fn losses_of_pairs_are_those_of_the_functions() {
    let train = TrainConfig { batch_size: 2, grad_accumulation: 1, ..train(1, 2, 1e-2) };
    let pair = pair_of(&[0, 1, END], &[2, 2, 2, 2]);
    for (name, choice) in PairObjective::WORDS {
        let config = DpoConfig { loss: *choice, ..DpoConfig::default() };
        let spec = PairsSpec {
            policy: Base { architecture: model().architecture().unwrap(), init: None },
            loss: config.loss(),
            beta: config.beta(),
            pairs: vec![pair.clone(), pair.clone()],
            held_out: Vec::new(),
            train: train.clone(),
        };
        // The second step sees weights that the first has changed.
        let (mut stepper, last) = run(&mut PairTraining::new(spec).unwrap(), &train);
        let ids: Vec<_> = stepper.sets().map(|(_, id)| id).collect();
        let texts = [vec![0, 1, END], vec![2, 2, 2, 2]];
        let before = log_probabilities(&mut stepper.session, *ids.get(1).unwrap_or(&ids[0]), &texts);
        let function: Box<dyn PairLoss<f32> + Send> = config.loss();
        let reference = if function.reads_reference() { before } else { vec![0.0; 2] };
        let [chosen, rejected] = ["logps/chosen", "logps/rejected"].map(|name| last[name]);
        let loss = function.of(&Pair {
            policy_chosen: chosen as f32,
            policy_rejected: rejected as f32,
            reference_chosen: reference[0] as f32,
            reference_rejected: reference[1] as f32,
            chosen_length: 3.0,
            rejected_length: 4.0,
        });
        assert!((f64::from(loss.loss) - last["loss"]).abs() < 1e-5, "{name}: {} {last:?}", loss.loss);
    }
}

/// KTO begins at ½ for every completion, whatever its label: there is no distance from the reference.
#[test]
fn kto_begins_at_one_half() {
    let train = TrainConfig { batch_size: 4, grad_accumulation: 1, ..train(1, 1, 0.0) };
    let labelled = |text: &[i32], desirable| Labelled { completion: pair_of(text, text)[0].clone(), desirable };
    let rows =
        vec![labelled(&[0, END], true), labelled(&[1, 1, END], false), labelled(&[2, 2, 2, 2], true), labelled(&[END], false)];
    let spec = UnpairedSpec {
        policy: Base { architecture: model().architecture().unwrap(), init: None },
        kto: KtoConfig::default().loss(),
        z0_scope: Z0Scope::MicroBatch,
        rows,
        held_out: Vec::new(),
        train: train.clone(),
    };
    let (_, first) = run(&mut UnpairedTraining::new(spec).unwrap(), &train);
    assert_eq!((first["loss"], first["kl"]), (0.5, 0.0));
}

/// The reference point of KTO is the distance of completions behind each other's prompts, after a step that has moved the policy.
#[test]
fn kto_compares_with_completions_of_other_prompts() {
    let train = TrainConfig { batch_size: 2, grad_accumulation: 1, ..train(1, 2, 1e-2) };
    let texts = [(0, vec![1, END]), (2, vec![0, 0, 1])];
    let row = |(prompt, text): &(i32, Vec<i32>)| {
        let tokens = [&[BEGIN, *prompt], text.as_slice()].concat();
        Labelled { completion: Completion { picks: (1..=text.len()).collect(), tokens }, desirable: true }
    };
    let spec = UnpairedSpec {
        policy: Base { architecture: model().architecture().unwrap(), init: None },
        kto: KtoConfig::default().loss(),
        z0_scope: Z0Scope::MicroBatch,
        rows: texts.iter().map(row).collect(),
        held_out: Vec::new(),
        train: train.clone(),
    };
    // Own completions, and each behind the prompt of the other.
    let behind = |prompt: usize, text: usize| [&[texts[prompt].0], texts[text].1.as_slice()].concat();
    let all = [behind(0, 0), behind(1, 1), behind(0, 1), behind(1, 0)];
    let sigmoid = |x: f64| 1.0 / (1.0 + (-x).exp());
    let mut expected = [0.0; 2];
    let _ = run_to(&mut UnpairedTraining::new(spec).unwrap(), &train, 1.0, |stepper, step, found| {
        if step == 1 {
            let apart = ["kl", "loss"].iter().zip(expected).map(|(name, expected)| (found[*name] - expected).abs());
            assert!(expected[0] > 1e-3 && apart.fold(0.0, f64::max) < 1e-6, "{expected:?} {found:?}");
        }
        let ids: Vec<_> = stepper.sets().map(|(_, id)| id).collect();
        let sums = [ids[0], ids[1]].map(|set| -> Vec<f64> {
            let of = token_log_probabilities(&mut stepper.session, set, &all);
            of.iter().map(|text| text[1..].iter().sum()).collect()
        });
        let ratio = |i: usize| sums[0][i] - sums[1][i];
        let kl = (0.5 * (ratio(2) + ratio(3))).max(0.0);
        expected = [kl, 0.5 * (sigmoid(0.1 * (kl - ratio(0))) + sigmoid(0.1 * (kl - ratio(1))))];
        assert!((0.5 * (ratio(0) + ratio(1)) - kl).abs() > 1e-3, "the two cannot be told apart");
    });
}

/// With `z0_scope = "step"` a step in micro-batches is the step of one batch: the reference point is that of all its rows.
#[test]
fn the_reference_point_of_kto_may_be_that_of_the_step() {
    let texts = [(0, vec![1, END]), (2, vec![0, 0, 1]), (1, vec![2, 2, END]), (0, vec![0, END])];
    let row = |(i, (prompt, text)): (usize, &(i32, Vec<i32>))| {
        let tokens = [&[BEGIN, *prompt], text.as_slice()].concat();
        Labelled { completion: Completion { picks: (1..=text.len()).collect(), tokens }, desirable: i < 2 }
    };
    let last = |batch_size: usize, z0_scope: Z0Scope| {
        let train = TrainConfig { batch_size, grad_accumulation: 4 / batch_size, ..train(1, 6, 3e-2) };
        let spec = UnpairedSpec {
            policy: Base { architecture: model().architecture().unwrap(), init: None },
            kto: KtoConfig::default().loss(),
            z0_scope,
            rows: texts.iter().enumerate().map(row).collect(),
            held_out: Vec::new(),
            train: train.clone(),
        };
        let (_, last) = run(&mut UnpairedTraining::new(spec).unwrap(), &train);
        [last["kl"], last["loss"]]
    };
    let whole = last(4, Z0Scope::MicroBatch);
    let apart = |found: [f64; 2]| found.iter().zip(&whole).map(|(a, b)| (a - b).abs()).fold(0.0, f64::max);
    assert!(apart(last(2, Z0Scope::Step)) < 1e-5 && apart(last(4, Z0Scope::Step)) == 0.0, "{whole:?}");
    assert!(apart(last(2, Z0Scope::MicroBatch)) > 1e-4, "{whole:?}");
}

/// A reward model learns an order that a hidden rule makes, and two completions in a ranking are a pair.
#[test]
fn a_reward_model_learns_the_gold_order() {
    let train = TrainConfig { batch_size: 32, grad_accumulation: 1, ..train(0, 120, 3e-3) };
    let all = completions();
    let mut rng = Rng::new(5, Purpose::User, 0);
    let mut ranking = |k: usize| {
        let mut texts: Vec<&Vec<i32>> = (0..k).map(|_| &all[(rng.next_u64() % all.len() as u64) as usize]).collect();
        texts.sort_by(|a, b| gold(b).total_cmp(&gold(a)));
        let completions: Vec<Completion> = texts.iter().map(|text| pair_of(text, text)[0].clone()).collect();
        Ranking { ranks: (1..=k as u32).collect(), completions, margin: 0.0 }
    };
    for (k, loss) in [(2, RewardConfig::default().loss()), (4, RankingLoss::PlackettLuce)] {
        let spec = RewardSpec {
            model: Scored::new(&model(), ScoreInit::Normal).unwrap(),
            init: None,
            loss,
            rankings: (0..2000).map(|_| ranking(k)).collect(),
            held_out: Vec::new(),
            train: train.clone(),
        };
        let (_, last) = run(&mut RewardTraining::new(spec), &train);
        // Chance is one half; it is measured on the last batch.
        assert!(last["accuracy"] > 0.7, "{k} {last:?}");
    }
}

/// A folder with the world's model at its initial weights.
fn base_folder() -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    let (registry, _) = register(&*model().architecture().unwrap(), 0, |_, _| ()).unwrap();
    let mut values = vec![0.0; registry.view().trainable_len()];
    registry.view().initialise(9, &mut values);
    save_folder(folder.path(), &FolderConfig::new(model(), 0.0), &registry.view(), &values[..]).unwrap();
    folder
}

fn adapters(quantize: BaseFormat) -> TuneConfig {
    TuneConfig { method: TuneMethod::Lora, rank: 4, targets: "all-linear".into(), quantize, ..TuneConfig::default() }
}

/// The reference of adapters is the base without them: DPO begins at ln 2 to the bit over weights of any element type, of which there is one copy, and learns.
#[test]
fn adapters_have_their_base_as_the_reference() {
    let folder = base_folder();
    for quantize in [BaseFormat::F32, BaseFormat::Q8, BaseFormat::Q4] {
        let last = |steps| {
            let train = TrainConfig { batch_size: 4, grad_accumulation: 1, ..train(1, steps, 1e-2) };
            let pair = pair_of(&[0, 1, END], &[2, 2, 2, 2]);
            let spec = PairsSpec {
                policy: Base {
                    architecture: adapters(quantize).applied_to(model().architecture().unwrap()).unwrap(),
                    init: Some(folder.path().to_owned()),
                },
                loss: Box::new(Dpo { beta: 0.1 }),
                beta: 0.1,
                pairs: vec![pair; 4],
                held_out: Vec::new(),
                train: train.clone(),
            };
            let (stepper, last) = run(&mut PairTraining::new(spec).unwrap(), &train);
            let frozen: Vec<usize> = stepper.sets().map(|(_, id)| stepper.session.set(id).frozen.get().len()).collect();
            assert!(frozen[0] > 0 && frozen[1] == 0, "{frozen:?}");
            last
        };
        assert_eq!(last(1)["loss"], f64::from(std::f32::consts::LN_2), "{quantize:?}");
        let learnt = last(20);
        assert!(learnt["rewards/margins"] > 0.2 && learnt["rewards/chosen"] > 0.0, "{quantize:?} {learnt:?}");
    }
}

/// Adapters are dropped in updates alone, by other masks in every step: the loss begins at ln 2 to the bit all the same.
#[test]
fn adapters_are_dropped_in_updates_alone() {
    let folder = base_folder();
    // Log-probs of the better completion in every step, of which the last ones change nothing, and at the end without dropout.
    let logprobs = |dropout| {
        let train = TrainConfig { batch_size: 1, grad_accumulation: 2, ..train(1, 1, 0.0) };
        let tune = TuneConfig { dropout, ..adapters(BaseFormat::F32) };
        let architecture = tune.applied_to(model().architecture().unwrap()).unwrap();
        let spec = PairsSpec {
            policy: Base { architecture, init: Some(folder.path().to_owned()) },
            loss: Box::new(Dpo { beta: 0.1 }),
            beta: 0.1,
            pairs: vec![pair_of(&[0, 1, END], &[2, 2, 2, 2]); 2],
            held_out: Vec::new(),
            train: train.clone(),
        };
        let (layers, shape) = (spec.policy.register().unwrap().1, TokensShape { rows: 1, len: LEN, picks: 3 });
        let mut objective = PairTraining::new(spec).unwrap();
        let device = CpuDevice::new(Engine::new(1, Gemm::Samara).unwrap());
        let mut stepper = Stepper::new(Session::new(device), &mut objective, train.rule()).unwrap();
        objective.initialise(&mut stepper.session, false).unwrap();
        let mut of_steps = Vec::new();
        for step in 0..8 {
            let lr = if step < 5 { 1e-2 } else { 0.0 };
            stepper.step(&mut objective, step, &update_numbers(&train, lr)).unwrap();
            let value = |name| stepper.scalars().iter().find(|(scalar, _)| *scalar == name).and_then(|(_, value)| value).unwrap();
            assert!(step > 0 || value("loss") == f64::from(std::f32::consts::LN_2), "{dropout}");
            of_steps.push(value("logps/chosen"));
        }
        let set = stepper.sets().next().unwrap().1;
        let mut batch = TokenBatch::new(shape);
        pair_of(&[0, 1, END], &[])[0].push_to(&mut batch);
        let number = Number::Logprob { temperature: 1.0 };
        let mut program = Tokenwise::new(&mut stepper.session, set, &layers, shape, (number, None)).unwrap();
        let plain: f64 = program.forward(&mut stepper.session, set, &batch).unwrap().iter().map(|&x| f64::from(x)).sum();
        (of_steps, plain)
    };
    let (steps, plain) = logprobs(0.0);
    assert!(steps[6] == steps[7] && (steps[7] - plain).abs() < 1e-5, "{steps:?} {plain}");
    let (dropped, plain) = logprobs(0.5);
    assert!(dropped[6] != dropped[7] && (dropped[7] - plain).abs() > 1e-4, "{dropped:?} {plain}");
    assert_eq!(dropped, logprobs(0.5).0);
}

/// Scores of texts by a model with a score, on a set of its registry.
fn scores(session: &mut Session<CpuDevice>, set: SetId, model: &Scored, texts: &[Vec<i32>]) -> Vec<f32> {
    let shape = TokensShape { rows: texts.len(), len: LEN + 1, picks: 1 };
    let mut batch = TokenBatch::new(shape);
    texts.iter().for_each(|text| batch.push(text, text.len().checked_sub(1)));
    let mut program = Tokenwise::new(session, set, &model.layers, shape, (Number::Score(model.score), None)).unwrap();
    program.forward(session, set, &batch).unwrap()[..texts.len()].to_vec()
}

/// A reward model in a folder gives a completion the score of its last token, times the weight of the source.
#[test]
fn rewards_are_scores_of_last_tokens() {
    let scored = Scored::new(&model(), ScoreInit::Normal).unwrap();
    let mut session = Session::new(CpuDevice::new(Engine::new(1, Gemm::Samara).unwrap()));
    let set = session.add_set("reward", &scored.registry).unwrap();
    scored.registry.view().initialise(3, session.set_mut(set).0.weights.get_mut());
    let folder = tempfile::tempdir().unwrap();
    let values = session.set(set).weights.get().to_vec();
    scored.save(folder.path(), &FolderConfig::new(model(), 0.0), None, &values[..]).unwrap();
    let texts: Vec<Vec<i32>> = completions().iter().step_by(13).map(|text| [&[BEGIN], text.as_slice()].concat()).collect();
    let expected = scores(&mut session, set, &scored, &texts);
    let source = RewardSource::Model(Box::new(RewardFolder { model: scored, source: Source::of(folder.path(), None).unwrap() }));
    let mut rewards = Rewards::new(vec![(source, 2.0)]);
    rewards.admit(&mut session, (8, LEN + 1)).unwrap();
    let episodes: Vec<Episode> =
        texts.iter().map(|text| Episode { tokens: text.clone(), prompt: 1, ..Episode::default() }).collect();
    let found = rewards.score(&mut session, &episodes).unwrap();
    assert!(found.iter().zip(&expected).all(|(found, expected)| (found - 2.0 * expected).abs() < 1e-5), "{found:?} {expected:?}");
    assert!(expected.iter().any(|score| (score - expected[0]).abs() > 0.1), "{expected:?}");
}

/// A reward head is trained whole beside adapters over weights of any element type, and an adapter's folder gives the scores of the training.
#[test]
fn a_reward_head_is_trained_and_kept_beside_adapters() {
    let folder = base_folder();
    let texts: Vec<Vec<i32>> = completions().into_iter().step_by(17).collect();
    for quantize in [BaseFormat::F32, BaseFormat::Q8, BaseFormat::Q4] {
        let model = Scored::tuned(&model(), ScoreInit::Normal, &adapters(quantize)).unwrap();
        let train = TrainConfig { batch_size: 8, grad_accumulation: 1, ..train(0, 10, 1e-2) };
        let ranking = Ranking { completions: pair_of(&[0, 1, END], &[2, 2, END]).to_vec(), ranks: vec![1, 2], margin: 0.0 };
        let spec = RewardSpec {
            model: model.clone(),
            init: Some(folder.path().to_owned()),
            loss: RewardConfig::default().loss(),
            rankings: vec![ranking; 8],
            held_out: Vec::new(),
            train: train.clone(),
        };
        let (mut stepper, last) = run(&mut RewardTraining::new(spec), &train);
        assert!(last["margin"] > 0.3, "{quantize:?} {last:?}");
        let set = stepper.sets().next().unwrap().1;
        let trained = scores(&mut stepper.session, set, &model, &texts);
        let base = PeftBase { folder: folder.path().to_owned(), crc32c: checksum(folder.path()).unwrap() };
        let out = tempfile::tempdir().unwrap();
        let description = FolderConfig::new(samara_tests::world::model(), 0.0);
        model.leave(&mut stepper.session, (set, 0.0), Some(&base), (out.path(), &description, None)).unwrap();
        let plain = Scored::of_source(&Source::of(out.path(), None).unwrap()).unwrap();
        let mut session = Session::new(CpuDevice::new(Engine::new(1, Gemm::Samara).unwrap()));
        let set = session.add_set("merged", &plain.registry).unwrap();
        plain.load(&Source::of(out.path(), None).unwrap(), session.set_mut(set).0.weights.get_mut()).unwrap();
        let merged = scores(&mut session, set, &plain, &texts);
        let apart = trained.iter().zip(&merged).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
        // Products with blocks round activations to signed bytes.
        let tolerance = if quantize == BaseFormat::F32 { 1e-5 } else { 0.05 };
        assert!(apart <= tolerance, "{quantize:?}: {apart:e}");
    }
}
