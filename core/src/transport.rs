//! Optimal transport between two sets of vectors by proximal point iterations (IPOT, Xie et al. 2020), as ViLT aligns words with patches (Kim et al. 2021, 3.2);
//! plain functions on slices, usable without the engine.
//!
//! Shapes: M vectors x and N vectors y of D values. Vectors that are not `live` are padding: they have no mass, as if they were not there.

use core::fmt;

use crate::math::Real;

/// Why a function did not compute: an array has another length than the others ask for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Length {
    /// The array.
    pub name: &'static str,
    /// The length asked for.
    pub expected: usize,
    /// Its length.
    pub found: usize,
}

impl Length {
    fn check(name: &'static str, expected: usize, found: usize) -> Result<(), Self> {
        if expected == found { Ok(()) } else { Err(Self { name, expected, found }) }
    }
}

impl fmt::Display for Length {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { name, expected, found } = self;
        write!(f, "{name}: expected {expected} values, found {found}")
    }
}

impl core::error::Error for Length {}

/// Which vectors of both sets are no padding: (M) and (N).
pub type Live<'l> = [&'l [bool]; 2];

/// The numbers of the iterations.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Ipot<R> {
    /// The weight β of the proximal term: the kernel is e^(−C/β).
    pub beta: R,
    /// Proximal steps.
    pub outer: usize,
    /// Scalings of a step.
    pub inner: usize,
}

impl<R: Real> Default for Ipot<R> {
    /// Those of ViLT.
    fn default() -> Self {
        Self { beta: R::from_f64(0.5), outer: 50, inner: 1 }
    }
}

/// Memory of [`Ipot::plan`]: a kernel of M·N values, and scalings of N and of M.
#[derive(Debug)]
pub struct IpotMemory<'m, R> {
    /// (M, N)
    pub kernel: &'m mut [R],
    /// (N)
    pub delta: &'m mut [R],
    /// (M)
    pub sigma: &'m mut [R],
}

/// Vectors shorter than this are divided by it instead of by their length.
const SHORTEST: f64 = 1e-5;

fn length<R: Real>(x: &[R]) -> R {
    x.iter().fold(R::ZERO, |sum, &x| sum + x * x).sqrt().max(R::from_f64(SHORTEST))
}

fn dot<R: Real>(x: &[R], y: &[R]) -> R {
    x.iter().zip(y).fold(R::ZERO, |sum, (&x, &y)| sum + x * y)
}

/// The cosine distances C = 1 − x·y / (‖x‖ ‖y‖), and 0 of padding. x (M, D), y (N, D), costs (M, N).
///
/// # Errors
/// Arrays of contradictory lengths.
pub fn cosine_costs<R: Real>([x, y]: [&[R]; 2], live: Live<'_>, costs: &mut [R]) -> Result<(), Length> {
    let columns = columns(x, y, live)?;
    let [of_x, of_y] = live;
    Length::check("costs", of_x.len().saturating_mul(of_y.len()), costs.len())?;
    for ((x, &live), row) in x.chunks_exact(columns).zip(of_x).zip(costs.chunks_exact_mut(of_y.len().max(1))) {
        let by_x = R::ONE / length(x);
        for ((y, &other), to) in y.chunks_exact(columns).zip(of_y).zip(row) {
            *to = if live && other { R::ONE - dot(x, y) * by_x / length(y) } else { R::ZERO };
        }
    }
    Ok(())
}

/// D, of vectors that agree with their masks.
fn columns<R: Real>(x: &[R], y: &[R], [of_x, of_y]: Live<'_>) -> Result<usize, Length> {
    let columns = x.len().checked_div(of_x.len()).unwrap_or(0);
    Length::check("x", of_x.len().saturating_mul(columns), x.len())?;
    Length::check("y", of_y.len().saturating_mul(columns), y.len())?;
    Ok(columns.max(1))
}

impl<R: Real> Ipot<R> {
    /// The transport plan between uniform masses of the live vectors: σ = 1/m, T = 1; then `outer` times Q = e^(−C/β) ∘ T, `inner` times
    /// δ = 1 / (n Qᵀσ) and σ = 1 / (m Qδ), and T = σ Q δ. Padding has none. costs and plan (M, N).
    ///
    /// # Errors
    /// Arrays of contradictory lengths.
    pub fn plan(&self, costs: &[R], live: Live<'_>, memory: IpotMemory<'_, R>, plan: &mut [R]) -> Result<(), Length> {
        let (IpotMemory { kernel, delta, sigma }, [of_x, of_y]) = (memory, live);
        let (rows, columns) = (of_x.len(), of_y.len());
        for (name, expected, found) in [
            ("costs", rows.saturating_mul(columns), costs.len()),
            ("plan", rows.saturating_mul(columns), plan.len()),
            ("kernel", rows.saturating_mul(columns), kernel.len()),
            ("delta", columns, delta.len()),
            ("sigma", rows, sigma.len()),
        ] {
            Length::check(name, expected, found)?;
        }
        let count = |live: &[bool]| R::from_usize(live.iter().filter(|live| **live).count().max(1));
        let counts = [count(of_x), count(of_y)];
        let width = columns.max(1);
        for (((&x, costs), kernel), plan) in
            of_x.iter().zip(costs.chunks_exact(width)).zip(kernel.chunks_exact_mut(width)).zip(plan.chunks_exact_mut(width))
        {
            for (((&y, &cost), kernel), plan) in of_y.iter().zip(costs).zip(kernel).zip(plan) {
                *plan = if x && y { R::ONE } else { R::ZERO };
                *kernel = *plan * (-cost / self.beta).exp();
            }
        }
        sigma.fill(R::ONE / counts[0]);
        for _ in 0..self.outer {
            plan.iter_mut().zip(kernel.iter()).for_each(|(plan, &kernel)| *plan *= kernel); // Q
            for _ in 0..self.inner {
                scale(plan, counts, sigma, delta);
            }
            for (row, &sigma) in plan.chunks_exact_mut(width).zip(sigma.iter()) {
                row.iter_mut().zip(delta.iter()).for_each(|(plan, &delta)| *plan *= sigma * delta);
            }
        }
        Ok(())
    }
}

/// δ = 1 / (n Qᵀσ), then σ = 1 / (m Qδ); 0 where there is no mass.
fn scale<R: Real>(q: &[R], [m, n]: [R; 2], sigma: &mut [R], delta: &mut [R]) {
    let inverse = |x: R| if x > R::ZERO { R::ONE / x } else { R::ZERO };
    let width = delta.len().max(1);
    delta.fill(R::ZERO);
    for (row, &sigma) in q.chunks_exact(width).zip(sigma.iter()) {
        delta.iter_mut().zip(row).for_each(|(to, &q)| *to += q * sigma);
    }
    delta.iter_mut().for_each(|to| *to = inverse(n * *to));
    for (row, sigma) in q.chunks_exact(width).zip(sigma) {
        *sigma = inverse(m * dot(row, delta));
    }
}

/// The distance Σᵢⱼ Cᵢⱼ Tᵢⱼ. costs and plan (M, N).
pub fn distance<R: Real>(costs: &[R], plan: &[R]) -> R {
    dot(costs, plan)
}

/// Adds `scale` times the gradient of Σᵢⱼ Cᵢⱼ Tᵢⱼ by the vectors, C their cosine distances and T constant. x and `by_x` (M, D), y and `by_y` (N, D),
/// plan (M, N).
///
/// # Errors
/// Arrays of contradictory lengths.
pub fn cosine_gradient<R: Real>(
    [x, y]: [&[R]; 2],
    live: Live<'_>,
    plan: &[R],
    scale: R,
    [by_x, by_y]: [&mut [R]; 2],
) -> Result<(), Length> {
    let (columns, [of_x, of_y]) = (columns(x, y, live)?, live);
    Length::check("plan", of_x.len().saturating_mul(of_y.len()), plan.len())?;
    Length::check("gradient by x", x.len(), by_x.len())?;
    Length::check("gradient by y", y.len(), by_y.len())?;
    // d(x·y / (‖x‖ ‖y‖))/dx = (ŷ − (x̂·ŷ) x̂) / ‖x‖; a vector that is too short is only divided by the constant.
    let part = |of: &[R], other: &[R], share: R, to: &mut [R]| {
        let (own, its) = (length(of), length(other));
        let is_short = own <= R::from_f64(SHORTEST);
        let cosine = if is_short { R::ZERO } else { dot(of, other) / (own * its) };
        for ((to, &of), &other) in to.iter_mut().zip(of).zip(other) {
            *to -= share * (other / its - cosine * of / own) / own;
        }
    };
    let rows = x.chunks_exact(columns).zip(by_x.chunks_exact_mut(columns)).zip(plan.chunks_exact(of_y.len().max(1)));
    for ((x, by_x), plan) in rows {
        for ((y, by_y), &mass) in y.chunks_exact(columns).zip(by_y.chunks_exact_mut(columns)).zip(plan) {
            if mass != R::ZERO {
                part(x, y, scale * mass, by_x);
                part(y, x, scale * mass, by_y);
            }
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests;
