//! Text in rows: a row has the same tokens and logits alone, in any batch, in a slot that another row has left, and on any number of threads.

use std::fs;
use std::io::Write;
use std::path::Path;
use std::process::Stdio;
use std::sync::Arc;

use proptest::prelude::*;
use samara::decoding::generator::Generator;
use samara::decoding::slots::{Slots, SlotsShape};
use samara::decoding::stop_strings::StopStrings;
use samara::decoding::texts::{Request, Stop, Text, TextOptions, texts};
use samara::kernels::gemm::Gemm;
use samara::lm::sampling::{SamplingParams, penalise};
use samara::lm::{Model, RunError};
use samara::model::architecture::Architecture;
use samara::session::Engine;
use samara::tokenizer::Tokenizer;
use samara_core::decode::Sampling;
use samara_core::graph::DType;
use samara_core::model::gpt::GptConfig;
use samara_core::model::llama::LlamaConfig;
use samara_tests::binary::samara;
use samara_tests::golden;
use samara_tests::training::{text, tiny, train};
use serde_json::{Value, json};

/// Room for two buckets and a half.
const CONFIG: GptConfig = GptConfig {
    vocab_size: 61,
    n_positions: 40,
    n_embd: 64,
    n_layer: 2,
    n_head: 4,
    n_inner: 128,
    initializer_range: 0.3,
    window_size: 9,
    ..GptConfig::GPT2
};

const SAMPLING: Sampling = Sampling { temperature: 1.1, top_k: 0, top_p: 0.98, min_p: 0.0 };

/// The same of the other family: rotary positions, grouped queries, a window, a head of its own.
const LLAMA: LlamaConfig = LlamaConfig {
    vocab_size: 61,
    max_position_embeddings: 40,
    hidden_size: 64,
    intermediate_size: 128,
    num_hidden_layers: 2,
    num_attention_heads: 4,
    num_key_value_heads: 2,
    head_dim: 16,
    initializer_range: 0.3,
    sliding_window: 9,
    qkv_bias: true,
    tie_word_embeddings: false,
    ..LlamaConfig::SMOLLM2_135M
};

fn model_of(architecture: Arc<dyn Architecture>, threads: usize) -> Model {
    let mut model = Model::new(Engine::new(threads, Gemm::Samara).unwrap(), architecture).unwrap();
    model.initialise(5);
    model
}

fn model(threads: usize) -> Model {
    model_of(Arc::new(CONFIG), threads)
}

/// Both families.
fn architectures() -> [Arc<dyn Architecture>; 2] {
    [Arc::new(CONFIG), Arc::new(LLAMA)]
}

fn options(rows: usize, cache: DType) -> TextOptions<'static> {
    let (sampling, stops) = (SAMPLING.into(), vec![7, 30]);
    TextOptions {
        rows,
        cache,
        sampling,
        seed: 11,
        first_row: 0,
        sampled_logprobs: false,
        stops,
        stop_strings: None,
        logprobs: None,
    }
}

fn request(len: usize, max_new_tokens: usize) -> Request {
    Request { prompt: (0..len).map(|i| ((i * i + 3 * len) % CONFIG.vocab_size) as i32).collect(), max_new_tokens }
}

/// All texts in the order of their requests, each finished once.
fn all(gpt: &mut Model, requests: &[Request], options: &TextOptions<'_>) -> Vec<Text> {
    let mut found = vec![None; requests.len()];
    texts(&mut gpt.bound(), requests, options, &mut |i, text| {
        assert!(found[i].replace(text).is_none(), "text {i} twice");
        Ok::<(), RunError>(())
    })
    .unwrap();
    found.into_iter().map(|text| text.expect("a text")).collect()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(12))]
    /// Prompts from one token to more than the positions, texts that begin anew in the middle.
    #[test]
    fn a_text_does_not_depend_on_the_others(
        sizes in prop::collection::vec((1usize..50, 0usize..45), 1..9),
        cache in prop::sample::select(vec![DType::Real, DType::F16, DType::Q8]),
        (repetition_penalty, logprobs) in prop::sample::select(vec![(1.0, None), (1.5, Some(3))]),
    ) {
        let sampling = SamplingParams { sampling: SAMPLING, repetition_penalty };
        // Ids below 256 are bytes.
        let (tokenizer, strings) = (Tokenizer::bytes(&[]).unwrap(), ["\u{1}\u{2}".to_owned(), "\u{9}".to_owned()]);
        let stop_strings = (logprobs.is_some()).then(|| StopStrings::new(&tokenizer, &strings));
        let options = |rows, cache| TextOptions { sampling, logprobs, stop_strings: stop_strings.clone(), ..options(rows, cache) };
        for architecture in architectures() {
            let mut model = model_of(architecture, 2);
            let requests: Vec<Request> = sizes.iter().map(|&(len, new)| request(len, new)).collect();
            let one_by_one = all(&mut model, &requests, &options(1, cache));
            for rows in [2, 3, 16] {
                prop_assert_eq!(&all(&mut model, &requests, &options(rows, cache)), &one_by_one, "{} rows", rows);
            }
        }
    }
}

#[test]
fn threads_and_quantised_weights() {
    let requests: Vec<Request> = [1, 3, 17, 40, 5].into_iter().map(|len| request(len, 30)).collect();
    for (architecture, weights) in
        architectures().into_iter().flat_map(|a| [DType::Real, DType::Q8, DType::Q4].map(|weights| (Arc::clone(&a), weights)))
    {
        let run = |threads: usize, rows: usize| {
            let gpt = model_of(Arc::clone(&architecture), threads);
            let mut gpt = if weights == DType::Real { gpt } else { gpt.quantised(weights).unwrap() };
            all(&mut gpt, &requests, &options(rows, DType::Real))
        };
        let expected = run(1, 1);
        for (threads, rows) in [(2, 1), (3, 4), (1, 16), (2, 2)] {
            assert_eq!(run(threads, rows), expected, "{weights:?}: {threads} threads, {rows} rows");
        }
    }
}

/// Logits to the bit, beside rows that come, go and idle.
#[test]
fn logits_of_a_row_are_the_same_in_every_slot() {
    architectures().into_iter().for_each(|architecture| logits_in_slots(&mut model_of(architecture, 2)));
}

fn logits_in_slots(gpt: &mut Model) {
    let prompt = request(6, 0).prompt;
    let shape = |slots| SlotsShape { slots, tokens: 40, prompt: 20, dtype: DType::Real };
    let mut bound = gpt.bound();
    let lm = &mut bound;
    let mut alone = Slots::new(lm, &shape(1)).unwrap();
    alone.fill(lm, 0, &prompt).unwrap();
    let mut expected = vec![alone.logits(0).to_vec()];
    for token in 0..20 {
        assert!(alone.feed(0, token));
        alone.step(lm).unwrap();
        expected.push(alone.logits(0).to_vec());
    }
    let mut many = Slots::new(lm, &shape(16)).unwrap();
    for slot in [0, 9, 15] {
        many.fill(lm, (slot + 1) % 16, &request(33, 0).prompt).unwrap();
        many.fill(lm, slot, &request(20, 0).prompt).unwrap();
        many.fill(lm, slot, &prompt).unwrap();
        assert!(many.logits(slot) == expected[0], "slot {slot}");
        for token in 0..20 {
            assert!(many.feed(slot, token));
            if token % 3 == 0 {
                let _ = many.feed((slot + 1) % 16, token);
            }
            many.step(lm).unwrap();
            assert!(many.logits(slot) == expected[token as usize + 1], "slot {slot} after {token}");
        }
    }
}

#[test]
fn row_zero_is_the_text_of_a_generator() {
    let mut gpt = model(2);
    let request = request(9, 60);
    let found = all(&mut gpt, std::slice::from_ref(&request), &TextOptions { stops: Vec::new(), ..options(4, DType::Real) });
    let mut generator = Generator::new(&mut gpt.bound(), &request.prompt, SAMPLING, 11).unwrap();
    for _ in 0..60 {
        generator.next(&mut gpt.bound()).unwrap();
    }
    assert_eq!((found[0].tokens.as_slice(), found[0].stop), (generator.tokens(), Stop::Length));
}

#[test]
fn texts_end_at_the_first_stop_token() {
    let mut gpt = model(1);
    let requests = vec![request(2, 400); 6];
    let found = all(&mut gpt, &requests, &options(3, DType::Real));
    for text in &found {
        let new = &text.tokens[text.prompt..];
        let stop = new.iter().position(|token| [7, 30].contains(token));
        assert_eq!((stop, text.stop), (Some(new.len() - 1), Stop::Token), "{new:?}");
    }
    // The same prompt, but draws of their own.
    assert!(found.windows(2).all(|two| two[0] != two[1]));
    assert_eq!(
        all(&mut gpt, &[request(4, 0)], &options(3, DType::Real))[0],
        Text { tokens: request(4, 0).prompt, prompt: 4, sampled_logprobs: Vec::new(), stop: Stop::Length, logprobs: Vec::new() }
    );
}

#[test]
fn a_prompt_without_tokens_is_named() {
    let requests = [request(3, 1), Request { prompt: Vec::new(), max_new_tokens: 1 }];
    let mut gpt = model(1);
    let result = texts(&mut gpt.bound(), &requests, &options(2, DType::Real), &mut |_, _| Ok::<(), RunError>(()));
    assert!(matches!(result, Err(RunError::NoPrompt { row: 1 })));
}

#[test]
fn the_command_continues_the_prompts_of_a_file() {
    let folder = tempfile::tempdir().unwrap();
    let model = folder.path().join("run");
    train(&tiny(&text(), 3), &model).unwrap();
    let prompts = folder.path().join("prompts.jsonl");
    fs::write(&prompts, "{\"prompt\": \"a\", \"max_new_tokens\": 9}\n\n{\"prompt\": \"the\"}\n{\"prompt\": \"a\"}\n").unwrap();
    let run = |rows: &str| {
        let mut command = samara();
        command.args(["generate", "--quiet", "--max-new-tokens", "5", "--seed", "3", "--rows", rows, "--model"]).arg(&model);
        let output = command.arg("--prompts").arg(&prompts).output().unwrap();
        (output.status.code(), String::from_utf8(output.stdout).unwrap(), String::from_utf8(output.stderr).unwrap())
    };
    let (code, rows, _) = run("1");
    assert_eq!((code, &rows), (Some(0), &run("2").1));
    let rows: Vec<Value> = rows.lines().map(|row| serde_json::from_str(row).unwrap()).collect();
    let summary: Vec<_> = rows.iter().map(|row| (row["prompt"].as_str(), row["tokens"].as_array().map(Vec::len))).collect();
    assert_eq!(summary, [(Some("a"), Some(9)), (Some("the"), Some(5)), (Some("a"), Some(5))]);
    fs::write(&prompts, "{\"prompt\": \"a\"}\n{\"prompt\": 4}\n").unwrap();
    let (code, _, error) = run("2");
    assert!(code == Some(3) && error.contains("prompts.jsonl:2:"), "{error}");
}

/// The numbers of a JSON list.
fn numbers(list: &Value) -> Vec<f64> {
    list.as_array().expect("a list").iter().map(|x| x.as_f64().expect("a number")).collect()
}

#[test]
fn a_penalty_has_the_bits_of_transformers() {
    for case in golden::json("sampling/sampling.json")["penalties"].as_array().expect("cases") {
        let [mut logits, expected] =
            ["logits", "expected"].map(|key| numbers(&case[key]).iter().map(|&x| x as f32).collect::<Vec<_>>());
        let tokens: Vec<i32> = numbers(&case["tokens"]).iter().map(|&x| x as i32).collect();
        let mut marks = vec![7; logits.len()];
        penalise(&mut logits, &mut marks, &tokens, case["penalty"].as_f64().expect("penalty") as f32);
        assert_eq!(logits, expected, "{}", case["penalty"]);
    }
}

#[test]
fn a_text_ends_within_the_token_at_which_transformers_ends_it() {
    let tokenizer = Tokenizer::bytes(&[]).unwrap();
    for case in golden::json("sampling/sampling.json")["stop_strings"].as_array().expect("cases") {
        let words = |key: &str| -> Vec<String> { serde_json::from_value(case[key].clone()).expect("words") };
        let strings = StopStrings::new(&tokenizer, &words("strings"));
        let (mut text, mut out) = (strings.begin(), Vec::new());
        let ends = |piece: &String| piece.bytes().any(|byte| text.push(byte.into(), &mut out));
        let tokens = words("pieces").iter().position(ends).map(|at| at as u64 + 1);
        assert_eq!(tokens, case["tokens"].as_u64(), "{case}");
    }
}

/// Runs `samara generate --model FOLDER` with flags and standard input: exit code, standard output and error.
fn generate(folder: &Path, args: &[&str], input: &str) -> (Option<i32>, String, String) {
    let mut command = samara();
    command.args(["generate", "--model"]).arg(folder).args(args);
    let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    // Wrong use ends the command before it reads.
    let _ = child.stdin.take().unwrap().write_all(input.as_bytes());
    let output = child.wait_with_output().unwrap();
    let [out, error] = [output.stdout, output.stderr].map(|bytes| String::from_utf8(bytes).unwrap());
    (output.status.code(), out, error)
}

/// The standard output of a run that succeeds.
fn generated(folder: &Path, args: &[&str], input: &str) -> String {
    let (code, out, error) = generate(folder, args, input);
    assert_eq!(code, Some(0), "{args:?}: {error}");
    out
}

/// A model of `transformers`, a letter a token, with settings of generation.
fn lettered(settings: &Value) -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    for file in ["config.json", "model.safetensors"] {
        fs::copy(golden::path("models/gpt2-2layer").join(file), folder.path().join(file)).unwrap();
    }
    fs::copy(golden::path("sampling/tokenizer.json"), folder.path().join("tokenizer.json")).unwrap();
    fs::write(folder.path().join("generation_config.json"), settings.to_string()).unwrap();
    folder
}

#[test]
fn settings_of_a_folder_give_the_texts_of_transformers() {
    for case in golden::json("sampling/sampling.json")["texts"].as_array().expect("cases") {
        let (folder, prompt) = (lettered(&case["generation_config"]), case["prompt"].as_str().expect("prompt"));
        let json = generated(folder.path(), &["-q", "--prompt", prompt, "--logprobs", "3", "--json"], "");
        let json: Value = serde_json::from_str(&json).unwrap();
        assert_eq!(
            (&json["schema"], &json["prompt"], json["samples"].as_array().map(Vec::len)),
            (&1.into(), &case["prompt"], Some(1))
        );
        let sample = &json["samples"][0];
        assert_eq!((&sample["tokens"], &sample["finish_reason"]), (&case["ids"], &case["finish"]), "{case}");
        for (i, drawn) in sample["logprobs"].as_array().expect("log-probabilities").iter().enumerate() {
            let close = |found: &Value, wanted: &Value| (found.as_f64().unwrap() - wanted.as_f64().unwrap()).abs() < 1e-4;
            assert_eq!(drawn["token"], case["ids"][i]);
            assert!(close(&drawn["logprob"], &case["logprobs"][i]), "{drawn} {}", case["logprobs"][i]);
            for (k, best) in drawn["top"].as_array().expect("the best").iter().enumerate() {
                assert_eq!(best["token"], case["top"][i][k], "{drawn}");
                assert!(close(&best["logprob"], &case["top_logprobs"][i][k]), "{drawn}");
            }
        }
        // As it comes, the text is the same.
        let text = format!("{prompt}{}\n", sample["text"].as_str().expect("text"));
        assert_eq!(generated(folder.path(), &["-q", "--prompt", prompt], ""), text);
        let ended = usize::from(case["finish"] == "stop");
        if case["finish"] != "stop_string" {
            assert_eq!(text.len(), prompt.len() + case["ids"].as_array().unwrap().len() - ended + 1);
        }
    }
}

#[test]
fn what_is_given_stands_in_for_a_folders_settings_and_others_are_named() {
    let settings =
        json!({"do_sample": true, "temperature": 0.5, "top_k": 4, "max_new_tokens": 6, "num_beams": 3, "max_length": 9});
    let (folder, plain) = (lettered(&settings), lettered(&json!({})));
    let own = generate(folder.path(), &["--prompt", "ab"], "");
    for part in [
        "generation_config.json sets max_new_tokens = 6, ",
        "top_k = 4",
        "temperature = 0.5",
        "these settings have no effect here: max_length, num_beams",
    ] {
        assert!(own.2.contains(part), "{}", own.2);
    }
    let same = ["-q", "--prompt", "ab", "--temperature", "0.5", "--top-k", "4", "--max-new-tokens", "6"];
    assert_eq!(own.1, generated(plain.path(), &same, ""));
    let other =
        generate(folder.path(), &["--prompt", "ab", "--temperature", "2", "--top-k=0", "--set", "generate.max_new_tokens=8"], "");
    assert!(!other.2.contains("sets"), "{}", other.2);
    assert_eq!(other.1, generated(plain.path(), &["-q", "--prompt", "ab", "--temperature", "2", "--max-new-tokens", "8"], ""));
    let wrong = lettered(&json!({"top_p": "most"}));
    let (code, _, error) = generate(wrong.path(), &["--prompt", "ab"], "");
    assert!(code == Some(3) && error.contains("generation_config.json: top_p: expected a number"), "{error}");
}

#[test]
fn samples_are_rows_of_their_own_and_prompts_come_from_standard_input() {
    let folder = lettered(&json!({}));
    let with = |args: &[&str], input: &str| {
        generated(folder.path(), &[&["-q", "--seed", "5", "--max-new-tokens", "7"], args].concat(), input)
    };
    let samples = with(&["--prompt", "ab", "--samples", "3", "--rows", "1", "--json"], "");
    assert_eq!(samples, with(&["--prompt", "-", "--samples", "3", "--rows", "3", "--json"], "ab\n"));
    let json: Value = serde_json::from_str(&samples).unwrap();
    let texts: Vec<&str> = json["samples"].as_array().unwrap().iter().map(|sample| sample["text"].as_str().unwrap()).collect();
    assert!(texts.len() == 3 && texts[0] != texts[1] && json["samples"][0].get("logprobs").is_none(), "{samples}");
    assert_eq!(with(&["--prompt", "ab"], ""), format!("ab{}\n", texts[0]));
    let shown = format!("--- sample 0 ---\nab{}\n--- sample 1 ---\nab{}\n", texts[0], texts[1]);
    assert_eq!(with(&["--prompt", "ab", "--samples", "2"], ""), shown);
    // Rows of prompts: lines, or JSON, with the draws that a sample of the same number has.
    let rows = with(&["--prompts", "-", "--logprobs", "0"], "ab\nab\n");
    assert_eq!(rows, with(&["--prompts", "-", "--logprobs", "0"], "\n{\"prompt\": \"ab\"}\n{\"prompt\": \"ab\"}"));
    let rows: Vec<Value> = rows.lines().map(|row| serde_json::from_str(row).unwrap()).collect();
    assert_eq!(rows.iter().map(|row| row["text"].as_str().unwrap()).collect::<Vec<_>>(), texts[..2]);
    assert_eq!(rows[0]["logprobs"].as_array().map(Vec::len), Some(7));
    // A string ends a row where it ends a text.
    let (string, cut) = (&texts[0][3..5], &texts[0][..texts[0].find(&texts[0][3..5]).unwrap()]);
    let row: Value = serde_json::from_str(&with(&["--prompts", "-", "--stop", "??", "--stop", string], "ab")).unwrap();
    assert_eq!((row["text"].as_str(), row["stop"].as_str()), (Some(cut), Some("string")));
    assert_eq!(with(&["--prompt", "ab", "--stop", string], ""), format!("ab{cut}\n"));
}

#[test]
fn flags_that_do_not_go_together_are_refused() {
    let folder = lettered(&json!({}));
    for (args, input, code, part) in [
        (&["--prompt", "a", "--stop", ""][..], "", 2, "--stop ''"),
        (&["--prompt", "a", "--logprobs", "2"], "", 2, "--json"),
        (&["--prompt", "a", "--rows", "2"], "", 2, "--samples <N>"),
        (&["--prompts", "-", "--samples", "2"], "a", 2, "cannot be used with"),
        (&["--prompts", "-", "--json"], "a", 2, "cannot be used with"),
        (&["--prompt", "a", "--repetition-penalty", "0"], "", 2, "generate.repetition_penalty: expected a number from 0.01"),
        (&["--prompts", "-"], "", 3, "standard input: expected at least one prompt"),
        (&["--prompts", "-"], "{\"prompt\": \"a\"}\n{\"text\": 1}", 3, "standard input:2:"),
    ] {
        let (found, _, error) = generate(folder.path(), args, input);
        assert!(found == Some(code) && error.contains(part), "{args:?}: {found:?} {error}");
    }
}
