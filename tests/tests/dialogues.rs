//! Dialogues: chat templates against jinja2, losses of `samara sft` against transformers, and what the commands say of rows.

use std::fs;
use std::ops::Range;
use std::path::Path;

use samara::dialogue::jinja::Day;
use samara::dialogue::template::Template;
use samara::dialogue::turn::{Role, Turn};
use samara::tokenizer::Tokenizer;
use samara_tests::desk::Desk;
use samara_tests::training::{golden, records};
use serde_json::{Value, json};

fn read_json(name: &str) -> Value {
    serde_json::from_slice(&fs::read(golden("dialogues").join(name)).expect(name)).expect(name)
}

/// A folder with a tokenizer of bytes and `config` beside it.
fn tokenizer_with(config: Value) -> Tokenizer {
    let folder = tempfile::tempdir().unwrap();
    Tokenizer::bytes(&["<s>", "</s>"]).unwrap().save(folder.path(), None).unwrap();
    fs::write(folder.path().join("tokenizer_config.json"), config.to_string()).unwrap();
    Tokenizer::load(folder.path()).unwrap()
}

fn turn(message: &Value) -> Turn {
    let others = message.as_object().unwrap().iter().filter(|(key, _)| !["role", "content"].contains(&key.as_str()));
    let others = others.map(|(key, value)| (key.clone(), value.clone())).collect();
    Turn {
        role: Role::read(message["role"].as_str().unwrap()).unwrap(),
        content: message["content"].as_str().unwrap().to_owned(),
        others,
    }
}

/// Characters as bytes of a text.
fn bytes(text: &str, span: &Value) -> Range<usize> {
    let at = |i: usize| text.char_indices().nth(span[i].as_u64().unwrap() as usize).map_or(text.len(), |(at, _)| at);
    at(0)..at(1)
}

#[test]
fn templates_render_as_in_jinja2() {
    let recorded = read_json("templates.json");
    let tokenizer = tokenizer_with(recorded["tokens"].clone());
    let today = Day::read(recorded["today"].as_str().unwrap()).unwrap();
    let built_in = |name: &str| {
        fs::read_to_string(format!("{}/../std-runtime/src/dialogue/templates/{name}.jinja", env!("CARGO_MANIFEST_DIR")))
    };
    for case in recorded["cases"].as_array().unwrap() {
        let name = case["template"].as_str().unwrap();
        let what = format!("{name}, {}, {}", case["dialogue"], case["add_generation_prompt"]);
        let source = recorded["sources"][name].as_str().map_or_else(|| built_in(name).unwrap(), str::to_owned);
        let template = Template::new(name.to_owned(), source, &tokenizer, today).unwrap();
        let turns: Vec<Turn> = case["messages"].as_array().unwrap().iter().map(turn).collect();
        let add_generation_prompt = case["add_generation_prompt"] == true;
        let rendered = template.render(&turns, add_generation_prompt);
        let Some(text) = case["text"].as_str() else {
            let error = rendered.expect_err(&what).to_string();
            assert!(error.contains(case["error"].as_str().unwrap()), "{what}: {error}");
            continue;
        };
        assert_eq!(rendered.unwrap(), text, "{what}");
        if let Some(spans) = case["spans"].as_array() {
            let expected: Vec<Range<usize>> = spans.iter().map(|span| bytes(text, span)).collect();
            assert_eq!(template.render_marked(&turns, add_generation_prompt, false).unwrap().answers, expected, "{what}");
        }
    }
}

/// Trains the golden model on rows for as many steps as asked for; `sets` are keys with values.
fn sft(desk: &Desk, data: &Path, out: &str, sets: &[&str]) -> Result<String, String> {
    let fixed = ["train.block_size=192", "data.val_fraction=0", "generate.max_new_tokens=0"];
    desk.train("sft", (&golden("dialogues/model"), data), out, &[&fixed[..], sets].concat())
}

/// Loss and gradient norm of the first step of a run.
fn first_step(desk: &Desk, out: &str) -> (f64, f64) {
    let records = records(&desk.at(out));
    let value = |key: &str| records.iter().find_map(|record| record.get(key)).expect(key);
    (value("train_loss"), value("grad_norm"))
}

fn close(a: f64, b: f64, tolerance: f64) {
    assert!((a - b).abs() <= tolerance * b.abs().max(1.0), "{a} and {b} differ by {:e}", a - b);
}

#[test]
fn the_loss_is_that_of_transformers_however_rows_are_laid_out() {
    let recorded = read_json("losses.json");
    for (name, template) in [("pairs", "plain"), ("chats", "chatml")] {
        let (desk, recorded) = (Desk::new(), &recorded[name]);
        let data = desk.rows("rows.jsonl", recorded["rows"].as_array().unwrap());
        let count = recorded["rows"].as_array().unwrap().len();
        let template = format!("dialogue.template={template}");
        let step = |out: &str, sets: &[&str]| {
            let said = sft(&desk, &data, out, &[&[template.as_str(), "train.steps=1"], sets].concat()).unwrap();
            (said, first_step(&desk, out))
        };
        let (batch, accumulation) = (format!("train.batch_size={count}"), format!("train.grad_accumulation={count}"));
        let (said, (loss, norm)) = step("whole", &[&batch]);
        close(loss, recorded["loss"].as_f64().unwrap(), 1e-5);
        assert!(said.contains(&format!("{count} rows: {count} ")) && said.contains("to learn between ‹ and ›"), "{said}");
        let (_, (micro, micro_norm)) = step("micro", &["train.batch_size=1", &accumulation]);
        close(micro, loss, 1e-6);
        close(micro_norm, norm, 1e-6);
        let (said, (packed, packed_norm)) = step("packed", &["train.batch_size=2", "dialogue.packing=true"]);
        close(packed, loss, 1e-5);
        close(packed_norm, norm, 1e-5);
        assert!(said.contains("packing: "), "{said}");
    }
}

#[test]
fn the_first_example_shows_what_is_learnt() {
    let desk = Desk::new();
    let data = desk.rows("rows.jsonl", &[json!({"prompt": "Say <|endoftext|>:", "completion": " yes"})]);
    let said = sft(&desk, &data, "run", &["train.steps=1", "train.batch_size=1", "dialogue.template=plain"]).unwrap();
    assert!(said.contains("Say <|endoftext|>:‹ yes<|endoftext|>›"), "{said}");
}

#[test]
fn a_run_goes_on_to_the_same_bits_and_its_folder_has_the_template() {
    let desk = Desk::new();
    let rows: Vec<Value> =
        (0..7).map(|i| json!({"instruction": format!("Count to {i}"), "input": "", "output": "1 2 3".repeat(i + 1)})).collect();
    let data = desk.rows("rows.jsonl", &rows);
    let sets = [
        "train.batch_size=2",
        "data.val_fraction=0.2",
        "train.eval_every=2",
        "train.lr=1e-2",
        "train.schedule=constant",
        "dialogue.packing=true",
    ];
    let steps = |steps| [&sets[..], &[steps]].concat();
    sft(&desk, &data, "whole", &steps("train.steps=4")).unwrap();
    sft(&desk, &data, "parts", &steps("train.steps=2")).unwrap();
    let said = sft(&desk, &data, "parts", &steps("train.steps=4")).unwrap_err();
    assert!(said.contains("--resume"), "{said}");
    desk.run(&["sft", "--out", "parts", "--resume", "--set", "train.steps=4"]).unwrap();
    let weights = |out: &str| fs::read(desk.at(out).join("model.safetensors")).unwrap();
    assert_eq!(weights("whole"), weights("parts"));
    let folder = desk.at("whole");
    let config: Value = serde_json::from_slice(&fs::read(folder.join("tokenizer_config.json")).unwrap()).unwrap();
    assert!(config["chat_template"].as_str().unwrap().contains("### Response:"), "{config}");
    assert_eq!((config["model_max_length"].as_u64(), config["eos_token"].as_str()), (Some(192), Some("<|endoftext|>")));
    assert!(fs::read_to_string(folder.join("MODEL_CARD.md")).unwrap().contains("chat template: crc32c"));
    assert!(records(&folder).iter().filter(|record| record.get("val_loss").is_some()).count() >= 2);
    // Other rows are not those that the run was begun with.
    let other = desk.rows("other.jsonl", &rows[..6]);
    let args = ["sft", "--out", "whole", "--resume", "--data", other.to_str().unwrap(), "--set", "train.steps=6"];
    let error = desk.run(&args).unwrap_err();
    assert!(error.contains("data.path") || error.contains("the rows of the start of the run"), "{error}");
    fs::rename(&data, desk.at("moved.jsonl")).unwrap();
    let args = ["sft", "--out", "whole", "--resume", "--data", "moved.jsonl", "--set", "train.steps=5", "--json"];
    let (outcome, said) = desk.run(&args).unwrap();
    let outcome: Value = serde_json::from_str(&outcome).unwrap();
    assert_eq!((outcome["schema"].as_u64(), outcome["steps"].as_u64()), (Some(1), Some(5)));
    assert!(said.contains("resumes at step 4 of 5"), "{said}");
}

/// Adapters learn dialogues beside frozen weights: the first loss is that of the model itself, and the stop tokens of the template come along.
#[test]
fn adapters_are_trained_on_dialogues() {
    let desk = Desk::new();
    let data = desk.rows("rows.jsonl", &["a", "b"].map(|x| json!({"prompt": format!("Say {x}"), "completion": x})));
    let template = "{% for m in messages %}<|im_start|>{{ m.role }}: {{ m.content }}<|im_end|>{% endfor %}";
    let end = "{% if add_generation_prompt %}<|im_start|>assistant: {% endif %}";
    fs::write(desk.at("own.jinja"), format!("{template}{end}")).unwrap();
    let sets = ["train.batch_size=2", "dialogue.template=own.jinja", "train.lr=1e-2", "train.warmup_steps=0"];
    let sets = [&sets[..], &["train.schedule=constant", "train.steps=3"]].concat();
    sft(&desk, &data, "full", &sets).unwrap();
    let said = sft(&desk, &data, "adapter", &[&sets[..], &["tune.method=lora", "tune.rank=2"]].concat()).unwrap();
    assert!(said.contains("\"<|im_end|>\" ends the answers"), "{said}");
    let [(full, _), (loss, _)] = ["full", "adapter"].map(|out| first_step(&desk, out));
    close(loss, full, 1e-6);
    let said = desk.run(&["sft", "--out", "adapter", "--resume", "--set", "train.steps=5"]).unwrap().1;
    assert!(said.contains("resumes at step 3 of 5"), "{said}");
    let losses: Vec<f64> = records(&desk.at("adapter")).iter().filter_map(|record| record.get("train_loss")).collect();
    assert!(losses.len() == 5 && losses[4] < losses[0] - 0.01, "{losses:?}");
    assert!(!desk.at("adapter").join("config.json").exists());
    desk.run(&["merge", "--model", "adapter", "--out", "merged"]).unwrap();
    let [adapter, merged] = ["adapter", "merged"].map(|folder| {
        let file = fs::read(desk.at(folder).join("generation_config.json")).unwrap();
        let generation: Value = serde_json::from_slice(&file).unwrap();
        assert_eq!(generation["eos_token_id"], json!([2, 0]), "{folder}");
        let score = desk.run(&["score", "--model", folder, "--text", "Say a", "--json"]).unwrap().0;
        serde_json::from_str::<Value>(&score).unwrap()["loss"].as_f64().unwrap()
    });
    close(adapter, merged, 1e-5);
}

#[test]
fn rows_that_cannot_be_learnt_are_named() {
    let desk = Desk::new();
    let good = json!({"prompt": "a", "completion": "b"});
    let long = json!({"prompt": "x".repeat(300), "completion": "b"});
    for (rows, sets, expected) in [
        (vec![good.clone(), json!({"chosen": "a", "rejected": "b"})], &[][..], "rows.jsonl:2:1: expected a row for samara sft"),
        (vec![good.clone(), long.clone()], &[][..], "rows.jsonl:2: no token to learn is left: the first of them would be token"),
        (
            vec![json!({"prompt": "a", "completion": "b".repeat(400)})],
            &[][..],
            "none of 1 rows keeps the token that ends its answer",
        ),
        (vec![good.clone()], &["dialogue.max_length=193"][..], "dialogue.max_length"),
        (vec![good.clone()], &["data.tokenizer=byte"][..], "the tokenizer is that of the model of --init"),
        (vec![good.clone()], &["dialogue.template=absent.jinja"][..], "absent.jinja: cannot read"),
        (vec![good.clone()], &["dialogue.epochs=2"][..], "set one of them"),
    ] {
        let data = desk.rows("rows.jsonl", &rows);
        let error = sft(&desk, &data, "refused", &[&["train.steps=1"], sets].concat()).unwrap_err();
        assert!(error.contains(expected), "{expected}: {error}");
        assert!(!desk.at("refused").exists(), "{expected}");
    }
    let data = desk.rows("rows.jsonl", &[good, long]);
    let said = sft(&desk, &data, "skipped", &["train.steps=1", "data.on_bad_row=skip"]).unwrap();
    assert!(said.contains("1 rows left out, the first: ") && said.contains("rows.jsonl:2: no token to learn"), "{said}");
    let error = desk.run(&["sft", "--data", "rows.jsonl"]).unwrap_err();
    assert!(error.contains("--init DIR"), "{error}");
    let error = desk.run(&["train", "--data", "rows.jsonl", "--set", "dialogue.packing=true"]).unwrap_err();
    assert!(error.contains("train on dialogues with samara sft"), "{error}");
}

#[test]
fn a_data_set_is_looked_at() {
    let desk = Desk::new();
    let pair = |prompt: &str, chosen: &str, rejected: &str| json!({"prompt": prompt, "chosen": chosen, "rejected": rejected});
    let rows = [
        pair("a", "long answer", "short"),
        pair("b", "x", "longer"),
        pair("c", "yz", "zy"),
        pair("a", "long answer", "short"),
        pair("d", "e", "e"),
        pair("f", " ", "g"),
    ];
    let data = desk.rows("pairs.jsonl", &rows);
    let other = desk.rows("test.jsonl", &[pair("b", "x", "longer"), pair("c", "other", "answer")]);
    let model = golden("dialogues/model");
    let args = [
        "data",
        "check",
        data.to_str().unwrap(),
        "--against",
        other.to_str().unwrap(),
        "--model",
        model.to_str().unwrap(),
        "--max-length",
        "6",
    ];
    let report: Value = serde_json::from_str(&desk.run(&[&args[..], &["--json"]].concat()).unwrap().0).unwrap();
    assert_eq!(report["length_bias"], json!({"pairs": 6, "longer_chosen": 2, "shorter_chosen": 1, "equal": 3}));
    assert_eq!(report["longer_wins"], json!(2.0 / 6.0));
    assert_eq!(
        [&report["duplicates"], &report["repeated_prompts"], &report["empty_answers"], &report["identical_answers"]],
        [1, 1, 1, 1]
    );
    assert_eq!(
        [&report["against"]["prompts"], &report["against"]["whole"], &report["against"]["first_lines"]],
        [&json!(2), &json!(1), &json!([2, 3])]
    );
    assert_eq!(report["tokens"]["examples"], 12);
    assert!(report["tokens"]["truncated"].as_u64().unwrap() > 0, "{report}");
    let text = desk.run(&args).unwrap().0;
    assert!(
        text.contains("the rule \"longer wins\" is right in 33.3 %") && text.contains("1 rows repeat a row before"),
        "{text}"
    );
}
