//! Models: one builder per family. They register parameters and append nodes, and do not depend on kernels.

pub mod albef;
pub mod bert;
pub mod clip;
pub mod detr;
pub mod gpt;
pub mod image;
pub mod llama;
pub mod lm;
pub mod resnet;
pub mod tower;
pub mod vilt;
pub mod vit;
