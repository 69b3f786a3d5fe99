//! What kernels cost: instructions for each multiply-accumulate of a linear layer that is given one row, as in decoding. The hash is over outputs.

use core::hint::black_box;

use samara_core::exec::{Backend, Cpu, Gradients, Kernels, Memory, real, write_real};
use samara_core::graph::{DType, Graph, NodeRecord, TensorRecord};
use samara_core::ops::{elementwise, linear};
use samara_core::params::{Init, ParamInfo, Registry};
use samara_core::plan::{Plan, Slot};
use samara_core::quant::quantise_row;
use samara_core::threads::Serial;

use super::Draw;
use crate::board::instructions;
use crate::{Hash, Program, decimals};

/// Numbers of the largest layer.
const LARGEST: usize = 768 * 64;
/// The name of a figure, the type of the weights, and their shape.
const LAYERS: [(&str, DType, usize, usize); 12] = [
    ("f32-1x32", DType::Real, 1, 32),
    ("q8-1x32", DType::Q8, 1, 32),
    ("q4-1x32", DType::Q4, 1, 32),
    ("f32-256x64", DType::Real, 256, 64),
    ("f32-64x256", DType::Real, 64, 256),
    ("f32-64x768", DType::Real, 64, 768),
    ("q8-1024x64", DType::Q8, 1024, 64),
    ("q8-64x256", DType::Q8, 64, 256),
    ("q8-64x768", DType::Q8, 64, 768),
    ("q4-1024x64", DType::Q4, 1024, 64),
    ("q4-64x256", DType::Q4, 64, 256),
    ("q4-64x768", DType::Q4, 64, 768),
];

/// Weights, and the tables and memory of a graph with one node.
pub struct LinearLayers {
    weights: [f32; LARGEST],
    row: [f32; 768],
    arena: [f32; 4096],
    tensors: [TensorRecord; 8],
    nodes: [NodeRecord; 2],
    slots: [Slot; 8],
    order: [u16; 8],
}

impl Program for LinearLayers {
    const NEW: Self = Self {
        weights: [0.0; LARGEST],
        row: [0.0; 768],
        arena: [0.0; 4096],
        tensors: [TensorRecord::EMPTY; 8],
        nodes: [NodeRecord::EMPTY; 2],
        slots: [Slot::EMPTY; 8],
        order: [0; 8],
    };

    fn run(&mut self) -> Option<Hash> {
        let mut hash = Hash::default();
        for &(name, dtype, rows, cols) in black_box(&LAYERS) {
            self.draw_weights(dtype, rows, cols)?;
            let taken = self.layer(dtype, rows, cols, &mut hash)?;
            if let Some(taken) = taken {
                decimals(name, taken, rows.saturating_mul(cols) as u64);
            }
        }
        Some(hash)
    }
}

impl LinearLayers {
    /// Rows of random numbers, as numbers or in blocks.
    fn draw_weights(&mut self, dtype: DType, rows: usize, cols: usize) -> Option<()> {
        let mut draw = Draw::new(rows as u64);
        if dtype == DType::Real {
            draw.fill(&mut self.weights);
            return Some(());
        }
        let row_bytes = dtype.bytes(cols, size_of::<f32>())?;
        let bytes: &mut [u8] = bytemuck::cast_slice_mut(&mut self.weights);
        for to in bytes.chunks_exact_mut(row_bytes.max(1)).take(rows) {
            let row = self.row.get_mut(..cols)?;
            draw.fill(row);
            quantise_row(dtype, row, to);
        }
        Some(())
    }

    /// Instructions for one row through the layer, where they are counted.
    fn layer(&mut self, dtype: DType, rows: usize, cols: usize, hash: &mut Hash) -> Option<Option<u64>> {
        let mut infos = [ParamInfo::default(); 1];
        let mut registry = Registry::new(&mut infos);
        let weight = registry.scope().add("weight", &[rows, cols], Init::Zeros);
        registry.infos_mut().iter_mut().for_each(|info| (info.frozen, info.dtype) = (true, dtype));
        let g = Graph::new(registry.finish(size_of::<f32>()).ok()?, &mut self.tensors, &mut self.nodes);
        let x = g.input(&[1, cols]);
        let y = g.output(g.linear(x, g.param(weight), None));
        let program = g.finish().ok()?;
        let kernels = linear::kernels::<_, elementwise::Gelu>(Kernels::EMPTY);
        let cpu = Cpu::new(&kernels, &Serial);
        let plan = Plan::new(&program, &|node| cpu.scratch_len(node), &mut self.slots, &mut self.order).ok()?;
        let row = self.row.get_mut(..cols)?;
        Draw::new(7).fill(row);
        write_real(&program, &plan, &mut self.arena, x, row).ok()?;
        let mut memory = Memory {
            arena: &mut self.arena,
            state: &mut [],
            ints: &mut [],
            trainable: &mut [],
            grads: &mut [],
            moments: &mut [],
            frozen: bytemuck::cast_slice(&self.weights),
        };
        let before = instructions();
        cpu.run(&program, &plan, &mut memory, 0..1, Gradients::Overwrite);
        let after = instructions();
        let y = real(&program, &plan, &self.arena, y)?;
        hash.reals(y);
        (y.len() == rows).then_some(after.zip(before).map(|(after, before)| after.saturating_sub(before)))
    }
}
