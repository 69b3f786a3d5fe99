//! A curve that grows with a run, in bounded memory.

/// A curve with more points is averaged down to half as many.
const MOST_POINTS: usize = 2048;

/// Values over steps; a point is the mean of as many values as keep the curve below [`MOST_POINTS`].
#[derive(Debug)]
pub(super) struct Series {
    /// (step, value)
    points: Vec<(f64, f64)>,
    values_per_point: u32,
    /// Sums of steps and of values of the next point, and their number.
    gathered: (f64, f64, u32),
    last: Option<f64>,
}

impl Default for Series {
    fn default() -> Self {
        Self { points: Vec::new(), values_per_point: 1, gathered: (0.0, 0.0, 0), last: None }
    }
}

impl Series {
    /// Appends the value of a step; one that is not finite is left out.
    pub(super) fn push(&mut self, step: u64, value: f64) {
        if !value.is_finite() {
            return;
        }
        self.last = Some(value);
        let (steps, sum, count) = self.gathered;
        let (steps, sum, count) = (steps + step as f64, sum + value, count + 1);
        if count < self.values_per_point {
            self.gathered = (steps, sum, count);
            return;
        }
        self.gathered = (0.0, 0.0, 0);
        self.points.push((steps / f64::from(count), sum / f64::from(count)));
        if self.points.len() >= MOST_POINTS {
            let mean = |pair: &[(f64, f64)]| {
                let (step, value) = pair.iter().fold((0.0, 0.0), |sum, point| (sum.0 + point.0, sum.1 + point.1));
                (step / pair.len() as f64, value / pair.len() as f64)
            };
            self.points = self.points.chunks(2).map(mean).collect();
            self.values_per_point *= 2;
        }
    }

    /// (step, value) in the order of steps.
    pub(super) fn points(&self) -> &[(f64, f64)] {
        &self.points
    }

    /// The newest value.
    pub(super) fn last(&self) -> Option<f64> {
        self.last
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_long_run_keeps_its_shape_in_few_points() {
        let mut series = Series::default();
        (1..=100_000).for_each(|step| series.push(step, step as f64));
        series.push(100_001, f64::NAN);
        assert!((MOST_POINTS / 2 - 1..MOST_POINTS).contains(&series.points().len()), "{}", series.points().len());
        assert!(series.points().iter().all(|(step, value)| step == value));
        assert!(series.points().is_sorted_by(|a, b| a.0 < b.0));
        assert_eq!(series.last(), Some(100_000.0));
    }
}
