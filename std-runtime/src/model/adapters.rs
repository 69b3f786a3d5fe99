//! Low-rank adapters of a model, from `[tune]` or an adapter folder.

use samara_core::graph::DType;

use crate::config::Choice;

/// The weight of a score (1, C), in memory and in folders.
pub const SCORE: &str = "score.weight";

/// Low-rank adapters: W is frozen, and a layer computes with W + (α / r) B A. Hu et al. 2021, 4.1.
#[derive(Clone, Debug, PartialEq)]
pub struct Adapters {
    /// Rows of A, columns of B: r.
    pub rank: usize,
    /// α.
    pub alpha: f64,
    /// Whether the factor is α / √r in place of α / r (Kalajdzievski 2023).
    pub by_root: bool,
    /// Share of the inputs of A that training drops.
    pub dropout: f64,
    /// Ends of the paths of the linear layers that have one.
    pub targets: Vec<String>,
    /// Parts of the model that are trained and stored whole, such as a head.
    pub modules_to_save: Vec<String>,
    /// How the frozen weights were stored while they were trained.
    pub base: BaseFormat,
}

impl Adapters {
    /// The factor of B A.
    pub fn scale(&self) -> f64 {
        let rank = self.rank as f64;
        self.alpha / if self.by_root { rank.sqrt() } else { rank }
    }

    /// Whether a parameter of this path belongs to a part that is stored whole.
    pub fn saves(&self, path: &str) -> bool {
        saves(&self.modules_to_save, path)
    }

    /// Whether the model has a score in the place of logits, which is then stored whole.
    pub fn has_score(&self) -> bool {
        self.saves(SCORE)
    }

    /// A short description.
    pub fn describe(&self) -> String {
        let Self { rank, alpha, targets, base, .. } = self;
        let base = if *base == BaseFormat::F32 { "f32" } else { base.word() };
        format!("low-rank adapters of {}, rank {rank}, alpha {alpha}, over {base} weights", targets.join(", "))
    }
}

/// Whether a parameter of this path is in one of the modules.
pub fn saves(modules: &[String], path: &str) -> bool {
    let path = format!(".{path}");
    modules.iter().any(|module| path.contains(&format!(".{module}.")))
}

/// How frozen weights are stored.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum BaseFormat {
    /// As they are.
    #[default]
    F32,
    /// Quantisation blocks of 32 signed bytes with a scale.
    Q8,
    /// Quantisation blocks of 32 nibbles with a scale.
    Q4,
}

impl BaseFormat {
    /// The element type.
    pub fn dtype(self) -> DType {
        match self {
            Self::F32 => DType::Real,
            Self::Q8 => DType::Q8,
            Self::Q4 => DType::Q4,
        }
    }

    /// Its word in a configuration.
    pub fn word(self) -> &'static str {
        Self::WORDS.iter().find(|(_, format)| *format == self).map_or("", |(word, _)| word)
    }
}

impl Choice for BaseFormat {
    const WORDS: &'static [(&'static str, Self)] = &[("none", Self::F32), ("q8", Self::Q8), ("q4", Self::Q4)];
}
