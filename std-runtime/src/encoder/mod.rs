//! Encoders of text on this machine: BERT and its folders, and the embeddings of sentences.

pub mod bert;
pub mod folder;
pub mod pooling;
pub mod sentences;
