//! Parameter sets: the weights of a registry, with gradients and moments for training.

use std::sync::Arc;

use samara_core::params::Params;

use crate::device::{CpuDevice, Device, DeviceError, OwnedParams};
use crate::memory::OutOfMemory;

/// Weights over a registry. Policy, reference, value, teacher and moving averages are sets; several may share a registry, and every program of that
/// registry runs on each of them.
pub struct ParamSet<D: Device = CpuDevice> {
    name: String,
    registry: Arc<OwnedParams>,
    /// Trainable parameters, with the layout of the registry.
    pub weights: D::Mem<f32>,
    /// Frozen parameters, as bytes; none in a set that reads those of another.
    pub frozen: D::Mem<u8>,
    /// Gradient buffers, each as long as the trainable parameters.
    pub grads: Vec<D::Mem<f32>>,
    /// Optimizer moments, concatenated, each as long as the trainable parameters.
    pub moments: D::Mem<f32>,
}

impl<D: Device> ParamSet<D> {
    /// A set with all weights 0, without gradients and moments.
    ///
    /// # Errors
    /// The memory is not available.
    pub fn new(device: &D, name: &str, registry: &Arc<OwnedParams>) -> Result<Self, OutOfMemory> {
        Ok(Self { frozen: device.alloc(registry.view().frozen_bytes())?, ..Self::without_frozen(device, name, registry)? })
    }

    /// The same without memory for frozen parameters.
    pub(super) fn without_frozen(device: &D, name: &str, registry: &Arc<OwnedParams>) -> Result<Self, OutOfMemory> {
        Ok(Self {
            name: name.to_owned(),
            registry: Arc::clone(registry),
            weights: device.alloc(registry.view().trainable_len())?,
            frozen: D::Mem::default(),
            grads: Vec::new(),
            moments: D::Mem::default(),
        })
    }

    /// Its name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Its registry.
    pub fn registry(&self) -> &Arc<OwnedParams> {
        &self.registry
    }

    /// The parameters of its registry.
    pub fn params(&self) -> Params<'_> {
        self.registry.view()
    }

    /// Ensures at least this many gradient buffers; new ones are zeroed.
    ///
    /// # Errors
    /// The memory is not available.
    pub fn make_gradients(&mut self, device: &D, buffers: usize) -> Result<(), OutOfMemory> {
        let len = self.params().trainable_len();
        while self.grads.len() < buffers {
            self.grads.push(device.alloc(len)?);
        }
        Ok(())
    }

    /// Ensures at least this many elements of moments. Values are lost when the buffer grows.
    ///
    /// # Errors
    /// The memory is not available.
    pub fn make_moments(&mut self, device: &D, len: usize) -> Result<(), OutOfMemory> {
        if D::len(&self.moments) < len {
            // The old memory is freed before the new is allocated.
            self.moments = D::Mem::default();
            self.moments = device.alloc(len)?;
        }
        Ok(())
    }

    /// Fills the parameters with initial values: trainable ones, and frozen f32 ones unless they are those of another set.
    ///
    /// # Errors
    /// The device failed before.
    pub fn initialise(&mut self, device: &mut D, seed: u64) -> Result<(), DeviceError> {
        let registry = Arc::clone(&self.registry);
        device.lend_mut(&mut self.weights, &mut |values| registry.view().initialise(seed, values))?;
        device.lend_mut(&mut self.frozen, &mut |bytes| registry.view().initialise_frozen(seed, bytes))
    }
}
