//! A ViLT that scores how well texts and images fit: every pair is a pass of the whole model.

use std::path::Path;
use std::sync::Arc;

use samara_core::exec::Gradients;
use samara_core::graph::{Graph, Tensor};
use samara_core::model::vilt::{Vilt, ViltExtents, ViltInputs};
use samara_core::nn::Dropout;

use super::alignment::{self, Aligned};
use super::data::tokens::{CaptionEncoder, Captions};
use super::encoder::DualError;
use super::places::{Places, write_places};
use super::vilt::ViltModel;
use super::vilt_folder::ViltFolder;
use crate::config::Invalid;
use crate::model_folder::{CONFIG_FILE, ExtraTensors, FolderError, load_weights_with, maps};
use crate::session::{CpuDevice, Engine, On, OwnedParams, OwnedProgram, Session, SetId};
use crate::tokenizer::{FileError, Tokenizer};
use crate::vision::folder::own_first;
use crate::vision::image::{CHANNELS, Image};
use crate::vision::processor::Processor;

/// Texts of a batch.
const ROWS: usize = 16;

/// A model for one image at a time.
pub struct PairScorer {
    session: Session,
    set: SetId,
    vilt: Vilt,
    model: ViltModel,
    tokenizer: Tokenizer,
    processor: Processor,
}

/// The program of an image with this many patches.
struct Scoring {
    program: OwnedProgram,
    inputs: ViltInputs,
    of: ViltExtents,
    /// (B, 1), or (B, 2)
    logits: Tensor,
    /// Normalised hidden states (B, T+1+N, C).
    states: Tensor,
}

/// Where the words of a text are in an image, by optimal transport.
pub struct WordPlaces {
    /// Every token of the text, and the share of its mass in every patch.
    pub words: Vec<(String, Vec<f32>)>,
    /// Rows and columns of patches.
    pub grid: [usize; 2],
}

impl PairScorer {
    /// Opens a folder.
    ///
    /// # Errors
    /// The folder is not that of a ViLT, has no head that compares a text with an image, or lacks a tokenizer; a model that cannot be built.
    pub fn open(engine: Arc<Engine>, folder: &Path, extra: ExtraTensors) -> Result<Self, DualError> {
        let ViltFolder { model, heads, .. } = ViltFolder::open(folder)?;
        let config = model.to_core()?;
        if !heads.rank && !heads.matching {
            let (path, key) = (folder.join(CONFIG_FILE), "architectures".to_owned());
            let expected = "a ViLT with rank_output or itm_score; train one with vilt.itm_weight or vilt.rank_weight".to_owned();
            return Err(FolderError::Key { path, key, expected, found: ViltModel::architecture(heads).to_owned() }.into());
        }
        if model.num_channels != CHANNELS {
            let expected = format!("{CHANNELS}: images are read as RGB");
            return Err(Invalid::new("model.num_channels", expected, model.num_channels).into());
        }
        let tokenizer = Tokenizer::of_model(folder)?.ok_or_else(|| FileError::none_in(folder, ""))?;
        let own = Processor::vilt(model.image_size, model.patch_size);
        let processor = Processor::read(folder)?.unwrap_or(own);
        if processor.multiples([1, 1]).is_none_or(|size| size.iter().any(|side| !side.is_multiple_of(model.patch_size))) {
            let expected = format!("ViltImageProcessor with a size_divisor that is a multiple of {}", model.patch_size);
            let path = folder.join(crate::vision::processor::file::PROCESSOR_FILE);
            let found = "another".to_owned();
            return Err(FolderError::Key { path, key: "image_processor_type".to_owned(), expected, found }.into());
        }
        let (registry, vilt) = OwnedParams::of(|s| Vilt::register(&config, heads, s))?;
        let map = own_first(folder, maps::vilt::name_maps(&config, heads))?.into_iter().next().unwrap_or_default();
        let mut session = Session::new(CpuDevice::new(engine));
        let set = session.add_set("model", &registry)?;
        let (own, _) = session.set_mut(set);
        load_weights_with(folder, &registry.view(), &map, extra, own.weights.get_mut(), own.frozen.get_mut())?;
        Ok(Self { session, set, vilt, model, tokenizer, processor })
    }

    /// Height and width of a square image of the model.
    pub fn size(&self) -> [usize; 2] {
        [self.model.image_size; 2]
    }

    /// The tokens of texts, for [`Self::scores`].
    ///
    /// # Errors
    /// A tokenizer that puts no tokens around a text; a text that it cannot encode, by its number from 1.
    pub fn encode(&self, texts: &[&str]) -> Result<Captions, DualError> {
        let longest = self.model.max_position_embeddings;
        let encoder = CaptionEncoder::of_bert(&self.tokenizer, self.model.vocab_size, longest)?;
        Ok(encoder.encode(texts.iter().copied())?)
    }

    /// How well each text fits an image of any size; larger is better.
    ///
    /// # Errors
    /// A program that cannot be built; the device failed.
    pub fn scores(&mut self, image: &Image, texts: &Captions) -> Result<Vec<f32>, DualError> {
        let shaped = self.processor.shape(image);
        let places = Places::all(shaped.size().map(|side| side / self.model.patch_size));
        let scoring = self.program(texts.len, &places)?;
        let patches = self.patches(&shaped).repeat(ROWS);
        let mut scores = Vec::with_capacity(texts.ends.len());
        for (rows, ends) in texts.tokens.chunks(ROWS * texts.len.max(1)).zip(texts.ends.chunks(ROWS)) {
            self.run(&scoring, (&patches, &places), (rows, ends))?;
            let columns = if self.vilt.heads().rank { 1 } else { 2 };
            let found = self.session.read(&scoring.program, scoring.logits);
            // The logarithm of the odds that they belong together.
            let score = |row: &[f32]| row.last().copied().unwrap_or(0.0) - if columns == 2 { row[0] } else { 0.0 };
            scores.extend(found.chunks(columns).take(ends.len()).map(score));
        }
        Ok(scores)
    }

    /// Where the words of a text are in an image of any size.
    ///
    /// # Errors
    /// As [`Self::encode`] and [`Self::scores`].
    pub fn places_of(&mut self, image: &Image, text: &str) -> Result<WordPlaces, DualError> {
        let (shaped, texts) = (self.processor.shape(image), self.encode(&[text])?);
        let places = Places::all(shaped.size().map(|side| side / self.model.patch_size));
        let scoring = self.program(texts.len, &places)?;
        let patches = self.patches(&shaped).repeat(ROWS);
        self.run(&scoring, (&patches, &places), (&texts.tokens, &texts.ends))?;
        let states = self.session.read(&scoring.program, scoring.states);
        let states = states.get(..states.len() / ROWS).unwrap_or_default();
        let (end, patches) = (texts.ends.first().map_or(0, |&end| end as usize), places.seen.len());
        // Shapes are the program's own.
        let plan = alignment::plan(states, &scoring.of, Aligned { end, patches }).unwrap_or_default();
        let word = |id: i32| String::from_utf8_lossy(&self.tokenizer.token_bytes(id as u32)).trim().to_owned();
        let rows = plan.chunks(patches.max(1)).zip(&texts.tokens).take(end).skip(1);
        Ok(WordPlaces { words: rows.map(|(row, &id)| (word(id), row.to_vec())).collect(), grid: places.grid })
    }

    /// Runs a program on texts of tokens (rows, T), with the places of their last ones, and an image for each row.
    fn run(
        &mut self,
        Scoring { program, inputs, of, .. }: &Scoring,
        (patches, places): (&[f32], &Places),
        (texts, ends): (&[i32], &[i32]),
    ) -> Result<(), DualError> {
        let (session, side) = (&mut self.session, self.vilt.config().grid());
        let (mut tokens, mut live) = (vec![0; ROWS * of.tokens], vec![false; ROWS * of.tokens]);
        tokens[..texts.len()].copy_from_slice(texts);
        live.chunks_mut(of.tokens.max(1)).zip(ends).for_each(|(live, &end)| live[..=end as usize].fill(true));
        let positions: Vec<i32> = (0..ROWS).flat_map(|_| 0..of.tokens as i32).collect();
        let images = vec![places.clone(); ROWS];
        let written = session
            .write(program, inputs.patches, patches)
            .and_then(|()| session.write_ints(program, inputs.texts.tokens, &tokens))
            .and_then(|()| session.write_ints(program, inputs.texts.positions, &positions))
            .and_then(|()| session.write_ints(program, inputs.texts.types, &vec![0; tokens.len()]))
            .and_then(|()| write_places(session, program, (inputs, of, side), &images, &live));
        // Ids were checked, and shapes are the program's own.
        debug_assert!(written.is_ok(), "{written:?}");
        session.run_all(program, On::set(self.set), Gradients::Overwrite);
        Ok(session.sync()?)
    }

    fn program(&mut self, tokens: usize, places: &Places) -> Result<Scoring, DualError> {
        let vilt = self.vilt;
        let resized = places.grid != [vilt.config().grid(); 2];
        let of = ViltExtents { batch: ROWS, tokens, patches: places.seen.len(), resized, padded: true };
        let (program, (inputs, logits, states)) = self.session.prepare(On::set(self.set), |g: &Graph<'_>| {
            let inputs = vilt.inputs(g, &of);
            let states = vilt.forward(g, &inputs, Dropout::NONE);
            let logits = vilt.rank(g, states.pooled).or_else(|| vilt.matching(g, states.pooled)).unwrap_or(states.pooled);
            (inputs, g.output(logits), g.output(states.all))
        })?;
        Ok(Scoring { program, inputs, of, logits, states })
    }

    /// The patches of an image (N, channels·P·P).
    fn patches(&self, image: &Image) -> Vec<f32> {
        let ([height, width], side, values) = (image.size(), self.model.patch_size, self.processor.values());
        let across = width / side;
        let len = CHANNELS * side * side;
        let value = |i: usize| {
            let (patch, within) = (i / len, i % len);
            let (channel, y, x) = (within / (side * side), within / side % side, within % side);
            let at = ((patch / across * side + y) * width + patch % across * side + x) * CHANNELS + channel;
            values.of(channel, image.pixels().get(at).copied().unwrap_or(0))
        };
        (0..height / side * across * len).map(value).collect()
    }
}
