//! Low-rank adapters: which linear layers get one.

use super::name::Name;

/// Low-rank adapters. A linear layer with one computes x Wᵀ + b + scale · dropout(x) Aᵀ Bᵀ, A (rank, in), B (out, rank). Hu et al. 2021, 4.1.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Lora<'t> {
    /// Rows of A and columns of B, r.
    pub rank: usize,
    /// The factor of the product, α / r.
    pub scale: f64,
    /// Suffixes of the paths of the target layers: `c_proj` matches those of attention and of the MLP, `attn.c_proj` only the first. Empty: every
    /// linear layer.
    pub targets: &'t [&'t str],
}

impl Lora<'_> {
    /// Whether the linear layer of this path gets one.
    pub fn adapts(&self, layer: &Name) -> bool {
        self.targets.is_empty() || self.targets.iter().any(|target| layer.ends_with(target))
    }
}
