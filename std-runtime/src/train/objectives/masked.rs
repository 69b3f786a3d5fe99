//! Masked language modelling: the cross-entropy of hidden tokens, averaged over all hidden tokens of a step (Devlin et al. 2019).

use samara_core::graph::{Graph, Tensor};
use samara_core::model::bert::{Bert, BertInputs, MaskedLmHead};
use samara_core::nn::Dropout;

use super::supervised::{Inputs, Task, Terms};
use crate::encoder::masking::NO_TARGET;
use crate::encoder::rows::{LABELS, PLACES, SEGMENTS, TOKENS, TYPES};

/// A BERT that restores tokens.
pub struct Restore {
    /// The encoder.
    pub bert: Bert,
    /// Its head.
    pub head: MaskedLmHead,
    /// Tokens of a row, T.
    pub block: usize,
    /// Hidden tokens of a row at most, K: the head sees no others.
    pub slots: usize,
}

impl Restore {
    /// The hidden states of the hidden tokens (B, K, C), and the tokens (B, K).
    fn hidden(&self, g: &Graph<'_>, inputs: &mut Inputs) -> [Tensor; 2] {
        let (c, rows) = (self.bert.config(), inputs.rows());
        let last = |n: usize| n.saturating_sub(1) as i32;
        let encoder = BertInputs {
            tokens: inputs.ints(g, TOKENS, &[self.block], 0..=last(c.vocab_size)), // (B, T)
            positions: inputs.positions(g, self.block),                            // (B, T)
            types: inputs.ints(g, TYPES, &[self.block], 0..=last(c.type_vocab_size)), // (B, T)
            segments: Some(inputs.ints(g, SEGMENTS, &[self.block], -1..=0)),       // (B, T)
        };
        let states = self.bert.forward(g, &encoder, Dropout::NONE); // (B, T, C)
        let states = g.reshape(states, &[rows * self.block, c.hidden_size]); // (B T, C)
        let places = inputs.ints(g, PLACES, &[self.slots], 0..=last(rows * self.block)); // (B, K)
        let labels = inputs.ints(g, LABELS, &[self.slots], NO_TARGET..=last(c.vocab_size)); // (B, K)
        [g.embedding(places, states, None), labels]
    }
}

impl Task for Restore {
    fn terms(&self, g: &Graph<'_>, inputs: &mut Inputs) -> Terms {
        let [hidden, labels] = self.hidden(g, inputs);
        Terms::minimise("loss", self.head.losses(g, hidden, labels)).unit("nats")
    }

    fn counted(&self) -> &'static str {
        "hidden tok"
    }

    fn evaluated(&self, g: &Graph<'_>, inputs: &mut Inputs) -> Terms {
        let [hidden, labels] = self.hidden(g, inputs);
        let terms = Terms::minimise("loss", self.head.losses(g, hidden, labels)).unit("nats");
        terms.ranks("accuracy", self.head.logits(g, hidden), LABELS, 1)
    }
}
