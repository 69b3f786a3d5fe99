//! Finite differences.

/// The step of [`gradient`]: the truncation error is about 10⁻¹³ of the fifth derivative, the rounding error about 10⁻¹³ of the value.
pub const STEP: f64 = 1e-3;

/// f′(0) from four points: (8 (f(h) − f(−h)) − (f(2h) − f(−2h))) / 12h.
pub fn derivative(f: impl FnMut(f64) -> f64) -> f64 {
    derivative_within(STEP, f)
}

/// [`derivative`], or the same with a tenth of the step if that is nearer to `found`: a kink or a steep section within the longer step spoils one of
/// them, a wrong derivative is far from both.
pub fn derivative_near(found: f64, mut f: impl FnMut(f64) -> f64) -> f64 {
    let [long, short] = [STEP, STEP / 10.0].map(|step| derivative_within(step, &mut f));
    if (short - found).abs() < (long - found).abs() { short } else { long }
}

fn derivative_within(h: f64, mut f: impl FnMut(f64) -> f64) -> f64 {
    (8.0 * (f(h) - f(-h)) - (f(2.0 * h) - f(-2.0 * h))) / (12.0 * h)
}

/// The gradient of `f` with respect to input `which`, entry by entry.
pub fn gradient(inputs: &[Vec<f64>], which: usize, mut f: impl FnMut(&[Vec<f64>]) -> f64) -> Vec<f64> {
    let mut moved = inputs.to_vec();
    (0..inputs[which].len())
        .map(|i| {
            let slope = derivative(|h| {
                moved[which][i] = inputs[which][i] + h;
                f(&moved)
            });
            moved[which][i] = inputs[which][i];
            slope
        })
        .collect()
}

/// The largest |found − expected| over the largest |expected|, or over 10⁻³ when all are smaller. Infinite when a value is NaN.
pub fn error(found: &[f64], expected: &[f64]) -> f64 {
    error_over(found, expected, 1e-3)
}

/// [`error`] with another floor than 10⁻³.
pub fn error_over(found: &[f64], expected: &[f64], floor: f64) -> f64 {
    assert_eq!(found.len(), expected.len(), "lengths");
    let largest = expected.iter().fold(floor, |m: f64, x| m.max(x.abs()));
    let worst = |m: f64, d: f64| if d.is_nan() { f64::INFINITY } else { m.max(d) };
    // Equal infinities differ by 0.
    found.iter().zip(expected).map(|(a, b)| if a == b { 0.0 } else { (a - b).abs() }).fold(0.0, worst) / largest
}

/// ‖found − expected‖ / ‖expected‖, in the Euclidean norm.
pub fn norm_error(found: &[f64], expected: &[f64]) -> f64 {
    assert_eq!(found.len(), expected.len(), "lengths");
    let norm = |x: &mut dyn Iterator<Item = f64>| x.map(|x| x * x).sum::<f64>().sqrt();
    norm(&mut found.iter().zip(expected).map(|(a, b)| a - b)) / norm(&mut expected.iter().copied()).max(1e-12)
}
