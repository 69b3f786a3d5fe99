//! The choice of a run's tokenizer: that of the initial folder, or the configured one.

use std::path::Path;

use super::error::TrainingError as Error;
use crate::config::{Invalid, hint};
use crate::data::config::TokenizerChoice;
use crate::data::prepare::{check_vocabulary, shards_of};
use crate::data::source::DataRequest;
use crate::data::splits::PrepareError;
use crate::say;
use crate::tokenizer::{FileError, Tokenizer};

/// A tokenizer and its origin.
#[derive(Default)]
pub struct Named {
    /// `None`: it is trained on the data, or the data is token ids and needs none.
    pub tokenizer: Option<Tokenizer>,
    /// It is that of the initial folder.
    pub of_folder: bool,
}

/// The alternatives for a folder without a tokenizer.
const WAY_OUT: &str = ", give token ids (a .bin file) as the data, or name a tokenizer with --set data.tokenizer=PATH";

impl Named {
    /// The tokenizer in the folder of a resumed run.
    ///
    /// # Errors
    /// A tokenizer that cannot be used, where the data is text.
    pub fn of_run(out: &Path, data: &DataRequest, quiet: bool) -> Result<Self, Error> {
        let is_text = shards_of(data)?.is_none();
        let tokenizer = if is_text { Tokenizer::of_model(out)? } else { Tokenizer::of_model_if_usable(out, quiet) };
        Ok(Self { of_folder: true, tokenizer })
    }

    /// The tokenizer of a new run; a note is printed if it replaces that of the folder `init`.
    ///
    /// # Errors
    /// There is none, or it cannot be used.
    pub fn of_request(data: &DataRequest, init: Option<&Path>, quiet: bool) -> Result<Self, Error> {
        match (&data.tokenizer, init) {
            (TokenizerChoice::Path(path), Some(init)) if path == init => Self::of_init(init, data, quiet),
            (TokenizerChoice::Path(path), _) => {
                let tokenizer = named(path)?;
                check_vocabulary(data, &tokenizer).map_err(PrepareError::from)?;
                note_another(data, init, quiet);
                Ok(Self { tokenizer: Some(tokenizer), of_folder: false })
            }
            _ => {
                note_another(data, init, quiet);
                Ok(Self::default())
            }
        }
    }

    fn of_init(init: &Path, data: &DataRequest, quiet: bool) -> Result<Self, Error> {
        let named = Self::of_run(init, data, quiet)?;
        if named.tokenizer.is_none() && shards_of(data)?.is_none() {
            return Err(FileError::none_in(init, WAY_OUT).into());
        }
        Ok(named)
    }
}

/// The tokenizer that `data.tokenizer` names. A path that does not exist may be a misspelt keyword.
///
/// # Errors
/// There is none, or it cannot be used.
pub fn named(path: &Path) -> Result<Tokenizer, Error> {
    if path.exists() {
        return Ok(Tokenizer::load(path)?);
    }
    let given = path.display().to_string();
    let hint = hint(&given, ["byte", "char", "bpe", "wordpiece"].into_iter());
    let expected = "\"byte\", \"char\", \"bpe\", \"wordpiece\", or the path of a tokenizer.json or its folder".to_owned();
    Err(Invalid { key: "data.tokenizer", expected, found: format!("{given:?}, which does not exist{hint}") }.into())
}

/// Prints a note that text is encoded with another tokenizer than that of the initial folder.
fn note_another(data: &DataRequest, init: Option<&Path>, quiet: bool) {
    let Some(init) = init.filter(|_| !quiet) else { return };
    let (folder, choice) = (init.display(), &data.tokenizer);
    let instead = if Tokenizer::is_in(init) {
        format!("instead of the tokenizer of {folder}, with which the weights were trained")
    } else {
        format!("for {folder}, which has no tokenizer: use the one with which the weights were trained")
    };
    say::line(&format!("note: data.tokenizer = {choice} {instead}"));
}
