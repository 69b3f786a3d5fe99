//! Text in rows: a row has the same tokens and logits alone, in any batch, in a slot that another row has left, and on any number of threads.

use std::fs;
use std::sync::Arc;

use proptest::prelude::*;
use samara::decoding::generator::Generator;
use samara::decoding::slots::{Slots, SlotsShape};
use samara::decoding::texts::{Request, Stop, Text, TextOptions, texts};
use samara::kernels::gemm::Gemm;
use samara::lm::{Model, RunError};
use samara::model::architecture::Architecture;
use samara::session::Engine;
use samara_core::decode::Sampling;
use samara_core::graph::DType;
use samara_core::model::gpt::GptConfig;
use samara_core::model::llama::LlamaConfig;
use samara_tests::binary::samara;
use samara_tests::training::{text, tiny, train};

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

fn options(rows: usize, cache: DType) -> TextOptions {
    TextOptions { rows, cache, sampling: SAMPLING, seed: 11, first_row: 0, stops: vec![7, 30] }
}

fn request(len: usize, max_new_tokens: usize) -> Request {
    Request { prompt: (0..len).map(|i| ((i * i + 3 * len) % CONFIG.vocab_size) as i32).collect(), max_new_tokens }
}

/// All texts in the order of their requests, each finished once.
fn all(gpt: &mut Model, requests: &[Request], options: &TextOptions) -> Vec<Text> {
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
    ) {
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
        Text { tokens: request(4, 0).prompt, prompt: 4, stop: Stop::Length }
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
    let rows: Vec<serde_json::Value> = rows.lines().map(|row| serde_json::from_str(row).unwrap()).collect();
    let summary: Vec<_> = rows.iter().map(|row| (row["prompt"].as_str(), row["tokens"].as_array().map(Vec::len))).collect();
    assert_eq!(summary, [(Some("a"), Some(9)), (Some("the"), Some(5)), (Some("a"), Some(5))]);
    fs::write(&prompts, "{\"prompt\": \"a\"}\n{\"prompt\": 4}\n").unwrap();
    let (code, _, error) = run("2");
    assert!(code == Some(3) && error.contains("prompts.jsonl:2:"), "{error}");
}
