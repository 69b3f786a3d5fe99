//! The Llama family: sizes against published ones, gradients against finite differences, decoding against the whole sequence.

use samara_core::graph::{Pairing, Recompute};
use samara_core::model::llama::{Llama, LlamaConfig};
use samara_core::model::lm::LanguageModel;
use samara_core::ops::reference;
use samara_core::params::{ParamInfo, Registry};
use samara_core::tune::{Tune, tune};
use samara_tests::draw::Draw;
use samara_tests::fd;
use samara_tests::golden::{Array, Arrays, arrays, json};
use samara_tests::gpt::{Batch, Model};
use samara_tests::session::{Table, registry};

const SMALL: LlamaConfig = LlamaConfig {
    vocab_size: 11,
    hidden_size: 8,
    intermediate_size: 12,
    num_hidden_layers: 2,
    num_attention_heads: 2,
    num_key_value_heads: 2,
    head_dim: 4,
    max_position_embeddings: 12,
    rope_theta: 100.0,
    ..LlamaConfig::SMOLLM2_135M
};

/// Multi-head and tied; grouped queries, untied, with Qwen2's biases; all biases, adjacent pairs, a window, heads that are wider than C / heads.
fn family() -> [LlamaConfig; 3] {
    [
        SMALL,
        LlamaConfig { num_attention_heads: 4, num_key_value_heads: 2, tie_word_embeddings: false, qkv_bias: true, ..SMALL },
        LlamaConfig {
            head_dim: 6,
            num_key_value_heads: 1,
            qkv_bias: true,
            o_bias: true,
            mlp_bias: true,
            rope_pairs: Pairing::Adjacent,
            sliding_window: 4,
            ..SMALL
        },
    ]
}

fn model(config: LlamaConfig, seed: u64) -> Model {
    Model::random_of(move |s| Llama::register(&config, s), seed)
}

fn batch(rows: usize, len: usize, seed: u64) -> Batch {
    Batch::new(rows, Draw::new(seed).ints(rows * len, 0, SMALL.vocab_size as i32 - 1))
}

/// The values of a model, without memory for them.
fn value_count(config: &LlamaConfig) -> usize {
    let mut infos = vec![ParamInfo::default(); config.param_count()];
    let mut registry = Registry::new(&mut infos);
    Llama::register(config, &mut registry.scope());
    registry.infos_mut().iter().map(|info| info.shape.len()).sum()
}

#[test]
fn models_have_as_many_values_as_their_authors_say() {
    let smollm2 = LlamaConfig::SMOLLM2_135M;
    let llama2 = LlamaConfig {
        vocab_size: 32000,
        hidden_size: 4096,
        intermediate_size: 11008,
        num_hidden_layers: 32,
        num_attention_heads: 32,
        num_key_value_heads: 32,
        head_dim: 128,
        tie_word_embeddings: false,
        ..smollm2
    };
    let llama3_8b = LlamaConfig { vocab_size: 128_256, intermediate_size: 14336, num_key_value_heads: 8, ..llama2 };
    let qwen2 = LlamaConfig {
        vocab_size: 151_936,
        hidden_size: 896,
        intermediate_size: 4864,
        num_hidden_layers: 24,
        num_attention_heads: 14,
        num_key_value_heads: 2,
        qkv_bias: true,
        ..smollm2
    };
    let published = [(smollm2, 134_515_008), (llama2, 6_738_415_616), (llama3_8b, 8_030_261_248), (qwen2, 494_032_768)];
    for (config, count) in published {
        assert_eq!(value_count(&config), count, "{config:?}");
    }
}

#[test]
fn names_and_shapes() {
    let config = LlamaConfig { num_hidden_layers: 1, ..family()[1] };
    let (params, _) = registry::<f32, _>(config.param_count(), |r| Llama::register(&config, &mut r.scope()));
    let found: Vec<_> = params.infos().iter().map(|info| format!("{} {}", info.name, info.shape)).collect();
    let expected = [
        "model.embed_tokens.weight [11, 8]",
        "model.layers.0.input_layernorm.weight [8]",
        "model.layers.0.self_attn.qkv.weight [32, 8]",
        "model.layers.0.self_attn.qkv.bias [32]",
        "model.layers.0.self_attn.o_proj.weight [8, 16]",
        "model.layers.0.post_attention_layernorm.weight [8]",
        "model.layers.0.mlp.gate_proj.weight [12, 8]",
        "model.layers.0.mlp.up_proj.weight [12, 8]",
        "model.layers.0.mlp.down_proj.weight [8, 12]",
        "model.norm.weight [8]",
        "lm_head.weight [11, 8]",
    ];
    assert_eq!(found, expected);
}

/// A tied head becomes a parameter, one that has its own is trained where it is.
#[test]
fn the_head_alone_is_trained() {
    for config in family() {
        let capacity = config.param_count() + Tune::Head.added_params();
        let (params, head) = registry::<f32, _>(capacity, |r| {
            let mut llama = Llama::register(&config, &mut r.scope());
            tune(Tune::Head, &mut llama, r);
            llama.head()
        });
        assert_eq!(params.infos().len(), config.param_count() + usize::from(config.tie_word_embeddings));
        let trained: Vec<_> = params.infos().iter().filter(|p| !p.frozen).map(|p| p.name.to_string()).collect();
        assert_eq!((trained, params.infos()[head.index()].frozen), (vec!["lm_head.weight".to_owned()], false));
    }
}

#[test]
fn the_last_block_and_the_norm_are_trained() {
    let (params, ()) = registry::<f32, _>(SMALL.param_count(), |r| {
        let mut llama = Llama::register(&SMALL, &mut r.scope());
        tune(Tune::LastBlock, &mut llama, r);
    });
    for info in params.infos() {
        let name = info.name.to_string();
        assert_eq!(!info.frozen, name.starts_with("model.layers.1.") || name == "model.norm.weight", "{name}");
    }
}

#[test]
fn gradients_are_those_of_finite_differences() {
    let kernels = reference::<f64>();
    let table = Table::serial(&kernels);
    for (n, config) in family().into_iter().enumerate() {
        let model = model(config, n as u64);
        let batch = batch(2, 6, 40 + n as u64);
        let grads = model.train(table, &batch, Recompute::None).grads;
        let mut trainer = model.trainer(table, &batch, Recompute::None);
        let (mut found, mut expected) = (Vec::new(), Vec::new());
        for ((id, values), grad) in model.ids().zip(&model.values).zip(&grads) {
            for i in (0..values.len()).step_by(1 + values.len() / 12) {
                let mut moved = values.clone();
                expected.push(fd::derivative(|h| {
                    moved[i] = values[i] + h;
                    trainer.session.set_param(id, &moved);
                    trainer.loss()
                }));
                found.push(grad[i]);
            }
            trainer.session.set_param(id, values);
        }
        let error = fd::error(&found, &expected);
        assert!(error <= 1e-6, "{config:?}: {error:e}");
    }
}

/// A model of `transformers` under `tests/golden/models`.
fn golden_config(folder: &str) -> LlamaConfig {
    let json = json(&format!("models/{folder}/config.json"));
    let number = |key: &str| json[key].as_u64().map(|n| n as usize);
    let get = |key: &str| number(key).unwrap_or_else(|| panic!("{folder}: {key}"));
    let (flag, heads) = (|key: &str| json[key].as_bool().unwrap_or(false), get("num_attention_heads"));
    LlamaConfig {
        vocab_size: get("vocab_size"),
        hidden_size: get("hidden_size"),
        intermediate_size: get("intermediate_size"),
        num_hidden_layers: get("num_hidden_layers"),
        num_attention_heads: heads,
        num_key_value_heads: get("num_key_value_heads"),
        head_dim: number("head_dim").unwrap_or(get("hidden_size") / heads),
        max_position_embeddings: get("max_position_embeddings"),
        rms_norm_eps: json["rms_norm_eps"].as_f64().unwrap(),
        rope_theta: json["rope_parameters"]["rope_theta"].as_f64().unwrap(),
        sliding_window: number("sliding_window").unwrap_or(0),
        qkv_bias: flag("attention_bias") || json["model_type"] == "qwen2",
        o_bias: flag("attention_bias"),
        mlp_bias: flag("mlp_bias"),
        tie_word_embeddings: flag("tie_word_embeddings"),
        ..SMALL
    }
}

/// Our tensor `name` out of a file of `transformers`: queries, keys and values in one.
fn ours(name: &str, file: &Arrays) -> Vec<f64> {
    let parts: Vec<String> = match name.contains(".qkv.") {
        true => ["q_proj", "k_proj", "v_proj"].map(|part| name.replace("qkv", part)).into(),
        false => vec![name.to_owned()],
    };
    parts.iter().flat_map(|part| file[part].values.iter().copied()).collect()
}

/// Logits to 10⁻⁵ and gradients to 10⁻⁴ in norm, of random models of `transformers` in f32, by core's kernels in f64. Rows are padded on the right.
#[test]
fn golden_models() {
    let kernels = reference::<f64>();
    let table = Table::serial(&kernels);
    for folder in ["parity-llama-mha", "parity-llama-gqa-tied", "parity-qwen2", "parity-mistral"] {
        let file = |name: &str| arrays(&format!("models/{folder}/{name}.safetensors"));
        let (weights, io, expected) = (file("model"), file("io"), file("grads"));
        let mut model = model(golden_config(folder), 0);
        model.values = model.params.infos().iter().map(|info| ours(&info.name.to_string(), &weights)).collect();
        let Array { shape, values: mask } = &io["in.attention_mask"];
        // The label of a position is the target of the one before it.
        let labels = io["in.labels"].ints();
        let targets = labels.chunks(shape[1]).flat_map(|row| row[1..].iter().copied().chain([-100])).collect();
        let batch = Batch { targets, ..Batch::new(shape[0], io["in.input_ids"].ints()) };
        let vocab = model.lm.dims().vocab_size;
        let logits = model.score(table, &batch).logits;
        for ((found, expected), live) in logits.chunks(vocab).zip(io["out.logits"].values.chunks(vocab)).zip(mask) {
            let error = found.iter().zip(expected).map(|(a, b)| (a - b).abs()).fold(0.0, f64::max);
            assert!(*live == 0.0 || error <= 1e-5, "{folder}: logits differ by {error:e}");
        }
        let grads = model.train(table, &batch, Recompute::None).grads;
        for (info, grad) in model.params.infos().iter().zip(&grads) {
            let error = fd::norm_error(grad, &ours(&info.name.to_string(), &expected));
            assert!(error <= 1e-4, "{folder}, {}: the gradient differs by {error:e}", info.name);
        }
    }
}

#[test]
fn recomputation_gives_the_same_bits() {
    let kernels = reference::<f32>();
    let table = Table::serial(&kernels);
    for config in family() {
        let model = model(config, 5);
        let batch = batch(2, 12, 6);
        let [none, cheap, blocks] = [Recompute::None, Recompute::Cheap, Recompute::Blocks].map(|r| model.train(table, &batch, r));
        assert_eq!((&none.losses, &none.grads), (&cheap.losses, &cheap.grads));
        assert_eq!((&none.losses, &none.grads), (&blocks.losses, &blocks.grads));
    }
}

/// Prefill and single steps with caches of different lengths give the logits of the whole sequence, to the bit.
#[test]
fn decoding_with_a_cache_is_the_full_pass() {
    let kernels = reference::<f32>();
    let table = Table::serial(&kernels);
    for config in family() {
        let model = model(config, 10);
        let (len, vocab) = (9, config.vocab_size);
        let all = batch(2, len, 11);
        let full = model.score(table, &all).logits;
        let row = |b: usize, t: usize| &full[(b * len + t) * vocab..(b * len + t + 1) * vocab];
        let mut prefill = model.decoder(table, 2, 3, config.max_position_embeddings);
        let mut decode = model.decoder(table, 2, 1, config.max_position_embeddings);
        let prompt: Vec<i32> = (0..2).flat_map(|b| all.tokens[b * len..b * len + 3].to_vec()).collect();
        for (i, logits) in prefill.step(&prompt, &[0, 0]).chunks(vocab).enumerate() {
            assert_eq!(logits, row(i / 3, i % 3), "{config:?}: prefill {i}");
        }
        decode.session.state.clone_from(&prefill.session.state);
        // The second sequence goes back by one token: its cache is one shorter from then on.
        for step in 3..len {
            let at = [step, step - 1];
            let tokens = [all.tokens[at[0]], all.tokens[len + at[1]]];
            let logits = decode.step(&tokens, &at.map(|t| t as i32));
            for b in 0..2 {
                assert_eq!(&logits[b * vocab..(b + 1) * vocab], row(b, at[b]), "{config:?}: step {step}, sequence {b}");
            }
        }
    }
}
