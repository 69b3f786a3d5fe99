//! Embeddings of texts by an encoder of a folder.

use std::collections::{BTreeMap, HashMap};
use std::path::Path;
use std::sync::Arc;

use samara_core::exec::Gradients;
use samara_core::graph::{Graph, Tensor};
use samara_core::model::bert::{Bert, BertConfig, BertInputs};
use samara_core::nn::Dropout;

use super::folder::EncoderFolder;
use super::pooling::Embedder;
use crate::config::Invalid;
use crate::error::{Failure, Kind};
use crate::model_folder::{ExtraTensors, FolderError, load_weights_with, maps};
use crate::session::{BuildError, CpuDevice, DeviceError, Engine, On, OwnedParams, OwnedProgram, Session, SetId};
use crate::stop::Interrupted;
use crate::tokenizer::{FileError, TextError, Tokenizer, text_ids};

/// Texts that cannot be embedded.
#[derive(Debug, thiserror::Error)]
pub enum EmbedError {
    /// The folder.
    #[error(transparent)]
    Folder(#[from] FolderError),
    /// Its tokenizer.
    #[error(transparent)]
    Tokenizer(#[from] FileError),
    /// Its configuration.
    #[error(transparent)]
    Invalid(#[from] Invalid),
    /// It cannot be built.
    #[error(transparent)]
    Build(#[from] BuildError),
    /// The device failed.
    #[error(transparent)]
    Device(#[from] DeviceError),
    /// A text.
    #[error(transparent)]
    Text(#[from] TextError),
    /// A signal.
    #[error(transparent)]
    Interrupted(#[from] Interrupted),
}

impl Failure for EmbedError {
    fn kind(&self) -> Kind {
        match self {
            Self::Folder(error) => error.kind(),
            Self::Tokenizer(error) => error.kind(),
            Self::Invalid(error) => error.kind(),
            Self::Build(error) => error.kind(),
            Self::Device(error) => error.kind(),
            Self::Text(error) => error.kind(),
            Self::Interrupted(error) => error.kind(),
        }
    }
}

/// Tokens of a batch, padding included.
const BATCH_TOKENS: usize = 2048;
/// Lengths are multiples of this, so that few programs serve all texts.
const STEP: usize = 16;

/// An encoder with its tokenizer.
pub struct Sentences {
    session: Session,
    set: SetId,
    bert: Bert,
    tokenizer: Tokenizer,
    embedder: Embedder,
    /// By rows and tokens of a row.
    programs: HashMap<[usize; 2], Pass>,
}

/// A program over one batch.
struct Pass {
    program: OwnedProgram,
    inputs: BertInputs,
    /// (B, T, C)
    hidden: Tensor,
}

/// A text's place among all, and its ids.
type Numbered = (usize, Vec<i32>);

impl Sentences {
    /// Opens a folder with a tokenizer.
    ///
    /// # Errors
    /// The folder is not that of an encoder, or lacks a tokenizer; a model that cannot be built.
    pub fn open(engine: Arc<Engine>, folder: &Path, extra: ExtraTensors) -> Result<Self, EmbedError> {
        let config = EncoderFolder::open(folder)?.model.to_core()?;
        let tokenizer = Tokenizer::of_model(folder)?.ok_or_else(|| FileError::none_in(folder, ""))?;
        let (registry, bert) = OwnedParams::of(|s| Bert::register(&config, &mut s.at("bert")))?;
        let mut session = Session::new(CpuDevice::new(engine));
        let set = session.add_set("model", &registry)?;
        let (own, _) = session.set_mut(set);
        let (map, params) = (maps::bert::encoder(&config), registry.view());
        load_weights_with(folder, &params, &map, extra, own.weights.get_mut(), own.frozen.get_mut())?;
        Ok(Self { session, set, bert, tokenizer, embedder: Embedder::of(folder)?, programs: HashMap::new() })
    }

    /// Columns of an embedding, C.
    pub fn width(&self) -> usize {
        self.bert.config().hidden_size
    }

    /// The longest text in tokens, those around it included.
    pub fn max_tokens(&self) -> usize {
        let positions = self.bert.config().max_position_embeddings;
        self.embedder.max_tokens.map_or(positions, |n| n.min(positions))
    }

    /// The embeddings of texts, each (C), and how many texts were too long and lost their ends. `done` is told how many are finished, between batches.
    ///
    /// An embedding does not depend on the other texts: batches have texts of one padded length.
    ///
    /// # Errors
    /// A text that the tokenizer cannot encode, by its number from 1; a program that cannot be built; what `done` returns.
    pub fn embed(
        &mut self,
        texts: &[String],
        done: &mut dyn FnMut(usize) -> Result<(), Interrupted>,
    ) -> Result<(Vec<Vec<f32>>, usize), EmbedError> {
        let (mut by_length, mut cut) = (BTreeMap::<usize, Vec<Numbered>>::new(), 0);
        for (place, text) in texts.iter().enumerate() {
            let (ids, is_cut) = self.ids(place, text)?;
            cut += usize::from(is_cut);
            let padded = ids.len().max(1).next_multiple_of(STEP).min(self.bert.config().max_position_embeddings);
            by_length.entry(padded).or_default().push((place, ids));
        }
        let (mut embeddings, mut finished) = (vec![Vec::new(); texts.len()], 0);
        for (len, rows) in by_length {
            for batch in rows.chunks((BATCH_TOKENS / len).max(1)) {
                done(finished)?;
                self.run(batch, len, &mut embeddings)?;
                finished += batch.len();
            }
        }
        Ok((embeddings, cut))
    }

    /// The ids of text number `place`, with the tokens around it, and whether its end was left out.
    fn ids(&self, place: usize, text: &str) -> Result<(Vec<i32>, bool), EmbedError> {
        let BertConfig { vocab_size, .. } = *self.bert.config();
        let mut ids = text_ids(&self.tokenizer, &format!("text {}", place + 1), text, false, vocab_size)?;
        let around = self.tokenizer.with_template(&[]).map_or(0, |around| around.len());
        let most = self.max_tokens().saturating_sub(around);
        let is_cut = ids.len() > most;
        ids.truncate(most);
        let ids = self.tokenizer.with_template(&ids).unwrap_or(ids);
        Ok((ids.into_iter().map(|id| id as i32).collect(), is_cut))
    }

    /// Runs a batch of texts of at most `len` tokens.
    fn run(&mut self, batch: &[Numbered], len: usize, embeddings: &mut [Vec<f32>]) -> Result<(), EmbedError> {
        let (set, bert, rows) = (self.set, &self.bert, batch.len());
        let pass = match self.programs.entry([rows, len]) {
            std::collections::hash_map::Entry::Occupied(entry) => entry.into_mut(),
            std::collections::hash_map::Entry::Vacant(entry) => {
                let (program, (inputs, hidden)) = self.session.prepare(On::set(set), |g: &Graph<'_>| {
                    let inputs = BertInputs::new(g, bert.config(), rows, len, true);
                    (inputs, g.output(bert.forward(g, &inputs, Dropout::NONE))) // (B, T, C)
                })?;
                entry.insert(Pass { program, inputs, hidden })
            }
        };
        let (mut tokens, mut segments) = (vec![0; rows * len], vec![-1; rows * len]);
        for ((_, ids), (tokens, segments)) in batch.iter().zip(tokens.chunks_mut(len).zip(segments.chunks_mut(len))) {
            for ((token, segment), &id) in tokens.iter_mut().zip(segments).zip(ids) {
                (*token, *segment) = (id, 0);
            }
        }
        let positions: Vec<i32> = (0..rows).flat_map(|_| 0..len as i32).collect();
        let BertInputs { tokens: to_tokens, positions: to_positions, types, segments: to_segments } = pass.inputs;
        let mut write = |to: Tensor, values: &[i32]| {
            // Ids were checked, and shapes are the program's own.
            let written = self.session.write_ints(&pass.program, to, values);
            debug_assert!(written.is_ok(), "{written:?}");
        };
        write(to_tokens, &tokens);
        write(to_positions, &positions);
        write(types, &vec![0; rows * len]);
        write(to_segments.unwrap_or(Tensor::NONE), &segments);
        self.session.run_all(&pass.program, On::set(set), Gradients::Overwrite);
        self.session.sync()?;
        let (hidden, columns) = (self.session.read(&pass.program, pass.hidden), bert.config().hidden_size);
        for ((place, ids), hidden) in batch.iter().zip(hidden.chunks_exact(len * columns)) {
            let live = hidden.get(..ids.len() * columns).unwrap_or(hidden);
            if let Some(to) = embeddings.get_mut(*place) {
                *to = self.embedder.pool(live, columns);
            }
        }
        Ok(())
    }
}
