//! From a detector's logits and boxes to detections: of every query its likeliest object (Carion et al. 2020), as `post_process_object_detection` of
//! `transformers` does it.

use super::boxes::BoundingBox;

/// What a query has found.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Found {
    /// Its likeliest class but the last, which means no object.
    pub class: u32,
    /// The probability of that class.
    pub score: f64,
    /// Where it is, in pixels.
    pub bbox: BoundingBox,
}

/// What the queries of an image of this height and width have found, in their order. `logits` (Q, C + 1), `boxes` (Q, 4).
pub fn found(logits: &[f32], boxes: &[f32], size: [f64; 2]) -> Vec<Found> {
    let columns = logits.len() / (boxes.len() / 4).max(1);
    let rows = logits.chunks(columns.max(1)).zip(boxes.chunks(4));
    let of = |(logits, found): (&[f32], &[f32])| {
        let (class, score) = likeliest(logits);
        Found { class, score, bbox: in_pixels(found, size) }
    };
    rows.map(of).collect()
}

/// A box (center x, center y, width, height) relative to an image of this height and width, in pixels.
pub fn in_pixels(found: &[f32], [height, width]: [f64; 2]) -> BoundingBox {
    let at = |i: usize| found.get(i).copied().map_or(0.0, f64::from);
    let [w, h] = [at(2) * width, at(3) * height];
    BoundingBox { x: at(0) * width - w / 2.0, y: at(1) * height - h / 2.0, width: w, height: h }
}

/// The likeliest class but the last, which means no object, and its probability.
fn likeliest(logits: &[f32]) -> (u32, f64) {
    let largest = logits.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    let of = |z: f32| f64::from(z - largest).exp();
    let sum: f64 = logits.iter().map(|&z| of(z)).sum();
    let objects = logits.split_last().map_or(logits, |(_, objects)| objects).iter().enumerate();
    let best = objects.fold((0, f32::NEG_INFINITY), |best, (i, &z)| if z > best.1 { (i, z) } else { best });
    (best.0 as u32, of(best.1) / sum)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_query_finds_its_likeliest_object_even_if_none_is_likelier() {
        let logits = [0.0, 1.0, 3.0, 2.0, 0.0, 0.0];
        let boxes = [0.5, 0.25, 0.5, 0.5, 0.1, 0.1, 0.2, 0.2];
        let all = found(&logits, &boxes, [100.0, 200.0]);
        assert_eq!((all[0].class, all[1].class), (1, 0));
        let sum = 1.0 + 1.0_f64.exp() + 3.0_f64.exp();
        assert!((all[0].score - 1.0_f64.exp() / sum).abs() < 1e-12);
        assert_eq!(all[0].bbox, BoundingBox { x: 50.0, y: 0.0, width: 100.0, height: 50.0 });
    }
}
