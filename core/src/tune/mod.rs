//! Which parameters of an existing model are trained, and how the rest is stored: decisions on its registry, between registration and
//! [`Registry::finish`]. `backward` then stops below the lowest trainable parameter.

use crate::graph::DType;
use crate::model::lm::LanguageModel;
use crate::params::{ParamInfo, Part, Registry};

/// Which parameters of an existing model are trained; see [`tune`]. V tokens, width C, hidden layer 4 C.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum Tune {
    /// None: inference only.
    None,
    /// The head, `lm_head.weight` (V, C). A tied head becomes a parameter of its own, initialised from the token embedding. V C values, and as many
    /// for the gradient and each moment; no activations are kept, since no gradient flows through the blocks.
    Head,
    /// Every bias, and weights and biases of norms: all vectors. (BitFit, Ben Zaken et al. 2022, with the gains.) About 11 C values per block of a
    /// GPT. Gradients flow through all blocks, so every block keeps activations, except the inputs of linear layers.
    Bias,
    /// The last block and the final norm, where the model has one. 12 C² values of a GPT; with updates in the backward pass only the gradient of one
    /// matrix, 4 C², is in memory at a time. The blocks below keep no activations.
    LastBlock,
    /// Low-rank adapters (Hu et al. 2021), which the registry must contain: r (in + out) values per layer. Gradients flow through all blocks, but no
    /// frozen matrix gets one, and frozen parameters may be quantised.
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

/// Freezes the matrices that every token reads whole — all except position embeddings and adapters — and stores them in another element type. Call it
/// before [`tune`].
pub fn store_as(dtype: DType, registry: &mut Registry<'_>) {
    for info in registry.infos_mut().iter_mut().filter(|info| is_read_whole(info)) {
        (info.frozen, info.dtype) = (true, dtype);
    }
}

/// Whether every token reads the parameter whole, so that [`store_as`] applies to it.
pub fn is_read_whole(info: &ParamInfo) -> bool {
    info.shape.rank() == 2 && info.part != Part::Positions && !info.adapter
}

/// Makes the parameters selected by `tune` trainable, as f32, and freezes the rest in the element types chosen by [`store_as`], or as f32.
///
/// With [`Tune::Head`] a tied head becomes a parameter of its own; the caller copies its initial values from the token embedding.
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
        info.frozen = !trained || info.buffer;
        if !info.frozen {
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
