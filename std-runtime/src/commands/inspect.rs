//! `samara inspect`.

use std::fs;
use std::io::Read;
use std::path::{Path, PathBuf};

use samara_core::file::layout::{DECAY, GroupRecord, MAGIC, NO_TOKEN};
use samara_core::file::{FileProgram, FileTokenizer, ProgramFile, SectionKind};
use samara_core::graph::{Role, TensorRecord};
use samara_core::model::bert::Bert;
use samara_core::model::clip::Clip;
use samara_core::model::detr::Detr;
use samara_core::model::vilt::Vilt;
use samara_core::ops;
use samara_core::shape::UNIT;
use serde_json::{Map, Value, json};

use super::{Command, Console, Error, output};
use crate::data::shards::{Shard, Tokens};
use crate::encoder::folder::EncoderFolder;
use crate::export::aligned::Aligned;
use crate::export::names::{PROGRAM_NAMES, dtype_name};
use crate::files::IoError;
use crate::image_text::folder::DualFolder;
use crate::image_text::index::{Described, Index};
use crate::image_text::vilt_folder::ViltFolder;
use crate::model::folder::FolderConfig;
use crate::model::tune::peft::{ADAPTER_WEIGHTS, read_object};
use crate::model_folder::safetensors::{INDEX_FILE, SINGLE_FILE, Weights};
use crate::model_folder::{ADAPTER_FILE, is_adapter_folder, is_model_folder};
use crate::npy;
use crate::run::checkpoint::Checkpoint;
use crate::run::metrics;
use crate::session::OwnedParams;
use crate::tokenizer::{Model, Tokenizer};
use crate::train::error::TrainingError;
use crate::vision::detector::DetectorFolder;
use crate::vision::folder::ImageFolder;
use crate::vision::processor::Processor;
use crate::vision::processor::file::PROCESSOR_FILE;
use crate::vision::tune::ImageTuneConfig;
use crate::vision::weights::tuned;

const EXAMPLES: &str = "\
Examples:
  samara inspect runs/tales-001
  samara inspect model.safetensors --json
  samara inspect tales.samara
  samara inspect data/train.bin";

/// Describe a file or folder: weights, models, programs for devices, runs, checkpoints, token shards, tokenizers, indices of images, arrays.
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct Args {
    /// The file or folder.
    path: PathBuf,
    /// Print JSON.
    #[arg(long)]
    json: bool,
}

impl Command for Args {
    fn run(&self, _: &Console) -> Result<(), Error> {
        let found = inspect(&self.path)?;
        output::show(self.json, &found, || text(&found, 0))
    }
}

/// A description of a path as JSON: an object with one key per kind of content.
fn inspect(path: &Path) -> Result<Value, Error> {
    let kind = fs::metadata(path).map_err(IoError::at(path, "read"))?;
    let mut found = json!({ "path": path.display().to_string() });
    if kind.is_dir() {
        folder(path, &mut found)?
    } else {
        file(path, kind.len(), &mut found)?
    }
    Ok(found)
}

fn folder(path: &Path, found: &mut Value) -> Result<(), Error> {
    let has = |name: &str| path.join(name).is_file();
    if has("manifest.json") {
        let manifest = Checkpoint::verify(path)?.manifest;
        found["checkpoint"] = json!({ "step": manifest.step, "state": manifest.state, "files": manifest.files });
    }
    if has("metrics.jsonl") {
        found["run"] = run(&path.join("metrics.jsonl"))?;
    }
    if is_model_folder(path) {
        found["model"] = model(path)?;
    }
    if is_adapter_folder(path) {
        found["adapter"] = adapter(path)?;
        found["weights"] = weights(&path.join(ADAPTER_WEIGHTS))?;
    }
    if path.join(PROCESSOR_FILE).is_file() {
        found["processor"] = Processor::read(path)?.map(|processor| processor.to_json()).unwrap_or_default();
    }
    if let Some(Described { images, skipped, width }) = Index::describe(path)? {
        found["index"] = json!({ "images": images, "columns": width, "missing": skipped });
    }
    if Tokenizer::is_in(path) {
        // A tokenizer that cannot be used does not hide the rest of the folder.
        found["tokenizer"] = tokenizer(path).unwrap_or_else(|error| json!({ "problem": error.to_string() }));
    }
    if has(SINGLE_FILE) || has(INDEX_FILE) {
        found["weights"] = weights(path)?;
    }
    for name in ["train.bin", "val.bin", "train.u32.bin", "val.u32.bin"] {
        if has(name) {
            found[name] = shard(&path.join(name))?;
        }
    }
    if found.as_object().is_some_and(|found| found.len() == 1) {
        let what = "expected a model folder, an adapter, a run, a checkpoint, a tokenizer, an index of images or token shards";
        return Err(Error::data(format!("{}: {what}, found none of their files", path.display())));
    }
    Ok(())
}

/// The fields of an adapter's description, without keys that are off.
fn adapter(path: &Path) -> Result<Value, Error> {
    let is_off = |value: &Value| value.is_null() || *value == json!(false) || *value == json!({});
    let keys = read_object(&path.join(ADAPTER_FILE))?;
    Ok(keys.into_iter().filter(|(_, value)| !is_off(value)).collect::<Map<_, _>>().into())
}

/// Whether a file begins with these bytes.
fn begins_with(path: &Path, magic: &[u8]) -> bool {
    let mut start = vec![0; magic.len()];
    fs::File::open(path).and_then(|mut file| file.read_exact(&mut start)).is_ok() && start == magic
}

fn file(path: &Path, bytes: u64, found: &mut Value) -> Result<(), Error> {
    found["bytes"] = bytes.into();
    let name = path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
    let (key, value) = match path.extension().and_then(|e| e.to_str()) {
        // Whatever the file is called.
        _ if begins_with(path, &MAGIC) => ("device", device(path)?),
        Some("safetensors") => ("weights", weights(path)?),
        Some("json") if name.ends_with(".safetensors.index.json") => ("weights", weights(path)?),
        Some("json") => ("tokenizer", tokenizer(path)?),
        Some("bin") => ("tokens", shard(path)?),
        Some("npy") => ("array", array(path)?),
        Some("samara") => ("device", device(path)?),
        Some("jsonl") => ("run", run(path)?),
        _ => {
            let what = "expected .safetensors, .samara, .npy, .bin (token ids), tokenizer.json, metrics.jsonl, or a folder";
            return Err(Error::data(format!("{}: {what}", path.display())));
        }
    };
    found[key] = value;
    Ok(())
}

/// A program file, checked as a device checks it.
fn device(path: &Path) -> Result<Value, Error> {
    let bytes = Aligned::new(&fs::read(path).map_err(IoError::at(path, "read"))?);
    let kernels = ops::reference();
    // What both refuse is no file of a language model.
    let file = ProgramFile::open_images(bytes.get(), &kernels).or_else(|_| ProgramFile::open(bytes.get(), &kernels));
    let file = file.map_err(|error| Error::data(format!("{}: {error}", path.display())))?;
    let (header, sizes) = (file.header(), file.sizes());
    let of = |len: usize| len.saturating_mul(size_of::<f32>());
    let mut programs = Map::new();
    for (kind, name) in PROGRAM_NAMES {
        let Some(FileProgram { program, plan, .. }) = file.program(kind) else { continue };
        let live = program.nodes().iter().filter(|node| !node.dead).count();
        programs.insert(
            name.to_owned(),
            json!({ "nodes": live, "tensors": program.tensors().len(), "arena_bytes": of(plan.arena_len()) }),
        );
    }
    let tokenizer = file.tokenizer().map(|tokenizer| match tokenizer {
        FileTokenizer::Bytes => "byte",
        FileTokenizer::Chars(_) => "char",
        FileTokenizer::Bpe(_) => "bpe",
    });
    Ok(json!({
        "version": header.version, "vocabulary": header.vocab_size, "context": header.context,
        "end_of_text": (header.end_of_text != NO_TOKEN).then_some(header.end_of_text), "tokenizer": tokenizer,
        "programs": programs, "groups": groups(&file), "sections": sections(&file),
        "memory": {
            "session_bytes": of(sizes.total_len()), "arena_bytes": of(sizes.arena_len), "state_bytes": of(sizes.state_len),
            "ints_bytes": of(sizes.ints_len), "trainable_bytes": of(sizes.trainable_len), "moments_bytes": of(sizes.moments_len),
        },
        "parameters": { "tensors": parameters(&file) },
    }))
}

/// The optimizer groups of the trainable parameters.
fn groups(file: &ProgramFile<'_>) -> Value {
    let group =
        |g: &GroupRecord| json!({ "values": g.units as usize * UNIT, "decay": g.flags & DECAY != 0, "lr_scale": g.lr_scale });
    file.groups().iter().map(group).collect()
}

/// Bytes of every section; those of a program under its name.
fn sections(file: &ProgramFile<'_>) -> Value {
    let mut sections = Map::new();
    for section in file.sections() {
        let kind = SectionKind::from_code(section.kind.into()).map_or_else(String::new, |kind| format!("{kind:?}"));
        let program = PROGRAM_NAMES.into_iter().find(|(kind, _)| *kind as u16 == section.program);
        let name = program.map_or_else(|| kind.clone(), |(_, program)| format!("{program}.{kind}"));
        sections.insert(name.to_lowercase(), section.len.into());
    }
    sections.into()
}

/// Names, shapes and types of the parameters, which are the first tensors of every program.
fn parameters(file: &ProgramFile<'_>) -> Vec<Value> {
    let records = file.programs().next().map_or(&[][..], |(_, program)| program.program.tensors());
    let records = records.iter().take(file.header().params as usize).enumerate();
    let parameter = |(i, record): (usize, &TensorRecord)| {
        json!({
            "name": file.name(i), "dtype": dtype_name(record.dtype), "shape": record.shape.dims(),
            "values": record.shape.len(), "trained": record.role == Role::Trainable,
        })
    };
    records.map(parameter).collect()
}

/// The description of a model of any family, and its number of parameters.
fn model(folder: &Path) -> Result<Value, Error> {
    let (mut json, parameters) = if let Some(image) = ImageFolder::read(folder)? {
        let ((registry, _), _) = tuned(&image.model, &ImageTuneConfig::default())?;
        (image.to_json(0.0), Some(count(&registry)))
    } else if let Some(detector) = DetectorFolder::read(folder)? {
        let config = detector.model.to_core().map_err(TrainingError::from)?;
        let (registry, _) = OwnedParams::of(|s| Detr::register(&config, None, s))?;
        (detector.to_json(0.0), Some(count(&registry)))
    } else if let Some(dual) = DualFolder::read(folder)? {
        let config = dual.model.to_core().map_err(TrainingError::from)?;
        let (registry, _) = OwnedParams::of(|s| Clip::register(&config, s))?;
        (dual.to_json(), Some(count(&registry)))
    } else if let Some(vilt) = ViltFolder::read(folder)? {
        let config = vilt.model.to_core().map_err(TrainingError::from)?;
        let (registry, _) = OwnedParams::of(|s| Vilt::register(&config, vilt.heads, s))?;
        (vilt.to_json(0.0), Some(count(&registry)))
    } else if let Some(encoder) = EncoderFolder::read(folder)? {
        let config = encoder.model.to_core().map_err(TrainingError::from)?;
        let (registry, _) = OwnedParams::of(|s| Bert::register(&config, s))?;
        (encoder.to_json(), Some(count(&registry)))
    } else {
        let config = FolderConfig::read(folder)?;
        (config.to_json(), config.model.parameters().map(|n| n as u64))
    };
    json["parameters"] = parameters.into();
    Ok(json)
}

/// The parameters of a registry; statistics of norms are none.
fn count(registry: &OwnedParams) -> u64 {
    registry.view().infos().iter().filter(|info| !info.buffer).map(|info| info.shape.len() as u64).sum()
}

fn run(metrics_file: &Path) -> Result<Value, Error> {
    let records = metrics::read(metrics_file)?;
    let best = records.iter().filter_map(|record| record.get("val_loss")).min_by(f64::total_cmp);
    let last = records.last();
    let val_loss = records.iter().rev().find_map(|record| record.get("val_loss"));
    Ok(json!({
        "records": records.len(), "step": last.map(|r| r.step), "tokens": last.map(|r| r.tokens),
        "train_loss": last.and_then(|r| r.get("train_loss")), "val_loss": val_loss, "best_val_loss": best,
        "wall_s": last.and_then(|r| r.get("wall_s")),
    }))
}

fn tokenizer(path: &Path) -> Result<Value, Error> {
    let tokenizer = Tokenizer::load(path)?;
    let kind = match tokenizer.model() {
        Model::Byte => "byte",
        Model::Character(_) => "char",
        Model::Bpe(_) | Model::Pieces(_) => "bpe",
        Model::WordPiece(_) => "wordpiece",
    };
    let added: Vec<Value> =
        tokenizer.added().iter().map(|t| json!({ "id": t.id, "text": t.text, "special": t.special })).collect();
    Ok(json!({ "kind": kind, "ids": tokenizer.vocab_size(), "end_of_text": tokenizer.end_of_text(), "added": added }))
}

fn shard(path: &Path) -> Result<Value, Error> {
    let shard = Shard::open(path)?;
    let (mut ids, mut largest, mut start) = ([0_i32; 4096], 0, 0);
    while start < shard.len() {
        let count = (shard.len() - start).min(ids.len() as u64);
        let part = ids.get_mut(..count as usize).unwrap_or_default();
        shard.read(start, part)?;
        largest = part.iter().copied().max().unwrap_or(0).max(largest);
        start += count;
    }
    let width = shard.width().name();
    Ok(json!({ "tokens": shard.len(), "width": width, "largest_id": if shard.is_empty() { None } else { Some(largest) } }))
}

fn array(path: &Path) -> Result<Value, Error> {
    let array = npy::read(path)?;
    let not_finite = match &array.values {
        npy::ArrayValues::I32(_) | npy::ArrayValues::I64(_) | npy::ArrayValues::U64(_) => 0,
        npy::ArrayValues::F32(values) => values.iter().filter(|x| !x.is_finite()).count(),
        npy::ArrayValues::F64(values) => values.iter().filter(|x| !x.is_finite()).count(),
    };
    Ok(json!({ "dtype": array.dtype, "shape": array.shape, "not_finite": not_finite }))
}

/// Types whose values are summarised; for others only shape and size are reported.
const REAL_TYPES: [&str; 4] = ["F32", "F16", "BF16", "F64"];

fn weights(path: &Path) -> Result<Value, Error> {
    let weights = Weights::open(path)?;
    let (mut tensors, mut all, mut values) = (Vec::new(), 0, Vec::new());
    for name in weights.names() {
        let (shape, dtype) = (weights.shape(name).unwrap_or(&[]), weights.dtype(name).unwrap_or_default());
        let count: usize = shape.iter().product();
        all += count as u64;
        let mut tensor = json!({ "name": name, "dtype": dtype, "shape": shape, "values": count });
        if REAL_TYPES.contains(&dtype.as_str()) {
            values.clear();
            values.resize(count, 0.0_f32);
            weights.read(name, shape, &mut values)?;
            let finite = || values.iter().filter(|x| x.is_finite());
            let largest = finite().fold(0.0_f32, |largest, x| largest.max(x.abs()));
            let square: f64 = finite().map(|&x| f64::from(x) * f64::from(x)).sum();
            tensor["nan"] = values.iter().filter(|x| x.is_nan()).count().into();
            tensor["infinite"] = values.iter().filter(|x| x.is_infinite()).count().into();
            tensor["largest"] = f64::from(largest).into();
            tensor["rms"] = (square / count.max(1) as f64).sqrt().into();
            if finite().count() < count
                && let Some(first) = weights.values(name, shape)?.first_not_finite(count)
            {
                tensor["first_not_finite"] = json!({ "index": first.index_in(shape), "value": first.value.to_string() });
            }
        }
        tensors.push(tensor);
    }
    Ok(json!({ "tensors": tensors, "values": all, "metadata": weights.metadata() }))
}

/// The same for display.
fn text(found: &Value, indent: usize) -> String {
    let mut text = String::new();
    let Some(object) = found.as_object() else { return text };
    for (key, value) in object {
        let space = " ".repeat(indent);
        match value {
            Value::Object(inner) if inner.is_empty() => {}
            Value::Object(_) => text += &format!("{space}{key}:\n{}", self::text(value, indent + 2)),
            Value::Array(tensors) if key == "tensors" => {
                text += &tensor_table(tensors);
                tensors.iter().filter_map(not_finite).for_each(|line| text += &line);
            }
            Value::String(word) => text += &format!("{space}{key}: {word}\n"),
            Value::Null => {}
            _ => text += &format!("{space}{key}: {value}\n"),
        }
    }
    text
}

/// The position of the first value of a tensor that is not finite as f32.
fn not_finite(tensor: &Value) -> Option<String> {
    let (name, first) = (tensor["name"].as_str()?, tensor.get("first_not_finite")?);
    Some(format!("not finite: {name} is {} at {}\n", first["value"].as_str()?, first["index"]))
}

fn tensor_table(tensors: &[Value]) -> String {
    let columns = ["name", "dtype", "shape", "values", "trained", "nan", "infinite", "largest", "rms"];
    let columns: Vec<_> = columns.into_iter().filter(|&column| tensors.iter().any(|t| !t[column].is_null())).collect();
    let mut rows = vec![columns.iter().map(|&column| column.to_owned()).collect::<Vec<_>>()];
    for tensor in tensors {
        let cell = |column: &&str| match &tensor[*column] {
            Value::String(text) => text.clone(),
            Value::Null => "-".to_owned(),
            Value::Number(n) if n.is_f64() => n.as_f64().map_or_else(String::new, |x| format!("{x:.4}")),
            other => other.to_string(),
        };
        rows.push(columns.iter().map(cell).collect());
    }
    output::table(&rows)
}
