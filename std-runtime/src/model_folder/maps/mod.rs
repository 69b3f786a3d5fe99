//! The tables of names, one for each family.

pub mod albef;
pub mod bert;
pub mod clip;
pub mod detr;
pub mod gpt;
pub mod llama;
pub mod resnet;
pub mod vilt;
pub mod vit;
