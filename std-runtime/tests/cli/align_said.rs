//! What alignments write down, say and refuse: values of presets, adapters of reward models, folders and keys that do not fit.

use std::fs;
use std::io::Write;
use std::path::Path;
use std::process::Stdio;

use serde_json::{Value, json};

use super::align::{args, desk, model, rows};
use super::{command, done, refused, samara, temporary, text};

fn said(at: &Path, args: &[&str]) -> String {
    let output = samara(at, args);
    assert_eq!(output.status.code(), Some(0), "{args:?}: {}", text(&output.stderr));
    text(&output.stderr)
}

fn keys(at: &Path, run: &str) -> toml::Table {
    fs::read_to_string(at.join(run).join("run.toml")).unwrap().parse().unwrap()
}

/// A reward model's adapter scores rows and texts as the merged model does, with the base that it names or another.
#[test]
fn adapters_of_reward_models_score() {
    let folder = desk();
    let (at, model) = (folder.path(), model());
    done(at, &args("reward", &model, "adapter", &["tune.method=lora", "tune.rank=2", "train.steps=4"]));
    done(at, &["merge", "--model", "adapter", "--out", "merged"]);
    let reward = |folder: &str, more: &[&str]| -> Vec<f64> {
        let printed = done(at, &[&["score", "--model", folder, "-q"][..], more].concat());
        let row = |line: &str| -> Vec<f64> {
            match &serde_json::from_str::<Value>(line).unwrap()["reward"] {
                Value::Array(all) => all.iter().map(|x| x.as_f64().unwrap()).collect(),
                one => vec![one.as_f64().unwrap()],
            }
        };
        printed.lines().flat_map(row).collect()
    };
    for more in [&["--data", "pairs.jsonl", "--set", "dialogue.template=plain"][..], &["--text", "Say 3: yes", "--json"]] {
        let [adapter, merged] = ["adapter", "merged"].map(|folder| reward(folder, more));
        assert!(!adapter.is_empty() && adapter.len() == merged.len());
        assert!(adapter.iter().zip(&merged).all(|(a, b)| (a - b).abs() < 1e-5), "{adapter:?} {merged:?}");
        assert_eq!(reward("adapter", &[more, &["--base", &model]].concat()), adapter);
    }
    refused(at, &["score", "--model", "merged", "--base", &model, "--text", "a"], 2, &["leave --base out"]);
}

/// A folder without a score and a value function are no reward models.
#[test]
fn what_is_no_reward_model_is_named() {
    let folder = desk();
    let (at, model) = (folder.path(), model());
    for (out, method) in [("whole", "tune.method=full"), ("adapter", "tune.method=lora")] {
        done(at, &args("ppo", &model, out, &[method]));
        for command in ["ppo", "grpo"] {
            let value = format!("rewards.model={out}/value");
            refused(
                at,
                &args(command, &model, "no", &[&value]),
                2,
                &["rewards.model", "/value: expected the folder of a reward model", "value function of samara ppo"],
            );
        }
        let value = format!("{out}/value");
        refused(at, &["score", "--model", &value, "--text", "a"], 2, &["--model", "value function of samara ppo"]);
    }
    let language = format!("rewards.model={model}");
    refused(
        at,
        &args("ppo", &model, "no", &[&language]),
        2,
        &["as samara reward leaves it, found a language model: no score.weight"],
    );
    refused(at, &args("ppo", &model, "no", &["rewards.model=nowhere"]), 2, &["rewards.model nowhere", "found no model"]);
    refused(at, &["merge", "--model", "nowhere", "--out", "no"], 2, &["--model nowhere", "no such folder"]);
    refused(at, &["merge", "--model", ".", "--out", "no"], 2, &["neither an adapter nor a model"]);
    refused(at, &["merge", "--model", &model, "--out", "no"], 2, &["a whole model: nothing to merge"]);
    assert!(!at.join("no").exists());
}

/// A run writes down the values that its preset and its method have, and goes on with them; `samara config` prints them.
#[test]
fn presets_are_written_down_as_values() {
    let folder = desk();
    let (at, model) = (folder.path(), model());
    let printed: toml::Table = done(at, &["config", "--of", "ppo", "--set", "ppo.preset=trl"]).parse().unwrap();
    assert_eq!(printed["rollout"]["temperature"].as_float(), Some(0.7));
    for (key, value) in
        [("kl_coef", 0.05), ("gamma", 1.0), ("lambda", 0.95), ("clip", 0.2), ("clip_high", 0.2), ("value_clip", 0.2)]
    {
        assert_eq!(printed["ppo"][key].as_float(), Some(value), "{key}");
    }
    assert_eq!((printed["ppo"]["epochs"].as_integer(), printed["ppo"]["score_at"].as_str()), (Some(4), Some("eos_plus_one")));
    let printed: toml::Table = done(at, &["config", "--of", "dpo", "--set", "dpo.loss=simpo"]).parse().unwrap();
    assert_eq!(printed["dpo"]["beta"].as_float(), Some(2.0));
    done(at, &args("ppo", &model, "ppo", &["ppo.preset=lm-human-preferences", "ppo.epochs=1", "ppo.value_grad_clip=0.5"]));
    let keys = |run| keys(at, run);
    let ppo = &keys("ppo")["ppo"];
    assert_eq!((ppo["kl_target"].as_float(), ppo["missing_eos_value"].as_float()), (Some(6.0), Some(-1.0)));
    assert_eq!((ppo["value_grad_clip"].as_float(), ppo["value_beta2"].as_float()), (Some(0.5), Some(0.95)));
    done(at, &["ppo", "--out", "ppo", "--resume", "--set", "train.steps=3"]);
    done(at, &args("grpo", &model, "grpo", &["grpo.loss=dr_grpo"]));
    let grpo = &keys("grpo")["grpo"];
    assert_eq!((grpo["aggregation"].as_str(), grpo["kl_place"].as_str()), (Some("constant"), Some("loss")));
    // A run that was begun without them goes on.
    let path = at.join("grpo/run.toml");
    let without: String = fs::read_to_string(&path)
        .unwrap()
        .lines()
        .filter(|line| !line.starts_with("aggregation ="))
        .map(|line| format!("{line}\n"))
        .collect();
    fs::write(&path, without).unwrap();
    done(at, &["grpo", "--out", "grpo", "--resume", "--set", "train.steps=3"]);
    assert_eq!(keys("grpo")["grpo"]["aggregation"].as_str(), Some("constant"));
}

/// The value function's optimizer has settings of its own: they change its weights, and not those of the policy.
#[test]
fn the_value_function_has_an_optimizer_of_its_own() {
    let folder = desk();
    let (at, model) = (folder.path(), model());
    // Two updates of one step: the policy's do not depend on the value function's.
    let once = ["train.steps=1", "ppo.epochs=1"];
    let trained = |out: &str, more: &[&str]| {
        done(at, &args("ppo", &model, out, &[&once[..], more].concat()));
        ["model.safetensors", "value/model.safetensors"].map(|file| fs::read(at.join(out).join(file)).unwrap())
    };
    let [policy, value] = trained("plain", &[]);
    for (out, key) in [("decay", "ppo.value_weight_decay=1"), ("beta", "ppo.value_beta1=0.1")] {
        let [same, other] = trained(out, &[key]);
        assert!(same == policy, "{key}");
        assert!(other != value, "{key}");
    }
    refused(
        at,
        &args("ppo", &model, "no", &["train.optimizer=sgd", "ppo.value_beta1=0.5"]),
        2,
        &["ppo.value_beta1", "train.momentum for both"],
    );
}

/// Tokens of prompt and completion share the positions of a model: what does not fit is an error with the numbers, what is cut is counted.
#[test]
fn prompts_that_are_cut_are_said() {
    let folder = desk();
    let (at, model) = (folder.path(), model());
    let run = |set: &str| {
        samara(at, &["rollout", "--model", &model, "--data", "prompts.jsonl", "--set", "dialogue.template=plain", "--set", set])
    };
    for set in ["rollout.max_new_tokens=192", "rollout.max_new_tokens=500"] {
        let output = run(set);
        let error = text(&output.stderr);
        assert!(output.status.code() == Some(2) && error.contains("expected below 192, the positions of the model"), "{error}");
        for command in ["ppo", "grpo"] {
            refused(at, &args(command, &model, "no", &[set]), 2, &["rollout.max_new_tokens", "below 192"]);
        }
    }
    let output = run("rollout.max_new_tokens=190");
    let told = text(&output.stderr);
    let expected = "warning: prompts: of 8 of 8 the beginning is cut off, so that the last 2 tokens are left (192 positions of the model less \
                    rollout.max_new_tokens = 190)";
    assert!(output.status.success() && told.contains(expected), "{told}");
    let told = said(at, &args("dpo", &model, "dpo", &[]));
    assert!(
        told.contains("note: rows are cut to 192 tokens, the positions of the model, below the 1024 of train.block_size"),
        "{told}"
    );
}

/// The best of completions without a score is none; a reward by the rows' answers needs some.
#[test]
fn completions_without_a_score_are_not_the_best() {
    let folder = desk();
    let (at, model) = (folder.path(), model());
    let command = |answers: &str| format!("rewards.command=while read row; do {answers}; done");
    let (none, some) = (command("echo null"), command("case \"$row\" in *\"Say 3\"*) echo null;; *) echo 1;; esac"));
    let common =
        ["rollout", "--model", &model, "--data", "prompts.jsonl", "--best", "--set", "rollout.max_new_tokens=3", "--set"];
    refused(at, &[&common[..], &[&none]].concat(), 1, &["--best: no completion of 8 prompts has a score that is a number"]);
    let output = samara(at, &[&common[..], &[&some]].concat());
    let told = text(&output.stderr);
    assert!(told.contains("warning: 1 of 8 prompts are left out"), "{told}");
    assert_eq!(text(&output.stdout).lines().count(), 7);
    refused(
        at,
        &args("grpo", &model, "no", &["rewards.exact_match_weight=1"]),
        2,
        &["rewards.exact_match_weight", "a key \"answer\""],
    );
    rows(&at.join("prompts.jsonl"), (0..8).map(|i| json!({"prompt": format!("Say {i}:"), "answer": "yes", "n": i})));
    done(at, &args("grpo", &model, "grpo", &["rewards.exact_match_weight=1"]));
}

/// A prompt that cannot be encoded is left out, and the others keep their own rows: what a reward reads, and what is written.
#[test]
fn prompts_keep_their_rows_where_one_is_left_out() {
    let folder = temporary();
    let at = folder.path();
    rows(&at.join("text.jsonl"), (0..400).map(|_| json!({"text": "Say 0: 1234567 abc."})));
    let more = ["--data", "text.jsonl", "--set", "data.tokenizer=char", "--set", "train.steps=2", "-q"];
    done(at, &super::tiny(&["train", "--out", "run"], &more));
    // A vocabulary of characters has no token that ends texts: the first one is it.
    let config = at.join("run/config.json");
    let mut json: Value = serde_json::from_slice(&fs::read(&config).expect("file")).expect("JSON");
    json["eos_token_id"] = 0.into();
    fs::write(&config, json.to_string()).expect("file");
    rows(
        &at.join("prompts.jsonl"),
        (0..4).map(|n| json!({"prompt": if n == 1 { "Say é".to_owned() } else { format!("Say {n}:") }, "n": n})),
    );
    let reward =
        "rewards.command=while read row; do case \"$row\" in *'\"n\":0'*) echo 0;; *'\"n\":2'*) echo 2;; *) echo 3;; esac; done";
    let sets = ["--set", "data.on_bad_row=skip", "--set", "dialogue.template=plain", "--set", "rollout.max_new_tokens=2"];
    let found = done(at, &[&["rollout", "--model", "run", "--data", "prompts.jsonl", "-q", "--set", reward], &sets[..]].concat());
    let seen: Vec<(String, f64)> = found
        .lines()
        .map(|line| {
            let row: Value = serde_json::from_str(line).expect("JSON");
            (row["prompt"][0]["content"].as_str().expect("a prompt").to_owned(), row["score"].as_f64().expect("a score"))
        })
        .collect();
    assert_eq!(seen, [("Say 0:".to_owned(), 0.0), ("Say 2:".to_owned(), 2.0), ("Say 3:".to_owned(), 3.0)]);
}

/// Settings that an alignment has no use for, or that cannot hold, are refused before anything is written.
#[test]
fn keys_that_do_not_fit_leave_nothing_behind() {
    let folder = desk();
    let (at, model) = (folder.path(), model());
    refused(
        at,
        &args("grpo", &model, "no", &["grpo.overlong_buffer=7"]),
        2,
        &["grpo.overlong_buffer", "at most rollout.max_new_tokens = 6"],
    );
    refused(
        at,
        &args("dpo", &model, "no", &["train.recompute=blocks"]),
        2,
        &["train.recompute", "found \"blocks\"", "grad_accumulation"],
    );
    refused(at, &args("dpo", &model, "no", &["train.memory_budget_mib=7"]), 2, &["train.memory_budget_mib", "found 7"]);
    for command in ["dpo", "kto", "reward"] {
        refused(at, &args(command, &model, "no", &["train.sample_every=5"]), 2, &["train.sample_every", "it writes no samples"]);
    }
    for command in ["ppo", "dpo"] {
        refused(at, &[command, "--out", "typo", "--resume"], 2, &["--out typo: no run to resume", "run.toml"]);
    }
    assert!(!at.join("no").exists() && !at.join("typo").exists());
}

/// A step without anything to learn is said at once, and the card has the KL.
#[test]
fn a_step_that_teaches_nothing_is_said_at_once() {
    let folder = desk();
    let (at, model) = (folder.path(), model());
    let constant = ["rewards.length_weight=0", "rewards.command=while read row; do echo 1; done"];
    let told = said(at, &args("grpo", &model, "run", &constant));
    assert_eq!(told.matches("warning: all completions of every prompt of this step have one score").count(), 1, "{told}");
    let card = fs::read_to_string(at.join("run/MODEL_CARD.md")).unwrap();
    assert!(card.contains("| KL from the reference, last batch | 0.0000 nats per completion |"), "{card}");
    // The KL is reported by another estimator: that of the second step differs.
    let kl = |out: &str, estimator: &str| {
        done(at, &args("grpo", &model, out, &[estimator, "train.steps=3"]));
        let text = fs::read_to_string(at.join(out).join("metrics.jsonl")).unwrap();
        serde_json::from_str::<Value>(text.lines().last().unwrap()).unwrap()["objective/kl"].as_f64().unwrap()
    };
    let (k1, k3) = (kl("k1", "grpo.reported_kl=k1"), kl("k3", "grpo.reported_kl=k3"));
    assert!(k3 > 0.0 && (k1 - k3).abs() > 1e-6, "{k1} {k3}");
}

/// Padding of the folder that ends answers is said with a way out, which silences it.
#[test]
fn padding_that_ends_answers_is_said() {
    let folder = desk();
    let (at, from) = (folder.path(), model());
    fs::create_dir(at.join("base")).unwrap();
    for entry in fs::read_dir(&from).unwrap().flatten() {
        fs::copy(entry.path(), at.join("base").join(entry.file_name())).unwrap();
    }
    let path = at.join("base/tokenizer_config.json");
    let mut config: Value = serde_json::from_slice(&fs::read(&path).unwrap()).unwrap();
    config["pad_token"] = "<|endoftext|>".into();
    fs::write(&path, config.to_string()).unwrap();
    let warning = "warning: the folder's token for padding, \"<|endoftext|>\", ends answers as well";
    let told = said(at, &args("dpo", "base", "run", &[]));
    assert!(told.contains(warning) && told.contains("dialogue.pad_token=\"<|pad|>\""), "{told}");
    let told = said(at, &args("dpo", "base", "other", &["dialogue.pad_token=<|pad|>"]));
    assert!(!told.contains(warning), "{told}");
}

/// A question that is too long is left out with its numbers, a line of other bytes as well, and the conversation goes on; equal answers get no vote.
#[test]
fn a_conversation_goes_on() {
    let folder = temporary();
    let (at, model) = (folder.path(), model());
    let talk = |args: &[&str], input: &[u8]| {
        let mut child = command(at, &[&["chat", "--max-new-tokens", "4", "--template", "plain"][..], args].concat())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        child.stdin.take().unwrap().write_all(input).unwrap();
        let output = child.wait_with_output().unwrap();
        assert_eq!(output.status.code(), Some(0), "{}", text(&output.stderr));
        (text(&output.stdout), text(&output.stderr))
    };
    let long = "a long question ".repeat(60);
    let (out, told) = talk(&["--model", &model], &[long.as_bytes(), b"\nSay \xff\nSay a\n/quit\n"].concat());
    assert!(told.contains("the question alone has") && told.contains("188 fit beside an answer"), "{told}");
    assert!(told.contains("not UTF-8 (byte 5 of it)"), "{told}");
    assert_eq!(out.lines().count(), 1, "{out}");
    let (_, told) = talk(&["--compare", &model, &model, "--temperature", "0"], b"Say a\nSay b\n/quit\n");
    assert_eq!(told.matches("both answers are the same").count(), 2, "{told}");
    assert!(!at.join("votes.jsonl").exists());
}

/// Results that are not finite are an error that names the row, not null.
#[test]
fn an_overflow_of_an_objective_is_named() {
    let folder = temporary();
    let at = folder.path();
    let pairs = json!({
        "policy_chosen": [-1.0, -1e308], "policy_rejected": [-2.0, 1e308], "reference_chosen": [-1.0, -1.0], "reference_rejected": [-2.0, -2.0],
    });
    fs::write(at.join("pairs.json"), pairs.to_string()).unwrap();
    refused(at, &["objectives", "eval", "hinge", "--input", "pairs.json"], 3, &["losses of element 1 (from 0) is not finite"]);
}
