//! The gradient of pretraining text beside that of completions (PPO-ptx; Ouyang et al. 2022, eq. 2): γ E[−ln π(x)] is added to the loss of every update.

use samara_core::exec::Gradients;
use samara_core::graph::Recompute;

use super::state::Policy;
use crate::data::dataset::TokenWindows;
use crate::lm::RunError;
use crate::lm::step::{DropoutNumbers, StepShape};
use crate::session::{Device, Session};
use crate::train::objective::{Source, StepBatch};

impl Policy {
    /// Micro-batches of text in an update.
    fn text_batches(&self) -> usize {
        self.spec.pretraining.as_ref().map_or(0, |text| text.rows * self.spec.train.grad_accumulation)
    }

    /// The shape of the program that reads pretraining text.
    pub(super) fn text_shape(&self) -> Option<StepShape> {
        let block = self.spec.pretraining.as_ref()?.block;
        Some(StepShape {
            batch: self.spec.train.batch_size,
            block,
            accumulation: self.text_batches(),
            packed: false,
            dropout: false,
            adapter_dropout: false,
            recompute: Recompute::None,
        })
    }

    /// Pretraining text as data of the trainer: which rows an update reads depends on its number alone.
    pub(super) fn text_source(&mut self) -> Option<Source> {
        let micro_batches = self.updates() as usize * self.text_batches();
        let text = self.spec.pretraining.as_mut()?;
        let (tokens, order) = text.text.take()?;
        let train = Box::new(TokenWindows::new(tokens, text.block));
        Some(Source { train, order, rows: self.spec.train.batch_size, micro_batches, validation: None })
    }

    /// Adds the gradient of the text of an update to that of its completions.
    pub(super) fn pretraining_gradient<D: Device>(
        &mut self,
        session: &mut Session<D>,
        update: u32,
        step: &StepBatch,
    ) -> Result<(), RunError> {
        let count = self.text_batches();
        let Some(mut program) = self.built.as_mut().and_then(|built| built.pretraining.take()) else { return Ok(()) };
        let batches = &step.micro_batches(1)[update as usize * count..][..count];
        let scale = self.spec.pretraining.as_ref().map_or(0.0, |text| text.scale(batches));
        let none = DropoutNumbers { probability: 0.0, of_adapters: 0.0, seed: self.spec.train.seed, step: step.step };
        let mut model = self.bound(session, false);
        let done = program.queue_scaled(&mut model, batches, (scale, Gradients::Add), &none, &step.stop);
        self.built.as_mut().expect("built before").pretraining = Some(program);
        done
    }

    /// The loss of the text of the last update without γ, once the session has been waited for.
    pub(super) fn pretraining_loss<D: Device>(&self, session: &Session<D>) -> Option<f64> {
        let program = self.built.as_ref()?.pretraining.as_ref()?;
        Some(program.loss(session) / self.spec.pretraining.as_ref()?.coefficient)
    }
}
