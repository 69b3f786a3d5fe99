//! `[data]` and `[contrast]` of models of images with texts.

use std::path::PathBuf;

use crate::config::table;
use crate::data::config::TokenizerChoice;
use crate::vision::config::BadImage;

table! {
    /// Images with captions.
    pub PairDataConfig {
        /// Rows with the file and the caption of each image (.jsonl, .json, .csv), COCO's captions (.json), or a folder of images with a .txt beside each.
        path: Option<PathBuf> = None;
        /// The folder of the images that rows name; by default that of the file with the rows.
        image_root: Option<PathBuf> = None;
        /// The key or column with the file of an image.
        image_field: String = "image".to_owned();
        /// The key or column with the caption, or a list of captions.
        caption_field: String = "caption".to_owned();
        /// The share of the images that is held out for validation, unless rows have a split of their own.
        val_fraction: f64 = 0.1, 0..=0.9;
        /// An image that cannot be read: "error" stops, "skip" leaves it out and lists it.
        on_bad_image: BadImage = BadImage::Error;
        /// "byte", "char", "bpe" or "wordpiece" (trained on the captions), or the path of a tokenizer. A model of --init has its own.
        tokenizer: TokenizerChoice = TokenizerChoice::Bpe;
        /// Vocabulary of a BPE or WordPiece tokenizer that is trained.
        vocab_size: usize = 1024, 16..=1000000;
    }
}

table! {
    /// The objectives of a ViLT. Those of a weight of 0 are left out.
    pub ViltTerms {
        /// Weight of the restoration of masked tokens, whose choice `[mlm]` has.
        mlm_weight: f64 = 1.0, 0..=1e6;
        /// Weight of telling whether text and image belong together.
        itm_weight: f64 = 1.0, 0..=1e6;
        /// Weight of the alignment of words and patches: the distance by optimal transport of pairs, less that of others.
        wpa_weight: f64 = 0.1, 0..=1e6;
        /// Probability that the image of a pair is replaced by that of another pair of the step, for itm_weight and wpa_weight.
        replaced: f64 = 0.5, 0.01..=0.99;
        /// Weight of retrieval: a text among others of the step, given its image.
        rank_weight: f64 = 0.0, 0..=1e6;
        /// Other texts of an image, for rank_weight.
        negatives: usize = 15, 1..=65536;
        /// Patches of an image that a training step sees, chosen at random; 0 is all.
        max_patches: usize = 200, 0..=65536;
    }
}

table! {
    /// The contrastive loss. A step's batch is train.batch_size times train.grad_accumulation pairs, all compared with each other: gradients of the
    /// vectors are computed once for the whole batch, and the encoders run in chunks of train.batch_size (Gao et al. 2021).
    pub ContrastConfig {
        /// Whether pairs with the same image or the same caption count as pairs of each other.
        multi_positive: bool = false;
        /// The largest factor of cosines; after each step the factor is kept between 1 and this.
        max_logit_scale: f64 = 100.0, 1..=1e6;
    }
}

table! {
    /// The objectives of ALBEF (Li et al. 2021): image-text contrast (ITC), image-text matching (ITM), masked language modelling (MLM), and their distillation by
    /// momentum encoders.
    pub AlbefTermsConfig {
        /// Weight of the contrastive loss; 0 leaves it out.
        itc: f64 = 1.0, 0..=1e6;
        /// Weight of the matching loss; 0 leaves it out.
        itm: f64 = 1.0, 0..=1e6;
        /// Weight of the loss of masked tokens; 0 leaves it out.
        mlm: f64 = 1.0, 0..=1e6;
        /// Whether the pairs that do not match are drawn by their similarity; otherwise all are equally likely.
        hard_negatives: bool = true;
        /// Vectors of earlier batches that a batch is compared with, besides its own.
        queue_size: usize = 1024, 0..=16777216;
        /// How much of its value a momentum encoder keeps at each step.
        momentum: f64 = 0.995, 0..=1;
        /// The share of the momentum encoders' targets in those of contrast and masked tokens; 0: no distillation.
        alpha: f64 = 0.4, 0..=1;
        /// Steps over which the share rises from 0; absent: the first pass over the pairs.
        alpha_steps: Option<u64> = None, 0..=1000000000000_u64;
        /// Whether pairs with the same image or the same caption count as pairs of each other.
        multi_positive: bool = false;
    }
}
