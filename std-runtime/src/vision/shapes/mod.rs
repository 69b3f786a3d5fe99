//! A generated world of coloured shapes: scenes ([`scene`]) with sentences about them ([`captions`]), to detect objects in ([`detect`]) and to classify
//! ([`labelled`]). An image is a function of the seed and its number.

pub mod captions;
pub mod config;
pub mod detect;
pub mod labelled;
pub mod scene;

pub use detect::{MOST_SHAPES, NORMALIZE, ShapesWorld};
pub use scene::SHAPES;
