//! Policies from the command line: what is said before a run, what it leaves, what is refused.

use std::fs;
use std::path::Path;

use super::{done, refused, samara, temporary, text};

/// A base model, prompts with answers, and a text.
fn world(at: &Path) {
    let sets = [
        "model.n_embd=8",
        "model.n_layer=1",
        "model.n_head=2",
        "model.n_positions=64",
        "train.block_size=64",
        "train.batch_size=2",
        "train.steps=2",
        "train.eval_batches=1",
        "data.corpus_bytes=20000",
        "generate.max_new_tokens=0",
    ];
    let sets: Vec<&str> = sets.iter().flat_map(|set| ["--set", *set]).collect();
    done(at, &[&["train", "--quiet", "--threads", "1", "--out", "base"][..], &sets[..]].concat());
    let rows: String = (0..20).map(|i| format!("{{\"prompt\": \"number {i}\", \"answer\": \"{i}\"}}\n")).collect();
    fs::write(at.join("prompts.jsonl"), rows).unwrap();
    fs::write(at.join("text.txt"), "Once upon a time there was a cat. It slept all day long, and nobody minded.\n".repeat(20))
        .unwrap();
}

const SETS: [&str; 6] = [
    "train.steps=2",
    "train.batch_size=4",
    "train.eval_batches=1",
    "rollout.episodes=8",
    "rollout.max_new_tokens=6",
    "rewards.length_weight=0.1",
];

/// Runs a method and returns what it printed and what it said.
fn run(at: &Path, method: &[&str], sets: &[&str]) -> [String; 2] {
    let sets: Vec<&str> = SETS.iter().chain(sets).flat_map(|set| ["--set", *set]).collect();
    let common = ["--threads", "1", "--init", "base", "--data", "prompts.jsonl"];
    let output = samara(at, &[method, &common[..], &sets[..]].concat());
    assert_eq!(output.status.code(), Some(0), "{}", text(&output.stderr));
    [text(&output.stdout), text(&output.stderr)]
}

fn keys(at: &Path, run: &str) -> toml::Table {
    fs::read_to_string(at.join(run).join("run.toml")).unwrap().parse().unwrap()
}

#[test]
fn presets_say_what_they_set_and_runs_what_they_measured() {
    let folder = temporary();
    let at = folder.path();
    world(at);
    let [printed, said] = run(at, &["ppo", "--out", "without"], &["ppo.preset=instructgpt"]);
    assert!(said.contains("pretraining text: left out, where instructgpt has it with a coefficient of 27.8"), "{said}");
    assert!(said.contains("--- first prompt: ") && said.contains("number"), "{said}");
    assert!(printed.contains("2 steps, train scores ") && !printed.contains("loss"), "{printed}");
    let card = fs::read_to_string(at.join("without/MODEL_CARD.md")).unwrap();
    assert!(card.contains("| training scores, last batch |") && !card.contains("nats per token"), "{card}");
    assert!(at.join("without/reward_against_kl.svg").is_file());
    assert_eq!(keys(at, "without")["train"]["eps"].as_float(), Some(1e-5));

    let text = ["ppo.preset=instructgpt", "ptx.data=text.txt", "ptx.rows=1", "ptx.block_size=16", "ppo.entropy_coef=0.01"];
    let [_, said] = run(at, &["ppo", "--out", "with"], &text);
    assert!(said.contains("1 rows of 16 tokens for each completion of an update, with a coefficient of 27.8"), "{said}");
    let metrics = fs::read_to_string(at.join("with/metrics.jsonl")).unwrap();
    let last: serde_json::Value = serde_json::from_str(metrics.lines().last().unwrap()).unwrap();
    assert!(last["loss/ptx"].as_f64().unwrap() > 3.0 && last["loss/entropy"].as_f64().unwrap() < 0.0, "{last}");

    run(at, &["ppo", "--out", "old"], &["ppo.preset=lm-human-preferences", "train.eps=1e-7"]);
    assert_eq!(keys(at, "old")["train"]["eps"].as_float(), Some(1e-7));
    assert_eq!(keys(at, "old")["train"]["eps_mode"].as_str(), Some("tensorflow"));
    let page = done(at, &["report", "without", "with"]);
    assert!(fs::read_to_string(at.join(page.trim())).unwrap().contains("objective/scores against objective/kl"));
}

/// Every command on rows prints its tables, which it reads again.
#[test]
fn tables_of_alignment_are_printed() {
    let folder = temporary();
    let at = folder.path();
    for (command, table) in [("reward", "reward"), ("dpo", "dpo"), ("kto", "kto"), ("ppo", "rewards"), ("grpo", "grpo")] {
        let printed = done(at, &["config", "--of", command, "--set", "train.steps=7"]);
        let read: toml::Table = printed.parse().unwrap();
        assert_eq!(read["train"]["steps"].as_integer(), Some(7), "{command}");
        assert!(read.contains_key(table), "{command}");
    }
    let printed = done(at, &["config", "--of", "rollout"]);
    assert!(printed.contains("max_new_tokens = 48") && printed.contains("[rewards]"), "{printed}");
    refused(at, &["config", "--of", "ppo", "--preset", "sft"], 2, &["--preset", "leave it out"]);
    refused(at, &["config", "--of", "ppo", "--set", "ppo.kl=1"], 2, &["ppo.kl"]);
}

#[test]
fn settings_of_policies_that_nothing_reads_are_refused() {
    let folder = temporary();
    let at = folder.path();
    world(at);
    let rollout = |set| ["rollout", "--model", "base", "--data", "prompts.jsonl", "--set", set];
    refused(at, &rollout("train.lr=0.1"), 2, &["--set train.lr=0.1", "expected no value; a rollout trains nothing"]);
    refused(at, &rollout("train.batch_size=3"), 2, &["train.batch_size", "a rollout trains nothing"]);
    let with = |command: &'static str, sets: &[&'static str]| -> Vec<&'static str> {
        let sets: Vec<&'static str> = SETS.iter().chain(sets).flat_map(|set| ["--set", *set]).collect();
        [&[command, "--quiet", "--threads", "1", "--init", "base", "--data", "prompts.jsonl", "--out", "none"][..], &sets[..]]
            .concat()
    };
    refused(at, &with("ppo", &["ptx.coef=1"]), 2, &["ptx.coef", "name it with ptx.data"]);
    refused(at, &with("ppo", &["ptx.data=text.txt"]), 2, &["ptx.coef", "a number above 0 with ptx.data", "found none"]);
    refused(at, &with("grpo", &["ptx.data=text.txt", "ptx.coef=1", "ptx.block_size=65"]), 2, &["ptx.block_size", "at most 64"]);
    let remax = ["grpo.loss=remax", "grpo.dynamic_sampling=3", "rollout.group_size=4"];
    refused(at, &with("grpo", &remax), 2, &["grpo.dynamic_sampling", "1 for remax"]);
    refused(at, &with("ppo", &["ppo.kl_horizon=10"]), 2, &["ppo.kl_horizon", "ppo.kl_target"]);
    refused(at, &with("ppo", &["ppo.missing_eos_value=3"]), 2, &["ppo.missing_eos_value", "ppo.missing_eos"]);
    refused(at, &with("grpo", &["grpo.loss=rloo", "grpo.std_epsilon=1"]), 2, &["grpo.std_epsilon", "standard deviation"]);
    refused(at, &with("grpo", &["grpo.kl_coef=0", "grpo.kl_place=loss"]), 2, &["grpo.kl_place", "grpo.kl_coef above 0"]);
    for (key, source) in [("model", "rewards.model"), ("regex", "rewards.regex"), ("command", "rewards.command")] {
        let set: &'static str = format!("rewards.{key}_weight=2").leak();
        refused(at, &with("ppo", &[set]), 2, &[&set[..set.len() - 2], source]);
    }
    assert!(!at.join("none").exists());
}
