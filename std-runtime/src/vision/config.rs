//! `[data]` and `[augment]` of image models.

use std::path::PathBuf;

use super::positions::PositionResize;
use crate::config::{Choice, table};

/// What is done with an image that cannot be read.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum BadImage {
    /// The training ends.
    #[default]
    Error,
    /// It is left out and listed.
    Skip,
}

impl Choice for BadImage {
    const WORDS: &'static [(&'static str, Self)] = &[("error", Self::Error), ("skip", Self::Skip)];
}

table! {
    /// Labelled images.
    pub ImageDataConfig {
        /// A folder with a folder for each class, a folder with such folders as train/ and val/, or a table or rows of JSON with the file and the label
        /// of each image (.csv, .tsv, .jsonl, .json).
        path: Option<PathBuf> = None;
        /// The share of the images of each class that is held out for validation, unless the data has a validation split.
        val_fraction: f64 = 0.1, 0..=0.9;
        /// The column or key with the file of an image, relative to the table's folder.
        image_field: String = "image".to_owned();
        /// The column or key with the label.
        label_field: String = "label".to_owned();
        /// An image that cannot be read: "error" stops, "skip" leaves it out and lists it.
        on_bad_image: BadImage = BadImage::Error;
        /// Height and width of stored training images in pixels, from which random crops are taken; 0: those of the model, and a quarter more with
        /// augment.crop_area.
        stored_size: usize = 0, 0..=4096;
        /// How position embeddings of the initial model are resized for another model.image_size: "antialias" (bicubic, as timm), "bicubic" (without
        /// antialiasing, as transformers) or "bilinear" (corners aligned, as ViLT).
        positions: PositionResize = PositionResize::Antialias;
    }
}

table! {
    /// Changes of training images, drawn anew in every epoch from the seed, the image and the epoch.
    pub AugmentConfig {
        /// The smallest share of an image's area that a random crop keeps, at an aspect ratio from 3/4 to 4/3; 1: no crops.
        crop_area: f64 = 1.0, 0.01..=1;
        /// Mirror half of the images. Wrong where left and right matter, as in digits.
        flip: bool = false;
        /// The largest change of brightness, contrast and saturation, as a share of each.
        jitter: f64 = 0.0, 0..=1;
        /// Magnitude of RandAugment (Cubuk et al. 2020), two operations on every image: shears, shifts, turns, colours, contrasts; 0: none, 9 is usual.
        rand_augment: f64 = 0.0, 0..=30;
        /// The probability that a rectangle of an image becomes noise (Zhong et al. 2020): 2 to 33 % of its area.
        erase: f64 = 0.0, 0..=1;
        /// α of Beta(α, α), from which the share of another image is drawn that is mixed in (Zhang et al. 2018); 0: none.
        mixup: f64 = 0.0, 0..=1;
        /// α of Beta(α, α), from which the share of a rectangle is drawn that another image fills (Yun et al. 2019); 0: none. With mixup, one of the two
        /// is drawn for every image.
        cutmix: f64 = 0.0, 0..=1;
        /// The share of the target that all classes have in common.
        label_smoothing: f64 = 0.0, 0..=0.999;
    }
}

impl AugmentConfig {
    /// Whether an image differs between epochs.
    pub fn changes(&self) -> bool {
        self.crop_area < 1.0 || self.flip || self.jitter > 0.0 || self.rand_augment > 0.0 || self.erase > 0.0 || self.mixes()
    }

    /// Whether targets are mixtures of two classes.
    pub fn mixes(&self) -> bool {
        self.mixup > 0.0 || self.cutmix > 0.0
    }
}
