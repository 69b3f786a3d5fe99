//! Prompts: trained tokens between the class token and the patches of an image.

use crate::graph::{Graph, Over, Shape, Tensor};
use crate::nn::Stack;
use crate::params::{Init, ParamId, Scope};

/// Visual prompts (Jia et al. 2022): p tokens after the class token, without positions. Shallow ones enter the first block only; with deep ones, every further
/// block gets p tokens of its own in the places of those before.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Prompts {
    tokens: Stack<ParamId>, // (1, p, C) each
    count: usize,
    width: usize,
}

/// The configuration of [`Prompts`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PromptConfig {
    /// Prompts of a block, p.
    pub count: usize,
    /// Whether every block has its own.
    pub deep: bool,
}

impl Prompts {
    /// Registers `prompts.i.token` (1, p, C) for the first block, or for each, with uniform values up to `bound`.
    pub fn register(c: PromptConfig, blocks: usize, width: usize, bound: f64, s: &mut Scope<'_>) -> Self {
        let sets = if c.deep { blocks } else { blocks.min(1) };
        let tokens = Stack::register(sets, "prompts", s, |s| s.add("token", &[1, c.count, width], Init::Uniform { bound }));
        Self { tokens, count: c.count, width }
    }

    /// The input of the first block: x (B, 1 + N, C) with prompts after its first token; result (B, 1 + p + N, C).
    #[track_caller]
    pub fn insert(&self, g: &Graph<'_>, x: Tensor) -> Tensor {
        let Some(prompts) = self.of_block(g, x, 0) else { return x };
        let rest = g.shape(x).dim(1).saturating_sub(1);
        let (first, rest) = (g.token_slice(x, 0, 1), g.token_slice(x, 1, rest));
        g.token_concat(g.token_concat(first, prompts), rest) // (B, 1 + p + N, C)
    }

    /// The input of block i ≥ 1: x (B, 1 + p + N, C) with that block's own prompts in place of those before, if it has some.
    #[track_caller]
    pub fn replace(&self, g: &Graph<'_>, x: Tensor, block: usize) -> Tensor {
        self.of_block(g, x, block).map_or(x, |prompts| g.token_replace(x, prompts, 1)) // (B, 1 + p + N, C)
    }

    /// The prompts of a block for every image (B, p, C).
    fn of_block(&self, g: &Graph<'_>, x: Tensor, block: usize) -> Option<Tensor> {
        let shape = Shape::new(&[g.shape(x).dim(0), self.count, self.width]).unwrap_or_default();
        self.tokens.get(block).map(|id| g.broadcast(g.param(id), Over::Batch, shape))
    }
}
