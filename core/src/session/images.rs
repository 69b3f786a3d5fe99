//! Sessions of image classifiers.

use super::lent::Lent;
use super::{Hyper, SessionError};
use crate::exec::{write_ints, write_real};
use crate::file::{FileProgram, Port, ProgramFile, ProgramKind};

/// An image classifier on lent memory: logits, and training, with shared parameters. Its file is opened with [`ProgramFile::open_images`].
pub struct ImageSession<'a: 'm, 'm> {
    lent: Lent<'a, 'm>,
    train: Option<FileProgram<'a>>,
    evaluate: Option<FileProgram<'a>>,
}

impl<'a: 'm, 'm> ImageSession<'a, 'm> {
    /// Elements of memory (of four bytes) that a session needs.
    pub fn ram_len(file: &ProgramFile<'_>) -> usize {
        file.sizes().total_len()
    }

    /// A session on lent memory, which it clears; trainable parameters start with the values in the file.
    ///
    /// # Errors
    ///
    /// `ram` has fewer elements than [`ImageSession::ram_len`].
    #[inline(never)]
    pub fn new(file: ProgramFile<'a>, ram: &'m mut [f32]) -> Result<Self, SessionError> {
        let (train, evaluate) = (file.program(ProgramKind::Train), file.program(ProgramKind::Evaluate));
        Ok(Self { lent: Lent::new(file, ram)?, train, evaluate })
    }

    /// The file.
    pub const fn file(&self) -> &ProgramFile<'a> {
        &self.lent.file
    }

    /// The logits (B, classes) of as many images as the program takes, in the order of [`Port::Pixels`].
    ///
    /// # Errors
    ///
    /// The file has no program that evaluates, or pixels are not as many as it takes.
    pub fn classify(&mut self, pixels: &[f32]) -> Result<&[f32], SessionError> {
        let program = self.evaluate.ok_or(SessionError::NoProgram(ProgramKind::Evaluate))?;
        self.write_pixels(&program, pixels)?;
        self.lent.run(&program);
        Ok(self.lent.values(&program, Port::Logits))
    }

    /// A training step on as many images as the program takes, with the class of each (negative: none). Returns the mean loss before the step, in nats.
    ///
    /// # Errors
    ///
    /// The file has no program that trains, or pixels or labels are not as many as it takes, or a label is not a class; nothing is changed then.
    pub fn train(&mut self, pixels: &[f32], labels: &[i32], hyper: &Hyper) -> Result<f32, SessionError> {
        let program = self.train.ok_or(SessionError::NoProgram(ProgramKind::Train))?;
        self.write_pixels(&program, pixels)?;
        let ints = &mut *self.lent.memory.ints;
        write_ints(&program.program, ints, program.port(Port::Labels), labels).map_err(SessionError::Labels)?;
        Ok(self.lent.mean_step(&program, labels.iter().filter(|&&t| t >= 0).count(), hyper))
    }

    /// The number of images that a program takes at once, 0 without the program.
    pub fn images_of(&self, kind: ProgramKind) -> usize {
        let program = match kind {
            ProgramKind::Decode => None,
            ProgramKind::Train => self.train,
            ProgramKind::Evaluate => self.evaluate,
        };
        program.map_or(0, |p| p.program.shape(p.port(Port::Pixels)).dim(0))
    }

    /// The trainable parameters: what a device saves before it is switched off.
    pub fn trainable(&self) -> &[f32] {
        self.lent.memory.trainable
    }

    /// The trainable parameters, to restore them.
    pub fn trainable_mut(&mut self) -> &mut [f32] {
        self.lent.memory.trainable
    }

    /// The optimizer's moments and the number of steps, to resume training later.
    pub fn optimizer_mut(&mut self) -> (&mut [f32], &mut u32) {
        (self.lent.memory.moments, &mut self.lent.steps)
    }

    fn write_pixels(&mut self, program: &FileProgram<'a>, pixels: &[f32]) -> Result<(), SessionError> {
        let (view, arena) = (&program.program, &mut *self.lent.memory.arena);
        write_real(view, &program.plan, arena, program.port(Port::Pixels), pixels).map_err(SessionError::Pixels)
    }
}
