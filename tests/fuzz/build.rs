//! Makes the seeds of the fuzz target `program_file`: the smallest programs of every kind and format, one to a file.

use std::path::Path;
use std::sync::Arc;
use std::{env, fs};

use samara::export::file::{FileModel, FileWriter};
use samara::export::programs::{DeviceModel, DeviceProgram};
use samara::export::spec::{Optimizer, TrainShape};
use samara::session::{BuildError, CpuDevice, Engine, OwnedParams, ParamSet};
use samara::tokenizer::{BpeTrainOptions, BpeTrainer, Tokenizer, TrainError};
use samara_core::graph::DType;
use samara_core::model::gpt::{Gpt, GptConfig};
use samara_core::tune::{Tune, store_as, tune};
use samara_core::tokenizer::Split;

const CONFIG: GptConfig = GptConfig {
    vocab_size: 5,
    n_positions: 4,
    n_embd: 4,
    n_layer: 1,
    n_head: 2,
    n_inner: 4,
    bias: false,
    initializer_range: 0.5,
    ..GptConfig::GPT2
};
/// Blocks hold 32 numbers.
const WIDE: GptConfig = GptConfig { n_embd: 32, n_inner: 32, ..CONFIG };
const BIASED: GptConfig = GptConfig { bias: true, ..CONFIG };
const SHAPE: TrainShape = TrainShape { batch: 2, block: 2, weighted: false };

/// What a seed holds.
enum Kind {
    Decode(DType),
    Train(Optimizer),
    Evaluate,
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    use Kind::{Decode, Evaluate, Train};
    use Optimizer::{Adamw, Sgd};
    let chars = Tokenizer::characters(["abcde"], &[])?;
    let seeds = [
        seed(&CONFIG, DType::Real, Tune::None, &Decode(DType::Real), Some(&chars))?,
        seed(&CONFIG, DType::Real, Tune::None, &Decode(DType::F16), Some(&Tokenizer::bytes(&[])?))?,
        seed(&WIDE, DType::Q8, Tune::None, &Decode(DType::Q8), None)?,
        seed(&WIDE, DType::Q4, Tune::None, &Decode(DType::F16), None)?,
        seed(&CONFIG, DType::Real, Tune::Head, &Train(Sgd), None)?,
        seed(&CONFIG, DType::Real, Tune::Head, &Train(Adamw), None)?,
        seed(&BIASED, DType::Real, Tune::Bias, &Train(Sgd), None)?,
        seed(&CONFIG, DType::Real, Tune::LastBlock, &Train(Adamw), None)?,
        seed(&WIDE, DType::Q8, Tune::Bias, &Train(Adamw), None)?,
        seed(&CONFIG, DType::Real, Tune::All, &Train(Sgd), None)?,
        seed(&CONFIG, DType::Real, Tune::LastBlock, &Evaluate, Some(&pieces()?))?,
        seed(&WIDE, DType::Q4, Tune::Head, &Evaluate, None)?,
    ];
    let out = env::var("OUT_DIR")?;
    let mut list = String::from("&[\n");
    for (number, bytes) in seeds.iter().enumerate() {
        let path = Path::new(&out).join(format!("{number}.samara"));
        fs::write(&path, bytes)?;
        list += &format!("    include_bytes!({path:?}),\n");
    }
    fs::write(Path::new(&out).join("seeds.rs"), list + "]\n")?;
    println!("cargo:rerun-if-changed=build.rs");
    Ok(())
}

/// A byte-level BPE.
fn pieces() -> Result<Tokenizer, TrainError> {
    let mut trainer =
        BpeTrainer::new(BpeTrainOptions { vocab_size: 260, min_count: 1, specials: Vec::new(), split: Split::Gpt2 })?;
    trainer.add(b"abc abcab bcabc");
    trainer.train()
}

/// A file with one program, whose weights are any numbers.
fn seed(
    config: &GptConfig,
    weights: DType,
    train: Tune,
    kind: &Kind,
    tokenizer: Option<&Tokenizer>,
) -> Result<Vec<u8>, BuildError> {
    let engine = Arc::new(Engine::reference().expect("a thread"));
    let (owned, gpt) = OwnedParams::new(config.param_count() + train.added_params(), |registry| {
        let mut gpt = Gpt::register(config, &mut registry.scope());
        if weights != DType::Real {
            store_as(weights, registry);
        }
        tune(train, &mut gpt, registry);
        gpt
    })?;
    let model = DeviceModel { engine: &engine, owned: &owned, model: &gpt };
    let DeviceProgram { kind, program, ports } = match *kind {
        Kind::Decode(kv) => model.decode(kv)?,
        Kind::Train(optimizer) => model.train(SHAPE, optimizer)?,
        Kind::Evaluate => model.evaluate(SHAPE)?,
    };
    let mut set = ParamSet::new(&CpuDevice::new(Arc::clone(&engine)), "device", &owned).unwrap();
    owned.view().initialise(1, set.weights.get_mut());
    // Small numbers in every format.
    for (i, byte) in set.frozen.get_mut().iter_mut().enumerate() {
        *byte = (i * 37 % 61) as u8;
    }
    let mut writer = FileWriter::default();
    writer.program(kind, &program, &ports);
    writer.params(&set, tokenizer.is_some());
    if let Some(tokenizer) = tokenizer {
        writer.tokenizer(tokenizer);
    }
    let (params, layout) = (owned.view().infos().len(), owned.view().layout());
    let (vocab_size, context) = (config.vocab_size, config.n_positions);
    Ok(writer.finish(&FileModel { params, layout, vocab_size, context, end_of_text: None }))
}
