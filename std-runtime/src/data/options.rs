//! How text is read.

use crate::stop::Stop;

/// What to do with a row that is not as it should be.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum BadRow {
    /// Stop with an error that names the place.
    #[default]
    Error,
    /// Leave it out and count it.
    Skip,
}

/// How text is read.
#[derive(Clone, Debug)]
pub struct TextOptions {
    /// The key of the text in a row.
    pub text_key: String,
    /// What messages call the setting of the text key.
    pub key_setting: &'static str,
    /// What to do with a row that is not as it should be.
    pub bad_row: BadRow,
    /// What messages call the setting that leaves bad rows out, if there is one.
    pub skip_setting: Option<&'static str>,
    /// A signal ends reading.
    pub stop: Stop,
}

impl Default for TextOptions {
    fn default() -> Self {
        Self {
            text_key: "text".to_owned(),
            key_setting: "data.text_field",
            bad_row: BadRow::Error,
            skip_setting: Some("data.on_bad_row=skip"),
            stop: Stop::new(),
        }
    }
}

impl TextOptions {
    /// What was found in a row, and what leaves such rows out.
    pub(crate) fn or_skip(&self, found: impl Into<String>) -> String {
        let found = found.into();
        self.skip_setting.map_or(found.clone(), |setting| format!("{found} ({setting} leaves such rows out)"))
    }
}
