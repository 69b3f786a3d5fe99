//! An ALBEF of a folder: vectors of images and of texts, and scores of pairs by its fusion.

use std::path::Path;
use std::sync::Arc;

use rayon::prelude::*;
use samara_core::exec::Gradients;
use samara_core::graph::{Graph, Tensor};
use samara_core::model::albef::Albef;
use samara_core::model::bert::BertInputs;
use samara_core::nn::Dropout;

use super::albef::AlbefModel;
use super::albef_folder::AlbefFolder;
use super::data::tokens::{CaptionEncoder, Captions};
use super::encoder::DualError;
use super::scoring::{Fits, Vectors};
use crate::config::Invalid;
use crate::model_folder::{ExtraTensors, load_weights_with, maps};
use crate::session::{BuildError, CpuDevice, Engine, On, OwnedParams, OwnedProgram, Session, SetId};
use crate::tokenizer::{FileError, Tokenizer};
use crate::vision::image::{CHANNELS, Image};
use crate::vision::pixels::offsets;
use crate::vision::processor::Processor;

/// Images, or texts, of a batch.
const ROWS: usize = 16;

/// A model for batches.
pub struct FusionEncoder {
    session: Session,
    set: SetId,
    albef: Albef,
    model: AlbefModel,
    tokenizer: Tokenizer,
    processor: Processor,
    offsets: Vec<u32>,
    /// The program of images: pixels, vectors (B, E).
    images: (OwnedProgram, [Tensor; 2]),
}

/// A program over texts, with what it finds of them.
struct OfTexts {
    program: OwnedProgram,
    inputs: BertInputs,
    found: Tensor,
}

impl FusionEncoder {
    /// Opens a folder.
    ///
    /// # Errors
    /// The folder is not that of an ALBEF, or lacks a tokenizer; a model that cannot be built.
    pub fn open(engine: Arc<Engine>, folder: &Path, extra: ExtraTensors) -> Result<Self, DualError> {
        let model = AlbefFolder::open(folder)?.model;
        let config = model.to_core()?;
        if model.num_channels != CHANNELS {
            let expected = format!("{CHANNELS}: images are read as RGB");
            return Err(Invalid::new("model.num_channels", expected, model.num_channels).into());
        }
        let tokenizer = Tokenizer::of_model(folder)?.ok_or_else(|| FileError::none_in(folder, ""))?;
        let size = [model.image_size; 2];
        let processor = Processor::read(folder)?.unwrap_or_else(|| Processor::usual(AlbefModel::TYPE, size));
        processor.check(folder, size)?;
        let (registry, albef) = OwnedParams::of(|s| Albef::register(&config, s))?;
        let mut session = Session::new(CpuDevice::new(engine));
        let set = session.add_set("model", &registry)?;
        let (own, _) = session.set_mut(set);
        let map = maps::albef::name_map(&config);
        load_weights_with(folder, &registry.view(), &map, extra, own.weights.get_mut(), own.frozen.get_mut())?;
        let images = session.prepare(On::set(set), |g: &Graph<'_>| {
            let pixels = albef.pixels(g, ROWS);
            [pixels, g.output(albef.image_vectors(g, albef.image_tokens(g, pixels, Dropout::NONE)))] // (B, E)
        })?;
        let offsets = offsets(&model.image_dims());
        Ok(Self { session, set, albef, model, tokenizer, processor, offsets, images })
    }

    /// The patches of images (images, N·channels·P·P).
    fn patches(&self, images: &[Image], rows: usize) -> Vec<f32> {
        let (values, len) = (self.processor.values(), self.offsets.len().max(1));
        let mut pixels = vec![0.0; rows * len];
        pixels.par_chunks_exact_mut(len).zip(images).for_each(|(to, image)| {
            let shaped = self.processor.shape(image);
            for (to, &at) in to.iter_mut().zip(&self.offsets) {
                *to = values.of(at as usize % CHANNELS, shaped.pixels().get(at as usize).copied().unwrap_or(0));
            }
        });
        pixels
    }

    /// Runs a program over all texts in batches; returns `columns` values of each.
    fn run(&mut self, of: &OfTexts, texts: &Captions, columns: usize) -> Result<Vec<f32>, DualError> {
        let len = texts.len.max(1);
        let positions: Vec<i32> = (0..ROWS).flat_map(|_| 0..len as i32).collect();
        let mut all = Vec::with_capacity(texts.ends.len() * columns);
        for (rows, ends) in texts.tokens.chunks(ROWS * len).zip(texts.ends.chunks(ROWS)) {
            let mut tokens = vec![0; ROWS * len];
            tokens[..rows.len()].copy_from_slice(rows);
            let end = |row: usize| ends.get(row).copied().unwrap_or(0);
            let segment = |i: usize| if (i % len) as i32 <= end(i / len) { 0 } else { -1 };
            let segments: Vec<i32> = (0..ROWS * len).map(segment).collect();
            let BertInputs { tokens: to_tokens, positions: to_positions, types, segments: to_segments } = of.inputs;
            let inputs = [(to_tokens, &tokens), (to_positions, &positions), (types, &vec![0; ROWS * len])];
            for (to, values) in inputs.into_iter().chain(to_segments.map(|to| (to, &segments))) {
                // Ids were checked, and shapes are the program's own.
                let written = self.session.write_ints(&of.program, to, values);
                debug_assert!(written.is_ok(), "{written:?}");
            }
            self.session.run_all(&of.program, On::set(self.set), Gradients::Overwrite);
            self.session.sync()?;
            all.extend_from_slice(&self.session.read(&of.program, of.found)[..ends.len() * columns]);
        }
        Ok(all)
    }

    fn texts(&mut self, len: usize) -> Result<OfTexts, BuildError> {
        let albef = self.albef;
        let (program, (inputs, found)) = self.session.prepare(On::set(self.set), |g: &Graph<'_>| {
            let inputs = BertInputs::new(g, &albef.config().text, ROWS, len, true);
            (inputs, g.output(albef.text_vectors(g, albef.text_tokens(g, &inputs, Dropout::NONE)))) // (B, E)
        })?;
        Ok(OfTexts { program, inputs, found })
    }
}

impl Vectors for FusionEncoder {
    fn size(&self) -> [usize; 2] {
        [self.model.image_size; 2]
    }

    fn batch(&self) -> usize {
        ROWS
    }

    fn width(&self) -> usize {
        self.model.embed_dim
    }

    fn image_vectors(&mut self, images: &[Image]) -> Result<Vec<f32>, DualError> {
        let mut all = Vec::with_capacity(images.len() * self.width());
        for batch in images.chunks(ROWS) {
            let pixels = self.patches(batch, ROWS);
            let (program, [to, vectors]) = &self.images;
            // The shape is the program's own.
            let written = self.session.write(program, *to, &pixels);
            debug_assert!(written.is_ok(), "{written:?}");
            self.session.run_all(program, On::set(self.set), Gradients::Overwrite);
            self.session.sync()?;
            all.extend_from_slice(&self.session.read(program, *vectors)[..batch.len() * self.model.embed_dim]);
        }
        Ok(all)
    }

    fn text_vectors(&mut self, texts: &[&str]) -> Result<(Vec<f32>, usize), DualError> {
        let (captions, width) = (self.encode(texts)?, self.width());
        let of = self.texts(captions.len)?;
        Ok((self.run(&of, &captions, width)?, captions.cut))
    }
}

impl Fits for FusionEncoder {
    fn size(&self) -> [usize; 2] {
        [self.model.image_size; 2]
    }

    fn encode(&self, texts: &[&str]) -> Result<Captions, DualError> {
        let longest = self.model.max_position_embeddings;
        let encoder = CaptionEncoder::of_bert(&self.tokenizer, self.model.vocab_size, longest)?;
        Ok(encoder.encode(texts.iter().copied())?)
    }

    /// The logit of a match, as the authors rank pairs by it.
    fn scores(&mut self, image: &Image, texts: &Captions) -> Result<Vec<f32>, DualError> {
        let albef = self.albef;
        let (program, (inputs, found, pixels, rows)) = self.session.prepare(On::set(self.set), |g: &Graph<'_>| {
            let inputs = BertInputs::new(g, &albef.config().text, ROWS, texts.len, true);
            let (pixels, rows) = (albef.pixels(g, 1), g.ints(&[ROWS], 0, 0));
            let one = albef.image_tokens(g, pixels, Dropout::NONE); // (1, 1+N, Cv)
            let [tokens, width] = [1, 2].map(|axis| g.shape(one).dim(axis));
            let all = g.embedding(rows, g.reshape(one, &[1, tokens * width]), None); // (B, (1+N)·Cv)
            let images = g.reshape(all, &[ROWS, tokens, width]); // (B, 1+N, Cv)
            let hidden = albef.text_tokens(g, &inputs, Dropout::NONE); // (B, T, C)
            let fused = albef.fuse(g, hidden, inputs.segments, images, Dropout::NONE); // (B, T, C)
            (inputs, g.output(albef.match_logits(g, fused)), pixels, rows) // (B, 2)
        })?;
        let patches = self.patches(std::slice::from_ref(image), 1);
        let written = self.session.write(&program, pixels, &patches).and(self.session.write_ints(&program, rows, &[0; ROWS]));
        debug_assert!(written.is_ok(), "{written:?}");
        let logits = self.run(&OfTexts { program, inputs, found }, texts, 2)?;
        Ok(logits.chunks_exact(2).map(|row| row[1]).collect())
    }
}
