//! Which terms of ALBEF's loss a training has.

use crate::config::Invalid;
use crate::image_text::config::AlbefTermsConfig;

/// The terms of a configuration.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Terms {
    /// Weights of contrast, matching and masked tokens; 0: there is no such term.
    pub weights: [f64; 3],
    /// Whether mismatches are drawn by similarity.
    pub hard_negatives: bool,
    /// Rows of each queue.
    pub queue: usize,
    /// How much of its value a momentum encoder keeps.
    pub momentum: f64,
    /// The final share of the momentum encoders' targets, and the steps over which it rises.
    pub alpha: (f64, u64),
    /// Whether equal pairs count as pairs of each other.
    pub multi_positive: bool,
}

impl Terms {
    /// The terms, of a training whose passes over the pairs take `pass` steps.
    ///
    /// # Errors
    /// Values that contradict each other.
    pub fn new(config: &AlbefTermsConfig, pass: u64) -> Result<Self, Invalid> {
        let weights = [config.itc, config.itm, config.mlm];
        if config.itc == 0.0 && config.itm == 0.0 {
            let expected = "a weight above 0 of albef.itc or albef.itm: masked tokens alone do not tell which image and text belong together";
            return Err(Invalid::new("albef.itm", expected, 0));
        }
        if config.itc == 0.0 && config.itm > 0.0 && config.hard_negatives {
            let expected = "false without albef.itc, whose similarities they are drawn by";
            return Err(Invalid::new("albef.hard_negatives", expected, true));
        }
        Ok(Self {
            weights,
            hard_negatives: config.hard_negatives && config.itm > 0.0,
            queue: if config.itc > 0.0 { config.queue_size } else { 0 },
            momentum: config.momentum,
            alpha: (config.alpha, config.alpha_steps.unwrap_or(pass)),
            multi_positive: config.multi_positive,
        })
    }

    /// Whether there is a contrastive term.
    pub fn contrasts(&self) -> bool {
        self.weights[0] > 0.0
    }

    /// Whether there is a matching term.
    pub fn matches(&self) -> bool {
        self.weights[1] > 0.0
    }

    /// Whether tokens are masked.
    pub fn masks(&self) -> bool {
        self.weights[2] > 0.0
    }

    /// Whether a term has targets of the momentum encoders.
    pub fn distils(&self) -> bool {
        self.alpha.0 > 0.0 && (self.contrasts() || self.masks())
    }

    /// Whether there are momentum encoders.
    pub fn has_momentum(&self) -> bool {
        self.contrasts() || self.distils()
    }

    /// α at a step, numbered from 0.
    pub fn alpha_at(&self, step: u64) -> f64 {
        let (alpha, steps) = self.alpha;
        if step >= steps { alpha } else { alpha * step as f64 / steps as f64 }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn terms_are_switches_and_alpha_rises_over_the_first_pass() {
        let config = AlbefTermsConfig::default();
        let all = Terms::new(&config, 10).unwrap();
        assert_eq!([0, 5, 10, 100].map(|step| all.alpha_at(step)), [0.0, 0.2, 0.4, 0.4]);
        assert!(all.contrasts() && all.matches() && all.masks() && all.distils() && all.has_momentum());
        let no_contrast = AlbefTermsConfig { itc: 0.0, alpha: 0.0, ..config.clone() };
        let key = |config: &AlbefTermsConfig| Terms::new(config, 10).unwrap_err().key;
        assert_eq!(key(&no_contrast), "albef.hard_negatives");
        let random = Terms::new(&AlbefTermsConfig { hard_negatives: false, ..no_contrast.clone() }, 10).unwrap();
        assert!(!random.has_momentum() && random.queue == 0);
        assert_eq!(key(&AlbefTermsConfig { itm: 0.0, ..no_contrast }), "albef.itm");
        assert_eq!(Terms::new(&AlbefTermsConfig { alpha_steps: Some(0), ..config }, 10).unwrap().alpha_at(0), 0.4);
    }
}
