//! Files that are not text, recognised by their first bytes, with advice for each format.

use std::path::Path;

use super::DataError;

/// First bytes, a name, and the next step, where `PATH` stands for the file.
const KINDS: [(&[u8], &str, &str); 12] = [
    (b"\x1f\x8b", "a file that was compressed twice", "decompress it with 'gunzip PATH'"),
    (b"\x28\xb5\x2f\xfd", "a file that was compressed twice", "decompress it with 'unzstd PATH'"),
    (b"\x93NUMPY", "a NumPy array", "write token ids as a shard: numpy.load(\"PATH\").astype(\"uint16\").tofile(\"ids.bin\")"),
    (
        // With the bytes that follow: four letters can also begin a text.
        b"PAR1\x15",
        "a Parquet file",
        "write its rows as JSONL: pandas.read_parquet(\"PATH\").to_json(\"rows.jsonl\", orient=\"records\", lines=True)",
    ),
    (b"PK\x03\x04", "a zip archive (as .npz, .pt and .docx are)", "unpack it, and give the text that is in it"),
    (b"ARROW1\0\0", "an Arrow file", "write its rows as JSONL"),
    (b"7z\xbc\xaf", "a 7z archive", "unpack it, and give the text that is in it"),
    (b"%PDF", "a PDF document", "write its text with 'pdftotext PATH'"),
    (b"SQLite format 3", "an SQLite database", "write its rows as JSONL"),
    (b"\x89PNG", "an image", "give text"),
    (b"\xff\xd8\xff", "an image", "give text"),
    (b"\x7fELF", "a program", "give text"),
];

/// The format of a file that is not UTF-8 text, from its first bytes, with advice.
pub(super) fn refuse(path: &Path, first: &[u8]) -> Option<DataError> {
    let shown = path.display().to_string();
    let error =
        |found: &str, step: &str| DataError::format(path, format!("UTF-8 text ({})", step.replace("PATH", &shown)), found);
    if let Some((_, found, step)) = KINDS.iter().find(|(magic, ..)| first.starts_with(magic)) {
        return Some(error(found, step));
    }
    // Pickles of the protocols 2 to 5.
    if let [0x80, 2..=5, ..] = first {
        return Some(error("a Python pickle", "write its text as .txt or .jsonl with the program that made it"));
    }
    if first.starts_with(b"\xff\xfe") || first.starts_with(b"\xfe\xff") {
        return Some(error("UTF-16 text", "convert it: iconv -f UTF-16 -t UTF-8 PATH > text.txt"));
    }
    let is_control = |byte: &&u8| **byte < 32 && !matches!(**byte, b'\t' | b'\n' | b'\r' | 0x0c | 0x1b);
    // Text in any encoding of one byte a character has hardly any of these.
    let is_binary = first.iter().filter(is_control).count() * 20 > first.len();
    is_binary.then(|| error("a binary file", "token ids are read from files named *.bin"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_are_named_by_their_first_bytes() {
        let name = |first: &[u8]| refuse(Path::new("a"), first).map(|error| error.to_string());
        for (first, expected) in [
            (
                &b"\x1f\x8b\x08"[..],
                "a: expected UTF-8 text (decompress it with 'gunzip a'), found a file that was compressed twice",
            ),
            (b"PAR1\x15\x04", "found a Parquet file"),
            (b"\x93NUMPY\x01", "numpy.load(\"a\").astype(\"uint16\")"),
            (b"PK\x03\x04", "found a zip archive"),
            (b"\x80\x04\x95", "found a Python pickle"),
            (b"\xff\xfea\0", "iconv -f UTF-16 -t UTF-8 a"),
            (b"\0\x01\x02\x03abc", "found a binary file"),
        ] {
            let found = name(first).unwrap();
            assert!(found.contains(expected), "{found}");
        }
        for text in [&b"caf\xe9 au lait, un peu de texte"[..], b"PAR1 est le caf\xe9", b"ARROW1 de caf\xe9"] {
            assert_eq!(name(text), None);
        }
    }
}
