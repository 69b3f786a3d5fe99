//! Language models for tests: random models, golden GPTs, batches with padding and packing, decoding with a cache.

use samara_core::exec::Gradients;
use samara_core::graph::{Activation, DType, Graph, Recompute, Tensor, Wrt};
use samara_core::math::Real;
use samara_core::model::gpt::{Gpt, GptConfig};
use samara_core::model::lm::{self, LanguageModel, LmInputs};
use samara_core::nn::KvCache;
use samara_core::params::{ParamId, ParamInfo, Params, Registry, Scope};

use crate::draw::Draw;
use crate::fd;
use crate::golden::{self, Array, Arrays};
use crate::session::{Session, Table, registry};

/// A model: its registry and the values of its parameters.
pub struct Model {
    /// Its registry, for `f32` and `f64` alike: no parameter is frozen.
    pub params: Params<'static>,
    /// Its layers.
    pub lm: Box<dyn LanguageModel>,
    /// Parameter values by index.
    pub values: Vec<Vec<f64>>,
}

/// Token sequences of one length.
#[derive(Clone, Debug)]
pub struct Batch {
    /// Sequences.
    pub batch: usize,
    /// Tokens of each.
    pub len: usize,
    /// Ids (B, T).
    pub tokens: Vec<i32>,
    /// Positions (B, T).
    pub positions: Vec<i32>,
    /// Segments (B, T).
    pub segments: Option<Vec<i32>>,
    /// Targets (B, T).
    pub targets: Vec<i32>,
}

impl Batch {
    /// Sequences at positions 0.. whose targets are their next tokens; the last token has no target.
    pub fn new(batch: usize, tokens: Vec<i32>) -> Self {
        let len = tokens.len() / batch;
        let target = |i: usize| if i % len + 1 < len { tokens[i + 1] } else { -100 };
        let targets = (0..tokens.len()).map(target).collect();
        let positions = (0..tokens.len()).map(|i| (i % len) as i32).collect();
        Self { batch, len, tokens, positions, segments: None, targets }
    }

    /// Sequences of different lengths, padded on the left: padding has position 0 and segment −1.
    pub fn left_padded(rows: &[&[i32]]) -> Self {
        let len = rows.iter().map(|r| r.len()).max().unwrap_or(0);
        let row = |pad: i32, of: &dyn Fn(&[i32]) -> Vec<i32>| -> Vec<i32> {
            rows.iter().flat_map(|r| [vec![pad; len - r.len()], of(r)].concat()).collect()
        };
        let next = |r: &[i32]| r.iter().skip(1).copied().chain([-100]).collect::<Vec<_>>();
        Self {
            batch: rows.len(),
            len,
            tokens: row(0, &|r| r.to_vec()),
            positions: row(0, &|r| (0..r.len() as i32).collect()),
            segments: Some(row(-1, &|r| vec![0; r.len()])),
            targets: row(-100, &next),
        }
    }

    /// Sequences packed into a single row, each a segment of its own.
    pub fn packed(rows: &[&[i32]]) -> Self {
        let concat = |of: &dyn Fn(usize, &[i32]) -> Vec<i32>| -> Vec<i32> {
            rows.iter().enumerate().flat_map(|(i, r)| of(i, r)).collect()
        };
        let tokens = concat(&|_, r| r.to_vec());
        Self {
            batch: 1,
            len: tokens.len(),
            positions: concat(&|_, r| (0..r.len() as i32).collect()),
            segments: Some(concat(&|i, r| vec![i as i32; r.len()])),
            targets: concat(&|_, r| r.iter().skip(1).copied().chain([-100]).collect()),
            tokens,
        }
    }

    /// Rows that have a target.
    pub fn predicted(&self) -> usize {
        self.targets.iter().filter(|&&t| t >= 0).count()
    }
}

/// The results of a forward and backward pass.
pub struct Pass {
    /// (B T, V); empty for training programs.
    pub logits: Vec<f64>,
    /// (B T).
    pub losses: Vec<f64>,
    /// Gradient of the mean loss by parameter; empty for scoring programs.
    pub grads: Vec<Vec<f64>>,
    /// Elements of the arena.
    pub arena_len: usize,
}

impl Model {
    /// A model of a configuration with random parameters, none equal to its initial value.
    pub fn random(config: GptConfig, seed: u64) -> Self {
        Self::random_of(|s| Gpt::register(&config, s), seed)
    }

    /// The same for any family.
    pub fn random_of<M: LanguageModel + 'static>(register: impl Fn(&mut Scope<'_>) -> M, seed: u64) -> Self {
        let mut draw = Draw::new(seed);
        Self::new(register, |info| {
            let std = if info.shape.rank() == 1 { 0.4 } else { 1.5 / (info.shape.cols() as f64).sqrt() };
            let name = info.name.to_string();
            let offset = if name.ends_with("ln_1.weight") || name.ends_with("norm.weight") { 1.0 } else { 0.0 };
            draw.values(info.shape.len(), offset - std, offset + std)
        })
    }

    fn new<M: LanguageModel + 'static>(
        register: impl Fn(&mut Scope<'_>) -> M,
        value: impl FnMut(&ParamInfo) -> Vec<f64>,
    ) -> Self {
        let (params, lm) = registry::<f64, _>(Registry::count(&register), |r| register(&mut r.scope()));
        let values = params.infos().iter().map(value).collect();
        Self { params, lm: Box::new(lm), values }
    }

    /// A folder under `tests/golden/models`; the gradients in `expected` are converted to the model's layout too, as `grad.NAME`.
    pub fn golden(folder: &str) -> (Self, Arrays) {
        let config = golden_config(&golden::json(&format!("models/{folder}/config.json")));
        let file = golden::arrays(&format!("models/{folder}/model.safetensors"));
        let expected = golden::arrays(&format!("models/{folder}/expected.safetensors"));
        let model = Self::new(
            |s| Gpt::register(&config, s),
            |info| {
                let array = ours(&format!("{}", info.name), "transformer.", &file).expect("parameter in the file");
                let dims: Vec<usize> = info.shape.dims().iter().map(|&d| d as usize).collect();
                assert_eq!(dims, array.shape, "{}", info.name);
                array.values
            },
        );
        (model, expected)
    }

    /// The values of all parameters.
    pub fn ids(&self) -> impl Iterator<Item = ParamId> {
        (0..self.params.infos().len()).map(|i| ParamId::FIRST.plus(i))
    }

    /// The distance of the gradient of the mean loss from finite differences, relative to the largest entry: every entry of small parameters, and a
    /// sample of large ones.
    pub fn gradient_error(&self, table: Table<'_, f64>, batch: &Batch) -> f64 {
        let grads = self.train(table, batch, Recompute::None).grads;
        let mut trainer = self.trainer(table, batch, Recompute::None);
        let (mut found, mut expected) = (Vec::new(), Vec::new());
        for ((id, values), grad) in self.ids().zip(&self.values).zip(&grads) {
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
        fd::error(&found, &expected)
    }

    fn load<R: Real>(&self, session: &mut Session<'_, R>) {
        for (id, values) in self.ids().zip(&self.values) {
            session.set_param(id, values);
        }
    }

    fn capacity(&self) -> usize {
        2 * self.lm.dims().node_count()
    }

    /// Logits and losses, without gradients.
    pub fn score<R: Real>(&self, table: Table<'_, R>, batch: &Batch) -> Pass {
        let built = Session::build(table, self.params, self.capacity(), |g| {
            let inputs = Inputs::new(g, self, batch);
            let h = self.lm.hidden(g, &inputs.gpt, None);
            (g.output(lm::logits(g, &*self.lm, h)), g.output(lm::losses_of(g, &*self.lm, h, inputs.targets)), inputs)
        });
        let (mut session, (logits, losses, inputs)) = built.expect("graph");
        self.load(&mut session);
        inputs.write(&mut session, batch);
        session.run(Gradients::Overwrite);
        Pass { logits: session.get(logits), losses: session.get(losses), grads: Vec::new(), arena_len: session.plan.arena_len() }
    }

    /// A program that computes losses and the gradient of their mean.
    pub fn trainer<'k, R: Real>(&self, table: Table<'k, R>, batch: &Batch, recompute: Recompute) -> Trainer<'k, R> {
        let built = Session::build(table, self.params, self.capacity(), |g| {
            let inputs = Inputs::new(g, self, batch);
            let upstream = g.input(&[1]);
            let losses = g.output(lm::losses(g, &*self.lm, &inputs.gpt, inputs.targets));
            g.backward(&[(losses, upstream)], Wrt::Trainable, recompute);
            (losses, upstream, inputs)
        });
        let (mut session, (losses, upstream, inputs)) = built.expect("graph");
        self.load(&mut session);
        inputs.write(&mut session, batch);
        session.set(upstream, &[1.0 / batch.predicted() as f64]);
        Trainer { session, losses, predicted: batch.predicted() }
    }

    /// Losses and gradients.
    pub fn train<R: Real>(&self, table: Table<'_, R>, batch: &Batch, recompute: Recompute) -> Pass {
        let mut trainer = self.trainer(table, batch, recompute);
        trainer.session.run(Gradients::Overwrite);
        let session = &trainer.session;
        Pass {
            logits: Vec::new(),
            losses: session.get(trainer.losses),
            grads: self.ids().map(|id| session.grad(id)).collect(),
            arena_len: session.plan.arena_len(),
        }
    }

    /// A program that reads `len` tokens per sequence and keeps keys and values of `capacity` tokens.
    pub fn decoder<'k, R: Real>(&self, table: Table<'k, R>, batch: usize, len: usize, capacity: usize) -> Decoder<'k, R> {
        let built = Session::build(table, self.params, self.capacity(), |g| {
            let inputs = LmInputs::new(g, &*self.lm, batch, len);
            let count = || g.ints(&[batch], 0, capacity as i32);
            let cache =
                KvCache { starts: count(), live: count(), capacity, dtype: DType::Real, read_in_place: false, segments: None };
            let h = self.lm.hidden(g, &inputs, Some(&cache));
            (g.output(lm::logits(g, &*self.lm, h)), inputs, cache)
        });
        let (mut session, (logits, inputs, cache)) = built.expect("graph");
        self.load(&mut session);
        Decoder { session, logits, inputs, cache, len }
    }
}

/// A program with gradients.
pub struct Trainer<'k, R> {
    /// The program and its memory.
    pub session: Session<'k, R>,
    losses: Tensor,
    predicted: usize,
}

impl<R: Real> Trainer<'_, R> {
    /// Runs the program and returns the mean loss.
    pub fn loss(&mut self) -> f64 {
        self.session.run(Gradients::Overwrite);
        self.session.get(self.losses).iter().sum::<f64>() / self.predicted as f64
    }
}

/// A program with a key and value cache.
pub struct Decoder<'k, R> {
    /// The program and its memory.
    pub session: Session<'k, R>,
    logits: Tensor,
    inputs: LmInputs,
    cache: KvCache,
    len: usize,
}

impl<R: Real> Decoder<'_, R> {
    /// Logits (B len, V) of the next tokens (B, len) of sequences that have `starts` tokens in the cache.
    pub fn step(&mut self, tokens: &[i32], starts: &[i32]) -> Vec<f64> {
        let len = self.len as i32;
        let positions: Vec<i32> = starts.iter().flat_map(|&s| s..s + len).collect();
        let live: Vec<i32> = starts.iter().map(|&s| s + len).collect();
        self.session.set_ints(self.inputs.tokens, tokens);
        self.session.set_ints(self.inputs.positions, &positions);
        self.session.set_ints(self.cache.starts, starts);
        self.session.set_ints(self.cache.live, &live);
        self.session.run(Gradients::Overwrite);
        self.session.get(self.logits)
    }
}

struct Inputs {
    gpt: LmInputs,
    targets: Tensor,
}

impl Inputs {
    fn new(g: &Graph<'static>, model: &Model, batch: &Batch) -> Self {
        let mut gpt = LmInputs::new(g, &*model.lm, batch.batch, batch.len);
        gpt.segments = batch.segments.as_ref().map(|_| g.ints(&[batch.batch, batch.len], -1, i32::MAX));
        Self { gpt, targets: lm::targets(g, &*model.lm, batch.batch, batch.len) }
    }

    fn write<R: Real>(&self, session: &mut Session<'_, R>, batch: &Batch) {
        session.set_ints(self.gpt.tokens, &batch.tokens);
        session.set_ints(self.gpt.positions, &batch.positions);
        session.set_ints(self.targets, &batch.targets);
        if let (Some(t), Some(values)) = (self.gpt.segments, &batch.segments) {
            session.set_ints(t, values);
        }
    }
}

/// A configuration from Hugging Face's `config.json`.
fn golden_config(json: &serde_json::Value) -> GptConfig {
    let number = |names: &[&str]| names.iter().find_map(|n| json[n].as_u64()).map(|n| n as usize);
    let (n_embd, kind) = (number(&["n_embd", "hidden_size"]).unwrap(), json["model_type"].as_str().unwrap());
    let function = json["activation_function"].as_str().or(json["afn"].as_str()).unwrap();
    GptConfig {
        vocab_size: number(&["vocab_size"]).unwrap(),
        n_positions: number(&["n_positions", "max_position_embeddings"]).unwrap(),
        n_embd,
        n_layer: number(&["n_layer", "num_layers"]).unwrap(),
        n_head: number(&["n_head", "num_heads"]).unwrap(),
        n_inner: number(&["n_inner", "intermediate_size"]).unwrap_or(4 * n_embd),
        activation_function: if function == "gelu" && kind != "openai-gpt" { Activation::GeluErf } else { Activation::GeluTanh },
        layer_norm_epsilon: json["layer_norm_epsilon"].as_f64().unwrap(),
        post_norm: kind == "openai-gpt",
        scale_attn_weights: kind != "gpt_neo",
        window_size: number(&["window_size"]).unwrap_or(0),
        ..GptConfig::GPT2
    }
}

/// Parameter `name` of this project, from a Hugging Face file: matrices of linear layers as (outputs, inputs), queries, keys and values in one.
/// `None` for the bias of queries, keys and values for which GPT-Neo has no gradient.
pub fn ours(name: &str, prefix: &str, file: &Arrays) -> Option<Array> {
    let get = |name: &str| file.get(&format!("{prefix}{name}"));
    let (block, part) = name.split_at(name.find("attn.").unwrap_or(name.len()));
    if let Some(q) = get(&format!("{block}attn.attention.q_proj.weight")) {
        // GPT-Neo.
        let c = q.shape[0];
        return match part {
            "attn.c_attn.weight" => {
                let of = |x: &str| get(&format!("{block}attn.attention.{x}_proj.weight")).unwrap().values.clone();
                Some(Array { shape: vec![3 * c, c], values: [of("q"), of("k"), of("v")].concat() })
            }
            "attn.c_attn.bias" if prefix.starts_with("grad.") => None,
            "attn.c_attn.bias" => Some(Array { shape: vec![3 * c], values: vec![0.0; 3 * c] }),
            _ => get(&format!("{block}{}", part.replace("attn.c_proj", "attn.attention.out_proj"))).cloned(),
        };
    }
    let array = get(name)?;
    let linear = name.ends_with(".weight") && (name.contains(".c_") && !is_neo(file));
    Some(if linear { array.transposed() } else { array.clone() })
}

fn is_neo(file: &Arrays) -> bool {
    file.keys().any(|k| k.contains("q_proj"))
}
