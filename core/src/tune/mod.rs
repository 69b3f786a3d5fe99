//! What is trained of a model that exists, and how the rest is stored: decisions on its registry, between registering and
//! [`Registry::finish`]. `backward` stops below the lowest trainable parameter by itself.

use crate::graph::DType;
use crate::model::lm::LanguageModel;
use crate::params::{ParamInfo, Part, Registry};

/// What is trained of a model that exists; see [`tune`]. V tokens, width C, hidden layer 4 C.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum Tune {
    /// Nothing: the model only runs.
    None,
    /// The head, `lm_head.weight` (V, C). A tied head becomes a parameter of its own, which starts as the token embedding. V C values and as many
    /// for their gradient and each moment; nothing is kept for a backward pass through the blocks, for there is none.
    Head,
    /// Every bias, and weights and biases of norms: all vectors. (BitFit, Ben Zaken et al. 2022, with the gains.) About 11 C values a block of a
    /// GPT, but gradients go through all blocks, so that every block keeps activations; what linear layers read is not among them.
    Bias,
    /// The last block and the final norm, where the model has one. 12 C² values of a GPT, of which the gradient of one matrix, 4 C², stands at a
    /// time with updates in the backward pass; the blocks below keep no activations.
    LastBlock,
    /// Low-rank adapters (Hu et al. 2021), of which the registry must have some: r (in + out) values of a layer. Gradients go through all blocks, but
    /// no gradient of a matrix is taken, and what is frozen may be quantised.
    Adapters,
    /// Everything.
    #[default]
    All,
}

impl Tune {
    /// Parameters that it adds to a registry at most.
    pub const fn added_params(self) -> usize {
        match self {
            Self::Head => 1,
            Self::None | Self::Bias | Self::LastBlock | Self::Adapters | Self::All => 0,
        }
    }
}

/// Freezes what every token reads whole — all matrices but the position embedding and those of adapters — and keeps it in another element type. To be called before
/// [`tune`].
pub fn store_as(dtype: DType, registry: &mut Registry<'_>) {
    for info in registry.infos_mut().iter_mut().filter(|info| is_read_whole(info)) {
        (info.frozen, info.dtype) = (true, dtype);
    }
}

/// Whether every token reads a parameter whole, so that [`store_as`] concerns it.
pub fn is_read_whole(info: &ParamInfo) -> bool {
    info.shape.rank() == 2 && info.part != Part::Positions && !info.adapter
}

/// Makes what `tune` says trainable, as f32, and freezes all the rest in the element types that [`store_as`] chose, or as f32.
///
/// With [`Tune::Head`] a tied head becomes a parameter, whose first values the caller copies from the token embedding.
pub fn tune(tune: Tune, model: &mut dyn LanguageModel, registry: &mut Registry<'_>) {
    if tune == Tune::Head {
        model.untie(&mut registry.scope());
    }
    let head = model.head().index();
    let last = registry.infos_mut().iter().filter_map(block).max();
    for (number, info) in registry.infos_mut().iter_mut().enumerate() {
        let trained = match tune {
            Tune::None => false,
            Tune::Head => number == head,
            Tune::Bias => info.shape.rank() == 1,
            Tune::LastBlock => info.part == Part::Final || block(info).is_some_and(|i| Some(i) == last),
            Tune::Adapters => info.adapter,
            Tune::All => true,
        };
        info.frozen = !trained;
        if trained {
            info.dtype = DType::Real;
        }
    }
}

fn block(info: &ParamInfo) -> Option<u16> {
    match info.part {
        Part::Block(i) => Some(i),
        Part::Other | Part::Tokens | Part::Positions | Part::Final | Part::Head => None,
    }
}
