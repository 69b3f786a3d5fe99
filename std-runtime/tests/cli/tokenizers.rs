//! Tokenizers of folders: what every command makes of them, and of their special tokens.

use super::*;

/// A tokenizer of 266 ids in `tok`, whose last is <|endoftext|>, and a run of one step with it in `run`, whose data is `text.txt`.
fn trained(at: &Path, more: &[&str]) {
    fs::write(at.join("text.txt"), "the cat and the hat and the bat ".repeat(30)).expect("file");
    done(at, &["tokenizer", "train", "--data", "text.txt", "--vocab-size", "266", "--out", "tok", "-q"]);
    train(at, &[&["--data", "text.txt", "--out", "run", "--set", "data.tokenizer=tok"], more].concat());
}

/// Trains for a step; standard error.
fn train(at: &Path, args: &[&str]) -> String {
    let output = samara(at, &train_args(args));
    assert_eq!(output.status.code(), Some(0), "{args:?}: {}", text(&output.stderr));
    text(&output.stderr)
}

fn train_args<'a>(args: &[&'a str]) -> Vec<&'a str> {
    let step = [
        "--set",
        "train.steps=1",
        "--set",
        "train.eval_every=0",
        "--set",
        "generate.max_new_tokens=0",
        "--set",
        "train.batch_size=2",
    ];
    let small = ["--set", "train.block_size=8", "--set", "model.n_embd=8", "--set", "model.n_layer=1", "--set", "model.n_head=2"];
    let model: &[&str] = if args.contains(&"--init") { &[] } else { &small[2..] };
    [&["train"], args, &step, &small[..2], model].concat()
}

/// How often an id is in a shard of 16-bit ids.
fn count(shard: &Path, id: u16) -> usize {
    fs::read(shard).expect("shard").chunks(2).filter(|bytes| *bytes == id.to_le_bytes()).count()
}

fn write(path: &Path, json: &Value) {
    fs::write(path, json.to_string()).expect("file");
}

fn stderr(at: &Path, args: &[&str]) -> String {
    text(&samara(at, args).stderr)
}

#[test]
fn the_pair_of_files_is_a_tokenizer_everywhere() {
    let folder = temporary();
    let at = folder.path();
    trained(at, &[]);
    let commands: [&[&str]; 5] = [
        &["score", "--model", "run", "--text", "the cat<|endoftext|>", "--specials", "--json"],
        &["generate", "--model", "run", "--prompt", "the cat", "--max-new-tokens", "3"],
        &["eval", "--model", "run", "--data", "text.txt"],
        &["tokenizer", "encode", "--tokenizer", "run", "--text", "the <|endoftext|>", "--specials"],
        &["export", "--model", "run", "--out", "run.samara", "--json"],
    ];
    let before = commands.map(|args| done(at, args));
    fs::remove_file(at.join("run/tokenizer.json")).expect("file");
    for name in ["vocab.json", "merges.txt"] {
        fs::copy(at.join("tok").join(name), at.join("run").join(name)).expect("file");
    }
    fs::write(at.join("run/added_tokens.json"), "{\"<|user|>\": 266}").expect("file");
    for (args, before) in commands.into_iter().zip(before) {
        assert_eq!(done(at, args), before, "{args:?}");
    }
    train(at, &["--init", "run", "--data", "text.txt", "--out", "more"]);
    assert!(at.join("more/merges.txt").is_file() && !at.join("more/tokenizer.json").exists());
    // A token that was added to the tokenizer alone is in the way only where it occurs.
    assert_eq!(done(at, &["tokenizer", "encode", "--tokenizer", "run", "--text", "<|user|>"]), "266\n");
    let beyond = ["token \"<|user|>\" has id 266, beyond the model's vocabulary of 266 ids"];
    refused(at, &["score", "--model", "run", "--text", "a<|user|>"], 3, &beyond);
    refused(at, &["generate", "--model", "run", "--prompt", "<|user|>"], 3, &beyond);
    fs::write(at.join("user.txt"), "the cat <|user|> the hat ".repeat(9)).expect("file");
    refused(at, &["eval", "--model", "run", "--data", "user.txt"], 3, &beyond);
    refused(at, &train_args(&["--init", "run", "--data", "user.txt", "--out", "user"]), 3, &beyond);
    fs::write(at.join("run/added_tokens.json"), "{\"<|user|>\": \"x\"}").expect("file");
    refused(
        at,
        &["score", "--model", "run", "--text", "a"],
        3,
        &["added_tokens.json: \"<|user|>\": expected a token id, found \"x\""],
    );
}

#[test]
fn a_tokenizer_that_cannot_be_used_blocks_text_only() {
    let folder = temporary();
    let at = folder.path();
    trained(at, &[]);
    let score = done(at, &["score", "--model", "run", "--tokens", "1,2,3", "--json"]);
    let mut json: Value = serde_json::from_slice(&fs::read(at.join("run/tokenizer.json")).expect("file")).expect("JSON");
    json["normalizer"] = serde_json::json!({"type": "Precompiled"});
    write(&at.join("run/tokenizer.json"), &json);
    let problem = "tokenizer.json: normalizer: \"Precompiled\" is not supported; expected NFC, ";
    let note = stderr(at, &["score", "--model", "run", "--tokens", "1,2,3"]);
    assert!(note.starts_with("note: token ids only") && note.contains(problem), "{note}");
    assert_eq!(done(at, &["score", "--model", "run", "--tokens", "1,2,3", "--json"]), score);
    let shard = "run/data/train.bin";
    assert!(done(at, &["eval", "--model", "run", "--data", shard]).starts_with("loss "));
    let note = train(at, &["--init", "run", "--data", shard, "--out", "more"]);
    assert!(note.contains(problem) && at.join("more/tokenizer.json").is_file(), "{note}");
    done(at, &["export", "--model", "run", "--out", "run.samara"]);
    assert!(done(at, &["inspect", "run"]).contains("Precompiled"));
    refused(at, &["score", "--model", "run", "--text", "a"], 3, &[problem]);
    refused(at, &["eval", "--model", "run", "--data", "text.txt"], 3, &[problem]);
    refused(at, &["generate", "--model", "run"], 3, &[problem]);
    refused(at, &train_args(&["--init", "run", "--data", "text.txt", "--out", "x"]), 3, &[problem]);
    // What only a device does not run is left out of its file.
    json["normalizer"] = serde_json::json!({"type": "NFC"});
    write(&at.join("run/tokenizer.json"), &json);
    let note = stderr(at, &["export", "--model", "run", "--out", "run.samara", "--data", "text.txt"]);
    assert!(note.contains("its tokenizer has a normalizer, which devices do not support"), "{note}");
}

#[test]
fn special_tokens_in_text_are_characters_unless_asked_for() {
    let folder = temporary();
    let at = folder.path();
    trained(at, &[]);
    fs::write(at.join("stories.txt"), "the cat<|endoftext|>the hat<|endoftext|>".repeat(20)).expect("file");
    let args = ["--data", "stories.txt", "--set", "data.tokenizer=tok", "--set", "data.val_fraction=0", "--out"];
    let note = train(at, &[&args[..], &["plain"]].concat());
    let expected = "warning: stories.txt has the text of special token \"<|endoftext|>\" 40 times, encoded as characters; data.specials=true";
    assert!(note.contains(expected), "{note}");
    assert_eq!(count(&at.join("plain/data/train.bin"), 265), 0);
    let quiet = train(at, &[&args[..], &["quiet", "-q"]].concat());
    assert!(quiet.contains(expected) && quiet.lines().count() == 1, "{quiet}");
    let note = train(at, &[&args[..], &["tokens", "--set", "data.specials=true"]].concat());
    assert!(!note.contains("special token"), "{note}");
    assert_eq!(count(&at.join("tokens/data/train.bin"), 265), 40);
    for args in [
        &["score", "--model", "run", "--text", "<|endoftext|>the"][..],
        &["generate", "--model", "run", "--prompt", "<|endoftext|>the"],
        &["eval", "--model", "run", "--data", "stories.txt"],
        &["tokenizer", "encode", "--tokenizer", "tok", "--text", "<|endoftext|>the"],
    ] {
        assert!(stderr(at, args).contains("has the text of special token \"<|endoftext|>\""), "{args:?}");
        let with = stderr(at, &[args, &["--specials"]].concat());
        assert!(!with.contains("special token"), "{with}");
    }
    let ids = ["data.specials: expected false for token shards, which have their ids already; leave it out, found true"];
    refused(at, &["eval", "--model", "run", "--data", "run/data/train.bin", "--specials"], 2, &ids);
    let scored = done(at, &["score", "--model", "run", "--text", "<|endoftext|>the", "--specials", "--json"]);
    assert!(scored.starts_with("{\"tokens\":[265,"), "{scored}");
    // What the file puts around a text is put there when it is asked for.
    let mut json: Value = serde_json::from_slice(&fs::read(at.join("tok/tokenizer.json")).expect("file")).expect("JSON");
    let encode = ["tokenizer", "encode", "--tokenizer", "tok", "--text", "!"];
    for (around, expected) in
        [(Value::Null, "0"), (serde_json::json!({"type": "RobertaProcessing", "cls": ["b", 7], "sep": ["e", 8]}), "7,0,8")]
    {
        json["post_processor"] = around;
        write(&at.join("tok/tokenizer.json"), &json);
        assert_eq!(done(at, &encode).trim(), "0");
        assert_eq!(done(at, &[&encode[..], &["--template"]].concat()).trim(), expected);
    }
    json["post_processor"] = serde_json::json!({"type": "Other"});
    write(&at.join("tok/tokenizer.json"), &json);
    assert_eq!(done(at, &encode).trim(), "0");
    refused(
        at,
        &[&encode[..], &["--template"]].concat(),
        3,
        &["tok: post_processor: this kind is not supported; leave --template out"],
    );
}

#[test]
fn documents_end_with_the_tokenizers_own_end_of_text() {
    let folder = temporary();
    let at = folder.path();
    trained(at, &[]);
    let file = fs::read_to_string(at.join("tok/tokenizer.json")).expect("file");
    fs::write(at.join("tok/tokenizer.json"), file.replace("<|endoftext|>", "[END]")).expect("file");
    fs::write(at.join("docs.jsonl"), "{\"text\": \"the cat and the hat\"}\n".repeat(30)).expect("file");
    let args = ["--data", "docs.jsonl", "--set", "data.tokenizer=tok", "--set", "data.val_fraction=0", "--out"];
    // The name says nothing to anybody.
    fs::remove_file(at.join("tok/tokenizer_config.json")).expect("file");
    let note = train(at, &[&args[..], &["none"]].concat());
    assert!(
        note.contains("note: documents are joined without a separator, because the tokenizer names no token that ends a text"),
        "{note}"
    );
    assert_eq!(count(&at.join("none/data/train.bin"), 265), 0);
    for (out, name, value) in [
        ("config", "tokenizer_config.json", serde_json::json!({"eos_token": "[END]"})),
        ("map", "special_tokens_map.json", serde_json::json!({"eos_token": {"content": "[END]"}})),
    ] {
        write(&at.join("tok").join(name), &value);
        let note = train(at, &[&args[..], &[out]].concat());
        assert!(!note.contains("note:"), "{note}");
        assert_eq!(count(&at.join(out).join("data/train.bin"), 265), 30);
        // The run has the tokenizer as it was.
        assert_eq!(fs::read(at.join(out).join(name)).expect("file"), value.to_string().as_bytes());
        fs::remove_file(at.join("tok").join(name)).expect("file");
    }
}

#[test]
fn a_run_from_a_folder_goes_through_its_tokenizer_or_says_so() {
    let folder = temporary();
    let at = folder.path();
    trained(at, &[]);
    let init = |more: &[&'static str]| train_args(&[&["--init", "run", "--data", "text.txt", "--out", "new"], more].concat());
    // The folder's own is left alone; another one is said, and must fit.
    let note = train(at, &["--init", "run", "--data", "text.txt", "--out", "byte", "--set", "data.tokenizer=byte"]);
    assert!(note.contains("note: data.tokenizer = byte instead of the tokenizer of run, with which"), "{note}");
    let bytes: Vec<String> = b"a bat".iter().map(u8::to_string).collect();
    assert_eq!(done(at, &["tokenizer", "encode", "--tokenizer", "byte", "--text", "a bat"]).trim(), bytes.join(","));
    for name in ["tokenizer.json", "tokenizer_config.json"] {
        fs::remove_file(at.join("run").join(name)).expect("file");
    }
    let way_out = "run: the folder has no tokenizer: add tokenizer.json, or vocab.json and merges.txt, or vocab.txt, give token ids (a .bin file) as the \
                   data, or name a tokenizer with --set data.tokenizer=PATH";
    refused(at, &init(&[]), 3, &[way_out]);
    let slip = [
        "data.tokenizer: expected \"byte\", \"char\", \"bpe\", \"wordpiece\", or the path of a tokenizer.json",
        "\"bpee\"",
        "did you mean `bpe`?",
    ];
    refused(at, &init(&["--set", "data.tokenizer=bpee"]), 2, &slip);
    refused(at, &["plan", "--set", "data.tokenizer=bpee"], 2, &slip);
    refused(at, &train_args(&["--data", "text.txt", "--out", "new", "--set", "data.tokenizer=bpee"]), 2, &slip);
    done(at, &["tokenizer", "train", "--data", "text.txt", "--vocab-size", "268", "--out", "large", "-q"]);
    let large = ["model.vocab_size: expected at least 267, the ids of text in the tokenizer"];
    refused(at, &init(&["--set", "data.tokenizer=large"]), 2, &large);
    assert!(!at.join("new").exists());
    train(at, &["--init", "run", "--data", "run/data/train.bin", "--out", "ids"]);
    let note = train(at, &["--init", "run", "--data", "text.txt", "--out", "named", "--set", "data.tokenizer=tok"]);
    assert!(note.contains("note: data.tokenizer = tok for run, which has no tokenizer"), "{note}");
    let score = |model| done(at, &["score", "--model", model, "--text", "the cat", "--json"]);
    assert!(score("named").starts_with("{\"tokens\":[25"), "{}", score("named"));
}
