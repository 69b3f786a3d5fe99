//! The interface of the configuration of every family of image models.

use std::sync::Arc;

use super::ImageArchitecture;
use crate::config::{Invalid, Table};
use crate::model_folder::keys::ConfigJson;

/// The configuration of a family: a table whose keys have the names of `config.json`.
pub trait ImageFamily: Table + Default + ConfigJson {
    /// The value of `model_type`.
    const TYPE: &'static str;

    /// The number of classes.
    fn classes(&self) -> usize;

    /// Rows and columns of its position embeddings; [0, 0] without any.
    fn grid(&self) -> [usize; 2] {
        [0; 2]
    }

    /// The model for the engine.
    ///
    /// # Errors
    /// The first value that contradicts others.
    fn architecture(&self) -> Result<Arc<dyn ImageArchitecture>, Invalid>;
}
