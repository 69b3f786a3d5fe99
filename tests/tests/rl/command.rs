//! `samara objectives` on the real binary.

use std::process::Output;

use samara_tests::binary::samara;
use serde_json::{Value, json};

fn run(args: &[&str], input: &Value) -> Output {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("input.json");
    std::fs::write(&file, serde_json::to_string(input).unwrap()).unwrap();
    samara().args(["objectives", "eval"]).args(args).args(["--input", file.to_str().unwrap(), "--json"]).output().unwrap()
}

fn evaluated(args: &[&str], input: &Value) -> Value {
    let output = run(args, input);
    assert!(output.status.success(), "{args:?}: {}", String::from_utf8_lossy(&output.stderr));
    serde_json::from_slice(&output.stdout).unwrap()
}

fn refused(args: &[&str], input: &Value, code: i32, parts: &[&str]) {
    let output = run(args, input);
    let error = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(code), "{args:?}: {error}");
    parts.iter().for_each(|part| assert!(error.contains(part), "{args:?}: {error}, expected {part}"));
}

/// Compares numbers, lists and lists of lists to 1e-9.
fn close(what: &str, found: &Value, expected: &Value) {
    if let Some(expected) = expected.as_array() {
        let found = found.as_array().unwrap_or_else(|| panic!("{what}: {found}"));
        assert_eq!(found.len(), expected.len(), "{what}");
        found.iter().zip(expected).for_each(|(found, expected)| close(what, found, expected));
        return;
    }
    let (found, expected) = (found.as_f64().unwrap_or(f64::NAN), expected.as_f64().unwrap());
    assert!((found - expected).abs() <= 1e-9 * expected.abs().max(1.0), "{what}: {found}, expected {expected}");
}

fn pairs() -> Value {
    json!({
        "policy_chosen": [-10, -7.5], "policy_rejected": [-12, -7], "reference_chosen": [-11, -7], "reference_rejected": [-11.5, -7.25],
        "chosen_lengths": [5, 3], "rejected_lengths": [6, 4],
    })
}

#[test]
fn golden_values_of_pairs_and_scores() {
    let losses = [
        ("dpo", 0.676_153_594_3),
        ("cdpo", 0.679_903_594_3),
        ("robust_dpo", 0.671_466_094_3),
        ("hinge", 0.962_5),
        ("ipo_sum", 22.656_25),
        ("ipo_mean", 24.795_564_236_1),
        ("orpo", 0.095_134_178_0),
        ("simpo", 1.946_075_710_9),
    ];
    for (name, loss) in losses {
        let found = evaluated(&[name], &pairs());
        close(name, &found["loss"], &json!(loss));
        let of_each: f64 = found["losses"].as_array().unwrap().iter().map(|x| x.as_f64().unwrap()).sum();
        close(name, &json!(of_each / 2.0), &json!(loss));
        assert_eq!((&found["schema"], found["gradients"]["policy_rejected"].as_array().unwrap().len()), (&json!(1), 2));
    }
    let smoothed = evaluated(&["cdpo", "--set", "label_smoothing=0.1", "--set", "beta=0.1"], &pairs());
    close("cdpo", &smoothed["loss"], &json!(0.679_903_594_3));
    let unpaired = json!({ "policy": [-10, -7.5, -12, -7], "reference": [-11, -7, -11.5, -7.25], "label": [true, true, false, 0], "kl": 0.3 });
    close("kto", &evaluated(&["kto"], &unpaired)["loss"], &json!(0.495_314_286_2));
    for (name, loss) in [("reward_kway", 0.434_088_088_5), ("plackett_luce", 2.158_755_440_2), ("best_of_n", 0.944_092_278_6)] {
        close(name, &evaluated(&[name], &json!({ "scores": [1.2, 0.7, 0.9, -0.3] }))["loss"], &json!(loss));
    }
}

#[test]
fn golden_values_of_tokens_and_groups() {
    let advantages = evaluated(&["gae"], &json!({ "rewards": [-0.01, 0.02, -0.03, 1], "values": [0.1, 0.2, 0.3, 0.4] }));
    close("advantages", &advantages["advantages"], &json!([0.7816, 0.728, 0.64, 0.6]));
    close("returns", &advantages["returns"], &json!([0.8816, 0.928, 0.94, 1.0]));
    let values = json!({ "values": [0.7816, 0.728, 0.64, 0.6], "mask": [1, 1, 1, 1] });
    let biased = json!([1.318_819_492_3, 0.568_408_401_1, -0.663_609_808_2, -1.223_618_085_2]);
    close("biased", &evaluated(&["whiten", "--set", "variance=biased"], &values)["values"], &biased);
    let unbiased = json!([1.142_131_463_2, 0.492_256_235_7, -0.574_703_092_9, -1.059_684_606_0]);
    close("unbiased", &evaluated(&["whiten", "--set", "variance=unbiased"], &values)["values"], &unbiased);
    let kl = evaluated(&["kl"], &json!({ "logprobs": [0.5, -0.5, 3], "reference": [0, 0, 0] }));
    close("k1", &kl["k1"], &json!([0.5, -0.5, 3.0]));
    close("k2", &kl["k2"], &json!([0.125, 0.125, 4.5]));
    close("k3", &kl["k3"], &json!([0.106_530_659_7, 0.148_721_270_7, 2.049_787_068_4]));
    let rewards = json!({ "rewards": [1, 0, 0.5, 1], "group": [3, 3, 3, 3] });
    let advantages = [
        ("grpo", json!([0.783_185_849_6, -1.305_309_749_4, -0.261_061_949_9, 0.783_185_849_6])),
        ("dr_grpo", json!([0.375, -0.625, -0.125, 0.375])),
        ("rloo", json!([0.5, -5.0 / 6.0, -1.0 / 6.0, 0.5])),
    ];
    for (name, expected) in advantages {
        close(name, &evaluated(&[name], &rewards)["advantages"], &expected);
    }
    // Two groups in turns, and one row that cannot be scored.
    let rewards = json!({ "rewards": [1, 5, 0, null, 0.5, 7, 1], "group": [0, 1, 0, 0, 0, 1, 0] });
    let found = evaluated(&["dr_grpo"], &rewards);
    close("two groups", &found["advantages"], &json!([0.375, -1, -0.625, 0, -0.125, 1, 0.375]));
    assert_eq!(found["groups"], json!({ "count": 2, "equal": 0, "unscorable": 1 }));
}

#[test]
fn policies_have_ratio_1_and_rows_keep_their_form() {
    let batch = json!({
        "logprobs": [[-1, -2, -3], [-0.5, -0.25, -9]], "old_logprobs": [[-1, -2, -3], [-0.5, -0.25, -1]],
        "advantages": [[1, 1, 1], [-2, -2, 7]], "mask": [[1, 1, 1], [1, 1, 0]],
    });
    for name in ["ppo", "gspo", "cispo"] {
        let found = evaluated(&[name, "--set", "aggregation=token_mean"], &batch);
        assert_eq!(found["ratio"], json!({ "min": 1.0, "mean": 1.0, "max": 1.0 }), "{name}");
        assert_eq!((&found["approxkl"], &found["clipfrac"]), (&json!(0.0), &json!(0.0)), "{name}");
        close(name, &found["gradients"]["logprobs"], &json!([[-0.2, -0.2, -0.2], [0.4, 0.4, 0]]));
    }
    let ppo = evaluated(&["ppo"], &batch);
    close("loss", &ppo["loss"], &json!((-1.0 - 1.0 - 1.0 + 2.0 + 2.0) / 5.0));
    close("losses", &ppo["losses"], &json!([[-1, -1, -1], [2, 2, 0]]));
    let sequences = evaluated(&["ppo", "--set", "aggregation=seq_mean_token_mean"], &batch);
    close("sequences", &sequences["loss"], &json!(0.5));
    // log 2 above the old log-prob: ratio 2, clipped at 1.28.
    let batch = json!({ "logprobs": [[2_f64.ln() - 1.0]], "old_logprobs": [[-1]], "advantages": [[1]], "mask": [[1]] });
    let found = evaluated(&["ppo", "--set", "clip_high=0.28"], &batch);
    close("clipped", &found["loss"], &json!(-1.28));
    close("raw", &found["ratio"]["max"], &json!(2));
    assert_eq!((&found["clipfrac"], &found["gradients"]["logprobs"]), (&json!(1.0), &json!([[0.0]])));
}

#[test]
fn what_is_wrong_is_named() {
    refused(&["dop"], &pairs(), 2, &["unknown objective `dop`", "did you mean `dpo`"]);
    refused(&["dpo", "--set", "bta=1"], &pairs(), 2, &["dpo has no key `bta`", "did you mean `beta`"]);
    refused(&["dpo", "--set", "beta=0"], &pairs(), 2, &["beta", "above 0", "found 0"]);
    refused(&["robust_dpo", "--set", "label_smoothing=0.5"], &pairs(), 2, &["label_smoothing", "below 0.5"]);
    refused(&["ppo", "--set", "aggregation=mean"], &json!({}), 3, &["no array `logprobs`", "old_logprobs, advantages, mask"]);
    let mut missing = pairs();
    missing.as_object_mut().unwrap().remove("reference_chosen");
    refused(&["dpo"], &missing, 3, &["input.json", "dpo", "no array `reference_chosen`", "policy_rejected"]);
    missing["reference_chosn"] = json!([1, 2]);
    refused(&["dpo"], &missing, 3, &["unknown array `reference_chosn`", "did you mean `reference_chosen`"]);
    let mut short = pairs();
    short["policy_rejected"] = json!([1]);
    refused(&["dpo"], &short, 3, &["policy_rejected: expected 2 elements, found 1"]);
    short["policy_rejected"] = json!([1, "two"]);
    refused(&["dpo"], &short, 3, &["policy_rejected: element 1", "found text"]);
    let mut empty = pairs();
    empty["chosen_lengths"] = json!([5, 0]);
    refused(&["simpo"], &empty, 3, &["chosen_lengths", "at least one token"]);
    refused(&["grpo"], &json!({ "rewards": [1, 2, 3], "group": [0, 0, 9] }), 3, &["group 9 has one row"]);
    let masked = json!({ "values": [1, 2], "mask": [0, 0] });
    refused(&["whiten"], &masked, 3, &["expected at least", "found 0"]);
    refused(&["gae", "--set", "lambda=1.5"], &json!({ "rewards": [1], "values": [1] }), 2, &["lambda", "from 0 to 1"]);
    let one = json!({ "logprobs": [[-1]], "old_logprobs": [[-1]], "advantages": [[1]], "mask": [[1]] });
    refused(&["cispo", "--set", "dual_clip=3"], &one, 2, &["dual_clip", "expected none", "found 3"]);
    refused(&["cispo", "--set", "clip_high=-2"], &one, 2, &["clip_high", "at least 0"]);
    refused(&["best_of_n", "--set", "best=-1"], &json!({ "scores": [1, 2] }), 2, &["best=-1", "whole number from 0"]);
    refused(
        &["plackett_luce", "--set", "ranked=1"],
        &json!({ "scores": [1, 2], "ranks": [1, 2] }),
        2,
        &["ranked", "\"ranks\" are given"],
    );
    refused(&["best_of_n", "--set", "best=2"], &json!({ "scores": [1, 2] }), 2, &["best", "found 2"]);
    refused(&["plackett_luce"], &json!({ "scores": [1, 2], "ranks": [1, 1] }), 3, &["worse than another"]);
    refused(&["plackett_luce", "--set", "ranked=3"], &json!({ "scores": [1, 2] }), 2, &["ranked", "found 3"]);
    let ragged = json!({ "rewards": [[1, 2], [3]], "values": [[1, 2], [3, 4]] });
    refused(&["gae"], &ragged, 3, &["rewards: row 1", "expected 2 elements, found 1"]);
}

#[test]
fn the_list_has_a_sentence_and_a_command_for_each() {
    let output = samara().args(["objectives", "--json"]).output().unwrap();
    let list: Value = serde_json::from_slice(&output.stdout).unwrap();
    let list = list["objectives"].as_array().unwrap();
    assert!(list.len() >= 25);
    for objective in list {
        assert!(objective["command"].as_str().unwrap().starts_with("samara "), "{objective}");
        assert!(!objective["about"].as_str().unwrap().is_empty() && !objective["arrays"].as_array().unwrap().is_empty());
    }
    let text = samara().arg("objectives").output().unwrap();
    let text = String::from_utf8(text.stdout).unwrap();
    assert!(list.iter().all(|objective| text.contains(objective["name"].as_str().unwrap())), "{text}");
}
