//! A CLIP or SigLIP of a folder: vectors of images and of texts.

use std::path::Path;
use std::sync::Arc;

use rayon::prelude::*;
use samara_core::exec::Gradients;
use samara_core::graph::{Graph, Tensor};
use samara_core::model::clip::{Clip, ClipTexts, normalised};
use samara_core::nn::Dropout;

use super::clip::ClipModel;
use super::data::tokens::CaptionEncoder;
use super::folder::DualFolder;
use crate::config::Invalid;
use crate::error::{Failure, Kind};
use crate::model_folder::{ExtraTensors, FolderError, load_weights_with, maps};
use crate::session::{BuildError, CpuDevice, DeviceError, Engine, On, OwnedParams, OwnedProgram, Session, SetId};
use crate::tokenizer::{FileError, TextError, Tokenizer};
use crate::vision::folder::own_first;
use crate::vision::image::{CHANNELS, Image};
use crate::vision::pixels::offsets;
use crate::vision::processor::Processor;

/// A model, or what it is asked to encode, that cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum DualError {
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
}

impl Failure for DualError {
    fn kind(&self) -> Kind {
        match self {
            Self::Folder(error) => error.kind(),
            Self::Tokenizer(error) => error.kind(),
            Self::Invalid(error) => error.kind(),
            Self::Build(error) => error.kind(),
            Self::Device(error) => error.kind(),
            Self::Text(error) => error.kind(),
        }
    }
}

/// Images, or texts, of a batch.
const ROWS: usize = 16;

/// A model for batches.
pub struct DualEncoder {
    session: Session,
    set: SetId,
    clip: Clip,
    model: ClipModel,
    tokenizer: Tokenizer,
    /// How images are prepared.
    pub processor: Processor,
    offsets: Vec<u32>,
    /// The program of images: pixels, vectors (B, E).
    images: (OwnedProgram, [Tensor; 2]),
}

impl DualEncoder {
    /// Opens a folder.
    ///
    /// # Errors
    /// The folder is not that of a CLIP or SigLIP, or lacks a tokenizer; a model that cannot be built.
    pub fn open(engine: Arc<Engine>, folder: &Path, extra: ExtraTensors) -> Result<Self, DualError> {
        let model = DualFolder::open(folder)?.model;
        let config = model.to_core()?;
        if model.num_channels != CHANNELS {
            let expected = format!("{CHANNELS}: images are read as RGB");
            return Err(Invalid::new("model.num_channels", expected, model.num_channels).into());
        }
        let tokenizer = Tokenizer::of_model(folder)?.ok_or_else(|| FileError::none_in(folder, ""))?;
        let size = [model.image_size; 2];
        let processor = Processor::read(folder)?.unwrap_or_else(|| Processor::usual(model.model_type.word(), size));
        processor.check(folder, size)?;
        let (registry, clip) = OwnedParams::of(|s| Clip::register(&config, s))?;
        let map = own_first(folder, maps::clip::name_maps(&config))?.into_iter().next().unwrap_or_default();
        let mut session = Session::new(CpuDevice::new(engine));
        let set = session.add_set("model", &registry)?;
        let (own, _) = session.set_mut(set);
        load_weights_with(folder, &registry.view(), &map, extra, own.weights.get_mut(), own.frozen.get_mut())?;
        let images = session.prepare(On::set(set), |g: &Graph<'_>| {
            let pixels = clip.pixels(g, ROWS);
            [pixels, g.output(normalised(g, clip.image_vectors(g, pixels, Dropout::NONE)))] // (B, E)
        })?;
        let offsets = offsets(&model.image_dims());
        Ok(Self { session, set, clip, model, tokenizer, processor, offsets, images })
    }

    /// Height and width of the model's images.
    pub fn size(&self) -> [usize; 2] {
        [self.model.image_size; 2]
    }

    /// Columns of a vector, E.
    pub fn width(&self) -> usize {
        self.clip.config().projection_dim
    }

    /// The factor of cosines, with which the classes of zero-shot classification are compared.
    pub fn factor(&self) -> f64 {
        let set = self.session.set(self.set);
        let range = set.params().infos().get(self.clip.logit_scale().index()).map(|info| info.range());
        let value = range.and_then(|range| set.weights.get().get(range)?.first().copied());
        f64::from(value.unwrap_or(0.0)).exp()
    }

    /// Images of a batch.
    pub const fn batch(&self) -> usize {
        ROWS
    }

    /// The vectors (images, E) of length 1 of images of any size.
    ///
    /// # Errors
    /// The device failed.
    pub fn image_vectors(&mut self, images: &[Image]) -> Result<Vec<f32>, DualError> {
        let (values, len) = (self.processor.values(), self.offsets.len().max(1));
        let (program, [to, vectors]) = &self.images;
        let mut all = Vec::with_capacity(images.len() * self.clip.config().projection_dim);
        for batch in images.chunks(ROWS) {
            let mut pixels = vec![0.0; ROWS * len];
            pixels.par_chunks_exact_mut(len).zip(batch).for_each(|(to, image)| {
                let shaped = self.processor.shape(image);
                for (to, &at) in to.iter_mut().zip(&self.offsets) {
                    *to = values.of(at as usize % CHANNELS, shaped.pixels().get(at as usize).copied().unwrap_or(0));
                }
            });
            // The shape is the program's own.
            let written = self.session.write(program, *to, &pixels);
            debug_assert!(written.is_ok(), "{written:?}");
            self.session.run_all(program, On::set(self.set), Gradients::Overwrite);
            self.session.sync()?;
            let found = self.session.read(program, *vectors);
            all.extend_from_slice(&found[..batch.len() * self.clip.config().projection_dim]);
        }
        Ok(all)
    }

    /// The vectors (texts, E) of length 1, and how many texts were too long and are cut before their last token.
    ///
    /// # Errors
    /// A text that the tokenizer cannot encode, by its number from 1; a program that cannot be built.
    pub fn text_vectors(&mut self, texts: &[&str]) -> Result<(Vec<f32>, usize), DualError> {
        let encoded = CaptionEncoder::new(&self.tokenizer, &self.model).encode(texts.iter().copied())?;
        let (len, clip, width) = (encoded.len, self.clip, self.width());
        let (program, (inputs, vectors)) = self.session.prepare(On::set(self.set), |g: &Graph<'_>| {
            let inputs = clip.texts(g, ROWS, len);
            (inputs, g.output(normalised(g, clip.text_vectors(g, &inputs, Dropout::NONE)))) // (B, E)
        })?;
        let ClipTexts { tokens: to_tokens, positions: to_positions, ends: to_ends } = inputs;
        let positions: Vec<i32> = (0..ROWS).flat_map(|_| 0..len as i32).collect();
        let mut all = Vec::with_capacity(texts.len() * width);
        for (rows, at) in encoded.tokens.chunks(ROWS * len.max(1)).zip(encoded.ends.chunks(ROWS)) {
            let (mut tokens, mut ends) = (vec![0; ROWS * len], vec![0; ROWS]);
            tokens[..rows.len()].copy_from_slice(rows);
            ends.iter_mut().zip(at).zip(0..).for_each(|((to, end), row)| *to = row * len as i32 + end);
            for (to, values) in [(to_tokens, &tokens), (to_positions, &positions), (to_ends, &ends)] {
                // Ids were checked, and shapes are the program's own.
                let written = self.session.write_ints(&program, to, values);
                debug_assert!(written.is_ok(), "{written:?}");
            }
            self.session.run_all(&program, On::set(self.set), Gradients::Overwrite);
            self.session.sync()?;
            all.extend_from_slice(&self.session.read(&program, vectors)[..at.len() * width]);
        }
        Ok((all, encoded.cut))
    }

    /// The vectors (labels, E) of classes by an ensemble of templates: of each the mean over all templates, of length 1 (Radford et al. 2021, 3.1.4). `{}` in a
    /// template stands for the label.
    ///
    /// # Errors
    /// As [`Self::text_vectors`].
    pub fn class_vectors(&mut self, labels: &[String], templates: &[String]) -> Result<Vec<f32>, DualError> {
        let texts: Vec<String> =
            labels.iter().flat_map(|label| templates.iter().map(|template| template.replace("{}", label))).collect();
        let (vectors, _) = self.text_vectors(&texts.iter().map(String::as_str).collect::<Vec<_>>())?;
        let width = self.width().max(1);
        let mean = |of_label: &[f32]| {
            let mut sum = vec![0.0_f64; width];
            of_label.chunks_exact(width).for_each(|row| sum.iter_mut().zip(row).for_each(|(sum, x)| *sum += f64::from(*x)));
            let norm = sum.iter().map(|x| x * x).sum::<f64>().sqrt().max(1e-12);
            sum.into_iter().map(|x| (x / norm) as f32).collect::<Vec<f32>>()
        };
        Ok(vectors.chunks(templates.len().max(1) * width).flat_map(mean).collect())
    }
}
