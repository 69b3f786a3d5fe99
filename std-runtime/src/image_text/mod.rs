//! Models of images with texts on this machine: CLIP and SigLIP, and their folders.

pub mod clip;
pub mod config;
pub mod data;
pub mod folder;
pub mod retrieval;
pub mod world;
