//! The alignment of words and patches in a batch by optimal transport (Kim et al. 2021, 3.2): see `samara_core::transport` for formulas.

use rayon::prelude::*;
use samara_core::model::vilt::ViltExtents;
use samara_core::transport::{Ipot, IpotMemory, Length, cosine_costs, cosine_gradient, distance};

/// Words and patches of a pair that have mass.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Aligned {
    /// The place of the last token, which is that of the text's end: words are the tokens between the first and the last.
    pub end: usize,
    /// Patches of the image.
    pub patches: usize,
}

/// Hidden states of a pair, the gradient by them, what of it is aligned, and the factor of the gradient.
type Item<'s> = ((&'s [f32], &'s mut [f32]), (&'s Aligned, &'s f32));

/// Memory of a thread.
#[derive(Default)]
struct Scratch {
    matrices: [Vec<f32>; 3],
    vectors: [Vec<f32>; 2],
}

/// The transport plan of a pair (words, patches), with distances in `costs`; both have places of padding, which are 0.
struct Plan<'s> {
    costs: &'s [f32],
    plan: &'s [f32],
}

/// The distances (B) between words and patches of normalised hidden states (B, T+1+N, C); adds `weights` (B) times their gradients to `by_states`.
///
/// # Errors
/// States of another shape.
pub fn distances(
    states: &[f32],
    of: &ViltExtents,
    pairs: &[Aligned],
    weights: &[f32],
    by_states: &mut [f32],
) -> Result<Vec<f32>, Length> {
    let row = states.len() / of.batch.max(1);
    let columns = row / (of.tokens + 1 + of.patches).max(1);
    let rows = states.par_chunks_exact(row.max(1)).zip(by_states.par_chunks_exact_mut(row.max(1)));
    let one = |scratch: &mut Scratch, ((states, by_states), (pair, &weight)): Item<'_>| {
        let (x, image) = states.split_at(of.tokens * columns);
        let (by_x, by_image) = by_states.split_at_mut(of.tokens * columns);
        // The class token of the image comes before its patches.
        let (y, by_y) = (&image[columns..], &mut by_image[columns..]);
        let live = pair.live(of);
        let live = [&live[0][..], &live[1]];
        let Plan { costs, plan } = scratch.plan([x, y], live)?;
        cosine_gradient([x, y], live, plan, weight, [by_x, by_y])?;
        Ok(distance(costs, plan))
    };
    let found = rows.zip(pairs.par_iter().zip(weights)).map_init(Scratch::default, one);
    found.collect::<Vec<Result<f32, Length>>>().into_iter().collect()
}

/// The transport plan between words and patches (T, N) of one pair with normalised hidden states (T+1+N, C).
///
/// # Errors
/// States of another shape.
pub fn plan(states: &[f32], of: &ViltExtents, pair: Aligned) -> Result<Vec<f32>, Length> {
    let columns = states.len() / (of.tokens + 1 + of.patches).max(1);
    let (x, image) = states.split_at(of.tokens * columns);
    let live = pair.live(of);
    Ok(Scratch::default().plan([x, &image[columns..]], [&live[0], &live[1]])?.plan.to_vec())
}

impl Aligned {
    /// The tokens and the patches that have mass.
    fn live(&self, of: &ViltExtents) -> [Vec<bool>; 2] {
        let words = (0..of.tokens).map(|at| 0 < at && at < self.end).collect();
        [words, (0..of.patches).map(|at| at < self.patches).collect()]
    }
}

impl Scratch {
    fn plan(&mut self, vectors: [&[f32]; 2], live: [&[bool]; 2]) -> Result<Plan<'_>, Length> {
        let [m, n] = live.map(<[bool]>::len);
        self.matrices.iter_mut().for_each(|matrix| matrix.resize(m * n, 0.0));
        let ([costs, kernel, plan], [delta, sigma]) = (&mut self.matrices, &mut self.vectors);
        delta.resize(n, 0.0);
        sigma.resize(m, 0.0);
        cosine_costs(vectors, live, costs)?;
        Ipot::default().plan(costs, live, IpotMemory { kernel, delta, sigma }, plan)?;
        Ok(Plan { costs, plan })
    }
}
