//! Whole models: against `transformers`, against finite differences, and against themselves in other batches.

use samara::kernels::cpu;
use samara::kernels::gemm::Gemm;
use samara::threads::Pool;
use samara_core::exec::Kernels;
use samara_core::graph::Recompute;
use samara_core::model::gpt::GptConfig;
use samara_core::ops::reference;
use samara_tests::draw::Draw;
use samara_tests::fd;
use samara_tests::gpt::{Batch, Model, ours};
use samara_tests::session::Table;

const SMALL: GptConfig =
    GptConfig { vocab_size: 11, n_positions: 12, n_embd: 8, n_layer: 2, n_head: 2, n_inner: 16, ..GptConfig::GPT2 };

/// GPT-2, GPT-1, banded GPT-3, and GPT-2 without biases.
fn family() -> [GptConfig; 4] {
    [
        SMALL,
        GptConfig { post_norm: true, ..SMALL },
        GptConfig { window_size: 3, n_layer: 3, ..SMALL },
        GptConfig { bias: false, activation_function: samara_core::graph::Activation::GeluErf, ..SMALL },
    ]
}

/// The reference kernels, whose results must have the same bits however rows are arranged, and the fast ones, whose sums over keys are cut into
/// blocks where the keys of a sequence begin: there 10⁻⁵ is asked for.
fn tables() -> [(&'static str, Kernels<f32>, f64); 2] {
    [("reference", reference(), 0.0), ("fast", cpu(Gemm::Samara), 1e-5)]
}

fn close(found: &[f64], expected: &[f64], tolerance: f64) -> bool {
    found.len() == expected.len() && found.iter().zip(expected).all(|(a, b)| (a - b).abs() <= tolerance)
}

fn batch(config: &GptConfig, rows: usize, len: usize, seed: u64) -> Batch {
    Batch::new(rows, Draw::new(seed).ints(rows * len, 0, config.vocab_size as i32 - 1))
}

/// Every parameter's gradient of a 2-layer model, every entry of small parameters and some of large ones.
#[test]
fn gradients_are_those_of_finite_differences() {
    let kernels = reference::<f64>();
    let table = Table::serial(&kernels);
    for (n, config) in family().into_iter().enumerate() {
        let model = Model::random(config, n as u64);
        let batch = batch(&config, 2, 6, 40 + n as u64);
        let error = model.gradient_error(table, &batch);
        assert!(error <= 1e-6, "{config:?}: {error:e}");
    }
}

/// Computing again changes no bit, and takes less memory for a deep model.
#[test]
fn recomputation_gives_the_same_bits() {
    let kernels = reference::<f32>();
    let table = Table::serial(&kernels);
    for config in family() {
        let model = Model::random(GptConfig { n_layer: 6, ..config }, 5);
        let batch = batch(&config, 2, 12, 6);
        let [none, cheap, blocks] = [Recompute::None, Recompute::Cheap, Recompute::Blocks].map(|r| model.train(table, &batch, r));
        for other in [&cheap, &blocks] {
            assert_eq!(none.losses, other.losses);
            assert_eq!(none.grads, other.grads);
        }
        assert!(cheap.arena_len < none.arena_len, "{} {}", cheap.arena_len, none.arena_len);
        assert!(2 * blocks.arena_len < none.arena_len, "{} {}", blocks.arena_len, none.arena_len);
    }
}

fn golden_batch(expected: &samara_tests::golden::Arrays) -> Batch {
    let tokens = &expected["input_ids"];
    Batch { targets: expected["targets"].ints(), ..Batch::new(tokens.shape[0], tokens.ints()) }
}

/// Logits to 10⁻⁴, losses to 10⁻⁵, gradients to 10⁻³ in norm, of `transformers`' models.
#[test]
fn golden_models() {
    for (kind, kernels, _) in &tables() {
        golden_models_on(kind, Table::serial(kernels));
    }
}

fn golden_models_on(kind: &str, table: Table<'_, f32>) {
    for folder in ["gpt1-2layer", "gpt2-12layer", "gpt2-2layer", "gpt2-2layer-erf", "gptneo-banded"] {
        let (model, expected) = Model::golden(folder);
        let batch = golden_batch(&expected);
        let scored = model.score(table, &batch);
        let worst = |a: &[f64], b: &[f64]| a.iter().zip(b).fold(0.0, |m: f64, (a, b)| m.max((a - b).abs()));
        assert_eq!(scored.logits.len(), expected["logits"].values.len());
        let logits = worst(&scored.logits, &expected["logits"].values);
        assert!(logits <= 1e-4, "{kind}, {folder}: logits differ by {logits:e}");
        let trained = model.train(table, &batch, Recompute::None);
        for pass in [&scored, &trained] {
            let losses = worst(&pass.losses, &expected["row_losses"].values);
            assert!(losses <= 1e-4, "{kind}, {folder}: losses differ by {losses:e}");
            let mean = pass.losses.iter().sum::<f64>() / batch.predicted() as f64;
            assert!((mean - expected["loss"].values[0]).abs() <= 1e-5, "{kind}, {folder}: loss {mean}");
        }
        let mut compared = 0;
        for (info, grad) in model.params.infos().iter().zip(&trained.grads) {
            let Some(theirs) = ours(&info.name.to_string(), "grad.transformer.", &expected) else { continue };
            let error = fd::norm_error(grad, &theirs.values);
            assert!(error <= 1e-3, "{kind}, {folder}: gradient of {} differs by {error:e}", info.name);
            compared += 1;
        }
        let without = if folder == "gptneo-banded" { model.lm.dims().n_layer } else { 0 };
        assert_eq!(compared, model.params.infos().len() - without, "{kind}, {folder}: gradients compared");
    }
}

/// The same in double precision, to the digits of the file.
#[test]
fn golden_model_in_double_precision() {
    let kernels = reference::<f64>();
    let (model, expected) = Model::golden("gpt2-2layer-erf");
    let exact = samara_tests::golden::arrays("models/gpt2-2layer-erf/expected_f64.safetensors");
    let batch = golden_batch(&expected);
    let table = Table::serial(&kernels);
    assert!(fd::error(&model.score(table, &batch).logits, &exact["logits"].values) <= 1e-12);
    for (info, grad) in model.params.infos().iter().zip(&model.train(table, &batch, Recompute::None).grads) {
        let theirs = ours(&info.name.to_string(), "grad.transformer.", &exact).unwrap();
        let error = fd::norm_error(grad, &theirs.values);
        assert!(error <= 1e-11, "gradient of {} differs by {error:e}", info.name);
    }
}

/// Prompts padded on the left, as `transformers` computes them with a mask.
#[test]
fn golden_left_padding() {
    let (model, expected) = Model::golden("gpt2-2layer");
    let (tokens, mask) = (&expected["padded.input_ids"], expected["padded.attention_mask"].ints());
    let mut batch = Batch::new(tokens.shape[0], tokens.ints());
    batch.positions = expected["padded.position_ids"].ints();
    batch.segments = Some(mask.iter().map(|m| m - 1).collect());
    let vocab = model.lm.dims().vocab_size;
    for (kind, kernels, _) in &tables() {
        let logits = model.score(Table::serial(kernels), &batch).logits;
        let rows = logits.chunks(vocab).zip(expected["padded.logits"].values.chunks(vocab));
        for (row, (found, theirs)) in rows.enumerate().filter(|(row, _)| mask[*row] == 1) {
            for (a, b) in found.iter().zip(theirs) {
                assert!((a - b).abs() <= 1e-4, "{kind}, row {row}: {a} {b}");
            }
        }
    }
}

/// Greedy decoding with the cache chooses the ids that `transformers` chose.
#[test]
fn golden_greedy_decoding() {
    for (kind, kernels, _) in &tables() {
        greedy_decoding(kind, Table::serial(kernels));
    }
}

fn greedy_decoding(kind: &str, table: Table<'_, f32>) {
    let (model, expected) = Model::golden("gpt2-2layer");
    let (prompt, ids) = (expected["greedy.prompt"].ints(), expected["greedy.ids"].ints());
    let (vocab, capacity) = (model.lm.dims().vocab_size, model.lm.dims().n_positions);
    let mut prefill = model.decoder(table, 1, prompt.len(), capacity);
    let mut decode = model.decoder(table, 1, 1, capacity);
    let mut logits = prefill.step(&prompt, &[0])[(prompt.len() - 1) * vocab..].to_vec();
    // Two programs over one state.
    decode.session.state.clone_from(&prefill.session.state);
    for (n, (&id, theirs)) in ids.iter().zip(expected["greedy.logits"].values.chunks(vocab)).enumerate() {
        for (a, b) in logits.iter().zip(theirs) {
            assert!((a - b).abs() <= 1e-4, "{kind}, step {n}: {a} {b}");
        }
        let best = (0..vocab).max_by(|&i, &j| logits[i].total_cmp(&logits[j])).unwrap();
        assert_eq!(best as i32, id, "{kind}, step {n}");
        if n + 1 < ids.len() {
            logits = decode.step(&[id], &[(prompt.len() + n) as i32]);
        }
    }
}

/// A row alone is the row in the batch, to the bit; so are packed and padded rows on the reference kernels.
#[test]
fn a_row_does_not_know_its_batch() {
    for (kind, kernels, tolerance) in &tables() {
        for config in family() {
            row_and_batch(kind, Table::serial(kernels), config, *tolerance);
        }
    }
}

fn row_and_batch(kind: &str, table: Table<'_, f32>, config: GptConfig, tolerance: f64) {
    let model = Model::random(config, 7);
    let (len, vocab) = (6, config.vocab_size);
    let together = batch(&config, 3, len, 8);
    let all = model.score(table, &together);
    let rows: Vec<&[i32]> = together.tokens.chunks(len).collect();
    // Alone.
    for (n, row) in rows.iter().enumerate() {
        let alone = model.score(table, &Batch::new(1, row.to_vec()));
        assert_eq!(alone.logits, all.logits[n * len * vocab..(n + 1) * len * vocab], "{kind}");
        assert_eq!(alone.losses, all.losses[n * len..(n + 1) * len]);
    }
    // Packed into one row.
    if 3 * len <= 2 * config.n_positions {
        let packed = model.score(table, &Batch::packed(&rows));
        assert!(close(&packed.logits, &all.logits, tolerance), "{kind}, packed");
        assert!(close(&packed.losses, &all.losses, tolerance), "{kind}, packed");
    }
    // Padded on the left.
    let short: [&[i32]; 3] = [&rows[0][..3], rows[1], &rows[2][..1]];
    let padded = model.score(table, &Batch::left_padded(&short));
    for (n, row) in short.iter().enumerate() {
        let alone = model.score(table, &Batch::new(1, row.to_vec()));
        let from = (n * len + len - row.len()) * vocab;
        assert!(
            close(&alone.logits, &padded.logits[from..(n + 1) * len * vocab], tolerance),
            "{kind}, padded by {}",
            len - row.len()
        );
    }
}

/// Gradients of packed and padded sequences are those of the sequences apart.
#[test]
fn gradients_of_packed_and_padded_sequences() {
    let kernels = reference::<f64>();
    let table = Table::serial(&kernels);
    let model = Model::random(GptConfig { window_size: 2, ..SMALL }, 9);
    let rows: [&[i32]; 3] = [&[1, 2, 3, 4], &[5, 6], &[7, 8, 9]];
    let mut apart: Vec<Vec<f64>> = model.values.iter().map(|v| vec![0.0; v.len()]).collect();
    for row in rows {
        let batch = Batch::new(1, row.to_vec());
        let share = batch.predicted() as f64 / 6.0;
        for (sum, grad) in apart.iter_mut().zip(model.train(table, &batch, Recompute::None).grads) {
            sum.iter_mut().zip(grad).for_each(|(s, g)| *s += share * g);
        }
    }
    for batch in [Batch::packed(&rows), Batch::left_padded(&rows)] {
        assert_eq!(batch.predicted(), 6);
        for (info, (sum, grad)) in
            model.params.infos().iter().zip(apart.iter().zip(model.train(table, &batch, Recompute::None).grads))
        {
            let error = fd::error(&grad, sum);
            assert!(error < 1e-12, "{}: {error:e}", info.name);
        }
    }
}

/// Prefill and single steps with caches of different lengths give the full pass.
#[test]
fn decoding_with_a_cache_is_the_full_pass() {
    for (kind, kernels, tolerance) in &tables() {
        for config in family() {
            decoding_and_full_pass(kind, Table::serial(kernels), config, *tolerance);
        }
    }
}

fn decoding_and_full_pass(kind: &str, table: Table<'_, f32>, config: GptConfig, tolerance: f64) {
    let model = Model::random(config, 10);
    let (len, vocab) = (9, config.vocab_size);
    let full_batch = batch(&config, 2, len, 11);
    let full = model.score(table, &full_batch).logits;
    let token = |b: usize, t: usize| full_batch.tokens[b * len + t];
    let expected = |b: usize, t: usize| full[(b * len + t) * vocab..(b * len + t + 1) * vocab].to_vec();
    let mut prefill = model.decoder(table, 2, 3, config.n_positions);
    let mut decode = model.decoder(table, 2, 1, config.n_positions);
    let prompt: Vec<i32> = (0..2).flat_map(|b| (0..3).map(move |t| token(b, t))).collect();
    let logits = prefill.step(&prompt, &[0, 0]);
    for b in 0..2 {
        for t in 0..3 {
            assert!(
                close(&logits[(b * 3 + t) * vocab..(b * 3 + t + 1) * vocab], &expected(b, t), tolerance),
                "{kind}, prefill {b} {t}"
            );
        }
    }
    decode.session.state.clone_from(&prefill.session.state);
    // The second sequence goes back by one token: its cache is one shorter from then on.
    for step in 3..len {
        let at = [step, step - 1];
        let logits = decode.step(&[token(0, at[0]), token(1, at[1])], &[at[0] as i32, at[1] as i32]);
        for b in 0..2 {
            assert!(
                close(&logits[b * vocab..(b + 1) * vocab], &expected(b, at[b]), tolerance),
                "{kind}, step {step} sequence {b}"
            );
        }
    }
}

/// Work is cut by shapes: one, two and three threads give the same bits.
#[test]
fn threads_change_no_bit() {
    let kernels = cpu(Gemm::Samara);
    for config in family() {
        let model = Model::random(config, 12);
        let batch = batch(&config, 3, 11, 13);
        let serial = model.train(Table::serial(&kernels), &batch, Recompute::None);
        for threads in [1, 2, 3] {
            let pool = Pool::new(threads).unwrap();
            let table = Table { kernels: &kernels, threads: &pool };
            let found = model.train(table, &batch, Recompute::None);
            assert_eq!((&found.losses, &found.grads), (&serial.losses, &serial.grads), "{threads} threads");
        }
    }
}
