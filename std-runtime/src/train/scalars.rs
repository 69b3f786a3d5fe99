//! Scalars that a training reports: a name, a value, and how the values of one step combine.

/// How values of one step become one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Combine {
    /// Their weighted mean.
    Mean,
    /// Their sum.
    Sum,
    /// The smallest.
    Min,
    /// The largest.
    Max,
    /// The last one.
    Last,
}

/// The index of a scalar.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ScalarId(usize);

#[derive(Clone, Debug)]
struct Entry {
    name: &'static str,
    combine: Combine,
    value: f64,
    weight: f64,
}

/// Scalars by name, registered once; adding to them allocates nothing.
#[derive(Clone, Debug, Default)]
pub struct Scalars {
    entries: Vec<Entry>,
}

impl Scalars {
    /// Registers a scalar, or finds the one of this name.
    pub fn register(&mut self, name: &'static str, combine: Combine) -> ScalarId {
        let found = self.entries.iter().position(|entry| entry.name == name);
        ScalarId(found.unwrap_or_else(|| {
            self.entries.push(Entry { name, combine, value: 0.0, weight: 0.0 });
            self.entries.len() - 1
        }))
    }

    /// Forgets all values.
    pub fn reset(&mut self) {
        self.entries.iter_mut().for_each(|entry| (entry.value, entry.weight) = (0.0, 0.0));
    }

    /// Adds a value with weight 1.
    pub fn add(&mut self, id: ScalarId, value: f64) {
        self.add_sum(id, value, 1.0);
    }

    /// Adds the sum of values whose weights add up to `weight`, such as the losses of that many tokens. Combinations other than the mean treat `sum`
    /// as one value.
    pub fn add_sum(&mut self, id: ScalarId, sum: f64, weight: f64) {
        let Some(entry) = self.entries.get_mut(id.0) else { return };
        let first = entry.weight == 0.0;
        entry.value = match entry.combine {
            Combine::Mean | Combine::Sum => entry.value + sum,
            Combine::Last => sum,
            Combine::Min | Combine::Max if first => sum,
            // NaN is kept, so that it is detected: `min` and `max` of `f64` would skip it.
            Combine::Min | Combine::Max if entry.value.is_nan() || sum.is_nan() => f64::NAN,
            Combine::Min => entry.value.min(sum),
            Combine::Max => entry.value.max(sum),
        };
        entry.weight += weight;
    }

    /// The combined value of a scalar; `None` without values.
    pub fn get(&self, name: &str) -> Option<f64> {
        self.iter().find(|(other, _)| *other == name).and_then(|(_, value)| value)
    }

    /// All scalars in the order of their registration.
    pub fn iter(&self) -> impl Iterator<Item = (&'static str, Option<f64>)> + '_ {
        self.entries.iter().map(|entry| {
            let value = if entry.combine == Combine::Mean { entry.value / entry.weight } else { entry.value };
            (entry.name, (entry.weight > 0.0).then_some(value))
        })
    }

    /// The first scalar whose value is not finite.
    pub fn first_non_finite(&self) -> Option<(&'static str, f64)> {
        self.iter().find_map(|(name, value)| value.filter(|v| !v.is_finite()).map(|v| (name, v)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_combine_as_registered() {
        use Combine::{Last, Max, Mean, Min, Sum};
        let mut scalars = Scalars::default();
        let ids = [("mean", Mean), ("sum", Sum), ("min", Min), ("max", Max), ("last", Last)].map(|(n, c)| scalars.register(n, c));
        assert_eq!(scalars.register("mean", Mean), ids[0]);
        assert!(scalars.iter().all(|(_, value)| value.is_none()));
        for (sum, weight) in [(6.0, 3.0), (-8.0, 1.0), (1.0, 4.0)] {
            ids.iter().for_each(|&id| scalars.add_sum(id, sum, weight));
        }
        let found = ["mean", "sum", "min", "max", "last"].map(|name| scalars.get(name).unwrap());
        assert_eq!(found, [-0.125, -1.0, -8.0, 6.0, 1.0]);
        scalars.add(ids[3], f64::NAN);
        scalars.add(ids[1], f64::INFINITY);
        assert_eq!(scalars.first_non_finite(), Some(("sum", f64::INFINITY)));
        for name in [Min, Max].map(|combine| if combine == Min { "min" } else { "max" }) {
            for values in [[1.0, f64::NAN, 2.0], [f64::NAN, 1.0, 2.0]] {
                scalars.reset();
                let id = ids[if name == "min" { 2 } else { 3 }];
                values.iter().for_each(|&value| scalars.add(id, value));
                assert!(scalars.first_non_finite().is_some_and(|(found, value)| found == name && value.is_nan()), "{name}");
            }
        }
        scalars.reset();
        assert_eq!((scalars.get("sum"), scalars.get("absent"), scalars.first_non_finite()), (None, None, None));
    }
}
