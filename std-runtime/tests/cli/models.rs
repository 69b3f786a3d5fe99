//! `score`, `eval`, `generate`, `tokenizer` on a model folder.

use super::*;

#[test]
fn scores_are_those_of_transformers() {
    let folder = temporary();
    let path = folder.path().join("logits.npy");
    let model = golden("gpt2-2layer");
    let bytes = fs::read(Path::new(&model).join("expected.safetensors")).expect("expected values");
    let header = 8 + u64::from_le_bytes(bytes[..8].try_into().expect("eight")) as usize;
    let json: Value = serde_json::from_slice(&bytes[8..header]).expect("header");
    let words = |name: &str| -> Vec<[u8; 4]> {
        let offset = |i: usize| json[name]["data_offsets"][i].as_u64().expect("offset") as usize + header;
        bytes[offset(0)..offset(1)].as_chunks().0.to_vec()
    };
    let ids: Vec<String> = words("input_ids")[..17].iter().map(|&b| i32::from_le_bytes(b).to_string()).collect();
    let score = done(
        folder.path(),
        &["score", "--model", &model, "--tokens", &ids.join(","), "--logits", &path.display().to_string(), "--json"],
    );
    let score: Value = serde_json::from_str(&score).expect("JSON");
    let logprobs: Vec<f64> =
        score["logprobs"].as_array().expect("logprobs").iter().map(|x| x.as_f64().expect("number")).collect();
    let expected: Vec<f64> = words("token_logprobs")[..16].iter().map(|&b| f64::from(f32::from_le_bytes(b))).collect();
    assert_eq!(logprobs.len(), 16);
    assert!(logprobs.iter().zip(&expected).all(|(a, b)| (a - b).abs() < 1e-4), "{logprobs:?}\n{expected:?}");
    let mean = -expected.iter().sum::<f64>() / 16.0;
    assert!((score["loss"].as_f64().expect("loss") - mean).abs() < 1e-4);
    let array: Value = serde_json::from_str(&done(folder.path(), &["inspect", "logits.npy", "--json"])).expect("JSON");
    assert_eq!((&array["array"]["shape"], &array["array"]["dtype"]), (&serde_json::json!([17, 61]), &"f32".into()));
}

#[test]
fn weights_in_blocks_and_what_they_cost() {
    let folder = temporary();
    let model = golden("gpt2-2layer");
    let score = |more: &[&str]| -> Value {
        let args = [&["score", "--model", &model, "--tokens", "3,1,4,1,5,9,2,6", "--json"], more].concat();
        serde_json::from_str(&done(folder.path(), &args)).expect("JSON")
    };
    let plain = score(&[]);
    assert!(plain.get("f32_loss").is_none());
    for (name, bound) in [("q8", 0.05), ("q4", 0.5)] {
        let quantised = score(&["--quantize", name]);
        assert_eq!(quantised["f32_loss"], plain["loss"]);
        let difference = quantised["loss"].as_f64().expect("loss") - plain["loss"].as_f64().expect("loss");
        assert!(difference != 0.0 && difference.abs() < bound, "{name}: {difference}");
    }
    let text = done(folder.path(), &["score", "--model", &model, "--tokens", "3,1,4", "--quantize", "q4"]);
    assert!(text.contains(" (f32 "), "{text}");
    refused(folder.path(), &["score", "--model", &model, "--tokens", "3,1", "--quantize", "q5"], 2, &["q5", "q8, q4"]);
}

#[test]
fn flags_that_would_change_nothing_are_refused() {
    let folder = temporary();
    let at = folder.path();
    for (args, parts) in [
        (
            &["bench", "step", "--quantize", "q8"][..],
            &["bench step does not take --quantize (it is for decode); leave it out"][..],
        ),
        (&["bench", "gemm", "--profile"], &["bench gemm does not take --profile (it is for step, decode)"]),
        (&["bench", "gemm", "--seed", "1"], &["--seed (it is for step, decode)"]),
        (&["bench", "step", "--prompt-tokens", "4"], &["--prompt-tokens (it is for decode"]),
        (&["bench", "assign", "--preset", "gpt2-124m"], &["bench assign does not take --preset (it is for gemm, step, decode)"]),
        (&["bench", "assign", "--set", "train.lr=1"], &["--set"]),
        (&["bench", "decode", "--data", "x"], &["--data (it generates its own data)"]),
        (
            &["bench", "decode", "--prompt-tokens", "100", "--new-tokens", "64", "--set", "model.n_positions=128"],
            &["a prompt of 100 tokens and 64 more: expected at most 128 together", "--prompt-tokens", "model.n_positions"],
        ),
        (&["bench", "decode", "--quantize", "q4", "--set", "model.n_embd=48"], &["--quantize q4: tensor", "rows of 48 numbers"]),
        (&["generate", "--model", "x", "--set", "train.lr=3"], &["--set train.lr=3: this command reads [generate] only"]),
        (
            &["eval", "--model", "x", "--data", "x", "--set", "train.lr=3"],
            &["reads [data] only: expected a key such as data.KEY"],
        ),
        (&["eval", "--model", "x", "--data", "x", "--batch-size", "0"], &["invalid value '0' for '--batch-size <N>'"]),
        (&["generate", "--model", "x", "--threads", "-1"], &["--threads: train.threads: expected", "found -1"]),
    ] {
        refused(at, args, 2, parts);
    }
}

#[test]
fn evaluation_says_how_long_a_block_may_be() {
    let folder = temporary();
    let at = folder.path();
    done(at, &tiny(&["train", "--out", "run"], &["--set", "train.steps=1", "--set", "train.eval_every=0", "-q"]));
    fs::write(at.join("text.txt"), "Once upon a time. ".repeat(20)).expect("file");
    let with = |more: &[&'static str]| [&["eval", "--model", "run", "--data", "text.txt"], more].concat();
    let parts = ["--block-size 17: expected at most 16, the model's context, or 0 for all of it"];
    refused(at, &with(&["--block-size", "17"]), 2, &parts);
    refused(at, &with(&["--block-size", "-1"]), 2, &["invalid value '-1' for '--block-size <N>'"]);
    let empty =
        ["text.txt: this split has 0 tokens, expected at least 2; choose another --split, or change --set data.val_fraction"];
    refused(at, &with(&["--split", "val", "--set", "data.val_fraction=0"]), 3, &empty);
    // No more blocks at a time than there are.
    assert_eq!(done(at, &with(&["--batch-size", "100000000"])), done(at, &with(&["--batch-size", "23"])));
}

#[test]
fn generate_says_what_blocks_cost() {
    let folder = temporary();
    let at = folder.path();
    trained_wide(at);
    let generate = |more: &[&str]| {
        let args = [&["generate", "--model", "run", "--prompt", "abc", "--max-new-tokens", "5"], more].concat();
        let output = samara(at, &args);
        assert_eq!(output.status.code(), Some(0), "{args:?}: {}", text(&output.stderr));
        (text(&output.stdout), text(&output.stderr))
    };
    let costs = ["loss on the prompt: ", " (f32 ", ", 2 tokens\n", "loss on the text generated: ", ", 5 tokens\n"];
    for kind in ["q8", "q4"] {
        let (plain, said) = generate(&["--quantize", kind]);
        for part in costs {
            assert!(said.contains(part), "{said}");
        }
        // The text is the same without it.
        let (skipped, said) = generate(&["--quantize", kind, "--skip-f32"]);
        assert!(said.contains(&format!("weights in {kind}: ")) && !said.contains("loss"), "{said}");
        assert_eq!((&skipped, &generate(&["--quantize", kind, "-q"])), (&plain, &(plain.clone(), String::new())));
    }
    assert!(!generate(&[]).1.contains("loss"));
    refused(at, &["generate", "--model", "run", "--skip-f32"], 2, &["--quantize <TYPE>"]);
    // Nothing comes before the first token of a prompt, and it has no loss.
    let one = samara(at, &["generate", "--model", "run", "--prompt", "a", "--max-new-tokens", "0", "--quantize", "q8"]);
    assert!(one.status.success() && !text(&one.stderr).contains("loss"), "{}", text(&one.stderr));
    // The same losses as those of `score`, on a text of the user's.
    let score: Value =
        serde_json::from_str(&done(at, &["score", "--model", "run", "--text", "abc", "--quantize", "q4", "--json"]))
            .expect("JSON");
    let prompt = format!(
        "loss on the prompt: {:.6} (f32 {:.6}, ",
        score["loss"].as_f64().expect("loss"),
        score["f32_loss"].as_f64().expect("loss")
    );
    assert!(generate(&["--quantize", "q4"]).1.contains(&prompt), "{prompt}");
    let skipped = done(at, &["score", "--model", "run", "--text", "abc", "--quantize", "q4", "--skip-f32"]);
    assert!(!skipped.contains("f32"), "{skipped}");
}

#[test]
fn tokenizers_from_the_command_line() {
    let folder = temporary();
    let at = folder.path();
    fs::write(at.join("text.txt"), "the cat and the hat and the bat ".repeat(30)).expect("file");
    for (kind, ids) in [("bpe", "266"), ("char", "9"), ("byte", "257")] {
        let size: &[&str] = if kind == "bpe" { &["--vocab-size", "266"] } else { &[] };
        let args = [&["tokenizer", "train", "--data", "text.txt", "--kind", kind, "--out", kind], size].concat();
        let trained = done(at, &args);
        assert!(trained.starts_with(&format!("{ids} ids -> {kind}")), "{trained}");
        let encoded = done(at, &["tokenizer", "encode", "--tokenizer", kind, "--text", "the bat"]);
        let decoded = done(at, &["tokenizer", "decode", "--tokenizer", kind, "--tokens", encoded.trim()]);
        assert_eq!(decoded, "the bat", "{kind} {encoded}");
    }
    refused(at, &["tokenizer", "encode", "--tokenizer", "char", "--text", "thx"], 3, &["--text", "'x'"]);
    refused(at, &["tokenizer", "decode", "--tokenizer", "char", "--tokens", "99"], 3, &["99"]);
    refused(at, &["tokenizer", "decode", "--tokenizer", "absent", "--tokens", "9"], 4, &["absent"]);
    refused(at, &["tokenizer", "decode", "--tokenizer", "char", "--tokens", "-1"], 2, &["--tokens: id 0 is \"-1\""]);
    let train = |more: &[&'static str]| [&["tokenizer", "train", "--data", "text.txt", "--out", "x"], more].concat();
    refused(at, &train(&["--vocab-size", "10"]), 2, &["vocabulary of 10", "use at least 257"]);
    refused(
        at,
        &train(&["--kind", "char", "--vocab-size", "10"]),
        2,
        &["--vocab-size: only --kind bpe and wordpiece take it; leave it out"],
    );
    refused(at, &train(&["--kind", "byte", "--min-count", "2"]), 2, &["--min-count: only --kind bpe and wordpiece take it"]);
    fs::write(at.join("file"), "").expect("file");
    refused(at, &["tokenizer", "train", "--data", "text.txt", "--out", "file"], 4, &["file: cannot create the folder"]);
    // Any bytes, through standard input.
    let mut child = command(at, &["tokenizer", "encode", "--tokenizer", "bpe"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .expect("binary");
    child.stdin.take().expect("input").write_all(&[0, 255, b'a']).expect("written");
    let ids = child.wait_with_output().expect("end").stdout;
    let bytes = samara(at, &["tokenizer", "decode", "--tokenizer", "bpe", "--tokens", text(&ids).trim()]).stdout;
    assert_eq!(bytes, [0, 255, b'a']);
}

#[test]
fn a_model_with_one_position_scores_every_token() {
    let folder = temporary();
    let at = folder.path();
    let one = ["--set", "model.n_positions=1", "--set", "train.block_size=1", "--set", "train.steps=1", "-q"];
    done(at, &tiny(&["train", "--out", "run"], &one));
    let score: Value = serde_json::from_str(&done(at, &["score", "--model", "run", "--text", "abcabc", "--json"])).expect("JSON");
    let logprobs: Vec<f64> = score["logprobs"].as_array().expect("logprobs").iter().filter_map(Value::as_f64).collect();
    // A bigram model: the same pair has the same probability.
    assert_eq!((logprobs.len(), &logprobs[..2]), (5, &logprobs[3..]));
    done(at, &["generate", "--model", "run", "--prompt", "abc", "--max-new-tokens", "2", "-q"]);
}

#[test]
fn gradients_that_compare_with_nothing_are_an_error() {
    let folder = temporary();
    let model = golden("parity-gpt2");
    let io = format!("{model}/io.safetensors");
    refused(
        folder.path(),
        &["parity", "--model", &model, "--io", &io, "--grads", &io],
        3,
        &["expected gradients under the names"],
    );
}

/// A folder of those under golden/folders, copied, with files and keys that only other tools know.
fn borrowed(name: &str, to: &Path) {
    let from = Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/golden/folders").join(name);
    fs::create_dir(to).expect("folder");
    for entry in fs::read_dir(from).expect("golden folder").map(|entry| entry.expect("a file")) {
        fs::copy(entry.path(), to.join(entry.file_name())).expect("copy");
    }
    fs::write(to.join("README.md"), "Of crows").expect("file");
    fs::write(to.join("preprocessor.json"), "{\"size\": 3}").expect("file");
    for file in ["config.json", "generation_config.json", "tokenizer_config.json"] {
        let Ok(bytes) = fs::read(to.join(file)) else { continue };
        let mut json: Value = serde_json::from_slice(&bytes).expect("JSON");
        json["made_by"] = serde_json::json!({"tool": "another", "steps": [1, null, 2.5]});
        fs::write(to.join(file), json.to_string()).expect("file");
    }
}

/// Every key of a JSON file that is not what it was.
fn changed_keys(before: &Path, after: &Path) -> Vec<String> {
    let [before, after] = [before, after].map(|path| -> Value {
        serde_json::from_slice(&fs::read(path).unwrap_or_else(|_| panic!("{}", path.display()))).expect("JSON")
    });
    let keys = before.as_object().expect("an object").iter();
    keys.filter(|(key, value)| after.get(key.as_str()) != Some(value)).map(|(key, _)| key.clone()).collect()
}

/// The tensors of a model folder, by names without the prefix that bare models lack.
fn tensors_of(folder: &Path) -> std::collections::BTreeMap<String, (Vec<usize>, Vec<f32>)> {
    let weights = samara::model_folder::safetensors::Weights::open(folder).expect("weights");
    let tensor = |name: &str| {
        let shape = weights.shape(name).expect("shape").to_vec();
        let mut values = vec![0.0; shape.iter().product()];
        weights.read(name, &shape, &mut values).expect("values");
        (name.trim_start_matches("transformer.").to_owned(), (shape, values))
    };
    weights.names().map(tensor).collect()
}

#[test]
fn one_step_of_training_changes_the_weights_of_a_folder_and_nothing_else() {
    let folder = temporary();
    let at = folder.path();
    fs::write(at.join("text.txt"), "the crow and the fox ".repeat(60)).expect("text");
    fs::write(at.join("ids.bin"), (0..400u16).flat_map(|i| (i * 7 % 61).to_le_bytes()).collect::<Vec<_>>()).expect("ids");
    let golden = Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/golden/folders");
    let entries = fs::read_dir(golden).expect("golden folders").map(|entry| entry.expect("an entry"));
    let names: Vec<String> =
        entries.filter(|e| e.path().is_dir()).map(|e| e.file_name().into_string().expect("a name")).collect();
    assert_eq!(names.len(), 10);
    for name in &names {
        let (from, to) = (at.join(name), at.join(format!("{name}-tuned")));
        borrowed(name, &from);
        let has_text = from.join("tokenizer.json").exists() || from.join("vocab.json").exists();
        let tuned = to.display().to_string();
        let begin = ["train", "--init", name, "--data", if has_text { "text.txt" } else { "ids.bin" }, "--out", &tuned, "-q"];
        let keys = ["train.steps=1", "train.lr=1e-3", "train.warmup_steps=0", "train.eval_every=0", "train.batch_size=2"];
        let sets: Vec<&str> =
            keys.into_iter().chain(["train.block_size=16", "generate.max_new_tokens=0"]).flat_map(|key| ["--set", key]).collect();
        let more: &[&str] = if has_text { &["--set", "data.val_fraction=0"] } else { &[] };
        done(at, &[&begin[..], &sets, more].concat());
        // Weights are f32, and have the names of a model with its head.
        let known = ["dtype", "torch_dtype"].into_iter().chain((name == "gpt2-bare-no-tokenizer").then_some("architectures"));
        let known: Vec<&str> = known.collect();
        for entry in fs::read_dir(&from).expect("folder").map(|entry| entry.expect("a file")) {
            let file = entry.file_name().into_string().expect("a name");
            match file.as_str() {
                "config.json" | "generation_config.json" => {
                    let changed = changed_keys(&entry.path(), &to.join(&file));
                    assert!(changed.iter().all(|key| known.contains(&key.as_str())), "{name}/{file}: {changed:?}");
                }
                _ if file.contains(".safetensors") => {}
                _ => assert_eq!(fs::read(to.join(&file)).expect(&file), fs::read(entry.path()).expect(&file), "{name}/{file}"),
            }
        }
        let (before, after) = (tensors_of(&from), tensors_of(&to));
        assert_eq!(before.keys().collect::<Vec<_>>(), after.keys().collect::<Vec<_>>(), "{name}");
        let mut most = 0.0_f32;
        for (tensor, (shape, values)) in &before {
            let (found, now) = &after[tensor];
            assert_eq!(shape, found, "{name}: {tensor}");
            most = values.iter().zip(now).fold(most, |most, (a, b)| most.max((a - b).abs()));
        }
        // A step of AdamW is at most the learning rate, and a decay of a small part of it.
        assert!(most > 1e-4 && most < 1.5e-3, "{name}: a weight moved by {most}");
    }
}
