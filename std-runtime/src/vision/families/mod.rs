//! The families of image models. To add one: a file with its table and `impl ImageFamily`, and a line in the list.

pub mod detr;
pub mod resnet;
pub mod vit;

use std::sync::Arc;

use serde_json::{Map, Value};

use self::resnet::ResNetModel;
use self::vit::VitModel;
use super::ImageArchitecture;
use super::family::ImageFamily;
use crate::config::Invalid;
use crate::model_folder::FolderError;
use crate::model_folder::keys::{ConfigJson, Keys};

macro_rules! families {
    ($($name:ident($type:ty),)*) => {
        /// The configuration of an image model: the keys of its family.
        #[derive(Clone, Debug, PartialEq)]
        pub enum ImageConfig {
            $( #[doc = concat!("[`", stringify!($type), "`]")] $name($type), )*
        }

        impl ImageConfig {
            /// The values of `model_type`.
            pub const TYPES: &'static [&'static str] = &[$( <$type>::TYPE, )*];

            /// Reads the model of a `config.json` of this type; `None` for the type of another kind of model.
            ///
            /// # Errors
            /// Keys that select an unsupported variant of the model.
            pub fn from_keys(model_type: &str, keys: &Keys<'_>) -> Result<Option<Self>, FolderError> {
                $( if model_type == <$type>::TYPE {
                    return <$type>::from_keys(keys).map(Self::$name).map(Some);
                } )*
                Ok(None)
            }

            /// The value of `model_type`.
            pub fn model_type(&self) -> &'static str {
                match self { $( Self::$name(_) => <$type>::TYPE, )* }
            }

            /// The number of classes.
            pub fn classes(&self) -> usize {
                match self { $( Self::$name(model) => model.classes(), )* }
            }

            /// The model for the engine.
            ///
            /// # Errors
            /// The first value that contradicts others.
            pub fn architecture(&self) -> Result<Arc<dyn ImageArchitecture>, Invalid> {
                match self { $( Self::$name(model) => model.architecture(), )* }
            }

            /// Writes the family's keys of a `config.json`.
            pub fn to_keys(&self, dropout: f64, json: &mut Map<String, Value>) {
                match self { $( Self::$name(model) => model.to_keys(dropout, json), )* }
            }
        }
    };
}

families! {
    Vit(VitModel),
    ResNet(ResNetModel),
}
