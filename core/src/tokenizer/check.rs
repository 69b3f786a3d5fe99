//! Checking the tables of [`BpeTables`].

use super::bpe::{BpeTables, NONE};
use super::hash::{EMPTY, RANK_BITS};
use super::tables::{MAX_MERGES, MAX_TOKENS, TableError};

impl BpeTables<'_> {
    /// Checks untrusted tables completely, once: afterwards every emitted id is below [`vocab_size`](Self::vocab_size) and every search terminates.
    ///
    /// # Errors
    /// The first thing that is wrong with them.
    pub fn open(self) -> Result<Self, TableError> {
        check(&self)?;
        Ok(self)
    }
}

/// Everything that [`BpeTables::open`] promises.
fn check(tables: &BpeTables<'_>) -> Result<(), TableError> {
    let vocab_size = tables.vocab_size();
    let length = |table, found, right: bool| if right { Ok(()) } else { Err(TableError::Length { table, found }) };
    let entries = |table, wrong: Option<usize>| wrong.map_or(Ok(()), |index| Err(TableError::Entry { table, index }));
    length("byte_tokens", tables.byte_tokens.len(), tables.byte_tokens.len() == 256)?;
    length("token_offsets", tables.token_offsets.len(), (1..=MAX_TOKENS).contains(&tables.token_offsets.len()))?;
    length("merged", tables.merged.len(), tables.merged.len() <= MAX_MERGES)?;
    length("pairs", tables.pairs.len(), tables.pairs.len().is_power_of_two())?;
    length("words", tables.words.len(), tables.words.is_empty() || tables.words.len().is_power_of_two())?;

    let known = |id: u32| (id as usize) < vocab_size;
    let offsets = tables.token_offsets;
    entries("byte_tokens", tables.byte_tokens.iter().position(|&id| id != NONE && !known(id)))?;
    entries("token_offsets", offsets.iter().zip(offsets.iter().skip(1)).position(|(a, b)| a > b))?;
    entries("token_offsets", offsets.iter().position(|&end| end as usize > tables.token_bytes.len()))?;
    entries("merged", tables.merged.iter().position(|&id| !known(id)))?;
    let rank_known = |entry: u64| ((entry & ((1 << RANK_BITS) - 1)) as usize) < tables.merged.len();
    entries("pairs", tables.pairs.iter().position(|&entry| entry != EMPTY && !rank_known(entry)))?;
    entries("words", tables.words.iter().position(|&entry| entry != EMPTY && !known(entry as u32)))
}
