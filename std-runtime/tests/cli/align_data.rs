//! Rows of dialogues and preferences that are not as they should be: an error with file, line and key, or a count that is said.

use std::fs;
use std::path::Path;

use serde_json::{Value, json};

use super::align::{model, rows};
use super::{done, refused, samara, temporary, text};

const FEW: [&str; 8] = [
    "train.threads=1",
    "train.batch_size=2",
    "train.steps=1",
    "train.warmup_steps=0",
    "train.eval_every=0",
    "train.block_size=192",
    "data.val_fraction=0",
    "dialogue.template=plain",
];

fn args<'a>(command: &'a str, init: &'a str, data: &'a str, out: &'a str, more: &[&'a str]) -> Vec<&'a str> {
    let sets = FEW.iter().chain(more).flat_map(|set| ["--set", set]);
    [command, "--init", init, "--data", data, "--out", out].into_iter().chain(sets).collect()
}

/// Trains, and returns what was said.
fn said(at: &Path, args: &[&str]) -> String {
    let output = samara(at, args);
    assert_eq!(output.status.code(), Some(0), "{args:?}: {}", text(&output.stderr));
    text(&output.stderr)
}

/// Messages in a cell of CSV are JSON, and read as such; anything else is refused with its line, and so are two columns of one name.
#[test]
fn cells_of_tables_hold_messages_as_json() {
    let folder = temporary();
    let (at, model) = (folder.path(), model());
    let messages = r#""[{""role"": ""user"", ""content"": ""Say a""}, {""role"": ""assistant"", ""content"": ""aa""}]""#;
    fs::write(at.join("good.csv"), format!("id,messages\n1,{messages}\n2,{messages}\n")).unwrap();
    let said = said(at, &args("sft", &model, "good.csv", "run", &[]));
    assert!(said.contains("good.csv: 2 rows: 2 messages") && said.contains("Say a‹aa"), "{said}");
    let python = "\"[{'role': 'user', 'content': 'Say a'}]\"";
    for (name, content, parts) in [
        (
            "python.csv",
            format!("messages\n{python}\n"),
            ["python.csv:2:1: expected a list as JSON in the column \"messages\"", "[{'role'"],
        ),
        (
            "text.csv",
            "messages\nSay a\n".to_owned(),
            ["text.csv:2:1: expected a list as JSON in the column \"messages\"", "\"Say a\""],
        ),
        (
            "pairs.csv",
            format!("chosen,rejected\n{python},{python}\n"),
            ["expected a list as JSON in the column \"chosen\"", "[{'role'"],
        ),
        (
            "twice.csv",
            "prompt,completion,prompt\na,b,c\n".to_owned(),
            ["twice.csv:1:1: expected a name of its own", "\"prompt\" twice"],
        ),
        (
            "string.jsonl",
            "{\"messages\": \"Say a\"}\n".to_owned(),
            ["string.jsonl:1:1", "a list of messages for \"messages\", found string"],
        ),
    ] {
        fs::write(at.join(name), content).unwrap();
        refused(at, &args("sft", &model, name, "no", &[]), 3, &parts);
    }
    fs::write(at.join("text.csv"), "text,text\na,b\n").unwrap();
    refused(at, &["train", "--data", "text.csv", "--out", "no"], 3, &["text.csv:1:1", "column \"text\" twice"]);
    assert!(!at.join("no").exists());
}

/// An answer that is null is no prompt alone.
#[test]
fn answers_that_are_null_are_named() {
    let folder = temporary();
    let (at, model) = (folder.path(), model());
    let good = json!({"prompt": "Say a", "chosen": "aa", "rejected": "b"});
    for (missing, there) in [("rejected", "chosen"), ("chosen", "rejected")] {
        let mut bad = good.clone();
        bad[missing] = Value::Null;
        rows(&at.join("pairs.jsonl"), [good.clone(), bad]);
        for command in ["dpo", "ppo"] {
            let expected = format!("pairs.jsonl:2:1: expected an answer for {missing:?} beside {there:?}, found null");
            refused(
                at,
                &args(command, &model, "pairs.jsonl", "no", &["rewards.length_weight=1"][..usize::from(command == "ppo")]),
                3,
                &[&expected],
            );
        }
    }
}

/// `"weight": 0` and `"train": false` leave a turn out of the loss, with and without the loss of all tokens.
#[test]
fn turns_say_whether_they_are_learnt() {
    let folder = temporary();
    let (at, model) = (folder.path(), model());
    let dialogue = |key: &str, value: Value| {
        json!({"messages": [
            {"role": "user", "content": "Say a"}, {"role": "assistant", "content": "bad", key: value},
            {"role": "user", "content": "again"}, {"role": "assistant", "content": "aa"},
        ]})
    };
    for (key, value) in [("weight", json!(0)), ("train", json!(false))] {
        rows(&at.join("rows.jsonl"), [dialogue(key, value.clone()), dialogue(key, value)]);
        let told = said(at, &args("sft", &model, "rows.jsonl", key, &[]));
        assert!(told.contains("Say abad<|endoftext|>again‹aa<|endoftext|>›"), "{told}");
        let told = said(at, &args("sft", &model, "rows.jsonl", &format!("{key}-all"), &["dialogue.completion_only_loss=false"]));
        assert!(told.contains("‹Say a›bad<|endoftext|>‹again"), "{told}");
    }
    let alone = |weight: Value| json!({"messages": [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b", "weight": weight}]});
    rows(&at.join("rows.jsonl"), [alone(json!(1)), alone(json!(0))]);
    refused(
        at,
        &args("sft", &model, "rows.jsonl", "no", &[]),
        3,
        &["rows.jsonl:2", "every turn of the assistant is left out of the loss"],
    );
    rows(&at.join("rows.jsonl"), [alone(json!(0.5))]);
    refused(
        at,
        &args("sft", &model, "rows.jsonl", "no", &[]),
        3,
        &["rows.jsonl:1", "1 or 0 for \"weight\" of a message, found 0.5"],
    );
    rows(
        &at.join("rows.jsonl"),
        [json!({"messages": [{"role": "user", "content": "a", "train": true}, {"role": "assistant", "content": "b"}]})],
    );
    refused(at, &args("sft", &model, "rows.jsonl", "no", &[]), 3, &["only the assistant's are learnt"]);
}

/// A template that leaves the answers out is refused, and so is a name that no template has, with the nearest one.
#[test]
fn templates_keep_what_is_said() {
    let folder = temporary();
    let (at, model) = (folder.path(), model());
    rows(&at.join("rows.jsonl"), [json!({"prompt": "Say a", "completion": "aa"})]);
    fs::write(
        at.join("lossy.jinja"),
        "{% for m in messages %}<{{ m.role }}>{{ m.text }}{% endfor %}{% if add_generation_prompt %}<assistant>{% endif %}",
    )
    .unwrap();
    let with = |template: &'static str| {
        [&args("sft", &model, "rows.jsonl", "no", &[])[..], &["--set", template]]
            .concat()
            .into_iter()
            .map(str::to_owned)
            .collect::<Vec<_>>()
    };
    let refused = |template, code, parts: &[&str]| {
        let args = with(template);
        refused(at, &args.iter().map(String::as_str).collect::<Vec<_>>(), code, parts);
    };
    refused(
        "dialogue.template=lossy.jinja",
        3,
        &["rows.jsonl:1", "lossy.jinja leaves out what the assistant says in turn 2", "\"aa\""],
    );
    refused(
        "dialogue.template=chatlm",
        2,
        &["dialogue.template: expected \"plain\", \"alpaca\"", "found \"chatlm\"", "did you mean `chatml`?"],
    );
}

/// What cannot be learnt from is counted; nothing but that is an error.
#[test]
fn rows_that_teach_nothing_are_counted() {
    let folder = temporary();
    let (at, model) = (folder.path(), model());
    let pair = |chosen: &str, rejected: &str| json!({"prompt": "Say a", "chosen": chosen, "rejected": rejected});
    rows(&at.join("some.jsonl"), [pair("aa", "aa"), pair("aa", "b"), pair("", "b")]);
    rows(&at.join("all.jsonl"), [pair("aa", "aa"), pair("b", "b")]);
    for command in ["dpo", "reward"] {
        let told = said(at, &args(command, &model, "some.jsonl", command, &[]));
        assert!(told.contains("warning: in 1 of 3 comparisons the answers are the same tokens"), "{told}");
        assert!(told.contains("1 of 3 rows have an empty answer"), "{told}");
        refused(
            at,
            &args(command, &model, "all.jsonl", "no", &[]),
            3,
            &["all.jsonl: in all 2 comparisons the answers are the same tokens"],
        );
    }
    rows(&at.join("one.jsonl"), (0..4).map(|i| json!({"prompt": "Say a", "completion": format!("a{i}"), "label": true})));
    let told = said(at, &args("kto", &model, "one.jsonl", "kto", &[]));
    assert!(told.contains("warning: 4 of 4 completions are desirable: all are desirable"), "{told}");
    let other = json!({"chosen": "\n\nHuman: q\n\nAssistant: x", "rejected": "\n\nHuman: p\n\nAssistant: y"});
    rows(&at.join("others.jsonl"), [other]);
    refused(
        at,
        &args("dpo", &model, "others.jsonl", "no", &[]),
        3,
        &["in all 1 pairs the two dialogues answer different prompts"],
    );
    assert!(!at.join("no").exists());
}

/// The doctor's exit code tells of rows that cannot be read; it counts dialogues without an answer and empty prompts.
#[test]
fn a_check_of_data_finds_what_trainings_refuse() {
    let folder = temporary();
    let (at, model) = (folder.path(), model());
    let question = json!({"messages": [{"role": "user", "content": "Say a"}]});
    rows(&at.join("rows.jsonl"), [question, json!({"prompt": " ", "completion": "b"}), json!({"prompt": "a", "completion": ""})]);
    let told = done(at, &["data", "check", "rows.jsonl"]);
    for part in ["1 rows are dialogues without an answer", "1 rows have an empty prompt", "1 rows have an empty answer"] {
        assert!(told.contains(part), "{part}: {told}");
    }
    refused(at, &["data", "check", "rows.jsonl", "--model", &model, "--max-length", "0"], 2, &["--max-length", "0"]);
    fs::write(at.join("bad.jsonl"), "{\"prompt\": \"a\", \"completion\": \"b\"}\n{\"prompt\": 3, \"completion\": \"b\"}\n")
        .unwrap();
    refused(at, &["data", "check", "bad.jsonl"], 3, &["bad.jsonl: 1 rows cannot be read"]);
    let output = samara(at, &["data", "check", "bad.jsonl", "--json"]);
    let report: Value = serde_json::from_slice(&output.stdout).expect("the report is written all the same");
    assert_eq!((&report["rows"], &report["bad_rows"]), (&json!(1), &json!(1)));
}

/// The place of an error in a JSON array that was cut off is where it ends.
#[test]
fn errors_in_arrays_stand_where_they_are() {
    let folder = temporary();
    let (at, model) = (folder.path(), model());
    fs::write(at.join("cut.json"), "[{\"prompt\": \"a\", \"completion\": \"b\"},\n {\"prompt\": \"c\", \"comp").unwrap();
    refused(at, &args("sft", &model, "cut.json", "no", &[]), 3, &["cut.json:2:2", "a JSON array of rows"]);
    fs::write(at.join("bytes.jsonl"), b"{\"prompt\": \"a\", \"completion\": \"\xff\"}\n").unwrap();
    refused(at, &args("sft", &model, "bytes.jsonl", "no", &[]), 3, &["bytes.jsonl:1:32", "UTF-8", "iconv"]);
}
