//! `plan`, `train`, `bench step`: runs, signals, what is not overwritten.

use super::*;

/// Llama 2 7B, more parameters than 2³²: planning takes memory for its tables alone.
#[test]
fn billions_of_parameters_are_planned() {
    let folder = temporary();
    let llama = [
        "model.model_type=llama",
        "model.vocab_size=32000",
        "model.hidden_size=4096",
        "model.intermediate_size=11008",
        "model.num_hidden_layers=32",
        "model.num_attention_heads=32",
        "model.num_key_value_heads=32",
        "model.max_position_embeddings=4096",
        "model.tie_word_embeddings=false",
    ];
    let sets = llama.iter().flat_map(|set| ["--set", set]);
    let plan: Vec<&str> = ["plan", "--json", "--set", "train.recompute=blocks"].into_iter().chain(sets).collect();
    let plan: Value = serde_json::from_str(&done(folder.path(), &plan)).expect("JSON");
    let parameters = plan["parameters"].as_u64().expect("a number");
    assert_eq!(parameters, 6_738_415_616);
    let bytes = |class: &str| {
        let classes = plan["memory"].as_array().expect("memory");
        classes.iter().find(|entry| entry["class"] == class).and_then(|entry| entry["bytes"].as_u64()).expect("bytes")
    };
    for class in ["weights", "gradients"] {
        assert!((4 * parameters..=4 * parameters + 64 * 1024).contains(&bytes(class)), "{class}: {plan}");
    }
    assert_eq!(bytes("optimizer"), 2 * bytes("weights"));
}

#[test]
fn plan_counts_and_writes_nothing() {
    let folder = temporary();
    let plan = done(folder.path(), &tiny(&["plan", "--json"], &["--time"]));
    let plan: Value = serde_json::from_str(&plan).expect("JSON");
    // V·C + P·C + (12·C² + 13·C) + 2·C with V = 256, C = 8, P = 16.
    assert_eq!(plan["parameters"], 256 * 8 + 16 * 8 + 12 * 64 + 13 * 8 + 16);
    assert_eq!(plan["tokens_per_step"], 32);
    assert!(plan["seconds_per_step"].as_f64().expect("time") > 0.0);
    let sum: u64 = plan["memory"].as_array().expect("memory").iter().filter_map(|class| class["bytes"].as_u64()).sum();
    assert_eq!(plan["resident_bytes"].as_u64().expect("sum"), sum);
    assert!(done(folder.path(), &tiny(&["train", "--plan"], &[])).contains("total memory"));
    assert!(plan["peak"].is_null() && plan["policies"][0]["recompute"] == "none" && plan["policies"][0]["chosen"] == true);
    let plan = done(folder.path(), &tiny(&["plan", "--peak"], &["--set", "train.recompute=blocks"]));
    assert!(plan.contains("train.recompute=blocks") && plan.contains("The memory peak of the arena is at "), "{plan}");
    // Every block is listed under one name, and nothing that the block's forward pass kept.
    assert!(plan.contains("h.*.") && !plan.contains("h.0.") && !plan.contains("forward: attention"), "{plan}");
    let small = tiny(&["plan"], &["--set", "model.n_embd=256", "--set", "train.memory_budget_mib=1"]);
    let refusal = ["train.memory_budget_mib: expected at least", "\"blocks\" takes", "a smaller model", "found 1"];
    refused(folder.path(), &small, 2, &refusal);
    assert_eq!(fs::read_dir(folder.path()).expect("folder").count(), 0);
}

#[test]
fn a_run_from_training_to_text() {
    let folder = temporary();
    let at = folder.path();
    let trained = samara(
        at,
        &tiny(&["train", "--out", "run", "--threads", "1"], &["--set", "train.steps=4", "--set", "train.eval_every=2"]),
    );
    assert_eq!(trained.status.code(), Some(0), "{}", text(&trained.stderr));
    assert!(text(&trained.stdout).starts_with("4 steps, train loss "));
    assert!(text(&trained.stderr).contains("samara generate --model run"));
    for output in [&trained.stdout, &trained.stderr] {
        assert!(!output.contains(&0x1b) && !output.contains(&b'\r'), "no escapes without a terminal");
    }
    let run: Value = serde_json::from_str(&done(at, &["inspect", "run", "--json"])).expect("JSON");
    assert_eq!((&run["run"]["step"], &run["model"]["n_embd"], &run["tokenizer"]["kind"]), (&4.into(), &8.into(), &"byte".into()));
    // Going on after the last step does nothing; another learning rate is refused.
    let quiet = samara(at, &["train", "--out", "run", "--resume", "--quiet"]);
    assert_eq!((quiet.status.code(), text(&quiet.stderr)), (Some(0), String::new()));
    refused(at, &["train", "--out", "run", "--resume", "--set", "train.lr=0.5"], 2, &["run.toml", "train.lr = 0.001, now 0.5"]);
    // The text does not depend on the number of threads.
    let generate = |threads: &str| {
        done(at, &["generate", "--model", "run", "--prompt", "a", "--max-new-tokens", "20", "--threads", threads, "-q"])
    };
    let one = generate("1");
    assert!(one.starts_with('a') && one.ends_with('\n'));
    assert_eq!(one, generate("3"));
    let with = |more: &[&'static str]| [&["generate", "--model", "run", "--prompt", "a", "--max-new-tokens", "5"], more].concat();
    assert!(done(at, &with(&["--kv-cache", "f16"])).starts_with('a'));
    refused(at, &with(&["--kv-cache", "q8"]), 2, &["--kv-cache q8: the keys of a token are 8 values", "multiple of 32", "f16"]);
    refused(at, &with(&["--kv-cache", "q4"]), 2, &["q4", "f32, f16, q8"]);
    let widths = ["--quantize q8: tensor wte.weight has rows of 8 numbers, expected a multiple of 32; leave --quantize out"];
    refused(at, &with(&["--quantize", "q8"]), 2, &widths);
    refused(at, &["score", "--model", "run", "--text", "abc", "--quantize", "q8"], 2, &widths);
    refused(at, &["eval", "--model", "run", "--data", "text.txt", "--quantize", "q8"], 2, &widths);
    // Evaluation of a text, and of its last tenth.
    fs::write(at.join("text.txt"), "Once upon a time. ".repeat(20)).expect("file");
    let eval = |split: &str| -> Value {
        serde_json::from_str(&done(at, &["eval", "--model", "run", "--data", "text.txt", "--split", split, "--json"]))
            .expect("JSON")
    };
    let (all, val) = (eval("all"), eval("val"));
    assert_eq!((&all["tokens"], &val["tokens"]), (&359.into(), &35.into()));
    for outcome in [all, val] {
        let (loss, perplexity) = (outcome["loss"].as_f64().expect("loss"), outcome["perplexity"].as_f64().expect("perplexity"));
        assert!((loss.exp() - perplexity).abs() < 1e-9 * perplexity);
        assert!(outcome["bits_per_byte"].as_f64().expect("bits") > 0.0);
    }
    // A folder with weights that lost their end.
    let weights = at.join("run/model.safetensors");
    let bytes = fs::read(&weights).expect("weights");
    fs::write(&weights, &bytes[..bytes.len() - 8]).expect("weights");
    refused(at, &["generate", "--model", "run"], 3, &["run/model.safetensors", "truncated"]);
    fs::write(at.join("run/config.json"), "{").expect("config");
    refused(at, &["generate", "--model", "run"], 3, &["run/config.json:1:1: not JSON"]);
}

#[test]
fn divergence_is_exit_code_5() {
    let folder = temporary();
    let wild = ["train.lr=1000", "train.min_lr=1000", "train.weight_decay=10", "train.warmup_steps=0", "train.steps=60"];
    let sets: Vec<&str> = wild.iter().flat_map(|set| ["--set", *set]).collect();
    refused(folder.path(), &tiny(&["train", "--out", "run"], &sets), 5, &["diverged", "not finite", "train.lr"]);
}

#[cfg(unix)]
#[test]
fn signals_stop_a_run_that_can_be_resumed() {
    // Under `nohup` SIGHUP is ignored, by this test and by what it starts.
    let ignored = fs::read_to_string("/proc/self/status").unwrap_or_default();
    let ignored =
        ignored.lines().find_map(|line| line.strip_prefix("SigIgn:")).and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok());
    let hang_up = ignored.is_none_or(|mask| mask & 1 == 0).then_some(("-HUP", 129));
    for (signal, code) in [("-INT", 130), ("-TERM", 143)].into_iter().chain(hang_up) {
        let folder = temporary();
        let args = tiny(&["train", "--out", "run", "--set", "train.steps=1000000", "--set", "train.eval_every=0"], &[]);
        let child = command(folder.path(), &args).stdout(Stdio::null()).stderr(Stdio::piped()).spawn().expect("the binary runs");
        let (metrics, begun) = (folder.path().join("run/metrics.jsonl"), Instant::now());
        while fs::metadata(&metrics).map_or(0, |m| m.len()) == 0 && begun.elapsed() < Duration::from_secs(60) {
            std::thread::sleep(Duration::from_millis(20));
        }
        let killed = Command::new("kill").args([signal, &child.id().to_string()]).status().expect("kill");
        assert!(killed.success());
        let output = child.wait_with_output().expect("an end");
        let error = text(&output.stderr);
        assert_eq!(output.status.code(), Some(code), "{error}");
        assert!(error.contains("--resume") && error.contains("stopping after the current batch"), "{error}");
        assert!(!folder.path().join("run/run.lock").exists());
        let checkpoints = fs::read_dir(folder.path().join("run/checkpoints")).expect("checkpoints").count();
        assert!(checkpoints >= 1);
    }
}

#[test]
fn bad_data_is_exit_code_3_and_absent_files_are_4() {
    let folder = temporary();
    let at = folder.path();
    refused(at, &tiny(&["train", "--data", "absent.txt", "--out", "run"], &[]), 4, &["absent.txt"]);
    fs::write(at.join("bad.jsonl"), "{\"text\": \"a\"}\n{\"text\": 3}\n").expect("file");
    refused(at, &tiny(&["train", "--data", "bad.jsonl", "--out", "run"], &[]), 3, &["bad.jsonl:2:10"]);
    fs::write(at.join("latin.txt"), [b'a', 0xe4, b'b']).expect("file");
    refused(at, &tiny(&["train", "--data", "latin.txt", "--out", "run"], &[]), 3, &["latin.txt"]);
    fs::write(at.join("short.txt"), "abc").expect("file");
    refused(at, &tiny(&["train", "--data", "short.txt", "--out", "run"], &[]), 3, &["tokens"]);
    let no_model = ["config.json: cannot read", "expected a model folder, such as samara train and transformers write"];
    refused(at, &["generate", "--model", "absent"], 4, &no_model);
    refused(at, &["generate", "--model", "short.txt"], 4, &no_model);
    refused(at, &["plan", "--data", "absent.txt"], 4, &["absent.txt: cannot read"]);
    refused(at, &["score", "--model", &golden("gpt2-2layer"), "--tokens", "1"], 3, &["1 tokens, expected at least 2", "longer"]);
    if cfg!(unix) {
        let device = ["/dev/zero: expected a file, a folder or a pipe, found a device"];
        refused(at, &tiny(&["train", "--data", "/dev/zero", "--out", "run"], &[]), 3, &device);
        refused(at, &["assign", "/dev/zero"], 3, &device);
    }
    fs::write(at.join("tokenizer.json"), "hello").expect("file");
    let not_json = ["tokenizer.json:1:1: expected a tokenizer's JSON file, found: expected value"];
    refused(at, &["tokenizer", "encode", "--tokenizer", "tokenizer.json", "--text", "x"], 3, &not_json);
    fs::remove_file(at.join("tokenizer.json")).expect("file");
    refused(at, &["inspect", "absent"], 4, &["absent: cannot read"]);
    refused(at, &["inspect", "short.txt"], 3, &["short.txt: expected .safetensors"]);
    refused(at, &["inspect", "."], 3, &["expected a model folder"]);
    refused(
        at,
        &["score", "--model", &golden("gpt2-2layer"), "--tokens", "1,61"],
        3,
        &["token 1 has id 61, expected an id below 61"],
    );
    refused(
        at,
        &["score", "--model", &golden("gpt2-2layer"), "--text", "x"],
        3,
        &[
            "the folder has no tokenizer: add tokenizer.json, or vocab.json and merges.txt, or vocab.txt, or give token ids with --tokens",
        ],
    );
    refused(
        at,
        &["score", "--model", &golden("gptneo-banded"), "--tokens", "1,2"],
        3,
        &["config.json: model_type", "\"gpt_neo\""],
    );
}

#[test]
fn a_profile_accounts_for_every_node_of_a_step() {
    let folder = temporary();
    let sizes = ["n_embd=16", "n_layer=2", "n_head=2", "n_positions=16", "vocab_size=61"].map(|size| format!("model.{size}"));
    let batch = ["train.batch_size=2", "train.block_size=8", "train.grad_accumulation=3"].map(str::to_owned);
    let set: Vec<&str> = sizes.iter().chain(&batch).flat_map(|key| ["--set", key]).collect();
    let profile = |kind| -> Value {
        let args = [&["bench", kind, "--profile", "--json", "--repeats", "1"], set.as_slice()].concat();
        serde_json::from_str(&done(folder.path(), &args)).expect("JSON")
    };
    let step = profile("step");
    let rows = step["profile"]["rows"].as_array().expect("rows");
    let calls = |name: &str| rows.iter().find(|row| row["name"] == name).map(|row| row["calls"].as_u64().expect("a count"));
    // Two blocks and three micro-batches; one update of each group of parameters.
    assert_eq!(calls("attention"), Some(6), "{rows:?}");
    assert_eq!(calls("linear backward 16x16x48"), Some(6), "{rows:?}");
    assert_eq!(calls("AdamW"), Some(2), "{rows:?}");
    let sum = |key: &str| rows.iter().map(|row| row[key].as_f64().expect("a number")).sum::<f64>();
    assert!((sum("share") - 1.0).abs() < 1e-9);
    for key in ["milliseconds", "floor_milliseconds"] {
        let total = step["profile"]["total"][key].as_f64().expect("a number");
        assert!(total > 0.0 && (sum(key) - total).abs() <= 1e-9 * total, "{key} {total}");
    }
    let token = profile("decode");
    assert_eq!(token["rows"].as_array().map(Vec::len), Some(2));
    assert!(token["profile"]["rows"].as_array().expect("rows").iter().any(|row| row["name"] == "linear 1x16x61"), "{token}");
}

#[test]
fn the_model_of_somebody_else_is_not_overwritten() {
    let folder = temporary();
    let at = folder.path();
    fs::create_dir(at.join("model")).expect("folder");
    for file in ["config.json", "model.safetensors"] {
        fs::copy(Path::new(&golden("gpt2-2layer")).join(file), at.join("model").join(file)).expect("copy");
    }
    for resume in [&[][..], &["--resume"]] {
        let args = tiny(&["train", "--out", "model"], resume);
        refused(
            at,
            &args,
            2,
            &["model: the folder contains a model without a run (no run.toml)", "another --out", "--init model"],
        );
    }
    assert_eq!(fs::read_dir(at.join("model")).expect("folder").count(), 2);
}

#[cfg(unix)]
#[test]
fn a_run_goes_on_when_nobody_listens() {
    let folder = temporary();
    let args = tiny(&["train", "--out", "run"], &["--set", "train.steps=2"]);
    let mut child = command(folder.path(), &args).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("binary");
    drop(child.stderr.take());
    let output = child.wait_with_output().expect("end");
    assert_eq!(output.status.code(), Some(0));
    assert!(text(&output.stdout).starts_with("2 steps"));
}

#[test]
fn a_run_without_a_validation_part_goes_on() {
    let folder = temporary();
    let at = folder.path();
    let flags = ["--set", "data.val_fraction=0", "-q", "--set"];
    done(at, &tiny(&["train", "--out", "run"], &[&flags[..], &["train.steps=2"]].concat()));
    done(at, &["train", "--resume", "--out", "run", "-q", "--set", "train.steps=4"]);
    assert!(at.join("run/checkpoints/step-0000004").exists());
}

#[test]
fn keys_of_a_model_are_those_of_the_folder_that_a_run_begins_with() {
    let folder = temporary();
    let at = folder.path();
    let ids: Vec<u8> = (0..4000u32).flat_map(|i| ((i % 40) as u16).to_le_bytes()).collect();
    fs::write(at.join("ids.bin"), ids).expect("ids");
    let from = golden("parity-qwen2");
    let begin = ["train", "--init", &from, "--data", "ids.bin", "--out", "run", "--set"];
    refused(
        at,
        &[&begin[..], &["model.n_positions=8"]].concat(),
        2,
        &["unknown key `model.n_positions`", "in a model of type qwen2"],
    );
    refused(at, &[&begin[..], &["model.rope_theta=0"]].concat(), 2, &["model.rope_theta: expected a number from 1 to"]);
}

#[test]
fn a_run_by_another_optimizer_reads_its_own_file_again() {
    let folder = temporary();
    let at = folder.path();
    let flags = ["-q", "--set", "train.optimizer=sgd", "--set", "train.momentum=0.9", "--set"];
    done(at, &tiny(&["train", "--out", "run"], &[&flags[..], &["train.steps=2"]].concat()));
    done(at, &["train", "--resume", "--out", "run", "-q", "--set", "train.steps=3"]);
    done(at, &["train", "--config", "run/run.toml", "--out", "again", "-q"]);
    // A file written for AdamW, with its defaults.
    done(at, &tiny(&["train", "--out", "adamw", "-q", "--set", "train.steps=1"], &[]));
    done(at, &["train", "--config", "adamw/run.toml", "--out", "sgd", "-q", "--set", "train.optimizer=sgd"]);
}

#[test]
fn a_run_without_its_checkpoints_is_left_alone() {
    let folder = temporary();
    let at = folder.path();
    let said = done(at, &tiny(&["train", "--out", "run", "--json"], &["--set", "train.steps=3"]));
    let outcome: Value = serde_json::from_str(&said).expect("one object");
    assert_eq!((outcome["schema"].as_u64(), outcome["steps"].as_u64(), outcome["out"].as_str()), (Some(1), Some(3), Some("run")));
    assert_eq!((outcome["measure"]["name"].as_str(), outcome["val_loss"].is_f64()), (Some("loss"), true), "{outcome}");
    fs::remove_dir_all(at.join("run/checkpoints")).expect("checkpoints");
    let files = |name: &str| fs::read(at.join("run").join(name)).expect("a file");
    let before = ["model.safetensors", "best/model.safetensors", "metrics.jsonl", "run.toml"].map(files);
    let way = "samara train --config run/run.toml --init run --out run-2";
    let held = "metrics of 3 steps, a model, a model in best/";
    refused(at, &["train", "--resume", "--out", "run"], 2, &["run: no checkpoint to resume from", held, way]);
    refused(at, &tiny(&["train", "--out", "run"], &[]), 2, &["already contains a run", held, "--resume"]);
    assert!(["model.safetensors", "best/model.safetensors", "metrics.jsonl", "run.toml"].map(files) == before);
    assert!(!at.join("run/checkpoints").exists() && !at.join("run/run.lock").exists());
    done(at, &[&way.split(' ').skip(1).collect::<Vec<_>>()[..], &["-q"]].concat());
    // Metrics alone.
    for name in ["model.safetensors", "config.json"] {
        fs::remove_file(at.join("run").join(name)).expect("a file");
    }
    fs::remove_dir_all(at.join("run/best")).expect("best");
    refused(at, &["train", "--resume", "--out", "run"], 2, &["metrics of 3 steps; choose another --out, or remove run"]);
}

#[test]
fn resuming_nothing_needs_to_know_what_to_train() {
    let folder = temporary();
    let at = folder.path();
    let nothing = ["new: no run to resume", "--preset, --config or --data"];
    refused(at, &["train", "--resume", "--out", "new", "--set", "train.steps=1"], 2, &nothing);
    assert!(!at.join("new").exists());
    let begun = samara(at, &tiny(&["train", "--resume", "--preset", "tales", "--out", "new"], &["--set", "train.steps=1"]));
    assert_eq!(begun.status.code(), Some(0), "{}", text(&begun.stderr));
    assert!(text(&begun.stderr).contains("note: new has no checkpoint to resume from: a new run begins"));
    // A finished run says so, and is left as it is.
    let [samples, model] = ["new/samples.txt", "new/model.safetensors"].map(|name| fs::read(at.join(name)).expect("a file"));
    // A kill between the last checkpoint and its model leaves the model of an earlier one.
    fs::write(at.join("new/model.safetensors"), "of an earlier step").expect("a file");
    let again = samara(at, &["train", "--resume", "--out", "new"]);
    assert!(text(&again.stderr).contains("new is finished: all its 1 steps are done"), "{}", text(&again.stderr));
    assert!(fs::read(at.join("new/samples.txt")).expect("samples") == samples);
    assert!(fs::read(at.join("new/model.safetensors")).expect("a model") == model);
    let more = samara(at, &["train", "--resume", "--out", "new", "--set", "train.steps=2"]);
    assert!(text(&more.stderr).contains("new resumes at step 1 of 2"), "{}", text(&more.stderr));
    let fewer = text(&samara(at, &["train", "--resume", "--out", "new", "--set", "train.steps=1"]).stderr);
    assert!(fewer.contains("new is finished: 2 steps are done, and train.steps is 1; to continue: "), "{fewer}");
    assert!(!fewer.contains("schedule"), "{fewer}");
}

#[test]
fn a_refused_training_leaves_no_folder() {
    let folder = temporary();
    let at = folder.path();
    refused(at, &tiny(&["train", "--data", "absent.txt", "--out", "a/b/run"], &[]), 4, &["absent.txt"]);
    refused(at, &["train", "--data", "absent.txt"], 4, &["absent.txt"]);
    let bpe = ["data.tokenizer=bpe", "data.tokenizer_vocab_size=400", "model.vocab_size=300"];
    let bpe: Vec<&str> = bpe.iter().flat_map(|set| ["--set", set]).collect();
    let small = ["model.vocab_size: expected at least 399, the ids of text in the tokenizer"];
    refused(at, &tiny(&["train", "--out", "a/b/run"], &bpe), 2, &small);
    refused(at, &tiny(&["train"], &bpe), 2, &small);
    assert_eq!(fs::read_dir(at).expect("folder").count(), 0);
    fs::create_dir(at.join("run")).expect("folder");
    fs::write(at.join("run/notes.md"), "mine").expect("a file");
    refused(at, &tiny(&["train", "--data", "absent.txt", "--out", "run"], &[]), 4, &["absent.txt"]);
    assert_eq!(fs::read_dir(at.join("run")).expect("folder").count(), 1);
}

/// Two processes at a run, at several moments: one of them is refused and names the other, and the run is whole.
#[test]
fn two_processes_do_not_share_a_run() {
    let folder = temporary();
    let at = folder.path();
    done(at, &tiny(&["train", "--out", "run", "-q"], &["--set", "train.steps=2"]));
    for (round, wait) in [0, 20, 60].into_iter().enumerate() {
        let steps = format!("train.steps={}", 300 * (round + 1));
        let args = ["train", "--resume", "--out", "run", "-q", "--set", &steps, "--set", "train.checkpoint_every=20"];
        let start = || command(at, &args).stdout(Stdio::null()).stderr(Stdio::piped()).spawn().expect("the binary runs");
        let first = start();
        std::thread::sleep(Duration::from_millis(wait));
        let second = start();
        let ids = [first.id(), second.id()];
        let outputs = [first, second].map(|child| child.wait_with_output().expect("an end"));
        let codes = outputs.each_ref().map(|output| output.status.code());
        match codes {
            [Some(0), Some(2)] => assert!(text(&outputs[1].stderr).contains(&format!("another process (pid {})", ids[0]))),
            [Some(2), Some(0)] => assert!(text(&outputs[0].stderr).contains(&format!("another process (pid {})", ids[1]))),
            _ => assert_eq!(codes, [Some(0), Some(0)], "one after the other"),
        }
        let metrics = fs::read_to_string(at.join("run/metrics.jsonl")).expect("metrics");
        assert_eq!(metrics.lines().count(), 300 * (round + 1) + 1);
    }
}

#[cfg(unix)]
#[test]
fn a_checkpoint_on_request_does_not_end_a_run() {
    let folder = temporary();
    let more = ["--set", "train.steps=1000000", "--set", "train.eval_every=0", "--set", "train.checkpoint_every=0"];
    let child = command(folder.path(), &tiny(&["train", "--out", "run", "-q"], &more)).stderr(Stdio::null()).spawn();
    let mut child = child.expect("the binary runs");
    let until = |done: &dyn Fn() -> bool| {
        let begun = Instant::now();
        while !done() && begun.elapsed() < Duration::from_secs(60) {
            std::thread::sleep(Duration::from_millis(10));
        }
        assert!(done());
    };
    let kill = |signal: &str| {
        assert!(Command::new("kill").args([signal, &child.id().to_string()]).status().expect("kill").success());
    };
    let lines = || fs::read_to_string(folder.path().join("run/metrics.jsonl")).map_or(0, |text| text.lines().count());
    until(&|| lines() > 3);
    kill("-USR1");
    let saved = || fs::read_dir(folder.path().join("run/checkpoints")).map_or(0, Iterator::count);
    until(&|| saved() == 1);
    let then = lines();
    until(&|| lines() > then + 3);
    kill("-TERM");
    assert_eq!(child.wait().expect("an end").code(), Some(143));
}

/// A run with evaluations, samples and checkpoints at different steps.
#[cfg(unix)]
fn eventful(out: &str) -> Vec<&str> {
    let keys =
        ["train.steps=300", "train.eval_every=6", "train.sample_every=25", "train.checkpoint_every=40", "train.ema_decay=0.9"];
    let sets = keys.into_iter().chain(["train.grad_accumulation=2", "train.eval_batches=20"]).flat_map(|key| ["--set", key]);
    let begin = ["train", "--resume", "--preset", "tales", "--out", out, "-q"];
    tiny(&begin, &sets.collect::<Vec<_>>())
}

/// What such a run leaves, without what clocks say.
#[cfg(unix)]
fn left(run: &Path) -> (Vec<Value>, Vec<Vec<u8>>) {
    let metrics = fs::read_to_string(run.join("metrics.jsonl")).expect("metrics");
    let record = |line: &str| {
        let mut record: Value = serde_json::from_str(line).expect("a record");
        let values = record.as_object_mut().expect("an object");
        for clock in ["tokens_per_s", "wall_s"] {
            values.remove(clock);
        }
        record
    };
    let files = ["checkpoints/step-0000300/training.safetensors", "model.safetensors", "best/model.safetensors", "samples.txt"];
    (metrics.lines().map(record).collect(), files.map(|file| fs::read(run.join(file)).expect(file)).to_vec())
}

/// The newest checkpoint is that of the last step on record, or of one whose record is to be written again.
#[cfg(unix)]
fn nothing_but_the_step_in_hand_is_lost(run: &Path) {
    let metrics = fs::read_to_string(run.join("metrics.jsonl")).unwrap_or_default();
    let last = metrics.lines().last().map_or(0, |line| {
        let record: Value = serde_json::from_str(line).expect("a record");
        record["step"].as_u64().expect("a step")
    });
    let steps = fs::read_dir(run.join("checkpoints")).expect("checkpoints").map(|entry| entry.expect("an entry").file_name());
    let newest = steps.filter_map(|name| name.to_str()?.strip_prefix("step-")?.parse::<u64>().ok()).max();
    assert!(newest >= Some(last), "step {last} is recorded, {newest:?} is saved");
}

/// Sends so many signals to runs at moments that a generator of random numbers chooses; each run goes on until it is done.
#[cfg(unix)]
fn interrupted_runs_are_whole(signals: u64) {
    let folder = temporary();
    let at = folder.path();
    done(at, &eventful("whole"));
    let whole = left(&at.join("whole"));
    let (mut sent, mut random) = (0, 12345_u64);
    while sent < signals {
        let _ = fs::remove_dir_all(at.join("run"));
        let metrics = || fs::read(at.join("run/metrics.jsonl")).unwrap_or_default();
        loop {
            let before = metrics();
            let child =
                command(at, &eventful("run")).stdout(Stdio::null()).stderr(Stdio::piped()).spawn().expect("the binary runs");
            random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            std::thread::sleep(Duration::from_micros((random >> 33) % 120_000));
            // After SIGKILL a run goes on from its last checkpoint; SIGUSR1 does not end it.
            let all = [("-INT", 130), ("-KILL", -1), ("-TERM", 143), ("-USR1", 0), ("-HUP", 129)];
            let (signal, code) = all[sent as usize % all.len()];
            // It may be done already.
            let _ = Command::new("kill").args([signal, &child.id().to_string()]).stderr(Stdio::null()).status();
            sent += 1;
            let output = child.wait_with_output().expect("an end");
            match output.status.code() {
                Some(0) => break,
                // None: before the process listened.
                other => assert!(other == Some(code) || other.is_none(), "{other:?}: {}", text(&output.stderr)),
            }
            // A process that was ended before it trained leaves what one before it left, which may have been killed.
            if output.status.code().is_some() && metrics() != before {
                nothing_but_the_step_in_hand_is_lost(&at.join("run"));
            }
        }
        let (records, files) = left(&at.join("run"));
        assert_eq!(records, whole.0, "after {sent} signals");
        let same: Vec<bool> = files.iter().zip(&whole.1).map(|(now, then)| now == then).collect();
        assert_eq!(same, [true; 4], "after {sent} signals");
    }
}

/// The first best model of a run comes after a checkpoint: killed in between, it can be resumed.
#[cfg(unix)]
#[test]
fn a_run_killed_after_its_first_best_model_is_resumed() {
    let folder = temporary();
    let at = folder.path();
    let more = ["--set", "train.eval_every=2", "--set", "train.checkpoint_every=0", "--set"];
    let args = |steps| tiny(&["train", "--out", "run", "-q"], &[&more[..], &[steps]].concat());
    let mut child = command(at, &args("train.steps=1000000")).spawn().expect("the binary runs");
    let begun = Instant::now();
    while !at.join("run/best/model.safetensors").exists() && begun.elapsed() < Duration::from_secs(60) {
        std::thread::sleep(Duration::from_millis(5));
    }
    child.kill().and_then(|()| child.wait()).expect("an end");
    done(at, &["train", "--resume", "--out", "run", "-q", "--set", "train.steps=4"]);
    done(at, &tiny(&["train", "--out", "whole", "-q"], &[&more[..], &["train.steps=4"]].concat()));
    for file in ["model.safetensors", "best/model.safetensors"] {
        let [resumed, whole] = ["run", "whole"].map(|run| fs::read(at.join(run).join(file)).expect("weights"));
        assert!(resumed == whole, "{file}");
    }
}

#[cfg(unix)]
#[test]
fn signals_at_any_moment_change_no_bit() {
    // benches/interrupt.py does the same at length, and aims at every phase of a run.
    interrupted_runs_are_whole(10);
}

/// A limit of the address space, as batch systems set it.
#[cfg(target_os = "linux")]
#[test]
fn memory_that_cannot_be_had_is_an_error() {
    let folder = temporary();
    let limited = |args: &str| {
        let script = format!("ulimit -v 600000; exec {} {args}", env!("CARGO_BIN_EXE_samara"));
        let output = Command::new("sh").args(["-c", &script]).current_dir(folder.path()).output().expect("sh");
        (output.status.code(), text(&output.stderr))
    };
    let (code, error) = limited("train --preset gpt2-124m --out run --threads 1 --set data.tokenizer=byte");
    assert!(code == Some(1) && error.contains("MiB are left of its address space (ulimit -v); "), "{error}");
    assert!(error.contains("error: this training takes ") && error.contains("lower train.batch_size"), "{error}");
    let (code, error) = limited("bench step --preset gpt2-124m --threads 1");
    assert!(code == Some(1) && error.contains("error: cannot allocate 475 MiB of memory"), "{error}");
    assert_eq!(fs::read_dir(folder.path()).expect("folder").count(), 0);
}

/// A folder of GPT-2 with 153 million parameters, all of them holes in its file.
#[cfg(target_os = "linux")]
fn large_folder(folder: &Path) {
    let (ids, positions, width) = (50257, 1024, 1024);
    let config = serde_json::json!({
        "model_type": "gpt2", "vocab_size": ids, "n_positions": positions, "n_embd": width, "n_layer": 8, "n_head": 16,
    });
    let vectors = |names: &[&str], len: usize| names.iter().map(|name| ((*name).to_owned(), vec![len])).collect::<Vec<_>>();
    let mut shapes = vectors(&["ln_f.weight", "ln_f.bias"], width);
    shapes.extend([("wte.weight".to_owned(), vec![ids, width]), ("wpe.weight".to_owned(), vec![positions, width])]);
    for i in 0..8 {
        let mut block = vectors(&["ln_1.weight", "ln_1.bias", "ln_2.weight", "ln_2.bias"], width);
        for (name, rows, columns) in [("attn.c_attn", 1, 3), ("attn.c_proj", 1, 1), ("mlp.c_fc", 1, 4), ("mlp.c_proj", 4, 1)] {
            block.push((format!("{name}.weight"), vec![rows * width, columns * width]));
            block.push((format!("{name}.bias"), vec![columns * width]));
        }
        shapes.extend(block.into_iter().map(|(name, shape)| (format!("h.{i}.{name}"), shape)));
    }
    let (mut header, mut end) = (serde_json::Map::new(), 0);
    for (name, shape) in shapes {
        let begin = end;
        end += 4 * shape.iter().product::<usize>();
        let tensor = serde_json::json!({"dtype": "F32", "shape": shape, "data_offsets": [begin, end]});
        header.insert(format!("transformer.{name}"), tensor);
    }
    let header = Value::from(header).to_string();
    fs::create_dir(folder).expect("folder");
    fs::write(folder.join("config.json"), config.to_string()).expect("config");
    let mut file = fs::File::create(folder.join("model.safetensors")).expect("file");
    file.write_all(&(header.len() as u64).to_le_bytes()).and_then(|()| file.write_all(header.as_bytes())).expect("header");
    file.set_len((8 + header.len() + end) as u64).expect("holes");
}

/// A `.npy` file of zeros, which are holes.
#[cfg(target_os = "linux")]
fn zeros(path: &Path, dtype: &str, fortran: &str, (rows, columns, bytes): (usize, usize, usize)) {
    let mut header = format!("{{'descr': '{dtype}', 'fortran_order': {fortran}, 'shape': ({rows}, {columns}), }}");
    header.push_str(&" ".repeat(117 - header.len()));
    header.push('\n');
    let mut file = fs::File::create(path).expect("file");
    file.write_all(b"\x93NUMPY\x01\x00\x76\x00").and_then(|()| file.write_all(header.as_bytes())).expect("header");
    file.set_len((10 + header.len() + rows * columns * bytes) as u64).expect("holes");
}

/// Every command that takes memory says what it takes before it begins, and what to change.
#[cfg(target_os = "linux")]
#[test]
fn every_command_says_what_memory_it_lacks() {
    let folder = temporary();
    let at = folder.path();
    large_folder(&at.join("big"));
    fs::write(at.join("ids.bin"), (0..4000u32).flat_map(|i| ((i * 37 % 500) as u16).to_le_bytes()).collect::<Vec<_>>())
        .expect("ids");
    zeros(&at.join("wide.npy"), "<f8", "False", (6000, 12000, 8));
    zeros(&at.join("turned.npy"), "<f8", "True", (4000, 4000, 8));
    zeros(&at.join("bytes.npy"), "|u1", "False", (8000, 8000, 1));
    zeros(&at.join("tall.npy"), "|u1", "False", (4500, 4100, 1));
    fs::write(at.join("costs.txt"), ("1 ".repeat(1000) + "\n").repeat(16000)).expect("costs");
    fs::File::create(at.join("long.txt")).and_then(|file| file.set_len(900 << 20)).expect("text");
    fs::File::create(at.join("row.jsonl")).and_then(|file| file.set_len(900 << 20)).expect("a row");
    let before = fs::read_dir(at).expect("folder").count();
    let parity = format!("parity --model big --io {}/io.safetensors --threads 1", golden("parity-gpt2"));
    let (weights, way) = ("cannot allocate 585 MiB of memory: ", "a smaller model");
    let mapped = "big/model.safetensors: its content takes 585 MiB of memory, and ";
    for (args, parts) in [
        ("generate --model big --threads 1", [weights, way]),
        ("score --model big --tokens 1,2 --threads 1", [weights, way]),
        ("score --model big --tokens 1,2 --threads 1 --quantize q8", [mapped, "raise the limit (ulimit -v)"]),
        ("eval --model big --data ids.bin --threads 1", [weights, way]),
        ("export --model big --out big.samara", [weights, way]),
        (parity.as_str(), [weights, way]),
        ("train --init big --data ids.bin --out run --threads 1", ["this training takes ", "lower train.batch_size"]),
        ("plan --preset gpt2-124m --time --threads 1", ["cannot allocate 475 MiB of memory: ", way]),
        ("bench decode --preset gpt2-124m --threads 1", ["cannot allocate 475 MiB of memory: ", way]),
        ("assign wide.npy", ["wide.npy: its content takes 550 MiB of memory", "solve a part of it"]),
        ("assign turned.npy", ["turned.npy: its content takes 123 MiB of memory", "divide the array"]),
        ("assign bytes.npy", ["bytes.npy: its content takes ", "with more"]),
        ("assign tall.npy", ["tall.npy: its content takes 141 MiB of memory", "solve a part of it"]),
        ("assign costs.txt", ["costs.txt: its content takes 245 MiB of memory", "solve a part of it"]),
        ("train --data long.txt --out run --threads 1", ["long.txt: its content takes 900 MiB of memory", "rows of JSONL"]),
        ("train --data row.jsonl --out run --threads 1", ["row.jsonl: its content takes ", "split it into shorter ones"]),
        ("data check row.jsonl", ["row.jsonl: its content takes ", "split it into shorter ones"]),
        ("tokenizer train --data long.txt --out t", ["long.txt: its content takes 900 MiB of memory", "rows of JSONL"]),
    ] {
        let kib = if args.starts_with("assign") && !args.contains("wide") { 330_000 } else { 600_000 };
        let script = format!("ulimit -v {kib}; exec {} {args}", env!("CARGO_BIN_EXE_samara"));
        let output = Command::new("sh").args(["-c", &script]).current_dir(at).output().expect("sh");
        let error = text(&output.stderr);
        assert!(
            output.status.code() == Some(1) && error.contains("are left of its address space (ulimit -v)"),
            "{args}: {error}"
        );
        assert!(parts.iter().all(|part| error.contains(part)), "{args}: {error}");
    }
    assert_eq!(fs::read_dir(at).expect("folder").count(), before);
}

#[test]
fn what_does_not_count_is_said() {
    let folder = temporary();
    let at = folder.path();
    let said = |args: &[&str]| {
        let output = samara(at, args);
        assert_eq!(output.status.code(), Some(0), "{args:?}: {}", text(&output.stderr));
        text(&output.stderr)
    };
    // A preset's smallest learning rate follows.
    let small = ["train", "--preset", "nanogpt-char-cpu", "--out", "a", "--set", "train.steps=1", "--set", "train.lr=1e-5"];
    let lr = said(
        &tiny(&small, &[]).into_iter().map(|arg| if arg == "train.lr=1e-3" { "train.lr=1e-5" } else { arg }).collect::<Vec<_>>(),
    );
    assert!(lr.contains("note: train.min_lr is a tenth of train.lr = 1e-5: the preset's 1e-4 is larger than train.lr"), "{lr}");
    // Tokens end a run until steps do.
    done(at, &tiny(&["train", "--out", "b", "-q"], &["--set", "train.tokens=96"]));
    let more = said(&["train", "--resume", "--out", "b", "--set", "train.steps=5"]);
    assert!(more.contains("note: train.steps ends the run; train.tokens of the file has no effect"), "{more}");
    assert!(more.contains("train.steps was 3 and is 5") && more.contains("b resumes at step 3 of 5"), "{more}");
    let more = said(&["train", "--resume", "--out", "b", "--set", "train.tokens=224"]);
    assert!(more.contains("train.steps was 5 and is 7"), "{more}");
    let both = ["train", "--out", "c", "--set", "train.tokens=96", "--set", "train.steps=5"];
    refused(at, &both, 2, &["--set train.steps=5: train.steps: expected no value; train.tokens already ends the run"]);
    // What a folder says of a model, a preset does not.
    let init =
        ["train", "--init", "a", "--preset", "gpt2-124m", "--out", "d", "--set", "train.steps=1", "--set", "train.batch_size=1"];
    let init =
        said(&[&init[..], &["--set", "train.grad_accumulation=1", "--set", "generate.max_new_tokens=0"], &FEW_TALES].concat());
    let idle = "note: model.vocab_size, model.n_positions, model.n_embd, model.n_layer, model.n_head, data.tokenizer, train.block_size of";
    assert!(init.contains(idle) && init.contains("of preset gpt2-124m have no effect: a sets them"), "{init}");
    // A prompt that is longer than the model sees.
    let long = ["generate", "--model", "a", "--prompt", "a long and long and long text", "--max-new-tokens", "1"];
    assert!(said(&long).contains("note: the prompt has 29 tokens; the model has 16 positions and sees the last 16"));
    for key in ["data.text_field=body", "data.on_bad_row=skip", "data.id_type=u32", "data.tokenizer_vocab_size=300"] {
        refused(at, &tiny(&["train", "--out", "e"], &["--set", key]), 2, &["expected no value"]);
    }
}
