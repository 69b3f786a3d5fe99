//! Trainings on preferences and prompts: what they leave, what they report, how they go on, with all weights and with adapters.

use serde_json::json;

use super::*;

/// A model that answers, of two layers of 16.
pub(super) fn model() -> String {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/golden/dialogues/model").display().to_string()
}

pub(super) fn rows(path: &Path, rows: impl IntoIterator<Item = Value>) {
    fs::write(path, rows.into_iter().map(|row| format!("{row}\n")).collect::<String>()).expect("rows");
}

/// A folder with rows for every command.
pub(super) fn desk() -> tempfile::TempDir {
    let folder = temporary();
    let prompt = |i: usize| format!("Say {i}:");
    rows(
        &folder.path().join("pairs.jsonl"),
        (0..8).map(|i| json!({"prompt": prompt(i), "chosen": " yes", "rejected": " no, never"})),
    );
    let labelled = |i: usize| json!({"prompt": prompt(i), "completion": if i.is_multiple_of(2) { " yes" } else { " no" }, "label": i.is_multiple_of(2)});
    rows(&folder.path().join("labels.jsonl"), (0..8).map(labelled));
    rows(&folder.path().join("prompts.jsonl"), (0..8).map(|i| json!({"prompt": prompt(i)})));
    folder
}

/// Small steps that every command takes.
const FEW: [&str; 8] = [
    "train.threads=1",
    "train.batch_size=4",
    "train.steps=2",
    "train.lr=1e-2",
    "train.warmup_steps=0",
    "train.eval_every=0",
    "data.val_fraction=0",
    "dialogue.template=plain",
];
const OF_POLICIES: [&str; 4] = ["rollout.episodes=8", "rollout.max_new_tokens=6", "rollout.rows=4", "rewards.length_weight=1"];

/// The arguments of a training.
pub(super) fn args<'a>(command: &'a str, init: &'a str, out: &'a str, more: &[&'a str]) -> Vec<&'a str> {
    let (data, own): (_, &[&str]) = match command {
        "dpo" | "reward" => ("pairs.jsonl", &[]),
        "kto" => ("labels.jsonl", &[]),
        "ppo" => ("prompts.jsonl", &OF_POLICIES),
        _ => ("prompts.jsonl", &["rollout.group_size=4", OF_POLICIES[0], OF_POLICIES[1], OF_POLICIES[2], OF_POLICIES[3]]),
    };
    let sets = FEW.iter().chain(own).chain(more).flat_map(|set| ["--set", set]);
    [command, "--init", init, "--data", data, "--out", out].into_iter().chain(sets).collect()
}

/// The records of the steps of a run.
fn steps(run: &Path) -> Vec<Value> {
    let text = fs::read_to_string(run.join("metrics.jsonl")).expect("metrics");
    text.lines().map(|line| serde_json::from_str(line).expect("a record")).collect()
}

fn json_of(path: &Path) -> Value {
    serde_json::from_slice(&fs::read(path).expect("a file")).expect("JSON")
}

#[test]
fn every_alignment_leaves_a_model_and_the_fields_metrics() {
    let folder = desk();
    let (at, model) = (folder.path(), model());
    for (command, names) in [
        (
            "dpo",
            &["train_loss", "rewards/chosen", "rewards/rejected", "rewards/margins", "rewards/accuracies", "logps/chosen"][..],
        ),
        ("kto", &["train_loss", "train_kl", "rewards/chosen", "rewards/rejected"]),
        ("reward", &["train_loss", "train_accuracy", "train_margin", "train_mean_reward"]),
        ("ppo", &["objective/kl", "objective/scores", "objective/entropy", "policy/clipfrac", "loss/value", "val/explained_var"]),
        ("grpo", &["objective/kl", "objective/scores", "objective/frac_reward_zero_std", "policy/entropy", "rollout/length"]),
    ] {
        // One update of a step: its minibatch is the first.
        let more = ["train.grad_accumulation=2", if command == "ppo" { "ppo.epochs=1" } else { "train.seed=1" }];
        let mut args = args(command, &model, command, &more);
        if command != "dpo" {
            args.push("--json");
        }
        let said = done(at, &args);
        if command == "dpo" {
            assert!(said.starts_with("2 steps, ") && said.contains(&format!("-> {command}")), "{said}");
        } else {
            let outcome: Value = serde_json::from_str(&said).expect("one object");
            let found = ["schema", "steps", "out"].map(|key| outcome[key].clone());
            assert_eq!(found, [json!(1), json!(2), json!(command)], "{command}");
            // Values have the name of the measure.
            let measure = outcome["measure"]["name"].as_str().expect("a name");
            let word = measure.rsplit('/').next().expect("a word");
            assert!(outcome[format!("train_{word}")].is_f64(), "{said}");
        }
        let records = steps(&at.join(command));
        assert_eq!(records.len(), 2, "{command}");
        for name in names {
            assert!(records.iter().all(|record| record[name].is_f64()), "{command} {name}: {}", records[0]);
        }
        if ["ppo", "grpo"].contains(&command) {
            for (name, value) in [("policy/approxkl", 0.0), ("val/ratio", 1.0), ("val/ratio_min", 1.0), ("val/ratio_max", 1.0)] {
                assert!(records.iter().all(|record| record[name] == value), "{command} {name}: {}", records[0]);
            }
            assert_eq!(records[0]["objective/kl"], 0.0, "{command}: the policy begins as its reference");
        }
        if command == "dpo" {
            assert_eq!(records[0]["train_loss"], f64::from(std::f32::consts::LN_2));
        }
        let class = json_of(&at.join(command).join("config.json"))["architectures"][0].clone();
        assert_eq!(class, if command == "reward" { "GPT2ForSequenceClassification" } else { "GPT2LMHeadModel" });
    }
}

#[test]
fn rollouts_are_rows_with_scores() {
    let folder = desk();
    let (at, model) = (folder.path(), model());
    let sets: Vec<&str> = OF_POLICIES.iter().flat_map(|set| ["--set", set]).collect();
    let roll = |more: &[&str]| -> Vec<Value> {
        let args = [&["rollout", "--model", &model, "--data", "prompts.jsonl", "-q"], &sets[..], more].concat();
        done(at, &args).lines().map(|line| serde_json::from_str(line).expect("a row")).collect()
    };
    let all = roll(&["--samples", "4"]);
    assert_eq!(all.len(), 32);
    for row in &all {
        assert!(row["prompt"].is_array() && row["completion"][0]["role"] == "assistant", "{row}");
        assert!(row["logprob"].as_f64().is_some_and(|x| x < 0.0) && row["ended"].is_boolean() && row["score"].is_f64(), "{row}");
    }
    let best = roll(&["--samples", "4", "--best", "--threads", "2"]);
    let score = |row: &Value| row["score"].as_f64().expect("a score");
    let highest: Vec<f64> = all.chunks(4).map(|group| group.iter().map(score).fold(f64::MIN, f64::max)).collect();
    assert_eq!(best.iter().map(score).collect::<Vec<_>>(), highest);
    refused(at, &["rollout", "--model", &model, "--data", "prompts.jsonl", "--best"], 2, &["--best needs scores"]);
}

#[test]
fn a_plan_names_every_set_and_trains_nothing() {
    let folder = desk();
    let (at, model) = (folder.path(), model());
    for (command, sets) in [
        ("dpo", &["policy: weights", "reference: weights"][..]),
        ("kto", &["policy: weights", "reference: weights"]),
        ("reward", &["reward: weights"]),
        ("ppo", &["policy: weights", "reference: weights", "value: gradients, moments"]),
        ("grpo", &["policy: gradients, moments", "reference: weights"]),
    ] {
        let mut args = args(command, &model, "run", &[]);
        args.push("--plan");
        let output = samara(at, &args);
        let said = text(&output.stdout) + &text(&output.stderr);
        assert_eq!(output.status.code(), Some(0), "{said}");
        for set in sets.iter().chain(&["workspace of all programs", "in all"]) {
            assert!(said.contains(set), "{command} {set}: {said}");
        }
        assert!(!at.join("run").exists(), "{command}");
    }
}

/// The bits of a run that was killed and went on are those of one that was not: policy, value function, optimizers and the coefficient of the KL.
#[cfg(unix)]
#[test]
fn a_killed_alignment_goes_on_to_the_same_bits() {
    let folder = desk();
    let (at, model) = (folder.path(), model());
    for (command, signal, files) in
        [("ppo", "-KILL", &["model.safetensors", "value/model.safetensors"][..]), ("dpo", "-TERM", &["model.safetensors"])]
    {
        let more = ["train.steps=24", "train.checkpoint_every=4", "train.ema_decay=0.9", "dialogue.epochs=0"];
        let whole = format!("{command}-whole");
        done(at, &args(command, &model, &whole, &more));
        let run = format!("{command}-run");
        let mut child = command_of(at, &args(command, &model, &run, &more));
        let (checkpoints, begun) = (at.join(&run).join("checkpoints"), Instant::now());
        while !checkpoints.join("step-0000004/manifest.json").exists() && begun.elapsed() < Duration::from_secs(60) {
            std::thread::sleep(Duration::from_millis(2));
        }
        let _ = Command::new("kill").args([signal, &child.id().to_string()]).stderr(Stdio::null()).status();
        child.wait().expect("an end");
        done(at, &[command, "--out", &run, "--resume", "-q"]);
        for file in files {
            let [a, b] = [&whole, &run].map(|run| fs::read(at.join(run).join(file)).expect(file));
            assert!(a == b, "{command} {file}");
        }
        let last = |run: &str| steps(&at.join(run)).last().expect("a record")["train_loss"].clone();
        assert_eq!(last(&whole), last(&run), "{command}");
    }
}

#[cfg(unix)]
fn command_of(at: &Path, args: &[&str]) -> std::process::Child {
    command(at, args).stdout(Stdio::null()).stderr(Stdio::null()).spawn().expect("the binary runs")
}

/// The mean −ln p of a text under a model.
fn loss(at: &Path, model: &str) -> f64 {
    let score: Value =
        serde_json::from_str(&done(at, &["score", "--model", model, "--text", "Say 3: yes", "--json"])).expect("JSON");
    score["loss"].as_f64().expect("loss")
}

/// With adapters the first step is that of the whole model, to the bit: the reference is the base with its adapters off. Their folders are merged into
/// models that say the same, and a run that goes on gives the same bits.
#[test]
fn adapters_are_trained_by_every_alignment() {
    let folder = desk();
    let (at, model) = (folder.path(), model());
    let lora = ["tune.method=lora", "tune.rank=2", "tune.targets=all-linear"];
    for command in ["dpo", "kto", "grpo", "ppo"] {
        done(at, &args(command, &model, command, &lora));
        let records = steps(&at.join(command));
        match command {
            "dpo" => assert_eq!(records[0]["train_loss"], f64::from(std::f32::consts::LN_2)),
            "kto" => assert_eq!((&records[0]["train_loss"], &records[0]["train_kl"]), (&json!(0.5), &json!(0.0))),
            _ => assert_eq!(records[0]["objective/kl"], 0.0, "{command}"),
        }
        let config = json_of(&at.join(command).join("adapter_config.json"));
        assert_eq!((&config["r"], &config["task_type"]), (&json!(2), &json!("CAUSAL_LM")), "{command}");
        assert!(!at.join(command).join("model.safetensors").exists(), "{command}");
        let merged = format!("{command}-merged");
        done(at, &["merge", "--model", command, "--out", &merged]);
        let [of_base, adapter, merged] = [&model, command, &merged].map(|model| loss(at, model));
        assert!((adapter - merged).abs() < 1e-5 && (adapter - of_base).abs() > 1e-5, "{command}: {of_base} {adapter} {merged}");
    }
    let value = json_of(&at.join("ppo/value/adapter_config.json"));
    assert_eq!((&value["task_type"], &value["modules_to_save"]), (&json!("SEQ_CLS"), &json!(["score"])));
    // Dropout of adapters goes on where it stopped; policies have none.
    let lora = [&lora[..], &["tune.dropout=0.1"]].concat();
    done(at, &args("dpo", &model, "parts", &[&lora[..], &["train.steps=1", "train.schedule=constant"]].concat()));
    done(at, &["dpo", "--out", "parts", "--resume", "--set", "train.steps=2"]);
    done(at, &args("dpo", &model, "whole", &[&lora[..], &["train.schedule=constant"]].concat()));
    let [a, b] = ["parts", "whole"].map(|run| fs::read(at.join(run).join("adapter_model.safetensors")).expect("adapter"));
    assert!(a == b);
    // The adapter of a policy writes completions.
    let sets: Vec<&str> = OF_POLICIES[..3].iter().flat_map(|set| ["--set", set]).collect();
    let roll = |model: &str| done(at, &[&["rollout", "--model", model, "--data", "prompts.jsonl", "-q"], &sets[..]].concat());
    assert_eq!(roll("dpo").lines().count(), 8);
    for command in ["grpo", "ppo"] {
        refused(at, &args(command, &model, "no", &lora), 2, &["tune.dropout", "ratios of the first update"]);
    }
}

/// Scores of a reward model by the policy's rollouts.
fn scores(at: &Path, policy: &str, reward: &str) -> Vec<f64> {
    let sets: Vec<&str> = OF_POLICIES[..3].iter().flat_map(|set| ["--set", set]).collect();
    let args = [&["rollout", "--model", policy, "--data", "prompts.jsonl", "--reward", reward, "-q"], &sets[..]].concat();
    let row = |line: &str| serde_json::from_str::<Value>(line).expect("a row")["score"].as_f64().expect("a score");
    done(at, &args).lines().map(row).collect()
}

/// A reward head is trained whole beside adapters: it is in the adapter's folder, is read with it, and is in the merged model, which has a token for
/// padding of its own.
#[test]
fn a_reward_head_survives_adapters_and_merging() {
    let folder = desk();
    let (at, model) = (folder.path(), model());
    done(at, &args("reward", &model, "reward", &["tune.method=lora", "tune.rank=2", "train.steps=4", "dialogue.epochs=0"]));
    let config = json_of(&at.join("reward/adapter_config.json"));
    assert_eq!((&config["task_type"], &config["modules_to_save"]), (&json!("SEQ_CLS"), &json!(["score"])));
    let records = steps(&at.join("reward"));
    let losses: Vec<f64> = records.iter().map(|record| record["train_loss"].as_f64().expect("a loss")).collect();
    assert!(losses[3] < losses[0], "{losses:?}");
    let said = samara(at, &["merge", "--model", "reward", "--out", "merged"]);
    assert!(said.status.success() && text(&said.stderr).contains("\"<|pad|>\" (id 320)"), "{}", text(&said.stderr));
    let config = json_of(&at.join("merged/config.json"));
    assert_eq!(config["architectures"][0], "GPT2ForSequenceClassification");
    assert_eq!((&config["vocab_size"], &config["pad_token_id"]), (&json!(321), &json!(320)));
    let [adapter, merged] = ["reward", "merged"].map(|reward| scores(at, &model, reward));
    assert!(adapter.iter().zip(&merged).all(|(a, b)| (a - b).abs() < 1e-5), "{adapter:?} {merged:?}");
    assert!(adapter.iter().any(|score| score.abs() > 1e-3), "{adapter:?}");
    // The head alone: everything else stands as it was.
    done(at, &args("reward", &model, "head", &["tune.method=linear"]));
    let tensors = |folder: &str| {
        let listed = done(at, &["inspect", &format!("{folder}/model.safetensors"), "--json"]);
        serde_json::from_str::<Value>(&listed).expect("JSON")
    };
    assert_eq!(tensors("head").to_string().matches("score.weight").count(), 1);
    refused(
        at,
        &args("ppo", &model, "no", &["rewards.model=reward", "rewards.length_weight=0"]),
        2,
        &["rewards.model", "samara merge"],
    );
}

/// Rows of a tensor in a file: its f32 values.
fn values(path: &Path, name: &str) -> Vec<[u8; 4]> {
    let bytes = fs::read(path).expect("weights");
    let header = 8 + u64::from_le_bytes(bytes[..8].try_into().expect("eight")) as usize;
    let json: Value = serde_json::from_slice(&bytes[8..header]).expect("header");
    let offset = |i: usize| json[name]["data_offsets"][i].as_u64().expect("offset") as usize + header;
    bytes[offset(0)..offset(1)].as_chunks().0.to_vec()
}

/// Tokens that the tokenizer lacks get rows behind the others: the mean of these, which stay as they are, and so do the logits of the old tokens.
#[test]
fn added_tokens_get_rows_and_leave_the_others_as_they_are() {
    let folder = desk();
    let (at, model) = (folder.path(), model());
    let added = ["dialogue.pad_token=<|pad|>", "dialogue.add_tokens=<|im_start|>,<|user|>", "train.lr=0", "train.min_lr=0"];
    let output = samara(at, &args("dpo", &model, "run", &added));
    let said = text(&output.stderr);
    assert!(output.status.success() && said.contains("\"<|user|>\" (id 320), \"<|pad|>\" (id 321)"), "{said}");
    assert!(said.contains("322 token ids in place of 320, the new rows are the mean of the others"), "{said}");
    let config = json_of(&at.join("run/config.json"));
    assert_eq!((&config["vocab_size"], &config["pad_token_id"]), (&json!(322), &json!(321)));
    assert_eq!(json_of(&at.join("run/tokenizer_config.json"))["pad_token"], "<|pad|>");
    let [before, after] = [&model, "run"].map(|run| values(&at.join(run).join("model.safetensors"), "transformer.wte.weight"));
    assert!(after[..before.len()] == before[..] && after.len() == before.len() + 2 * 16);
    for column in 0..16 {
        let all = before.iter().skip(column).step_by(16).map(|&b| f64::from(f32::from_le_bytes(b)));
        let mean = (all.sum::<f64>() / 320.0) as f32;
        for row in [320, 321] {
            assert_eq!(f32::from_le_bytes(after[row * 16 + column]), mean);
        }
    }
    let logits = |model: &str| {
        let path = at.join("logits.npy");
        done(at, &["score", "--model", model, "--text", "Say 3", "--logits", &path.display().to_string()]);
        let bytes = fs::read(&path).expect("logits");
        let start = 10 + usize::from(u16::from_le_bytes([bytes[8], bytes[9]]));
        bytes[start..].as_chunks::<4>().0.to_vec()
    };
    let [before, after] = [&model, "run"].map(logits);
    for (before, after) in before.chunks(320).zip(after.chunks(322)) {
        assert!(before == &after[..320]);
    }
    // The folder has the tokens now: nothing is added to it, and adapters have a base with rows for them.
    let more = [&added[..2], &["tune.method=lora", "tune.rank=2"]].concat();
    let output = samara(at, &args("dpo", "run", "adapter", &more));
    let said = text(&output.stderr);
    assert!(output.status.success() && !said.contains("added to the tokenizer"), "{said}");
    refused(at, &args("dpo", &model, "no", &more), 2, &["dialogue.pad_token", "tune.method = \"lora\" first"]);
    // What ends answers is no padding.
    let output = samara(at, &args("dpo", &model, "warned", &["dialogue.pad_token=<|endoftext|>"]));
    assert!(
        text(&output.stderr).contains("warning: dialogue.pad_token \"<|endoftext|>\" ends answers"),
        "{}",
        text(&output.stderr)
    );
}
