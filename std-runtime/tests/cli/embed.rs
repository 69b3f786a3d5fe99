//! `embed`.

use super::*;

/// A BERT of 23 tokens with a WordPiece vocabulary.
fn write_model(at: &Path) {
    let tokens =
        ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "a", "fox", "dog", "##s", "run", "##ning", ".", "the", "in", "wood"];
    let vocab: serde_json::Map<String, Value> =
        tokens.iter().enumerate().map(|(id, text)| ((*text).to_owned(), id.into())).collect();
    let around = |id: &str, n: u32| serde_json::json!({"id": id, "ids": [n], "tokens": [id]});
    let json = serde_json::json!({
        "normalizer": {"type": "BertNormalizer", "clean_text": true, "handle_chinese_chars": true, "lowercase": true},
        "pre_tokenizer": {"type": "BertPreTokenizer"},
        "post_processor": {"type": "TemplateProcessing",
            "single": [{"SpecialToken": {"id": "[CLS]", "type_id": 0}}, {"Sequence": {"id": "A", "type_id": 0}}, {"SpecialToken": {"id": "[SEP]", "type_id": 0}}],
            "special_tokens": {"[CLS]": around("[CLS]", 2), "[SEP]": around("[SEP]", 3)}},
        "model": {"type": "WordPiece", "unk_token": "[UNK]", "vocab": vocab},
    });
    fs::create_dir(at.join("bert")).expect("folder");
    for name in ["config.json", "model.safetensors"] {
        fs::copy(Path::new(&golden("../image_text/bert")).join(name), at.join("bert").join(name)).expect("file");
    }
    fs::write(at.join("bert/tokenizer.json"), json.to_string()).expect("file");
}

fn rows(json: &str) -> Vec<Value> {
    json.lines().map(|line| serde_json::from_str(line).expect("JSON")).collect()
}

#[test]
fn an_embedding_does_not_depend_on_the_other_texts() {
    let folder = temporary();
    let at = folder.path();
    write_model(at);
    let texts = ["A fox runs.", "the dog", "", "Running dogs in the wood, running in the wood.", "a fox runs ."];
    let all = rows(&done(at, &[&["embed", "--model", "bert", "--json", "--threads", "2"][..], &texts].concat()));
    for (text, row) in texts.iter().zip(&all) {
        let alone = rows(&done(at, &["embed", "--model", "bert", "--json", "--threads", "1", text]));
        assert_eq!((&alone[0], row["text"].as_str(), &row["schema"]), (row, Some(*text), &1.into()));
        let squares: f64 = row["embedding"].as_array().unwrap().iter().map(|x| x.as_f64().unwrap().powi(2)).sum();
        assert!((squares - 1.0).abs() < 1e-6, "{squares}");
    }
    assert_eq!(all[0]["embedding"], all[4]["embedding"], "the same words");
    assert_ne!(all[0]["embedding"], all[1]["embedding"]);
    fs::write(at.join("texts.csv"), "id,caption\n1,the dog\n").expect("file");
    done(at, &["embed", "--model", "bert", "--data", "texts.csv", "--field", "caption", "--out", "e.npy"]);
    let array = samara::npy::read(&at.join("e.npy")).expect("array");
    let first: Vec<f64> = all[1]["embedding"].as_array().unwrap().iter().map(|x| x.as_f64().unwrap()).collect();
    assert_eq!(array.into_f64(), first.iter().map(|&x| f64::from(x as f32)).collect::<Vec<_>>());
    let output = samara(at, &["embed", "--model", "bert", "the wood", texts[3]]);
    let (shown, note) = (text(&output.stdout), text(&output.stderr));
    assert!(shown.starts_with(" 1.0000  the wood\n"), "{shown}");
    assert!(note.contains("note: 1 of 2 texts have more than 12 tokens and lost their ends"), "{note}");
}

#[test]
fn what_cannot_be_embedded_is_named() {
    let folder = temporary();
    let at = folder.path();
    write_model(at);
    refused(at, &["embed", "--model", "bert"], 2, &["<TEXT>"]);
    refused(
        at,
        &["embed", "--model", &golden("gpt2-2layer"), "x"],
        3,
        &["model_type: expected that of an encoder of text: \"bert\""],
    );
    fs::write(at.join("texts.jsonl"), "{\"caption\": \"x\"}\n").expect("file");
    refused(
        at,
        &["embed", "--model", "bert", "--data", "texts.jsonl"],
        3,
        &["texts.jsonl:1:1: expected a string under \"text\"; --field names"],
    );
    refused(
        at,
        &["embed", "--model", "bert", "--out", "texts.jsonl", "x"],
        2,
        &["texts.jsonl: exists and is not an array of NumPy"],
    );
    fs::remove_file(at.join("bert/tokenizer.json")).expect("file");
    refused(at, &["embed", "--model", "bert", "x"], 3, &["bert", "tokenizer"]);
}
