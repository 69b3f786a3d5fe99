//! Learning-rate schedules: plain functions of the step.

/// How the learning rate falls after the warm-up.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum Decay {
    /// Half a cosine wave down to the smallest rate.
    #[default]
    Cosine,
    /// A straight line down to the smallest rate.
    Linear,
    /// Not at all.
    Constant,
    /// At once to the smallest rate, at one step.
    Step,
}

/// A warm-up followed by a decay, as in nanoGPT's `get_lr`.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Schedule {
    /// The largest rate.
    pub lr: f64,
    /// The rate at the end.
    pub min_lr: f64,
    /// Steps of the warm-up.
    pub warmup_steps: u64,
    /// The step at which the decay ends.
    pub steps: u64,
    /// How the rate falls.
    pub decay: Decay,
    /// The first step with the smallest rate of [`Decay::Step`]; not read by others.
    pub drop_step: u64,
}

impl Schedule {
    /// The learning rate of step `step`, counted from 0: lr·(step + 1)/(warmup + 1) during warm-up, then the decay over the remaining steps, or at step `drop_step`.
    pub fn at(&self, step: u64) -> f64 {
        if step < self.warmup_steps {
            return self.lr * (step + 1) as f64 / (self.warmup_steps + 1) as f64;
        }
        match self.decay {
            Decay::Constant => return self.lr,
            Decay::Step => return if step < self.drop_step { self.lr } else { self.min_lr },
            Decay::Cosine | Decay::Linear => {}
        }
        if step >= self.steps {
            return self.min_lr;
        }
        let done = (step - self.warmup_steps) as f64 / (self.steps - self.warmup_steps) as f64;
        let left = match self.decay {
            Decay::Cosine => 0.5 * (1.0 + libm::cos(core::f64::consts::PI * done)),
            Decay::Linear | Decay::Constant | Decay::Step => 1.0 - done,
        };
        self.min_lr + left * (self.lr - self.min_lr)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn corners() {
        let s = Schedule { lr: 1e-3, min_lr: 1e-4, warmup_steps: 100, steps: 2000, decay: Decay::Cosine, drop_step: 0 };
        assert_eq!(s.at(0), 1e-3 / 101.0);
        assert_eq!(s.at(99), 1e-3 * 100.0 / 101.0);
        assert_eq!(s.at(100), 1e-3);
        assert!((s.at(1050) - 5.5e-4).abs() < 1e-12);
        assert_eq!(s.at(2000), 1e-4);
        let line = Schedule { decay: Decay::Linear, ..s };
        assert!((line.at(1050) - 5.5e-4).abs() < 1e-12);
        assert_eq!(Schedule { decay: Decay::Constant, ..s }.at(5000), 1e-3);
        let drop = Schedule { decay: Decay::Step, drop_step: 1600, ..s };
        assert_eq!([99, 100, 1599, 1600, 5000].map(|step| drop.at(step)), [1e-3 * 100.0 / 101.0, 1e-3, 1e-3, 1e-4, 1e-4]);
        assert_eq!(Schedule { warmup_steps: 5, steps: 5, ..s }.at(5), 1e-4);
    }
}
