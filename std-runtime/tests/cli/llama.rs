//! The second family through every command: the same flags, the same files.

use super::*;

/// A Llama that trains in a moment: grouped queries, a head of its own, rows that fall into blocks.
const SETS: [&str; 14] = [
    "data.tokenizer=byte",
    "data.corpus_bytes=20000",
    "model.model_type=llama",
    "model.hidden_size=32",
    "model.intermediate_size=64",
    "model.num_hidden_layers=2",
    "model.num_attention_heads=4",
    "model.num_key_value_heads=2",
    "model.max_position_embeddings=32",
    "model.tie_word_embeddings=false",
    "train.block_size=32",
    "train.batch_size=4",
    "train.lr=3e-3",
    "generate.max_new_tokens=3",
];

fn with_sets<'a>(first: &[&'a str], more: &[&'a str]) -> Vec<&'a str> {
    let sets = SETS.iter().flat_map(|&set| ["--set", set]);
    first.iter().copied().chain(sets).chain(more.iter().copied()).collect()
}

fn json(at: &Path, args: &[&str]) -> Value {
    serde_json::from_str(&done(at, args)).expect("JSON")
}

#[test]
fn a_llama_is_trained_scored_generated_quantised_and_exported() {
    let folder = temporary();
    let at = folder.path();
    let plan = json(at, &with_sets(&["plan", "--json"], &[]));
    // V C twice; per block q, k, v and o of (32 + 2 · 16 + 32) · 32, three of 32 · 64, two norms; the last norm.
    assert_eq!(plan["parameters"], 2 * 256 * 32 + 2 * (96 * 32 + 3 * 32 * 64 + 2 * 32) + 32);
    // 6 for each parameter that is multiplied, and 12 layers · width · block; the token embedding is only looked up.
    assert_eq!(plan["flops_per_token"], (6 * (256 * 32 + 2 * (96 * 32 + 3 * 32 * 64 + 2 * 32) + 32) + 12 * 2 * 32 * 32) as f64);

    done(at, &with_sets(&["train", "-q", "--out", "run"], &["--set", "train.steps=20", "--set", "train.checkpoint_every=10"]));
    done(at, &["train", "-q", "--resume", "--out", "run", "--set", "train.steps=80"]);
    let config: Value = serde_json::from_slice(&fs::read(at.join("run/config.json")).expect("a config")).expect("JSON");
    assert_eq!((config["model_type"].as_str(), config["num_key_value_heads"].as_u64()), (Some("llama"), Some(2)));
    let tensors = done(at, &["inspect", "run/model.safetensors"]);
    assert!(tensors.contains("model.layers.1.self_attn.k_proj.weight") && tensors.contains("lm_head.weight"), "{tensors}");

    fs::write(at.join("text.txt"), "Once upon a time there was a baker. The baker said that he was happy.\n".repeat(20))
        .expect("text");
    let eval = |more: &[&str]| json(at, &[&["eval", "--model", "run", "--data", "text.txt", "--json"], more].concat());
    let loss = eval(&[])["loss"].as_f64().expect("a loss");
    assert!(loss < 0.75 * 256f64.ln(), "no better than chance: {loss}");
    let quantised = eval(&["--quantize", "q8"]);
    assert_eq!(quantised["f32_loss"].as_f64(), Some(loss));
    assert!((quantised["loss"].as_f64().expect("a loss") - loss).abs() < 0.05, "{quantised} for {loss}");

    let generate = |more: &[&str]| {
        let first = ["generate", "-q", "--model", "run", "--prompt", "The", "--max-new-tokens", "40", "--seed", "4"];
        done(at, &[&first, more].concat())
    };
    assert_eq!(generate(&["--threads", "1"]), generate(&["--threads", "2"]));
    assert_ne!(generate(&[]), generate(&["--temperature", "0"]));
    let score = json(at, &["score", "--model", "run", "--text", "The baker said", "--json"]);
    assert_eq!(score["logprobs"].as_array().map(Vec::len), Some(13));

    for flags in [&["--quantize", "q8", "--kv", "f16"][..], &["--train", "last-block"]] {
        let outcome =
            json(at, &[&["export", "--model", "run", "--out", "model.samara", "--data", "text.txt", "--json"], flags].concat());
        let losses = outcome["losses"].as_array().expect("losses");
        assert!(losses.iter().all(|of| of["loss"].as_f64().is_some_and(|loss| loss < 0.8 * 256f64.ln())), "{outcome}");
    }
}

#[test]
fn a_folder_of_a_peer_is_trained_further_under_its_names() {
    let folder = temporary();
    let at = folder.path();
    let from = golden("parity-qwen2");
    let ids: Vec<u8> = (0..4000u32).flat_map(|i| (((i * i + i / 7) % 40) as u16).to_le_bytes()).collect();
    fs::write(at.join("ids.bin"), ids).expect("ids");
    let flags = ["--init", &from, "--data", "ids.bin", "--out", "run", "--set", "train.steps=4", "--set", "train.batch_size=2"];
    done(at, &[&["train", "-q"], &flags[..]].concat());
    let names = |model: &str| {
        let text = json(at, &["inspect", &format!("{model}/model.safetensors"), "--json"]);
        text["weights"]["tensors"].as_array().expect("tensors").iter().map(|t| t["name"].to_string()).collect::<Vec<String>>()
    };
    assert_eq!(names("run"), names(&from));
    refused(
        at,
        &["train", "--init", &from, "--data", "ids.bin", "--out", "other", "--set", "train.block_size=4096"],
        2,
        &["train.block_size: expected at most model.max_position_embeddings = "],
    );
}

#[test]
fn a_text_ends_at_any_stop_token_of_the_folder() {
    let folder = temporary();
    let at = folder.path();
    done(at, &with_sets(&["train", "-q", "--out", "run"], &["--set", "train.steps=2"]));
    fs::write(at.join("prompts.txt"), "The\n").expect("prompts");
    let generate = || {
        let row = json(at, &["generate", "-q", "--model", "run", "--prompts", "prompts.txt", "--max-new-tokens", "60"]);
        let tokens: Vec<u64> = row["tokens"].as_array().expect("tokens").iter().filter_map(Value::as_u64).collect();
        (tokens, row["stop"].as_str().expect("why it ended").to_owned())
    };
    let (whole, why) = generate();
    assert_eq!((whole.len(), why.as_str()), (60, "length"));
    let stop = whole[10];
    fs::write(at.join("run/generation_config.json"), format!("{{\"eos_token_id\": [255, {stop}]}}")).expect("a file");
    let ends = whole.iter().position(|&token| token == 255 || token == stop).expect("it is there");
    assert_eq!(generate(), (whole[..=ends].to_vec(), "token".to_owned()));
}
