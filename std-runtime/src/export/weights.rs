//! The weights of a model in the form of its program file.

use std::sync::Arc;

use samara_core::params::{ParamId, ParamInfo, Params};
use samara_core::quant::quantise_row;

use crate::session::ParamSet;

/// Fills a registry for a device from a model of this machine, by name. A parameter that only the device has, the untied head, is initialised from
/// `embedding`, or stays as it is; of the position embedding only the rows within the context are copied.
pub(super) fn copy(from: &ParamSet, to: &mut ParamSet, embedding: Option<ParamId>) {
    let source = from.params();
    let values = from.weights.get();
    let registry = Arc::clone(to.registry());
    for info in registry.view().infos() {
        let Some(values) = source_of(&source, info, embedding).and_then(|info| values.get(info.range())) else { continue };
        let values = &values[..info.shape.len().min(values.len())];
        if !info.frozen {
            to.weights.get_mut()[info.range()].copy_from_slice(values);
            continue;
        }
        let bytes = &mut to.frozen.get_mut()[info.frozen_bytes(size_of::<f32>())];
        if bytes.len() == size_of_val(values) {
            bytes.copy_from_slice(bytemuck::cast_slice(values));
            continue;
        }
        let row_bytes = bytes.len() / info.shape.rows().max(1);
        for (row, bytes) in values.chunks_exact(info.shape.cols().max(1)).zip(bytes.chunks_exact_mut(row_bytes.max(1))) {
            quantise_row(info.dtype, row, bytes);
        }
    }
}

/// The model's parameter that initialises a parameter of the device.
fn source_of<'p>(source: &Params<'p>, info: &ParamInfo, embedding: Option<ParamId>) -> Option<&'p ParamInfo> {
    let same = source.infos().iter().find(|from| from.name == info.name);
    same.or_else(|| source.infos().get(embedding?.index()).filter(|from| from.shape == info.shape))
}
