//! Model folders as Hugging Face lays them out.

pub mod safetensors;
