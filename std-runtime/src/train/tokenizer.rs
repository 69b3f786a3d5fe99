//! Which tokenizer a run's text goes through: that of the folder it begins with, or the one that is asked for.

use std::path::Path;

use super::error::TrainingError as Error;
use crate::config::{Invalid, hint};
use crate::data::config::TokenizerChoice;
use crate::data::prepare::{check_vocabulary, shards_of};
use crate::data::source::DataRequest;
use crate::data::splits::PrepareError;
use crate::say;
use crate::tokenizer::{FileError, Tokenizer};

/// A tokenizer and where it comes from.
#[derive(Default)]
pub struct Named {
    /// None: it is made from the data, or the data is token ids and needs none.
    pub tokenizer: Option<Tokenizer>,
    /// It is that of the folder that the run begins with.
    pub of_folder: bool,
}

/// What else can be done about a folder without a tokenizer.
const WAY_OUT: &str = ", give token ids (a .bin file) as the data, or name a tokenizer with --set data.tokenizer=PATH";

impl Named {
    /// The tokenizer of the folder of a run that goes on.
    ///
    /// # Errors
    /// A tokenizer that cannot be used, where the data is text.
    pub fn of_run(out: &Path, data: &DataRequest, quiet: bool) -> Result<Self, Error> {
        let is_text = shards_of(data)?.is_none();
        let tokenizer = if is_text { Tokenizer::of_model(out)? } else { Tokenizer::of_model_if_usable(out, quiet) };
        Ok(Self { of_folder: true, tokenizer })
    }

    /// The tokenizer that a new run asks for; one beside that of the folder `init` is said aloud.
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

/// The tokenizer that `data.tokenizer` names. A path that is not there may be a slip of the hand in one of the words.
///
/// # Errors
/// There is none, or it cannot be used.
pub fn named(path: &Path) -> Result<Tokenizer, Error> {
    if path.exists() {
        return Ok(Tokenizer::load(path)?);
    }
    let given = path.display().to_string();
    let hint = hint(&given, ["byte", "char", "bpe"].into_iter());
    let expected = "\"byte\", \"char\", \"bpe\", or the path of a tokenizer.json or its folder".to_owned();
    Err(Invalid { key: "data.tokenizer", expected, found: format!("{given:?}, which does not exist{hint}") }.into())
}

/// Says that text goes through another tokenizer than that of the folder a run begins with.
fn note_another(data: &DataRequest, init: Option<&Path>, quiet: bool) {
    let Some(init) = init.filter(|_| !quiet) else { return };
    let (folder, choice) = (init.display(), &data.tokenizer);
    let instead = if Tokenizer::is_in(init) {
        format!("instead of the tokenizer of {folder}, for whose ids the weights were trained")
    } else {
        format!("for {folder}, which has no tokenizer: take the one for whose ids the weights were trained")
    };
    say::line(&format!("note: data.tokenizer = {choice} {instead}"));
}
