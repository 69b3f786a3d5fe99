//! What users of other trainers ran into without being told: each is refused with a named error, is said, or cannot happen here.
//!
//! Elsewhere: policies do not depend on micro-batches (`alignment.rs`), a reward head survives adapters and merging (`adapters` of alignments), special tokens
//! in texts are text and the template's stop token is learnt (`dialogue/encode.rs`).

use std::fs;
use std::path::{Path, PathBuf};

use samara_core::rl::{Estimator, Limits, kl};
use samara_tests::desk::Desk;
use samara_tests::training::{golden, records};
use serde_json::{Value, json};

/// A model with a tokenizer.
fn model() -> PathBuf {
    golden("dialogues/model")
}

fn pair(prompt: &str, chosen: &str, rejected: &str) -> Value {
    json!({ "prompt": prompt, "chosen": chosen, "rejected": rejected })
}

fn pairs() -> Vec<Value> {
    vec![
        pair("Say a", "aa", "bbb"),
        pair("Say b", "b", "longer than it should be"),
        pair("Say c to me", "ccc", "a"),
        pair("d", "dd dd", "none"),
    ]
}

/// What all runs here have.
const FIXED: [&str; 5] =
    ["train.block_size=192", "data.val_fraction=0", "train.eval_every=0", "dialogue.template=plain", "train.warmup_steps=0"];

/// Trains on rows.
fn train(desk: &Desk, command: &str, rows: &[Value], out: &str, sets: &[&str]) -> Result<String, String> {
    let data = desk.rows("rows.jsonl", rows);
    desk.train(command, (&model(), &data), out, &[&FIXED[..], sets].concat())
}

/// A value of a step of a run, numbered from 1.
fn value(desk: &Desk, out: &str, step: usize, key: &str) -> f64 {
    let records = records(&desk.at(out));
    records.iter().filter_map(|record| record.get(key)).nth(step - 1).unwrap_or_else(|| panic!("{out} has no {key}"))
}

fn close(what: &str, a: f64, b: f64, tolerance: f64) {
    assert!((a - b).abs() <= tolerance * b.abs().max(1.0), "{what}: {a} and {b} differ by {:e}", a - b);
}

fn weights(desk: &Desk, out: &str) -> Vec<u8> {
    fs::read(desk.at(out).join("model.safetensors")).unwrap()
}

/// Prompts for policies, which are worth what they are long.
const POLICY: [&str; 8] = [
    "rollout.episodes=4",
    "rollout.group_size=4",
    "rollout.max_new_tokens=6",
    "train.batch_size=4",
    "train.sample_every=0",
    "train.checkpoint_every=0",
    "rewards.length_weight=1",
    "train.grad_accumulation=1",
];

fn prompts() -> Vec<Value> {
    vec![json!({ "prompt": "Say a" })]
}

/// Samplers that keep a part of the distribution make ratios that are not 1 (0.896 in the mean at top-p 0.8): there is no key for them.
#[test]
fn filtered_sampling_is_refused() {
    let desk = Desk::new();
    for key in ["rollout.top_p=0.8", "rollout.top_k=5", "rollout.min_p=0.1", "generate.top_p=0.8"] {
        let error = train(&desk, "grpo", &prompts(), "run", &[&POLICY[..], &["train.steps=1", key]].concat()).unwrap_err();
        assert!(
            error.contains(key.split('=').next().unwrap().split('.').next_back().unwrap()) || error.contains("generate"),
            "{error}"
        );
        assert!(!desk.at("run").exists());
    }
}

/// 0.012 a token make a ratio of 3.3 in 100 tokens: the ratio of the first minibatch is 1 to the bit, and the sampler's log-probs are the trainer's.
#[test]
fn sampler_and_trainer_agree() {
    let desk = Desk::new();
    for command in ["grpo", "ppo"] {
        let group = if command == "ppo" { "rollout.group_size=1" } else { "rollout.group_size=4" };
        train(
            &desk,
            command,
            &[prompts(), prompts(), prompts(), prompts()].concat(),
            command,
            &[&POLICY[..], &[group, "train.steps=1"]].concat(),
        )
        .unwrap();
        let of = |key: &str| value(&desk, command, 1, key);
        assert!(of("rollout/sampler_gap") < 1e-4, "{command}");
        if command == "grpo" {
            assert_eq!(
                [of("val/ratio_min"), of("val/ratio_max"), of("policy/approxkl"), of("policy/clipfrac")],
                [1.0, 1.0, 0.0, 0.0]
            );
        }
    }
}

/// A loss that is off by the factor of accumulation: one step of four rows, or of four micro-batches.
#[test]
fn micro_batches_are_one_batch() {
    let desk = Desk::new();
    for (command, rows) in [("dpo", pairs()), ("reward", pairs())] {
        let step = |out: &str, sets: [&str; 2]| {
            train(&desk, command, &rows, out, &[&sets[..], &["train.steps=1"]].concat()).unwrap();
            ["train_loss", "grad_norm"].map(|key| value(&desk, out, 1, key))
        };
        let whole = step(&format!("{command}-whole"), ["train.batch_size=4", "train.grad_accumulation=1"]);
        let cut = step(&format!("{command}-cut"), ["train.batch_size=1", "train.grad_accumulation=4"]);
        whole.into_iter().zip(cut).for_each(|(a, b)| close(command, b, a, 1e-5));
    }
}

/// An answer without a character still has the token that ends it, so that means over tokens are numbers; one of which nothing is kept is named.
#[test]
fn a_completion_is_never_empty() {
    let desk = Desk::new();
    let rows = [pair("Say a", "", "b")];
    for loss in ["simpo", "orpo", "ipo_mean", "sigmoid_norm"] {
        train(&desk, "dpo", &rows, loss, &["train.steps=1", "train.batch_size=1", &format!("dpo.loss={loss}")]).unwrap();
        assert!(value(&desk, loss, 1, "train_loss").is_finite());
    }
    for (command, rows) in
        [("dpo", &rows[..]), ("reward", &rows[..]), ("kto", &[json!({ "prompt": "Say a", "completion": "b", "label": true })])]
    {
        let error = train(&desk, command, rows, "cut", &["dialogue.max_length=3", "train.steps=1"]).unwrap_err();
        assert!(error.contains("rows.jsonl:1: no token to learn is left") && error.contains("dialogue.max_length"), "{error}");
    }
}

/// Loss tokens are counted behind truncation: a row that keeps none of them is named, or left out and said.
#[test]
fn tokens_are_counted_behind_truncation() {
    let desk = Desk::new();
    let rows = [pair("a", "b", "c"), pair("a prompt that is longer than what is kept", "b", "c")];
    let error = train(&desk, "dpo", &rows, "run", &["dialogue.max_length=9", "train.steps=1"]).unwrap_err();
    assert!(error.contains("rows.jsonl:2: no token to learn is left"), "{error}");
    let skip = ["dialogue.max_length=9", "train.steps=1", "data.on_bad_row=skip", "train.batch_size=1"];
    let said = train(&desk, "dpo", &rows, "run", &skip).unwrap();
    assert!(said.contains("pairs: 1 rows, 0 cut to 9 tokens") && said.contains("1 rows left out, the first: "), "{said}");
}

/// A reward model reads the token that ended its training rows, in the place of the score, wherever it is asked; its padding is another token.
#[test]
fn a_reward_model_is_asked_as_it_was_trained() {
    let desk = Desk::new();
    let sets = ["train.steps=1", "train.batch_size=4", "train.lr=0", "reward.zero_mean=false"];
    let said = train(&desk, "reward", &pairs(), "reward", &sets).unwrap();
    // trl#3750: which token is scored, and what stands behind it.
    assert!(
        said.contains("the score is that of the token that ends a completion; padding for other tools: \"<|pad|>\""),
        "{said}"
    );
    let config: Value = serde_json::from_slice(&fs::read(desk.at("reward/config.json")).unwrap()).unwrap();
    assert_eq!((config["eos_token_id"].as_u64(), config["num_labels"].as_u64()), (Some(0), Some(1)));
    assert_ne!(config["pad_token_id"], config["eos_token_id"]);
    let out = desk.run(&["score", "--model", "reward", "--data", "rows.jsonl", "--set", "dialogue.template=plain"]).unwrap().0;
    let rows: Vec<Value> = out.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let mut sum = 0.0;
    for row in &rows {
        for (reward, token) in row["reward"].as_array().unwrap().iter().zip(row["scored_token"].as_array().unwrap()) {
            assert_eq!((token["id"].as_u64(), token["text"].as_str()), (Some(0), Some("<|endoftext|>")));
            sum += reward.as_f64().unwrap();
        }
    }
    close("mean reward", sum / 8.0, value(&desk, "reward", 1, "train_mean_reward"), 1e-5);
    // What is scored is a row of preferences again.
    fs::write(desk.at("scored.jsonl"), &out).unwrap();
    let data = desk.at("scored.jsonl");
    desk.train("reward", (&model(), &data), "again", &[&FIXED[..], &sets].concat()).unwrap();
    close("loss", value(&desk, "again", 1, "train_loss"), value(&desk, "reward", 1, "train_loss"), 1e-6);
    let text = desk.run(&["score", "--model", "reward", "--text", "Say a", "--json"]).unwrap().0;
    let text: Value = serde_json::from_str(&text).unwrap();
    assert!(text["reward"].is_f64() && text["scored_token"]["text"] == " a" && text["scored_token"]["position"] == 3, "{text}");
    let error = desk.run(&["score", "--model", "reward", "--text", "a", "--logits", "x.npy"]).unwrap_err();
    assert!(error.contains("--logits: reward is a reward model"), "{error}");
    let error = desk.run(&["score", "--model", model().to_str().unwrap(), "--data", "rows.jsonl"]).unwrap_err();
    assert!(error.contains("has no score.weight"), "{error}");
}

/// Padding is known by position, not by its id: that of the stop token masks no stop token. A longer row beside the others changes nothing of them.
#[test]
fn padding_hides_no_end() {
    let desk = Desk::new();
    let long = pair("e", "a", &"a very long answer ".repeat(5));
    let sets = ["train.steps=1", "train.batch_size=1", "train.lr=0"];
    let mean = |out: &str, rows: &[Value]| {
        let accumulation = format!("train.grad_accumulation={}", rows.len());
        train(&desk, "dpo", rows, out, &[&sets[..], &["dpo.loss=cpo", &accumulation]].concat()).unwrap();
        ["train_loss", "logps/chosen"].map(|key| value(&desk, out, 1, key) * rows.len() as f64)
    };
    let (few, one) = (mean("few", &pairs()), mean("one", std::slice::from_ref(&long)));
    let all = mean("all", &[pairs(), vec![long]].concat());
    few.into_iter().zip(one).zip(all).for_each(|((few, one), all)| close("sums", few + one, all, 1e-5));
}

/// A run that goes on has its moments, its rollouts and its coefficient of the KL: the weights are those of one that was never interrupted. Its checkpoints
/// stay, and it is not begun anew by mistake.
#[test]
fn resuming_resets_nothing() {
    let desk = Desk::new();
    let policy = [&POLICY[..7], &["ppo.kl_target=1", "ppo.epochs=2", "rollout.group_size=1"]].concat();
    let labels: Vec<Value> = ["a", "bb", "c", "dd"]
        .into_iter()
        .enumerate()
        .map(|(i, text)| json!({ "prompt": "Say", "completion": text, "label": i % 2 == 0 }))
        .collect();
    let four = [prompts(), prompts(), prompts(), prompts()].concat();
    for (command, rows, sets) in [
        ("dpo", pairs(), vec!["train.batch_size=2"]),
        ("kto", labels, vec!["train.batch_size=2"]),
        ("reward", pairs(), vec!["train.batch_size=2"]),
        ("ppo", four, policy),
    ] {
        let sets = [&sets[..], &["train.lr=1e-2", "train.schedule=constant"]].concat();
        let [whole, parts] = ["whole", "parts"].map(|name| format!("{command}-{name}"));
        train(&desk, command, &rows, &whole, &[&sets[..], &["train.steps=4"]].concat()).unwrap();
        train(&desk, command, &rows, &parts, &[&sets[..], &["train.steps=2"]].concat()).unwrap();
        let error = train(&desk, command, &rows, &parts, &[&sets[..], &["train.steps=4"]].concat()).unwrap_err();
        assert!(error.contains("--resume"), "{error}");
        let said = desk.run(&[command, "--out", &parts, "--resume", "--set", "train.steps=4"]).unwrap().1;
        assert!(said.contains("resumes at step 2 of 4"), "{said}");
        assert_eq!(weights(&desk, &whole), weights(&desk, &parts), "{command}");
        assert!(desk.at(&parts).join("checkpoints").read_dir().unwrap().count() >= 1);
    }
}

/// Seeds say what is drawn.
#[test]
fn seeds_control_rollouts() {
    let desk = Desk::new();
    desk.rows("rows.jsonl", &prompts());
    let model = model();
    let drawn = |seed: &str, rows: &str| {
        let sets = ["--samples", "5", "--seed", seed, "--set", "rollout.max_new_tokens=6", "--set", rows];
        desk.run(&[&["rollout", "--model", model.to_str().unwrap(), "--data", "rows.jsonl"], &sets[..]].concat()).unwrap().0
    };
    let first = drawn("1", "rollout.rows=5");
    assert_eq!(first, drawn("1", "rollout.rows=2"));
    assert_ne!(first, drawn("2", "rollout.rows=5"));
}

/// k3 of log-probs that are numbers is none that is not: large, infinite in the worst case, which ends a run by name, but never NaN.
#[test]
fn k3_is_never_nan() {
    let differences: Vec<f32> = [-1e4_f32, -100.0, -20.0, -1e-6, 0.0, 1e-6, 20.0, 1e4].to_vec();
    let reference = vec![0.0; differences.len()];
    let (mut values, mut slopes) = (reference.clone(), reference.clone());
    let none = Limits { difference: None, value: None };
    let limited = Limits { difference: Some(20.0), value: Some(10.0) };
    for estimator in [Estimator::K3, Estimator::K3Plus] {
        kl(estimator, &none, &differences, &reference, &mut values, &mut slopes).unwrap();
        assert!(values.iter().all(|x| *x >= 0.0) && slopes.iter().all(|x| !x.is_nan()), "{values:?} {slopes:?}");
        assert_eq!((values[4], slopes[4]), (0.0, 0.0));
        kl(estimator, &limited, &differences, &reference, &mut values, &mut slopes).unwrap();
        assert!(values.iter().chain(&slopes).all(|x| x.is_finite()));
    }
}

/// A name runs the loss of that name: what a trainer reports is what the function gives for the trainer's own log-probs, through the command line.
#[test]
fn every_loss_of_pairs_is_the_one_that_was_named() {
    let desk = Desk::new();
    let row = pair("Say a", "aab", "bb");
    // Characters and the end; the model has a token for each of these.
    let lengths = [4, 3];
    let names = ["dpo", "cdpo", "robust_dpo", "sigmoid_norm", "hinge", "ipo_sum", "ipo_mean", "orpo", "simpo", "cpo"];
    let mut losses = Vec::new();
    for name in names {
        let sets = ["train.steps=2", "train.batch_size=1", "train.lr=1e-2", "train.schedule=constant", "dpo.beta=0.5"];
        let said =
            train(&desk, "dpo", std::slice::from_ref(&row), name, &[&sets[..], &[&format!("dpo.loss={name}")]].concat()).unwrap();
        assert!(said.contains("pairs: 1 rows"), "{said}");
        // The second step sees weights that the first has changed.
        let of = |key: &str| value(&desk, name, 2, key);
        let [chosen, rejected] = ["chosen", "rejected"].map(|side| {
            let policy = of(&format!("logps/{side}"));
            (policy, policy - of(&format!("rewards/{side}")) / 0.5)
        });
        let mut input = json!({ "policy_chosen": [chosen.0], "policy_rejected": [rejected.0] });
        if !["orpo", "simpo", "cpo"].contains(&name) {
            (input["reference_chosen"], input["reference_rejected"]) = (json!([chosen.1]), json!([rejected.1]));
        }
        if ["sigmoid_norm", "ipo_mean", "orpo", "simpo", "cpo"].contains(&name) {
            (input["chosen_lengths"], input["rejected_lengths"]) = (json!([lengths[0]]), json!([lengths[1]]));
        }
        fs::write(desk.at("input.json"), input.to_string()).unwrap();
        let mut args = vec!["objectives", "eval", name, "--input", "input.json", "--json", "--set", "beta=0.5"];
        if ["orpo", "cpo"].contains(&name) {
            args.extend(["--set", "nll_weight=1"]);
        }
        let found: Value = serde_json::from_str(&desk.run(&args).unwrap().0).unwrap();
        let loss = of("train_loss");
        close(name, loss, found["loss"].as_f64().unwrap(), 2e-5);
        assert!(losses.iter().all(|(_, x): &(&str, f64)| (x - loss).abs() > 1e-4), "{name} {losses:?}");
        losses.push((name, loss));
    }
    let error = train(&desk, "dpo", &[row], "run", &["dpo.loss=ipo"]).unwrap_err();
    assert!(error.contains("ipo_sum"), "{error}");
}

/// The same for rankings, with ties and completions that nobody ranked, which all of them take.
#[test]
fn every_loss_of_rankings_is_the_one_that_was_named() {
    let desk = Desk::new();
    let row = json!({ "prompt": "Say a", "completions": ["a", "ab", "b", "c", "abc"], "ranks": [1, 3, 2, null, 2] });
    for (loss, name) in [("pairs", "reward_kway"), ("plackett_luce", "plackett_luce"), ("best_of_n", "best_of_n")] {
        let sets =
            ["train.steps=1", "train.batch_size=1", "train.lr=0", "reward.zero_mean=false", &format!("reward.loss={loss}")];
        train(&desk, "reward", std::slice::from_ref(&row), loss, &sets).unwrap();
        let out = desk.run(&["score", "--model", loss, "--data", "rows.jsonl", "--set", "dialogue.template=plain"]).unwrap().0;
        let scored: Value = serde_json::from_str(out.trim()).unwrap();
        assert_eq!(scored["ranks"], json!([1, 2, 2, 3]));
        fs::write(desk.at("input.json"), json!({ "scores": scored["reward"], "ranks": scored["ranks"] }).to_string()).unwrap();
        let found: Value =
            serde_json::from_str(&desk.run(&["objectives", "eval", name, "--input", "input.json", "--json"]).unwrap().0).unwrap();
        close(loss, value(&desk, loss, 1, "train_loss"), found["loss"].as_f64().unwrap(), 1e-5);
    }
    let tied = json!({ "prompt": "Say a", "completions": ["a", "ab"], "ranks": [1, 1] });
    let error = train(&desk, "reward", &[tied], "run", &["train.steps=1"]).unwrap_err();
    assert!(error.contains("rows.jsonl:1") && error.contains("at least two completions of different ranks"), "{error}");
}

/// The model with so many tokens that end a text that some completions end early.
fn model_that_ends(desk: &Desk) -> PathBuf {
    let folder = desk.at("ends");
    fs::create_dir(&folder).unwrap();
    for entry in fs::read_dir(model()).unwrap() {
        let path = entry.unwrap().path();
        fs::copy(&path, folder.join(path.file_name().unwrap())).unwrap();
    }
    for name in ["config.json", "generation_config.json"] {
        let path = folder.join(name);
        let mut json: Value = serde_json::from_slice(&fs::read(&path).unwrap()).unwrap();
        json["eos_token_id"] = [0].into_iter().chain(100..180).collect();
        fs::write(&path, json.to_string()).unwrap();
    }
    folder
}

/// The same for policies: the loss of the first step is that of the function for the lengths and rewards of the same rollouts, at a ratio of 1.
#[test]
fn every_loss_of_policies_is_the_one_that_was_named() {
    let desk = Desk::new();
    let (data, model) = (desk.rows("rows.jsonl", &prompts()), model_that_ends(&desk));
    let args = ["rollout", "--model", "ends", "--data", "rows.jsonl", "--samples", "4", "--seed", "3", "--out", "drawn.jsonl"];
    let sets = ["--set", "rollout.max_new_tokens=6", "--set", "rewards.length_weight=1", "--set", "dialogue.template=plain"];
    desk.run(&[&args[..], &sets].concat()).unwrap();
    let lengths: Vec<f64> = desk.read_rows("drawn.jsonl").iter().map(|row| row["score"].as_f64().unwrap()).collect();
    assert!(lengths.iter().any(|x| *x != lengths[0]), "{lengths:?}");
    let mask: Vec<Vec<bool>> = lengths.iter().map(|&length| (0..6).map(|i| f64::from(i) < length).collect()).collect();
    let zeros = vec![vec![0.0; 6]; 4];
    let of = |rewards: Value| json!({ "rewards": rewards, "group": [0, 0, 0, 0], "logprobs": zeros, "old_logprobs": zeros, "mask": mask });
    let mean = lengths.iter().sum::<f64>() / 4.0;
    // Rewards of tokens: at the last one, less the mean of the group or not. Their whitened sum is 0, so that another mean is asked for.
    let at_last = |less: f64| -> Value {
        let row =
            |&length: &f64| -> Vec<f64> { (1..=6).map(|i| if f64::from(i) == length { length - less } else { 0.0 }).collect() };
        lengths.iter().map(row).collect()
    };
    for (name, evaluated, aggregation, rewards) in [
        ("grpo", "grpo", "seq_mean_token_mean", json!(lengths)),
        ("dr_grpo", "dr_grpo", "constant", json!(lengths)),
        ("bnpo", "bnpo", "token_mean", json!(lengths)),
        ("dapo", "dapo", "token_mean", json!(lengths)),
        ("rloo", "rloo", "seq_mean_token_mean", json!(lengths)),
        ("reinforce++", "reinforce++", "seq_mean_token_mean", at_last(0.0)),
        ("reinforce++-baseline", "reinforce++", "seq_mean_token_mean", at_last(mean)),
    ] {
        let own = [&format!("grpo.loss={name}")[..], "grpo.kl_coef=0", "train.steps=1", "train.seed=3"];
        let own = [&own[..], if rewards[0].is_array() { &["grpo.aggregation=seq_mean_token_mean"] } else { &[] }].concat();
        desk.train("grpo", (&model, &data), name, &[&FIXED[..], &POLICY[..], &own].concat()).unwrap();
        fs::write(desk.at("input.json"), of(rewards).to_string()).unwrap();
        let aggregation = format!("aggregation={aggregation}");
        let args = ["objectives", "eval", evaluated, "--input", "input.json", "--json", "--set", &aggregation];
        let found: Value = serde_json::from_str(&desk.run(&args).unwrap().0).unwrap();
        close(name, value(&desk, name, 1, "loss/policy"), found["loss"].as_f64().unwrap(), 1e-5);
    }
}

/// Completions of a prompt that all have one score teach nothing: a run that goes on so is ended.
#[test]
fn groups_that_are_all_equal_end_a_run() {
    let desk = Desk::new();
    let sets = [&POLICY[..], &["rollout.max_new_tokens=1", "train.steps=40"]].concat();
    let error = train(&desk, "grpo", &prompts(), "run", &sets).unwrap_err();
    assert_eq!(error.matches("warning: all completions of every prompt of this step have one score").count(), 1, "{error}");
    assert!(
        error.contains("all completions of every prompt had the same score") && error.contains("rollout.temperature"),
        "{error}"
    );
}

/// Scores that are no numbers are named, and so is a reward that scores nothing.
#[test]
fn a_reward_that_scores_nothing_is_named() {
    let desk = Desk::new();
    let command = "rewards.command=while read row; do echo null; done";
    for (method, group, expected) in [
        ("ppo", "rollout.group_size=1", "cannot leave a completion unscored"),
        ("grpo", "rollout.group_size=4", "none of the 4 completions"),
    ] {
        let four = [prompts(), prompts(), prompts(), prompts()].concat();
        let error = train(&desk, method, &four, "run", &[&POLICY[..], &[command, group, "train.steps=2"]].concat()).unwrap_err();
        assert!(error.contains(expected), "{method}: {error}");
    }
}

/// A program that scores and ends is named with its status, and one that answers something else with that.
#[test]
fn a_program_that_does_not_score_is_named() {
    let desk = Desk::new();
    for (command, expected) in [
        ("rewards.command=no_such_program", "it ended (exit status: 127 (no such command))"),
        ("rewards.command=head -n 1 > /dev/null; exit 3", "it ended (exit status: 3) before every line had an answer"),
        ("rewards.command=while read row; do echo much; done", "expected a number or null, found \"much\""),
    ] {
        let four = [prompts(), prompts(), prompts(), prompts()].concat();
        let error = train(&desk, "ppo", &four, "run", &[&POLICY[..], &[command, "train.steps=2"]].concat()).unwrap_err();
        assert!(error.contains(expected), "{command}: {error}");
    }
}

/// Completions of which none ends are said: their scores are those of cut texts.
#[test]
fn completions_without_an_end_are_said() {
    let desk = Desk::new();
    let sets = [&POLICY[..], &["rollout.max_new_tokens=2", "train.steps=1", "rollout.temperature=0.2"]].concat();
    let said = train(&desk, "grpo", &prompts(), "run", &sets).unwrap();
    assert_eq!(value(&desk, "run", 1, "rollout/ended"), 0.0);
    assert!(said.contains("warning: none of the 4 completions of the first step ends with a stop token"), "{said}");
}

/// Where all completions are cut and cut ones do not count, nothing does: it is named.
#[test]
fn a_step_without_a_token_to_learn_is_named() {
    let desk = Desk::new();
    let sets =
        [&POLICY[..], &["rollout.max_new_tokens=2", "train.steps=1", "rollout.temperature=0.2", "grpo.mask_truncated=true"]]
            .concat();
    let error = train(&desk, "grpo", &prompts(), "run", &sets).unwrap_err();
    assert!(error.contains("no token of the minibatch counts") && error.contains("grpo.mask_truncated"), "{error}");
}

/// Log-probs of the reference that are computed once give the same bits, and the reference is no longer in memory; those of other weights are computed
/// again, and those that were tampered with are found out by the first loss.
#[test]
fn a_kept_reference_changes_no_bit() {
    let desk = Desk::new();
    let labels: Vec<Value> = ["a", "bb", "c", "dd", "e"]
        .into_iter()
        .enumerate()
        .map(|(i, text)| json!({ "prompt": format!("Say {i}"), "completion": text, "label": i % 2 == 0 }))
        .collect();
    let sets = [
        "train.steps=5",
        "train.batch_size=2",
        "train.lr=1e-2",
        "train.schedule=constant",
        "data.val_fraction=0.25",
        "train.eval_every=2",
    ];
    for (command, rows) in [("dpo", pairs()), ("kto", labels)] {
        let key = format!("{command}.cache_reference=true");
        let kept = [&sets[..], &[&key]].concat();
        train(&desk, command, &rows, command, &sets).unwrap();
        let [out, part] = ["kept", "part"].map(|name| format!("{command}-{name}"));
        train(&desk, command, &rows, &out, &kept).unwrap();
        assert_eq!(weights(&desk, command), weights(&desk, &out), "{command}");
        for key in ["train_loss", "val_loss"] {
            assert_eq!(value(&desk, command, 2, key), value(&desk, &out, 2, key), "{command} {key}");
        }
        train(&desk, command, &rows, &part, &[&kept[..], &["train.steps=2"]].concat()).unwrap();
        let file = desk.at(&part).join("reference.safetensors");
        let (before, written) = (fs::read(&file).unwrap(), file.metadata().unwrap().modified().unwrap());
        desk.run(&[command, "--out", &part, "--resume", "--set", "train.steps=5"]).unwrap();
        assert_eq!((weights(&desk, &part), file.metadata().unwrap().modified().unwrap()), (weights(&desk, &out), written));
        // One of another reference, by its key.
        let tampered = String::from_utf8_lossy(&before).find("weights_crc32c").unwrap() + "weights_crc32c\":\"".len();
        let mut other = before.clone();
        other[tampered] = if other[tampered] == b'0' { b'1' } else { b'0' };
        fs::write(&file, &other).unwrap();
        let said = desk.run(&[command, "--out", &part, "--resume", "--set", "train.steps=6"]).unwrap().1;
        assert!(said.contains("of other rows or of another reference: computed again"), "{said}");
        assert_eq!(fs::read(&file).unwrap(), before);
    }
    let plan = |key: &str| {
        let data = desk.rows("rows.jsonl", &pairs());
        let model = model();
        desk.run(&["dpo", "--init", model.to_str().unwrap(), "--data", data.to_str().unwrap(), "--plan", "--set", key]).unwrap().1
    };
    assert!(plan("dpo.cache_reference=false").contains("reference: weights"));
    assert!(!plan("dpo.cache_reference=true").contains("reference"));
    let error = train(&desk, "dpo", &pairs(), "run", &["dpo.loss=simpo", "dpo.cache_reference=true"]).unwrap_err();
    assert!(error.contains("dpo.cache_reference") && error.contains("a loss that reads a reference"), "{error}");
}

/// Before anything is learnt the policy is the reference, and DPO's loss is ln 2: a reference that is another model is found out.
#[test]
fn a_policy_that_is_not_its_reference_is_found_out() {
    let desk = Desk::new();
    let sets = ["train.steps=1", "train.batch_size=4", "dpo.cache_reference=true", "train.checkpoint_every=0"];
    train(&desk, "dpo", &pairs(), "run", &sets).unwrap();
    close("ln 2", value(&desk, "run", 1, "train_loss"), std::f64::consts::LN_2, 1e-6);
    close("margin", value(&desk, "run", 1, "rewards/margins"), 0.0, 1e-6);
    tamper(&desk.at("run/reference.safetensors"));
    fs::create_dir(desk.at("other")).unwrap();
    fs::copy(desk.at("run/reference.safetensors"), desk.at("other/reference.safetensors")).unwrap();
    let error = train(&desk, "dpo", &pairs(), "other", &sets).unwrap_err();
    assert!(
        error.contains("before anything is learnt the policy is the reference") && error.contains("reference.safetensors"),
        "{error}"
    );
}

/// Adds to a number of a file of tensors behind its header.
fn tamper(path: &Path) {
    let mut bytes = fs::read(path).unwrap();
    let at = bytes.len() - 4;
    bytes[at..].copy_from_slice(&(-1.0_f32).to_le_bytes());
    fs::write(path, bytes).unwrap();
}

/// Votes are rows that reward models and DPO read.
#[test]
fn votes_are_rows_of_preferences() {
    let desk = Desk::new();
    let model = model();
    let model = model.to_str().unwrap();
    // Another model: equal answers get no vote.
    train(&desk, "dpo", &pairs(), "other", &["train.steps=4", "train.lr=0.1", "train.batch_size=4"]).unwrap();
    let chat = ["chat", "--compare", model, "other", "--max-new-tokens", "4", "--template", "plain"];
    let told = desk.told(&chat, "Say a\n1\nAnd b\n2\nAnd c\n=\n/quit\n").unwrap();
    assert!(told.0.contains("[1] ") && told.0.contains("[2] "), "{told:?}");
    let votes = desk.read_rows("votes.jsonl");
    assert_eq!(votes.len(), 2);
    assert_eq!(votes[1]["prompt"].as_array().unwrap().len(), 3);
    for command in ["reward", "dpo"] {
        let data = desk.at("votes.jsonl");
        desk.train(command, (Path::new(model), &data), command, &[&FIXED[..], &["train.steps=1", "train.batch_size=2"]].concat())
            .unwrap();
    }
    let error = desk.told(&["chat", "--model", model, "--base", model], "/quit\n").unwrap_err();
    assert!(error.contains("is a whole model, not an adapter: leave --base out"), "{error}");
}
