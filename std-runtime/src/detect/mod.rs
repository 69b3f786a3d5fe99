//! Detection: boxes of objects in images, their files, and how well a model finds them.

pub mod average_precision;
pub mod boxes;
pub mod coco;
pub mod found;
pub mod matching;
pub mod set_loss;

mod mean;
