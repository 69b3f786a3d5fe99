//! Models of images with texts on this machine: CLIP and SigLIP, and their folders.

pub mod clip;
pub mod config;
pub mod data;
pub mod encoder;
pub mod folder;
pub mod index;
pub mod retrieval;
pub mod world;
pub mod zero_shot;
