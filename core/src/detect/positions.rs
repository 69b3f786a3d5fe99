//! Positions in feature maps of images that padding has made equally large.

use crate::math::Real;

/// Whether every place of a feature map (h, w) is in the image: the value of the pixel mask (H, W) at the place's nearest pixel, as PyTorch's nearest
/// interpolation rounds.
pub fn nearest_mask(pixels: &[bool], [height, width]: [usize; 2], [h, w]: [usize; 2], mask: &mut [bool]) {
    let nearest = |i: usize, from: usize, to: usize| {
        let scale = from as f32 / to as f32;
        ((i as f32 * scale) as usize).min(from.saturating_sub(1))
    };
    for (i, to) in mask.iter_mut().enumerate().take(h.saturating_mul(w)) {
        let (y, x) = (i.checked_div(w).unwrap_or(0), i.checked_rem(w).unwrap_or(0));
        let at = nearest(y, height, h).saturating_mul(width).saturating_add(nearest(x, width, w));
        *to = pixels.get(at).copied().unwrap_or(false);
    }
}

/// Sine positions of a feature map: of place (y, x) first those of y, then those of x, each sin and cos of 2π n / (last + 10⁻⁶) / 10000^(2⌊i/2⌋ / (d/2)),
/// where n counts the places of the column or row up to it that are in the image. Carion et al. 2020, appendix A.4. `mask` (h, w), `positions` (h, w, d).
pub fn sine_positions(mask: &[bool], [h, w]: [usize; 2], positions: &mut [f32]) {
    let places = h.saturating_mul(w).max(1);
    let half = positions.len().checked_div(places.saturating_mul(2)).unwrap_or(0);
    let inside = |y: usize, x: usize| mask.get(y.saturating_mul(w).saturating_add(x)).copied().unwrap_or(false);
    let rows = positions.chunks_exact_mut(half.saturating_mul(2).max(1));
    for (i, to) in rows.enumerate() {
        let (y, x) = (i.checked_div(w).unwrap_or(0), i.checked_rem(w).unwrap_or(0));
        let down = |end: usize| (0..end).filter(|&y| inside(y, x)).count();
        let right = |end: usize| (0..end).filter(|&x| inside(y, x)).count();
        let (of_y, of_x) = to.split_at_mut_checked(half).unwrap_or_default();
        waves(down(y.saturating_add(1)), down(h), of_y);
        waves(right(x.saturating_add(1)), right(w), of_x);
    }
}

/// sin and cos of place `n` of `last`.
fn waves(n: usize, last: usize, to: &mut [f32]) {
    let at = n as f32 / (last as f32 + 1e-6) * (2.0 * core::f32::consts::PI);
    let len = to.len() as f32;
    for (i, to) in to.iter_mut().enumerate() {
        let even = i as u32 & !1;
        let angle = at / libm::powf(10_000.0, even as f32 / len);
        let (sin, cos) = <f32 as Real>::sin_cos(angle);
        *to = if i % 2 == 0 { sin } else { cos };
    }
}
