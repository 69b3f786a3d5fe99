//! The families of image models. To add one: a file with its table and `impl ImageFamily`, and a line in the list.

pub mod detr;
pub mod resnet;
pub mod vit;

use std::sync::{Arc, OnceLock};

use serde_json::Map;

use self::resnet::ResNetModel;
use self::vit::VitModel;
use super::ImageArchitecture;
use super::family::ImageFamily;
use crate::config::{Given, Invalid, Key, Setting, Table, Value};
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

            /// Rows and columns of its position embeddings.
            pub fn grid(&self) -> [usize; 2] {
                match self { $( Self::$name(model) => model.grid(), )* }
            }

            fn table(&self) -> &dyn Table {
                match self { $( Self::$name(model) => model, )* }
            }

            fn table_mut(&mut self) -> &mut dyn Table {
                match self { $( Self::$name(model) => model, )* }
            }

            /// The defaults of the families.
            fn families() -> Vec<Self> {
                vec![$( Self::$name(<$type>::default()), )*]
            }

            /// The model for the engine.
            ///
            /// # Errors
            /// The first value that contradicts others.
            pub fn architecture(&self) -> Result<Arc<dyn ImageArchitecture>, Invalid> {
                match self { $( Self::$name(model) => model.architecture(), )* }
            }

            /// Writes the family's keys of a `config.json`.
            pub fn to_keys(&self, dropout: f64, json: &mut Map<String, serde_json::Value>) {
                match self { $( Self::$name(model) => model.to_keys(dropout, json), )* }
            }
        }
    };
}

// Also the order of `samara config`; the first is the default.
families! {
    Vit(VitModel),
    ResNet(ResNetModel),
}

/// The key that names the family.
const MODEL_TYPE: Key =
    Key { name: "model_type", doc: &["The family of the model; the other keys are its own."], may_change: false };

impl Default for ImageConfig {
    fn default() -> Self {
        Self::Vit(VitModel::default())
    }
}

impl ImageConfig {
    /// The defaults of a family.
    pub fn of_type(model_type: &str) -> Option<Self> {
        Self::families().into_iter().find(|model| model.model_type() == model_type)
    }

    /// The same with another number of classes.
    ///
    /// # Errors
    /// More classes than a model may have.
    pub fn with_classes(mut self, classes: usize) -> Result<Self, Invalid> {
        let count = classes.to_string();
        let value = Value::from(&serde_json::Value::from(classes));
        let set = self.table_mut().set("num_labels", Given { value: &value, text: None });
        set.map_err(|expected| Invalid { key: "model.num_labels", expected, found: count })?;
        Ok(self)
    }
}

impl Table for ImageConfig {
    fn keys(&self) -> &'static [Key] {
        static KEYS: OnceLock<Vec<(&'static str, Vec<Key>)>> = OnceLock::new();
        let of = |model: Self| (model.model_type(), [&[MODEL_TYPE], model.table().keys()].concat());
        let all = KEYS.get_or_init(|| Self::families().into_iter().map(of).collect());
        all.iter().find(|(name, _)| *name == self.model_type()).map_or(&[], |(_, keys)| keys)
    }

    fn set(&mut self, key: &str, given: Given<'_>) -> Result<(), String> {
        if key != MODEL_TYPE.name {
            return self.table_mut().set(key, given);
        }
        let word = String::read(given).unwrap_or_default();
        let family = Self::families().into_iter().find(|family| family.model_type() == word);
        let expected = || format!("one of {}", Self::TYPES.iter().map(|name| format!("{name:?}")).collect::<Vec<_>>().join(", "));
        let family = family.ok_or_else(expected)?;
        if family.model_type() != self.model_type() {
            *self = family;
        }
        Ok(())
    }

    fn show(&self, key: &str) -> Option<String> {
        if key == MODEL_TYPE.name { self.model_type().to_owned().show() } else { self.table().show(key) }
    }

    fn deciding_key(&self) -> Option<&'static str> {
        Some(MODEL_TYPE.name)
    }
}
