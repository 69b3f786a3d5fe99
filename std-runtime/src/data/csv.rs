//! Comma-separated values (RFC 4180): a header with the names of columns, then records. Quoted cells may contain commas, line breaks and doubled
//! quotes.

/// A record and its first line, from 1.
pub(super) struct Record {
    pub(super) cells: Vec<String>,
    pub(super) line: u64,
}

/// The records of a text. Skips empty lines.
///
/// # Errors
/// The line of a quote that is not closed, or that is followed by anything but a separator.
pub(super) fn records(text: &str, separator: char) -> Result<Vec<Record>, (u64, &'static str)> {
    let (mut records, mut rest, mut line) = (Vec::new(), text, 1);
    while !rest.is_empty() {
        let mut record = Record { cells: Vec::new(), line };
        loop {
            let (cell, after) = cell(rest, separator).map_err(|problem| (line, problem))?;
            line += rest
                .len()
                .checked_sub(after.len())
                .and_then(|end| rest.get(..end))
                .map_or(0, |cell| cell.matches('\n').count() as u64);
            record.cells.push(cell);
            let Some(next) = after.strip_prefix(separator) else {
                rest = after.strip_prefix('\n').unwrap_or(after);
                line += 1;
                break;
            };
            rest = next;
        }
        let is_empty = record.cells.len() == 1 && record.cells.first().is_some_and(String::is_empty);
        records.extend((!is_empty).then_some(record));
    }
    Ok(records)
}

/// The first cell of a text, and the rest: a separator, a line break, or nothing.
fn cell(text: &str, separator: char) -> Result<(String, &str), &'static str> {
    let Some(mut rest) = text.strip_prefix('"') else {
        let end = text.find([separator, '\n']).unwrap_or(text.len());
        let (cell, after) = text.split_at(end);
        return Ok((cell.to_owned(), after));
    };
    let mut cell = String::new();
    loop {
        let (before, after) = rest.split_once('"').ok_or("a quote that is not closed")?;
        cell += before;
        match after.strip_prefix('"') {
            Some(more) => {
                cell.push('"');
                rest = more;
            }
            None if after.is_empty() || after.starts_with([separator, '\n']) => return Ok((cell, after)),
            None => return Err("text behind a closing quote"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cells(text: &str) -> Vec<(Vec<String>, u64)> {
        records(text, ',').unwrap().into_iter().map(|record| (record.cells, record.line)).collect()
    }

    #[test]
    fn cells_may_hold_anything_in_quotes() {
        let own = |cells: &[&str]| cells.iter().map(|&cell| cell.to_owned()).collect::<Vec<_>>();
        let text = "a,b\n\"x, \"\"y\"\"\nz\",\n\n,\"\"\nlast,1";
        let expected = [(own(&["a", "b"]), 1), (own(&["x, \"y\"\nz", ""]), 2), (own(&["", ""]), 5), (own(&["last", "1"]), 6)];
        assert_eq!(cells(text), expected);
        assert_eq!(records("a\n\"b", ',').err(), Some((2, "a quote that is not closed")));
        assert_eq!(records("a\n\n\"b\"c", ',').err(), Some((3, "text behind a closing quote")));
        assert_eq!(cells(""), []);
    }
}
