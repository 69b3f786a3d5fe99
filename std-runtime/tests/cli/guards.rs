//! What a command refuses so that nothing is lost or silently without effect: files of another making, other data, other commands, other paths.

use super::*;

/// Trains two steps on a text.
fn trained(at: &Path, out: &str) {
    fs::write(at.join("text.txt"), "Once upon a time there was a fox. ".repeat(20)).expect("a text");
    done(at, &tiny(&["train", "--data", "text.txt", "--out", out, "-q"], &["--set", "train.steps=2"]));
}

#[test]
fn files_of_another_making_are_not_overwritten() {
    let folder = temporary();
    let at = folder.path();
    trained(at, "run");
    fs::write(at.join("notes.html"), "<p>mine</p>").expect("a file");
    refused(
        at,
        &["report", "run", "--out", "notes.html"],
        2,
        &["notes.html: exists and is not a page of samara report", "another name"],
    );
    for args in [
        &["report", "run"][..],
        &["report", "run"],
        &["report", "run", "--out", "own.html"],
        &["report", "run", "--out", "own.html"],
    ] {
        done(at, args);
    }
    fs::write(at.join("rows.jsonl"), "{\"prompt\": \"a\"}\n").expect("a file");
    let out = ["rows.jsonl: exists, with 16 bytes, and is not overwritten"];
    refused(at, &["rollout", "--model", "run", "--data", "rows.jsonl", "--out", "rows.jsonl"], 2, &out);
    // A tokenizer in use, one's own, and that of another tool.
    let train =
        |out: &'static str, kind: &'static str| ["tokenizer", "train", "--data", "text.txt", "--kind", kind, "--out", out];
    refused(at, &train("run", "byte"), 2, &["--out run: the folder holds a model or a run, which needs its own tokenizer"]);
    for kind in ["byte", "char", "bpe", "bpe"] {
        done(at, &train("tok", kind));
    }
    let tokenizer = at.join("tok/tokenizer.json");
    let other = fs::read_to_string(&tokenizer).expect("a tokenizer").replace("\"truncation\": null", "\"truncation\":null");
    fs::write(&tokenizer, &other).expect("a tokenizer");
    refused(at, &train("tok", "bpe"), 2, &["--out tok: the folder holds a tokenizer that samara tokenizer train did not write"]);
    // A run beside it.
    let begin = ["train", "--data", "text.txt", "--out", "tok", "--set", "train.steps=1"];
    refused(at, &tiny(&begin, &[]), 2, &["tok: the folder contains a tokenizer and no run", "--set data.tokenizer=tok"]);
    done(at, &tiny(&begin, &["-q", "--set", "data.tokenizer=tok"]));
    assert_eq!(fs::read_to_string(&tokenizer).expect("a tokenizer"), other);
    fs::create_dir(at.join("mine")).expect("folder");
    fs::write(at.join("mine/samples.txt"), "mine").expect("a file");
    refused(at, &tiny(&["train", "--out", "mine"], &[]), 2, &["mine: the folder contains samples.txt and no run"]);
    assert_eq!(fs::read_dir(at.join("mine")).expect("folder").count(), 1);
}

#[test]
fn a_run_is_resumed_by_its_own_command_and_its_own_model() {
    let folder = temporary();
    let at = folder.path();
    // A tokenizer with a token that ends an answer.
    fs::write(at.join("text.txt"), "Once upon a time there was a fox. ".repeat(20)).expect("a text");
    done(at, &["tokenizer", "train", "--kind", "byte", "--data", "text.txt", "--out", "tok"]);
    let more = ["--set", "train.steps=2", "--set", "data.tokenizer=tok"];
    done(at, &tiny(&["train", "--data", "text.txt", "--out", "run", "-q"], &more));
    fs::write(at.join("rows.jsonl"), "{\"prompt\": \"a\", \"completion\": \"b\"}\n".repeat(4)).expect("rows");
    let sft = [
        "--set",
        "train.steps=1",
        "--set",
        "train.block_size=16",
        "--set",
        "dialogue.template=plain",
        "--set",
        "data.val_fraction=0",
    ];
    done(at, &[&["sft", "--init", "run", "--data", "rows.jsonl", "--out", "chat", "-q"][..], &sft].concat());
    for command in ["sft", "reward", "dpo", "kto", "ppo", "grpo"] {
        let way = "run: the run of another command; resume it with: samara train --resume --out run";
        refused(at, &[command, "--resume", "--out", "run"], 2, &[way]);
    }
    let way = "chat: the run of another command; resume it with: samara sft --resume --out chat";
    refused(at, &["train", "--resume", "--out", "chat"], 2, &[way]);
    done(at, &["sft", "--resume", "--out", "chat", "-q"]);
    // The model that a run began with may be named again, another one may not.
    done(at, &["sft", "--resume", "--out", "chat", "--init", "./run", "-q"]);
    let both = [
        "--resume goes on from the newest checkpoint in ",
        "a run that began with ",
        "--init ",
        " begins a new run",
        "leave one of the two out",
    ];
    refused(at, &["sft", "--resume", "--out", "chat", "--init", "chat"], 2, &both);
    refused(at, &["train", "--resume", "--out", "run", "--init", "chat"], 2, &both);
    // A resumed run that lost its checkpoints names its own command too.
    fs::remove_dir_all(at.join("chat/checkpoints")).expect("checkpoints");
    refused(at, &["sft", "--resume", "--out", "chat"], 2, &["samara sft --config chat/run.toml --init chat --out chat-2"]);
}

#[test]
fn data_that_changed_at_its_path_is_told() {
    let folder = temporary();
    let at = folder.path();
    trained(at, "run");
    let more = ["train", "--resume", "--out", "run", "-q", "--set", "train.steps=3"];
    // Written again with the same words, as a copy is.
    let text = fs::read(at.join("text.txt")).expect("a text");
    fs::write(at.join("text.txt"), &text).expect("a text");
    done(at, &more);
    fs::write(at.join("text.txt"), text.to_ascii_uppercase()).expect("a text");
    let parts = [
        "text.txt: expected the data of the start of the run (text: crc32c ",
        "restore it, or choose another --out, found text: crc32c ",
    ];
    refused(at, &more, 3, &parts);
    // The run folder has the tokens: the text is not needed.
    fs::remove_file(at.join("text.txt")).expect("a text");
    done(at, &more);
}

#[test]
fn a_column_of_a_table_is_trained_on() {
    let folder = temporary();
    let at = folder.path();
    fs::write(at.join("a.csv"), "id,body\n".to_owned() + &"1,\"a fox, once\"\n".repeat(60)).expect("a table");
    let train = ["train", "--data", "a.csv", "--out", "run", "--set", "train.steps=1"];
    let columns =
        ["a.csv:1:1: expected column \"text\", found columns \"id\", \"body\"; set data.text_field to the one with the text"];
    refused(at, &tiny(&train, &[]), 3, &columns);
    let args = tiny(&train, &["--set", "data.text_field=body", "--set", "data.tokenizer=char"]);
    done(at, &args);
    let run: Value = serde_json::from_str(&done(at, &["inspect", "run", "--json"])).expect("JSON");
    // " ,acefnox" without "1", quotes and the header.
    assert_eq!(run["tokenizer"]["ids"], 9, "{run}");
    let eval =
        |field: &str| samara(at, &["eval", "--model", "run", "--data", "a.csv", "--split", "all", "--set", field, "--json"]);
    assert_eq!(eval("data.text_field=body").status.code(), Some(0));
    assert!(text(&eval("data.text_field=text").stderr).contains("expected column \"text\""));
    let columns = ["a.csv:1:1: expected column \"text\"", "set --text-field to the one with the text"];
    refused(at, &["tokenizer", "train", "--data", "a.csv", "--out", "tok"], 3, &columns);
    done(at, &["tokenizer", "train", "--data", "a.csv", "--out", "tok", "--text-field", "body", "--kind", "char"]);
    fs::write(at.join("b.json"), "[\"a fox\", \"an ox\"]").expect("an array");
    assert!(done(at, &["data", "check", "b.json"]).contains("2 documents, 10 characters"));
}

#[test]
fn paths_that_are_not_what_they_should_be_are_named() {
    let folder = temporary();
    let at = folder.path();
    trained(at, "run");
    for (args, inside) in [
        (&["generate", "--model", "run/config.json"][..], "run/config.json: a file, expected its folder: run"),
        (
            &["train", "--init", "run/model.safetensors", "--data", "text.txt"],
            "run/model.safetensors: a file, expected its folder: run",
        ),
    ] {
        refused(at, args, 3, &[inside]);
    }
    fs::rename(at.join("run/model.safetensors"), at.join("run/pytorch_model.bin")).expect("weights");
    let convert =
        ["run: pytorch_model*.bin, expected model.safetensors; write it with: python -c 'import glob, torch", "d = \"run\""];
    refused(at, &["generate", "--model", "run"], 3, &convert);
    for args in [&["train", "--data", "-"][..], &["tokenizer", "train", "--data", "-", "--out", "t"], &["data", "check", "-"]] {
        refused(at, args, 3, &["-: expected a file or a folder", "found standard input"]);
    }
    let mut child = command(at, &["assign", "-", "--json"]).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().expect("binary");
    child.stdin.take().expect("a pipe").write_all(b"4,1\n2,0\n").expect("a matrix");
    let output = child.wait_with_output().expect("an end");
    let answer: Value = serde_json::from_slice(&output.stdout).expect("JSON");
    assert_eq!(answer["total"], 3.0, "{answer}");
}

#[test]
fn settings_without_effect_are_refused() {
    let folder = temporary();
    let at = folder.path();
    let specials = ["data.specials: expected false, because the tokenizer has no special tokens", "found true"];
    refused(at, &tiny(&["train", "--out", "run"], &["--set", "data.specials=true"]), 2, &specials);
    for key in ["train.eval_batches=2", "train.patience=3"] {
        let args = ["train", "--out", "run", "--set", "data.val_fraction=0", "--set", key];
        refused(at, &args, 2, &["expected no value; data.val_fraction = 0 holds nothing out"]);
    }
    assert_eq!(fs::read_dir(at).expect("folder").count(), 0);
    fs::write(at.join("huge.csv"), "1e308,1e308\n1e308,-1e308\n").expect("costs");
    fs::write(at.join("none.csv"), "1,2\ninf,inf\n").expect("costs");
    refused(at, &["assign", "none.csv"], 3, &["row 1 (from 0) cannot be matched together with those before it"]);
    fs::write(at.join("none.csv"), "inf,inf\n1,2\n").expect("costs");
    refused(at, &["assign", "none.csv"], 3, &["row 0 (from 0) has no pair that is allowed; give it a finite cost"]);
    let duals = samara(at, &["assign", "huge.csv", "--duals", "--json"]);
    let (out, error) = (text(&duals.stdout), text(&duals.stderr));
    assert!(!out.contains("Infinity") && (duals.status.success() || error.contains("divide all costs")), "{out}{error}");
}

/// Limits of the shell: of a file's size, whose signal would end the process, and of the address space.
#[cfg(target_os = "linux")]
#[test]
fn limits_are_errors_with_the_right_advice() {
    let folder = temporary();
    let at = folder.path();
    let limited = |limit: &str, args: &str| {
        let script = format!("ulimit {limit}; exec {} {args}", env!("CARGO_BIN_EXE_samara"));
        let output = Command::new("sh").args(["-c", &script]).current_dir(at).output().expect("sh");
        (output.status.code(), text(&output.stderr))
    };
    fs::write(at.join("text.txt"), "some words ".repeat(2000)).expect("a text");
    let (code, error) = limited("-f 8", "train --data text.txt --out run --threads 1 --set data.tokenizer=byte");
    assert!(code == Some(4) && error.contains("File too large"), "{code:?}: {error}");
    assert!(!at.join("run").exists());
    let (code, error) = limited("-v 65000", "data check text.txt");
    let raise = "are left of its address space (ulimit -v); raise this limit, or free memory";
    assert!(
        code == Some(1) && error.contains("text.txt: its content takes 1 MiB of memory, and 0 MiB") && error.contains(raise),
        "{code:?}: {error}"
    );
}
