//! Boxes: corners, L1 distance, and generalised intersection over union (Rezatofighi et al. 2019) with its gradient.

use crate::math::Real;

/// (left, upper, right, lower) of a box (center x, center y, width, height).
pub fn corners<R: Real>([x, y, width, height]: [R; 4]) -> [R; 4] {
    let half = R::from_f64(0.5);
    [x - half * width, y - half * height, x + half * width, y + half * height]
}

/// The sum of absolute differences.
pub fn l1<R: Real>(a: [R; 4], b: [R; 4]) -> R {
    a.into_iter().zip(b).fold(R::ZERO, |sum, (a, b)| sum + (a - b).abs())
}

/// The derivative of [`l1`] by `a`: the sign of every difference.
pub fn l1_gradient<R: Real>(a: [R; 4], b: [R; 4]) -> [R; 4] {
    let mut signs = [R::ZERO; 4];
    for (to, (a, b)) in signs.iter_mut().zip(a.into_iter().zip(b)) {
        *to = wins(a, b) - wins(b, a);
    }
    signs
}

/// I/U − (H − U)/H for the areas of intersection, union and hull of two boxes (center x, center y, width, height), one of which has an area: from −1 to
/// 1, which equal boxes have.
pub fn giou<R: Real>(a: [R; 4], b: [R; 4]) -> R {
    let [across, down] = axes(a, b);
    Areas::new(across, down).giou()
}

/// [`giou`] and its derivative by `a`. Where corners coincide, both boxes have half of it, as in PyTorch.
pub fn giou_gradient<R: Real>(a: [R; 4], b: [R; 4]) -> (R, [R; 4]) {
    let [across, down] = axes(a, b);
    let areas = Areas::new(across, down);
    let (x, width) = areas.slopes(across, down);
    let (y, height) = areas.slopes(down, across);
    (areas.giou(), [x, y, width, height])
}

/// 1 if a > b, 1/2 if they are equal, 0 otherwise: the derivative of max(a, b) by a.
fn wins<R: Real>(a: R, b: R) -> R {
    if a > b {
        R::ONE
    } else if a == b {
        R::from_f64(0.5)
    } else {
        R::ZERO
    }
}

/// Two intervals: (start, end) of a, then of b.
type Axis<R> = [R; 4];

/// The intervals in both directions.
fn axes<R: Real>(a: [R; 4], b: [R; 4]) -> [Axis<R>; 2] {
    let ([left, upper, right, lower], [l, u, r, d]) = (corners(a), corners(b));
    [[left, right, l, r], [upper, lower, u, d]]
}

/// What two intervals share, at least 0.
fn shared<R: Real>([a0, a1, b0, b1]: Axis<R>) -> R {
    (a1.min(b1) - a0.max(b0)).max(R::ZERO)
}

/// The shortest interval that contains both.
fn hull<R: Real>([a0, a1, b0, b1]: Axis<R>) -> R {
    a1.max(b1) - a0.min(b0)
}

/// The areas of two boxes.
struct Areas<R> {
    intersection: R,
    union: R,
    hull: R,
}

impl<R: Real> Areas<R> {
    fn new(across: Axis<R>, down: Axis<R>) -> Self {
        let area = |[a, b, c, d]: [R; 4]| (b - a) * (d - c);
        let ([a0, a1, b0, b1], [c0, c1, d0, d1]) = (across, down);
        let intersection = shared(across) * shared(down);
        let union = area([a0, a1, c0, c1]) + area([b0, b1, d0, d1]) - intersection;
        Self { intersection, union, hull: hull(across) * hull(down) }
    }

    fn giou(&self) -> R {
        self.intersection / self.union - (self.hull - self.union) / self.hull
    }

    /// The derivatives by center and extent of a in the direction `axis`.
    fn slopes(&self, axis: Axis<R>, other: Axis<R>) -> (R, R) {
        let ([a0, a1, b0, b1], [c0, c1, ..]) = (axis, other);
        // By the areas: G = I/U + U/H − 1, U = A + B − I.
        let by_union = R::ONE / self.hull - self.intersection / (self.union * self.union);
        let by_intersection = R::ONE / self.union - by_union;
        let by_hull = -(self.union / (self.hull * self.hull));
        let meets = if a1.min(b1) >= a0.max(b0) { shared(other) } else { R::ZERO };
        let (own, spread) = (c1 - c0, hull(other));
        let start = -(by_intersection * meets * wins(a0, b0) + by_union * own + by_hull * spread * wins(b0, a0));
        let end = by_intersection * meets * wins(b1, a1) + by_union * own + by_hull * spread * wins(a1, b1);
        (start + end, R::from_f64(0.5) * (end - start))
    }
}
