//! Position embeddings for another number of patches: a grid (H, W, C) that is resized like an image, in the three ways that are in use.

use super::image::resize::cubic;
use crate::config::Choice;

/// How a grid of position embeddings is resized. Names and formulas are those of `torch.nn.functional.interpolate`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum PositionResize {
    /// `mode="bicubic", antialias=True, align_corners=False`: timm's `resample_abs_pos_embed`, SigLIP 2.
    #[default]
    Antialias,
    /// `mode="bicubic", align_corners=False`: ViT, DeiT, CLIP and ALBEF in `transformers` and their authors' code. Keys' cubic with a = −3/4.
    Bicubic,
    /// `mode="bilinear", align_corners=True`: ViLT.
    Bilinear,
}

impl Choice for PositionResize {
    const WORDS: &'static [(&'static str, Self)] =
        &[("antialias", Self::Antialias), ("bicubic", Self::Bicubic), ("bilinear", Self::Bilinear)];
}

/// Grid points with their weights.
type Taps = Vec<(usize, f64)>;

impl PositionResize {
    /// The inputs of every output along one axis.
    fn taps(self, inputs: usize, outputs: usize) -> Vec<Taps> {
        (0..outputs).map(|output| self.taps_of(output, inputs, outputs)).collect()
    }

    fn taps_of(self, output: usize, inputs: usize, outputs: usize) -> Taps {
        let scale = inputs as f64 / outputs as f64;
        match self {
            Self::Antialias => antialiased(output as f64, inputs, scale),
            Self::Bicubic => bicubic((output as f64 + 0.5) * scale - 0.5, inputs),
            Self::Bilinear => {
                let step = if outputs > 1 { inputs.saturating_sub(1) as f64 / (outputs - 1) as f64 } else { 0.0 };
                bilinear(output as f64 * step, inputs)
            }
        }
    }

    /// Resizes a grid (H, W, C) of rows of `width` values from `from` = [H, W] to `to`.
    pub fn resize(self, grid: &[f32], from: [usize; 2], to: [usize; 2], width: usize) -> Vec<f32> {
        let [down, across] = [0, 1].map(|axis| self.taps(from[axis], to[axis]));
        let at = |y: usize, x: usize, c: usize| grid.get((y * from[1] + x) * width + c).copied().map_or(0.0, f64::from);
        let mut resized = Vec::with_capacity(to[0] * to[1] * width);
        for ys in &down {
            for xs in &across {
                let taps = || ys.iter().flat_map(|&(y, v)| xs.iter().map(move |&(x, w)| (y, x, v * w)));
                resized.extend((0..width).map(|c| taps().map(|(y, x, weight)| weight * at(y, x, c)).sum::<f64>() as f32));
            }
        }
        resized
    }

    /// Resizes the positions (n, C) of a model whose last rows are a grid; those before (of a class token) stay.
    pub fn resize_after(self, positions: &[f32], from: [usize; 2], to: [usize; 2], width: usize) -> Vec<f32> {
        let (before, grid) = positions.split_at(positions.len().saturating_sub(from[0] * from[1] * width));
        [before, &self.resize(grid, from, to, width)].concat()
    }
}

/// Keys' cubic with a = −1/2, stretched where the grid shrinks, as Pillow does.
fn antialiased(output: f64, inputs: usize, scale: f64) -> Taps {
    let stretch = scale.max(1.0);
    let (centre, support) = ((output + 0.5) * scale, 2.0 * stretch);
    let from = (centre - support + 0.5).max(0.0) as usize;
    let to = ((centre + support + 0.5) as usize).min(inputs);
    let taps: Taps = (from..to).map(|i| (i, cubic(((i as f64 - centre + 0.5) / stretch).abs(), -0.5))).collect();
    let sum: f64 = taps.iter().map(|(_, weight)| weight).sum();
    taps.into_iter().map(|(i, weight)| (i, weight / sum)).collect()
}

/// Four points around a position; those beyond the edge are the edge.
fn bicubic(position: f64, inputs: usize) -> Taps {
    let first = position.floor() - 1.0;
    let last = inputs.saturating_sub(1) as f64;
    let tap = |i: f64| (i.clamp(0.0, last) as usize, cubic((position - i).abs(), -0.75));
    [0.0, 1.0, 2.0, 3.0].map(|i| tap(first + i)).to_vec()
}

fn bilinear(position: f64, inputs: usize) -> Taps {
    let first = position as usize;
    let share = position - first as f64;
    vec![(first, 1.0 - share), ((first + 1).min(inputs.saturating_sub(1)), share)]
}
