//! From text to token shards: existing shards of a folder, or text encoded into the run folder.

use std::fs;
use std::path::{Path, PathBuf};

use super::DataError;
use super::encoding::Encoding;
use super::shards::{IdWidth, Shard, ShardWriter, Tokens};
use super::source::{DataRequest, Source};
use super::splits::{Part, PrepareError, Splits};
use crate::config::Invalid;
use crate::files::IoError;
use crate::tokenizer::Tokenizer;

/// Training and validation tokens.
pub struct Prepared {
    /// The tokenizer, unless the data came as token ids alone.
    pub tokenizer: Option<Tokenizer>,
    /// Ids that the model must have.
    pub vocab_size: Option<usize>,
    /// Tokens for training.
    pub train: Shard,
    /// Held-out tokens; `None` when there are none.
    pub val: Option<Shard>,
    /// A fingerprint of the data; `None` when shards of an earlier run are reused.
    pub content: Option<String>,
    /// Notes for the user.
    pub notes: Vec<String>,
    /// Warnings about likely mistakes; printed even with `--quiet`.
    pub warnings: Vec<String>,
}

/// Tokens in shards: existing ones of a folder, or text encoded into `folder`. With `reuse`, shards that an earlier run wrote with this tokenizer are
/// used again. Without `tokenizer` the request's tokenizer is used.
///
/// # Errors
/// Data that cannot be read or encoded, a tokenizer that cannot be created, or a folder that cannot be written to.
pub fn prepare(
    request: &DataRequest,
    tokenizer: Option<Tokenizer>,
    folder: &Path,
    reuse: bool,
) -> Result<Prepared, PrepareError> {
    tokenizer.as_ref().map_or(Ok(()), |tokenizer| check_vocabulary(request, tokenizer))?;
    if let Some((train, val)) = shards_of(request)? {
        check_no_specials(request)?;
        let vocab_size = tokenizer.as_ref().map(Tokenizer::vocab_size);
        let notes =
            [Some(&train), val.as_ref()].into_iter().flatten().filter_map(|shard| shard.note().map(str::to_owned)).collect();
        let content = Some(content_of_shards(&train, val.as_ref())?);
        return Ok(Prepared { tokenizer, vocab_size, train, val, content, notes, warnings: Vec::new() });
    }
    if let Some(tokenizer) = tokenizer.as_ref().filter(|_| reuse) {
        let width = IdWidth::for_vocabulary(tokenizer.vocab_size());
        let open = |path: &Path| Shard::open_with(path, width);
        let path = |part: Part| Some(folder.join(width.file_name(part.name()))).filter(|path| path.is_file());
        if let Some(train) = path(Part::Train) {
            let val = path(Part::Val).as_deref().map(open).transpose()?.filter(|val| val.len() > 0);
            let vocab_size = Some(tokenizer.vocab_size());
            let (tokenizer, train) = (Some(tokenizer.clone()), open(&train)?);
            return Ok(Prepared { vocab_size, tokenizer, train, val, content: None, notes: Vec::new(), warnings: Vec::new() });
        }
    }
    let splits = Splits::load(request)?;
    let tokenizer = tokenizer.map_or_else(|| splits.tokenizer(request), Ok)?;
    check_vocabulary(request, &tokenizer)?;
    check_has_specials(request, &tokenizer)?;
    fs::create_dir_all(folder).map_err(IoError::at(folder, "create"))?;
    let width = IdWidth::for_vocabulary(tokenizer.vocab_size());
    let mut encoding = Encoding::new(&tokenizer, request.specials, request.vocab_size);
    let mut write = |part: Part| -> Result<Option<Shard>, PrepareError> {
        let path = folder.join(width.file_name(part.name()));
        let mut writer = ShardWriter::create(&path, width)?;
        splits.encode(part, &mut encoding, |ids| writer.push(ids))?;
        if writer.finish()? == 0 && part == Part::Val { Ok(None) } else { Ok(Some(Shard::open_with(&path, width)?)) }
    };
    let val = write(Part::Val)?;
    let Some(train) = write(Part::Train)? else {
        return Err(DataError::TooSmall { what: "training data".to_owned(), found: 0, expected: 2 }.into());
    };
    let (content, mut notes) = (Some(splits.content()), splits.lines());
    let warnings = encoding.warnings(&splits.name());
    if encoding.end_of_text().is_none() && splits.has_several() && matches!(request.source, Source::Path(_)) {
        notes.push(NO_END.to_owned());
    }
    let vocab_size = Some(tokenizer.vocab_size());
    Ok(Prepared { vocab_size, tokenizer: Some(tokenizer), train, val, content, notes, warnings })
}

/// Refuses a tokenizer that encodes text to ids beyond the model's vocabulary. Added tokens that occur in no text, such as one for padding, may be
/// beyond it.
///
/// # Errors
/// The model's vocabulary is known and too small.
pub fn check_vocabulary(request: &DataRequest, tokenizer: &Tokenizer) -> Result<(), Invalid> {
    let needed = tokenizer.text_vocab_size();
    match request.vocab_size.filter(|&known| known < needed) {
        None => Ok(()),
        Some(known) => {
            let expected = format!(
                "at least {needed}, the ids of text in the tokenizer; use the model's own tokenizer, or a larger vocabulary"
            );
            Err(Invalid { key: "model.vocab_size", expected, found: known.to_string() })
        }
    }
}

/// Refuses `data.specials` beside a tokenizer without special tokens.
///
/// # Errors
/// It is set.
pub fn check_has_specials(request: &DataRequest, tokenizer: &Tokenizer) -> Result<(), Invalid> {
    if request.specials && !tokenizer.added().iter().any(|token| token.special) {
        let expected = "false, because the tokenizer has no special tokens; leave it out, or name another tokenizer".to_owned();
        return Err(Invalid { key: "data.specials", expected, found: "true".to_owned() });
    }
    Ok(())
}

/// Refuses `data.specials` for data that is token ids.
///
/// # Errors
/// It is set.
pub fn check_no_specials(request: &DataRequest) -> Result<(), Invalid> {
    let expected = || "false for token shards, which have their ids already; leave it out".to_owned();
    if request.specials {
        return Err(Invalid { key: "data.specials", expected: expected(), found: "true".to_owned() });
    }
    Ok(())
}

/// The note where no end-of-text token exists to separate documents.
const NO_END: &str = "note: documents are joined without a separator, because the tokenizer names no token that ends a text \
                      (eos_token in tokenizer_config.json)";

/// Every width that a shard can have.
const WIDTHS: [IdWidth; 2] = [IdWidth::U16, IdWidth::U32];

fn shard_path(folder: &Path, part: Part) -> Option<PathBuf> {
    WIDTHS.iter().map(|width| folder.join(width.file_name(part.name()))).find(|path| path.is_file())
}

/// The shards of a folder that has them, or a shard file itself.
///
/// # Errors
/// A shard that cannot be opened.
pub fn shards_of(request: &DataRequest) -> Result<Option<(Shard, Option<Shard>)>, PrepareError> {
    let Source::Path(path) = &request.source else { return Ok(None) };
    let open = |path: &Path| request.id_width.map_or_else(|| Shard::open(path), |width| Shard::open_with(path, width));
    if path.extension().is_some_and(|e| e.eq_ignore_ascii_case("bin")) {
        return Ok(Some((open(path)?, None)));
    }
    let Some(train) = shard_path(path, Part::Train) else { return Ok(None) };
    let val = shard_path(path, Part::Val).as_deref().map(open).transpose()?;
    Ok(Some((open(&train)?, val)))
}

/// A fingerprint of the data of a request, independent of its path.
///
/// # Errors
/// The data cannot be read, or a signal arrived.
pub fn content_of(request: &DataRequest) -> Result<String, PrepareError> {
    match shards_of(request)? {
        Some((train, val)) => content_of_shards(&train, val.as_ref()),
        None => Ok(Splits::load(request)?.content()),
    }
}

fn content_of_shards(train: &Shard, val: Option<&Shard>) -> Result<String, PrepareError> {
    let of = |shard: &Shard| Ok::<_, DataError>(format!("crc32c {:08x}, {} tokens", shard.checksum()?, shard.len()));
    let val = val.map(of).transpose()?.map_or_else(String::new, |val| format!("; held out: {val}"));
    Ok(format!("shards: {}{val}", of(train)?))
}
