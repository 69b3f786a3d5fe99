//! Weights in blocks: the bytes of ggml, the reference kernels against weights read back, and whole models.

use std::sync::Arc;

use samara::decoding::generator::Generator;
use samara::kernels::cpu;
use samara::kernels::gemm::Gemm;
use samara::lm::{Model, score};
use samara::model::folder::{FolderConfig, save_folder};
use samara::model::gpt::GptModel;
use samara::session::Engine;
use samara_core::decode::{Sampling, argmax};
use samara_core::exec::{Gradients, Kernels};
use samara_core::graph::{Activation, DType};
use samara_core::math::half::{from_f16, to_f16};
use samara_core::model::gpt::GptConfig;
use samara_core::ops::reference;
use samara_core::params::Init;
use samara_core::quant::{dequantise_row, quantise_row};
use samara_tests::draw::Draw;
use samara_tests::golden;
use samara_tests::session::{Session, Table, graph, registry};

const DTYPES: [(&str, DType); 3] = [("f16", DType::F16), ("q8", DType::Q8), ("q4", DType::Q4)];

#[test]
fn bytes_are_those_of_ggml() {
    let arrays = golden::arrays("quant/quant.safetensors");
    let rows = &arrays["rows"];
    for (name, dtype) in DTYPES {
        let (bytes, values) = (&arrays[&format!("{name}.bytes")], &arrays[&format!("{name}.values")]);
        let (cols, row_bytes) = (rows.shape[1], bytes.shape[1]);
        for (i, row) in rows.values.chunks(cols).enumerate() {
            let row: Vec<f32> = row.iter().map(|&x| x as f32).collect();
            let mut found = vec![0; row_bytes];
            quantise_row(dtype, &row, &mut found);
            let expected: Vec<u8> = bytes.values[i * row_bytes..(i + 1) * row_bytes].iter().map(|&b| b as u8).collect();
            assert_eq!(found, expected, "{name}: row {i}");
            let mut back = vec![f32::NAN; cols];
            dequantise_row(dtype, &found, &mut back);
            let expected: Vec<f32> = values.values[i * cols..(i + 1) * cols].iter().map(|&x| x as f32).collect();
            assert_eq!(back, expected, "{name}: row {i} read back");
        }
    }
}

/// Every half-precision number comes back, and what lies between two goes to the nearest.
#[test]
fn half_precision_rounds_to_the_nearest() {
    for bits in 0..=u16::MAX {
        let x = from_f16(bits);
        assert!(x.is_nan() || to_f16(x) == bits, "{bits:#06x} is {x}");
    }
    for bits in 0..0x7bff_u16 {
        let (low, high) = (from_f16(bits), from_f16(bits + 1));
        let middle = (low + high) / 2.0;
        assert_eq!(to_f16(middle), bits + bits % 2, "between {low} and {high}");
        assert_eq!((to_f16(middle.next_down()), to_f16(middle.next_up())), (bits, bits + 1));
        assert_eq!(to_f16(-middle), to_f16(middle) | 0x8000);
    }
    assert_eq!((to_f16(65520.0), to_f16(f32::MAX), to_f16(f32::INFINITY)), (0x7c00, 0x7c00, 0x7c00));
    assert!(from_f16(to_f16(f32::NAN)).is_nan());
}

/// Losses of an embedding, a linear layer and a head whose weights are of `dtype`, or the same weights read back as numbers.
fn losses(kernels: &Kernels<f32>, dtype: DType, read_back: bool) -> Vec<f64> {
    let (vocab, k, n, len) = (37, 64, 96, 9);
    let shapes = [[vocab, k], [n, k], [vocab, n]];
    let (params, ids) = registry::<f32, _>(3, |registry| {
        let ids = [0, 1, 2].map(|i| registry.scope().item("w", i).add("weight", &shapes[i], Init::Zeros));
        if !read_back {
            registry.infos_mut().iter_mut().for_each(|info| (info.frozen, info.dtype) = (true, dtype));
        }
        ids
    });
    let g = graph(params, 20);
    let tokens = g.ints(&[1, len], 0, vocab as i32 - 1);
    let targets = g.ints(&[1, len], -1, vocab as i32 - 1);
    // The table's rows are added to something, and also stand alone.
    let x = g.embedding(tokens, g.param(ids[0]), None);
    let x = g.embedding(tokens, g.param(ids[0]), Some(x));
    let h = g.linear_with(x, g.param(ids[1]), None, Activation::Relu, None);
    let out = g.output(g.head_loss(h, g.param(ids[2]), None, targets, 0.0));
    let mut session = Session::new(Table::serial(kernels), g.finish().expect("graph"));
    let mut draw = Draw::new(8);
    let mut row_back = vec![0.0f32; k.max(n)];
    for (info, shape) in params.infos().iter().zip(shapes) {
        let values: Vec<f32> = draw.values(shape[0] * shape[1], -0.4, 0.4).iter().map(|&x| x as f32).collect();
        let row_bytes = dtype.bytes(shape[1], 4).unwrap();
        for (i, row) in values.chunks(shape[1]).enumerate() {
            let mut bytes = vec![0; row_bytes];
            quantise_row(dtype, row, &mut bytes);
            if read_back {
                dequantise_row(dtype, &bytes, &mut row_back[..shape[1]]);
                session.trainable[info.range()][i * shape[1]..(i + 1) * shape[1]].copy_from_slice(&row_back[..shape[1]]);
            } else {
                session.frozen[info.frozen_bytes(4)][i * row_bytes..(i + 1) * row_bytes].copy_from_slice(&bytes);
            }
        }
    }
    session.set_ints(tokens, &Draw::new(2).ints(len, 0, vocab as i32 - 1));
    session.set_ints(targets, &Draw::new(3).ints(len, -1, vocab as i32 - 1));
    session.run(Gradients::Overwrite);
    session.get(out)
}

/// Only the activations are rounded besides: to ± half of 1/127 of the largest of 32.
#[test]
fn operations_read_weights_of_every_type() {
    for (name, kernels) in [("reference", reference()), ("fast", cpu(Gemm::Samara))] {
        for (which, dtype) in DTYPES {
            let (found, expected) = (losses(&kernels, dtype, false), losses(&kernels, dtype, true));
            let tolerance = if dtype == DType::F16 { 1e-4 } else { 0.1 };
            for (found, expected) in found.iter().zip(&expected) {
                assert!((found - expected).abs() <= tolerance, "{name}, {which}: {found} against {expected}");
            }
        }
    }
    for (which, dtype) in DTYPES {
        let (fast, slow) = (losses(&cpu(Gemm::Samara), dtype, false), losses(&reference(), dtype, false));
        // A product that differs in its last bit may round to the next integer in the layer after it.
        assert!(fast.iter().zip(&slow).all(|(a, b)| (a - b).abs() < 0.02), "{which}: {fast:?} against {slow:?}");
    }
}

#[test]
fn rows_that_do_not_fall_into_blocks_are_refused() {
    let config = GptConfig { vocab_size: 20, n_positions: 8, n_embd: 24, n_layer: 1, n_head: 2, n_inner: 32, ..GptConfig::GPT2 };
    let gpt = Model::new(Engine::new(1, Gemm::Samara).unwrap(), Arc::new(config)).unwrap();
    let error = gpt.quantised(DType::Q8).err().expect("an error").to_string();
    assert!(error.contains("wte.weight has rows of 24 values") && error.contains("quantisation block of 32"), "{error}");
}

/// A model whose logits differ by several nats, so that losses mean something.
fn model(threads: usize) -> Model {
    let config = GptConfig {
        vocab_size: 211,
        n_positions: 64,
        n_embd: 96,
        n_layer: 3,
        n_head: 3,
        n_inner: 384,
        initializer_range: 0.15,
        ..GptConfig::GPT2
    };
    let mut gpt = Model::new(Engine::new(threads, Gemm::Samara).unwrap(), Arc::new(config)).unwrap();
    gpt.initialise(11);
    gpt
}

/// Weights that are converted while they are read have the bits of those converted in memory.
#[test]
fn a_folder_opens_in_blocks() {
    let shape = GptModel { vocab_size: Some(211), n_positions: 64, n_embd: 96, n_layer: 3, n_head: 3, ..GptModel::default() };
    let config = FolderConfig::new(shape, 0.0);
    let gpt = model(1);
    let folder = tempfile::tempdir().unwrap();
    save_folder(folder.path(), &config, &gpt.weights().params(), gpt.weights().weights.get()).unwrap();
    for (name, dtype) in DTYPES {
        let expected = gpt.quantised(dtype).unwrap();
        let found = Model::open(Engine::new(1, Gemm::Samara).unwrap(), folder.path(), dtype).unwrap();
        assert!(found.weights().frozen.get() == expected.weights().frozen.get(), "{name}");
        assert_eq!(found.weights().weights.get(), expected.weights().weights.get(), "{name}");
        assert_eq!(found.f32_bytes(), gpt.weight_bytes());
    }
    let numbers = Model::open(Engine::new(1, Gemm::Samara).unwrap(), folder.path(), DType::Real).unwrap();
    assert_eq!(numbers.weights().weights.get(), gpt.weights().weights.get());
}

fn text(gpt: &Model, len: usize) -> Vec<i32> {
    Draw::new(4).ints(len, 0, gpt.dims.vocab_size as i32 - 1)
}

fn mean_loss(gpt: &mut Model, tokens: &[i32]) -> f64 {
    let scores = score::log_probabilities(&mut gpt.bound(), tokens).unwrap();
    -scores.iter().map(|&x| f64::from(x)).sum::<f64>() / scores.len() as f64
}

#[test]
fn a_model_in_blocks_is_close_to_its_original() {
    let mut gpt = model(2);
    let tokens = text(&gpt, 60);
    let loss = mean_loss(&mut gpt, &tokens);
    // Steps of blocks are 1/127 and 1/8 of their largest weight: errors of single logits average out over the tokens.
    for (dtype, bound, bytes) in [(DType::Q8, 0.02, 0.34), (DType::Q4, 0.4, 0.22)] {
        let mut quantised = gpt.quantised(dtype).unwrap();
        let difference = mean_loss(&mut quantised, &tokens) - loss;
        assert!(difference != 0.0 && difference.abs() < bound, "{dtype:?}: {difference}");
        assert!((quantised.weight_bytes() as f64) < bytes * gpt.weight_bytes() as f64);
    }
}

#[test]
fn threads_change_no_bit() {
    for dtype in [DType::Q8, DType::Q4] {
        let logits = [1, 2, 5].map(|threads| {
            let mut gpt = model(threads).quantised(dtype).unwrap();
            let tokens = text(&gpt, 50);
            score::logits(&mut gpt.bound(), &tokens).unwrap()
        });
        assert!(logits[0] == logits[1] && logits[0] == logits[2], "{dtype:?}");
    }
}

/// Token by token with a cache, and all at once without: the same most probable tokens.
#[test]
fn with_and_without_a_cache() {
    for dtype in [DType::Q8, DType::Q4] {
        let mut gpt = model(2).quantised(dtype).unwrap();
        let mut tokens = text(&gpt, 7);
        let mut generator = Generator::new(&mut gpt.bound(), &tokens, Sampling::GREEDY, 1).unwrap();
        for _ in 0..20 {
            let token = generator.next(&mut gpt.bound()).unwrap();
            let logits = score::logits(&mut gpt.bound(), &tokens).unwrap();
            assert_eq!(token as usize, argmax(&logits[logits.len() - gpt.dims.vocab_size..]), "{dtype:?}: {tokens:?}");
            tokens.push(token);
        }
    }
}

/// Keys and values in another element type: the next token's probabilities change little, and the state is smaller.
#[test]
fn a_cache_in_blocks_is_close_to_one_of_numbers() {
    let mut gpt = model(2);
    let prompt = text(&gpt, 40);
    let mut logits = |dtype: DType| {
        let mut generator = Generator::with_cache(&mut gpt.bound(), &prompt, Sampling::GREEDY, 1, (dtype, usize::MAX)).unwrap();
        let tokens: Vec<i32> = (0..5).map(|_| generator.next(&mut gpt.bound()).unwrap()).collect();
        (tokens, generator.logits().to_vec())
    };
    let (tokens, expected) = logits(DType::Real);
    for (dtype, bound) in [(DType::F16, 0.02), (DType::Q8, 0.3)] {
        let (found_tokens, found) = logits(dtype);
        assert_eq!(found_tokens, tokens, "{dtype:?}");
        let largest = found.iter().zip(&expected).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
        assert!(largest > 0.0 && largest < bound, "{dtype:?}: {largest}");
    }
}
