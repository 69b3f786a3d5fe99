//! How text is read.

use crate::stop::Stop;

/// The treatment of an invalid row.
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
    /// The name of the text-key setting in messages.
    pub key_setting: &'static str,
    /// The treatment of invalid rows.
    pub bad_row: BadRow,
    /// The name of the setting that skips invalid rows in messages, if there is one.
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
    /// What was found in a row, with the setting that skips such rows, unless they are skipped.
    pub(crate) fn or_skip(&self, found: impl Into<String>) -> String {
        let found = found.into();
        self.skip_setting
            .filter(|_| self.bad_row == BadRow::Error)
            .map_or(found.clone(), |setting| format!("{found} ({setting} skips such rows)"))
    }
}
