//! Files that are not text, recognised by their first bytes, with advice for each format.

use std::path::Path;

use super::DataError;
use crate::files::STDIN;

/// First bytes, a name, and the next step, where `PATH` stands for the file, and `QUOTED` for the same in a shell's command.
const KINDS: [(&[u8], &str, &str); 12] = [
    (b"\x1f\x8b", "a file that was compressed twice", "decompress it with 'gunzip QUOTED'"),
    (b"\x28\xb5\x2f\xfd", "a file that was compressed twice", "decompress it with 'unzstd QUOTED'"),
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
    (b"%PDF-", "a PDF document", "write its text with 'pdftotext QUOTED'"),
    (b"SQLite format 3\0", "an SQLite database", "write its rows as JSONL"),
    (b"\x89PNG", "an image", "give text"),
    (b"\xff\xd8\xff", "an image", "give text"),
    (b"\x7fELF", "a program", "give text"),
];

/// The place of a tar archive's mark in its first block of 512 bytes.
const TAR_MARK: (usize, &[u8]) = (257, b"ustar");

/// The format of a file that is not text, from its first bytes, with advice. `is_utf8`: they are UTF-8, as those of some other formats are.
pub(super) fn refuse(path: &Path, first: &[u8], is_utf8: bool) -> Option<DataError> {
    let shown = if path == Path::new(STDIN) { "FILE".to_owned() } else { path.display().to_string() };
    let error = |found: &str, step: &str| {
        let step = step.replace("PATH", &shown).replace("QUOTED", &in_shell(&shown));
        DataError::format(path, format!("UTF-8 text ({step})"), found)
    };
    if let Some((_, found, step)) = KINDS.iter().find(|(magic, ..)| first.starts_with(magic)) {
        return Some(error(found, step));
    }
    if first.get(TAR_MARK.0..).is_some_and(|rest| rest.starts_with(TAR_MARK.1)) {
        return Some(error("a tar archive", "unpack it with 'tar -xf QUOTED', and give the folder or the text that is in it"));
    }
    // Pickles of the protocols 2 to 5.
    if let [0x80, 2..=5, ..] = first {
        return Some(error("a Python pickle", "write its text as .txt or .jsonl with the program that made it"));
    }
    if let Some(encoding) = utf16(first) {
        return Some(error("UTF-16 text", &format!("convert it: iconv -f {encoding} -t UTF-8 QUOTED > text.txt")));
    }
    if is_utf8 && !first.contains(&0) {
        return None;
    }
    let is_control = |byte: &&u8| **byte < 32 && !matches!(**byte, b'\t' | b'\n' | b'\r' | 0x0c | 0x1b);
    // Text in any encoding of one byte a character has hardly any of these.
    let is_binary = first.iter().filter(is_control).count() * 20 > first.len();
    is_binary.then(|| error("a binary file", "token ids are read from files named *.bin"))
}

/// The name of the encoding of UTF-16 text, by its mark or the zeros of its ASCII characters.
fn utf16(first: &[u8]) -> Option<&'static str> {
    if first.starts_with(b"\xff\xfe") || first.starts_with(b"\xfe\xff") {
        return Some("UTF-16");
    }
    let pairs = first.as_chunks::<2>().0;
    let is_text = |byte: u8| byte >= 32 || matches!(byte, b'\t' | b'\n' | b'\r');
    let count = |is: &dyn Fn(&[u8; 2]) -> bool| pairs.iter().filter(|pair| is(pair)).count();
    let most = pairs.len().max(4) * 9 / 10;
    match () {
        () if count(&|&[a, b]| b == 0 && is_text(a)) > most => Some("UTF-16LE"),
        () if count(&|&[a, b]| a == 0 && is_text(b)) > most => Some("UTF-16BE"),
        () => None,
    }
}

/// A path as a shell reads it.
fn in_shell(path: &str) -> String {
    let is_plain = |c: char| c.is_ascii_alphanumeric() || "_-./+:,@%=".contains(c);
    if path.chars().all(is_plain) { path.to_owned() } else { format!("'{}'", path.replace('\'', "'\\''")) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_are_named_by_their_first_bytes() {
        let name =
            |first: &[u8]| refuse(Path::new("a"), first, std::str::from_utf8(first).is_ok()).map(|error| error.to_string());
        let mut tar = [&b"notes.txt"[..], &[0; 503], b"some text"].concat();
        tar[257..262].copy_from_slice(b"ustar");
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
            (b"t\0e\0x\0t\0\n\0", "iconv -f UTF-16LE -t UTF-8 a"),
            (b"\0t\0e\0x\0t\0\n", "iconv -f UTF-16BE -t UTF-8 a"),
            (&tar, "found a tar archive"),
        ] {
            let found = name(first).unwrap();
            assert!(found.contains(expected), "{found}");
        }
        let shown = |path: &str| refuse(Path::new(path), b"\xff\xfea\0", false).unwrap().to_string();
        assert!(shown("my file").contains("UTF-8 'my file' > text.txt"), "{}", shown("my file"));
        assert!(
            shown(STDIN).starts_with("standard input: ") && shown(STDIN).contains("UTF-8 FILE > text.txt"),
            "{}",
            shown(STDIN)
        );
        for text in [
            &b"caf\xe9 au lait, un peu de texte"[..],
            b"PAR1 est le caf\xe9",
            b"ARROW1 de caf\xe9",
            b"SQLite format 3 and \x08\x08",
            b"a\0 long text with a stray zero",
        ] {
            assert_eq!(name(text), None);
        }
    }
}
