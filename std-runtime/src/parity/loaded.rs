//! A model in memory that is run on a recorded batch.

use std::path::Path;
use std::sync::Arc;

use samara_core::params::ParamInfo;

use super::error::ParityError;
use crate::model_folder::map::{Layout, NameMap};
use crate::model_folder::{self, ExtraTensors, load_weights_with};
use crate::session::{CpuDevice, Engine, OwnedParams, Session, SetId};

/// The weights of a folder in a session.
pub(super) struct Loaded {
    pub(super) session: Session,
    /// The set with its weights.
    pub(super) set: SetId,
    /// How the parameters are called on disk, and in other files.
    pub(super) layouts: Vec<Layout>,
    /// Tensors that were left out.
    pub(super) ignored: Vec<String>,
}

impl Loaded {
    /// Reads the weights of a folder by the first of several name maps.
    ///
    /// # Errors
    /// The folder; no memory.
    pub(super) fn open(
        engine: Arc<Engine>,
        folder: &Path,
        registry: &Arc<OwnedParams>,
        maps: &[NameMap],
        extra: ExtraTensors,
    ) -> Result<Self, ParityError> {
        let layouts = maps.iter().map(|map| model_folder::layout(map, &registry.view())).collect::<Result<_, _>>()?;
        let mut session = Session::new(CpuDevice::new(engine));
        let set = session.add_set("model", registry)?;
        let (weights, _) = session.set_mut(set);
        let (values, frozen) = (weights.weights.get_mut(), weights.frozen.get_mut());
        let map = maps.first().cloned().unwrap_or_default();
        let ignored = load_weights_with(folder, &registry.view(), &map, extra, values, frozen)?;
        Ok(Self { session, set, layouts, ignored })
    }

    /// A parameter's shape.
    pub(super) fn shape(&self, parameter: usize) -> Vec<usize> {
        let info = self.session.set(self.set).params().infos().get(parameter).copied().unwrap_or_default();
        info.shape.dims().iter().map(|&dim| dim as usize).collect()
    }

    /// The gradient of the last loss by a parameter, in its shape.
    pub(super) fn gradient(&self, parameter: usize) -> &[f32] {
        let set = self.session.set(self.set);
        let info = set.params().infos().get(parameter).filter(|info| !info.frozen);
        info.map(ParamInfo::range).and_then(|range| set.grads.first()?.get().get(range)).unwrap_or(&[])
    }
}
