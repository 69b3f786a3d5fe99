//! From text to token shards: those of a folder as they are, or text encoded into the run folder.

use std::fs;
use std::path::{Path, PathBuf};

use super::DataError;
use super::config::TokenizerChoice;
use super::shards::{IdWidth, Shard, ShardWriter, Tokens};
use super::source::{DataRequest, Source};
use super::splits::{Part, PrepareError, Splits};
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
    /// Tokens held out; `None` when there are none.
    pub val: Option<Shard>,
    /// What tells this data from other data; none when shards of a former run are used again.
    pub content: Option<String>,
    /// What a person should know of it.
    pub notes: Vec<String>,
}

/// Tokens in shards: those of a folder as they are, or text encoded into `folder`, where shards that a former run wrote with this tokenizer are used
/// again when `reuse` says so.
pub fn prepare(
    request: &DataRequest,
    tokenizer: Option<Tokenizer>,
    folder: &Path,
    reuse: bool,
) -> Result<Prepared, PrepareError> {
    if let Some((train, val)) = shards_of(request)? {
        let tokenizer = match (&request.tokenizer, tokenizer) {
            (TokenizerChoice::Path(path), None) => Some(Tokenizer::load(path)?),
            (_, given) => given,
        };
        let vocab_size = tokenizer.as_ref().map(Tokenizer::vocab_size);
        let notes =
            [Some(&train), val.as_ref()].into_iter().flatten().filter_map(|shard| shard.note().map(str::to_owned)).collect();
        let content = Some(content_of_shards(&train, val.as_ref())?);
        return Ok(Prepared { tokenizer, vocab_size, train, val, content, notes });
    }
    if let Some(tokenizer) = tokenizer.as_ref().filter(|_| reuse) {
        let width = IdWidth::for_vocabulary(tokenizer.vocab_size());
        let open = |path: &Path| Shard::open_with(path, width);
        let path = |part: Part| Some(folder.join(width.file_name(part.name()))).filter(|path| path.is_file());
        if let Some(train) = path(Part::Train) {
            let val = path(Part::Val).as_deref().map(open).transpose()?.filter(|val| val.len() > 0);
            let vocab_size = Some(tokenizer.vocab_size());
            let (tokenizer, train) = (Some(tokenizer.clone()), open(&train)?);
            return Ok(Prepared { vocab_size, tokenizer, train, val, content: None, notes: Vec::new() });
        }
    }
    let splits = Splits::load(request)?;
    let tokenizer = tokenizer.map_or_else(|| splits.tokenizer(request), Ok)?;
    fs::create_dir_all(folder).map_err(IoError::at(folder, "create"))?;
    let width = IdWidth::for_vocabulary(tokenizer.vocab_size());
    let write = |part: Part| -> Result<Option<Shard>, PrepareError> {
        let path = folder.join(width.file_name(part.name()));
        let mut writer = ShardWriter::create(&path, width)?;
        splits.encode(part, &tokenizer, |ids| writer.push(ids))?;
        if writer.finish()? == 0 && part == Part::Val { Ok(None) } else { Ok(Some(Shard::open_with(&path, width)?)) }
    };
    let val = write(Part::Val)?;
    let Some(train) = write(Part::Train)? else {
        return Err(DataError::TooSmall { what: "training data".to_owned(), found: 0, expected: 2 }.into());
    };
    let (content, notes) = (Some(splits.content()), splits.lines());
    Ok(Prepared { vocab_size: Some(tokenizer.vocab_size()), tokenizer: Some(tokenizer), train, val, content, notes })
}

/// Every width that a shard can have.
const WIDTHS: [IdWidth; 2] = [IdWidth::U16, IdWidth::U32];

fn shard_path(folder: &Path, part: Part) -> Option<PathBuf> {
    WIDTHS.iter().map(|width| folder.join(width.file_name(part.name()))).find(|path| path.is_file())
}

/// The shards of a folder that has them, or a shard file itself.
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

/// What tells the data of a request from other data, wherever it lies.
///
/// # Errors
/// The data cannot be read, or a signal came.
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
