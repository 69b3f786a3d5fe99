//! The least totals by looking at every way.

/// The least total for every number of pairs (infinity where there is no way), forbidden and invalid costs left out, signs turned for a maximum.
pub struct Best(Vec<f64>);

impl Best {
    /// Every row of the fewer side takes a column or none: a recurrence over the sets of rows of that side that are done, column by column.
    pub fn of(costs: &[f64], rows: usize, columns: usize, sign: f64) -> Self {
        let (small, large) = (rows.min(columns), rows.max(columns));
        let cost = |i: usize, j: usize| {
            let cost = if rows <= columns { costs[i * columns + j] } else { costs[j * columns + i] };
            if cost.is_finite() { sign * cost } else { f64::INFINITY }
        };
        let mut best = vec![f64::INFINITY; 1 << small];
        best[0] = 0.0;
        for j in 0..large {
            for set in (1..best.len()).rev() {
                for i in (0..small).filter(|i| set & 1 << i != 0) {
                    best[set] = best[set].min(best[set & !(1 << i)] + cost(i, j));
                }
            }
        }
        let mut least = vec![f64::INFINITY; small + 1];
        for (set, cost) in best.into_iter().enumerate() {
            let count = set.count_ones() as usize;
            least[count] = least[count].min(cost);
        }
        Self(least)
    }

    /// The largest number of pairs.
    pub fn most(&self) -> usize {
        self.0.iter().rposition(|total| *total < f64::INFINITY).unwrap_or(0)
    }

    /// The least total of that many pairs.
    pub fn full(&self) -> f64 {
        self.0[self.most()]
    }

    /// The least total of at most so many pairs as there can be.
    pub fn pairs(&self, count: usize) -> f64 {
        self.0[count.min(self.most())]
    }

    /// The least total where every pair is worth `limit`.
    pub fn limited(&self, limit: f64) -> f64 {
        self.0.iter().enumerate().map(|(count, total)| total - limit * count as f64).fold(f64::INFINITY, f64::min)
    }

    /// The least bound on costs under which as many pairs can be made.
    pub fn bottleneck(&self, costs: &[f64], rows: usize, columns: usize, sign: f64) -> f64 {
        let mut bounds: Vec<f64> = costs.iter().filter(|c| c.is_finite()).map(|c| sign * c).collect();
        bounds.sort_by(f64::total_cmp);
        let complete = |bound: &f64| {
            let allowed: Vec<f64> = costs.iter().map(|&c| if sign * c <= *bound { c } else { f64::INFINITY }).collect();
            Self::of(&allowed, rows, columns, sign).most() == self.most()
        };
        bounds.into_iter().find(complete).expect("an assignment has a largest cost")
    }
}
