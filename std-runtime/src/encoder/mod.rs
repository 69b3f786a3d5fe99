//! Encoders of text on this machine: BERT and its folders, masked tokens, and the embeddings of sentences.

pub mod bert;
pub mod folder;
pub mod masking;
pub mod pooling;
pub mod rows;
pub mod sentences;
