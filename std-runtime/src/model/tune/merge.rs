//! Merging adapters into their weights.

use std::collections::HashMap;

use samara_core::graph::DType;
use samara_core::params::{ParamInfo, Params};
use samara_core::quant::{dequantise_row, quantise_row};
use samara_core::tune::is_read_whole;

use crate::model::adapters::Adapters;

/// W + (α / r) B A for every layer with an adapter, in place. `weights` has the layout of the registry, in which everything is trainable f32. W (out,
/// in), A (r, in), B (out, r). If the adapters were trained over quantised weights, W is quantised and dequantised first.
pub fn merge(params: &Params<'_>, adapters: &Adapters, weights: &mut [f32]) {
    round(params, adapters, weights);
    let by_name: HashMap<String, &ParamInfo> = params.infos().iter().map(|info| (info.name.to_string(), info)).collect();
    for (name, a) in by_name.iter().filter(|(_, info)| info.adapter) {
        let Some(layer) = name.strip_suffix(".lora_A.weight") else { continue };
        let of = |end: &str| by_name.get(&format!("{layer}.{end}"));
        if let (Some(b), Some(w)) = (of("lora_B.weight"), of("weight")) {
            add_product(weights, a, b, w, adapters.scale());
        }
    }
}

/// W += scale · B A, summed in f64.
fn add_product(weights: &mut [f32], a: &ParamInfo, b: &ParamInfo, w: &ParamInfo, scale: f64) {
    let values = |info: &ParamInfo| weights.get(info.range()).unwrap_or(&[]).to_vec();
    let (a_values, b_values, inputs) = (values(a), values(b), a.shape.cols().max(1));
    let rows = weights.get_mut(w.range()).unwrap_or(&mut []).chunks_exact_mut(inputs); // (out, in)
    let mut sums = vec![0.0_f64; inputs]; // (in)
    for (row, b_row) in rows.zip(b_values.chunks_exact(b.shape.cols().max(1))) {
        sums.fill(0.0);
        for (&factor, a_row) in b_row.iter().zip(a_values.chunks_exact(inputs)) {
            sums.iter_mut().zip(a_row).for_each(|(sum, &x)| *sum += f64::from(factor) * f64::from(x));
        }
        row.iter_mut().zip(&sums).for_each(|(w, sum)| *w = (f64::from(*w) + scale * sum) as f32);
    }
}

/// Quantises and dequantises weights that were quantised in training.
fn round(params: &Params<'_>, adapters: &Adapters, weights: &mut [f32]) {
    let dtype = adapters.base.dtype();
    if dtype == DType::Real {
        return;
    }
    for info in params.infos().iter().filter(|info| is_read_whole(info) && !adapters.saves(&info.name.to_string())) {
        let cols = info.shape.cols().max(1);
        let mut block = vec![0; dtype.bytes(cols, size_of::<f32>()).unwrap_or(0)];
        for row in weights.get_mut(info.range()).unwrap_or(&mut []).chunks_exact_mut(cols) {
            quantise_row(dtype, row, &mut block);
            dequantise_row(dtype, &block, row);
        }
    }
}
