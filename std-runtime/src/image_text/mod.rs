//! Models of images with texts on this machine: CLIP, SigLIP and ViLT, and their folders.

pub mod albef;
pub mod albef_folder;
pub mod alignment;
pub mod clip;
pub mod config;
pub mod data;
pub mod encoder;
pub mod folder;
pub mod fusion_encoder;
pub mod hard_pairs;
pub mod index;
pub mod negatives;
pub mod pairing;
pub mod places;
pub mod retrieval;
pub mod scorer;
pub mod scoring;
pub mod vilt;
pub mod vilt_folder;
pub mod world;
pub mod zero_shot;
