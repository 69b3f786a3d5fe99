//! What a run reads: token shards by their content, splits, rows and packed files, data that has moved.

use super::*;

/// What a run of one step says, and its exit code.
fn trained(at: &Path, data: &str, more: &[&str]) -> (Option<i32>, String) {
    let _ = fs::remove_dir_all(at.join("run"));
    let one = ["train", "--data", data, "--out", "run", "--set", "train.steps=1", "--set", "generate.max_new_tokens=0"];
    let output = samara(at, &[&one[..], &SMALL, more].concat());
    (output.status.code(), text(&output.stderr))
}

#[test]
fn token_shards_are_read_as_their_content_says() {
    let folder = temporary();
    let at = folder.path();
    let ids = || (0..1000u32).map(|i| i * 37 % 500);
    let header = [20_240_520, 1, 1000].into_iter().flat_map(u32::to_le_bytes).chain([0; 1012]);
    let narrow = || ids().flat_map(|id| (id as u16).to_le_bytes());
    fs::write(at.join("u16.bin"), narrow().collect::<Vec<_>>()).expect("ids");
    fs::write(at.join("llmc.bin"), header.chain(narrow()).collect::<Vec<_>>()).expect("ids");
    fs::write(at.join("u32.bin"), ids().flat_map(u32::to_le_bytes).collect::<Vec<_>>()).expect("ids");
    fs::write(at.join("i64.bin"), ids().flat_map(|id| i64::from(id).to_le_bytes()).collect::<Vec<_>>()).expect("ids");
    let vocabulary = ["--set", "model.vocab_size=500"];
    for (file, note) in [
        ("u16.bin", ""),
        ("llmc.bin", "note: llmc.bin: a shard of llm.c (magic number 20240520), 1000 u16 tokens behind its header"),
        ("u32.bin", "note: u32.bin: read as u32 ids, because the upper part of every one is 0"),
        ("i64.bin", "note: i64.bin: read as i64 ids"),
    ] {
        let (code, said) = trained(at, file, &vocabulary);
        assert!(code == Some(0) && said.contains(" 1000 training tokens,") && said.contains(note), "{file}: {said}");
    }
    let (code, said) = trained(at, "u32.bin", &[&vocabulary[..], &["--set", "data.id_type=u16"]].concat());
    assert!(code == Some(0) && said.contains(" 2000 training tokens,"), "{said}");
    fs::write(at.join("few.bin"), (1..9u32).flat_map(u32::to_le_bytes).collect::<Vec<_>>()).expect("ids");
    let (code, said) = trained(at, "few.bin", &vocabulary);
    assert!(code == Some(3) && said.contains("few.bin: expected ids of unambiguous width: set data.id_type to u16 or u32"));
    fs::write(at.join("text.bin"), "The crow and the fox. ".repeat(50)).expect("text");
    let (code, said) = trained(at, "text.bin", &vocabulary);
    assert!(
        code == Some(3) && said.contains("text.bin: expected token ids (rename a text, as in mv text.bin text.txt"),
        "{said}"
    );
    fs::write(at.join("big.bin"), ids().flat_map(|id| (id as u16).to_be_bytes()).collect::<Vec<_>>()).expect("ids");
    let (code, said) = trained(at, "big.bin", &vocabulary);
    assert!(code == Some(3) && said.contains("big.bin: expected little-endian token ids (in Python: numpy.fromfile("), "{said}");
    // What a shard has no use for.
    for key in ["data.val_fraction=0.2", "data.text_field=body", "data.tokenizer=bpe"] {
        let (code, said) = trained(at, "u16.bin", &[&vocabulary[..], &["--set", key]].concat());
        assert!(code == Some(2) && said.contains("expected no value; a token shard"), "{key}: {said}");
    }
}

#[test]
fn a_tenth_is_held_out_of_texts_of_any_length() {
    let folder = temporary();
    let at = folder.path();
    for (name, lengths) in [("big", [9000, 100]), ("even", [5000, 4800])] {
        fs::create_dir(at.join(name)).expect("folder");
        for (file, len) in ["a.txt", "b.txt"].iter().zip(lengths) {
            fs::write(at.join(name).join(file), "some words, ".repeat(len / 12 + 1).split_at(len).0).expect("text");
        }
        fs::write(at.join(name).join("c.pdf"), "").expect("a file");
        let (code, said) = trained(at, name, &["--set", "data.tokenizer=byte"]);
        let all: usize = lengths.iter().sum();
        let train = all * 9 / 10;
        assert!(code == Some(0) && said.contains(&format!("{train} training tokens, {} validation", all - train)), "{said}");
        assert!(
            said.contains(&format!("{name}: 2 files read: a.txt, b.txt\n{name}: 1 file ignored because of their names: c.pdf"))
        );
    }
    fs::write(at.join("short.txt"), "a few words").expect("text");
    let (code, said) = trained(at, "short.txt", &["--set", "data.tokenizer=byte"]);
    let why = "has 2 tokens held out, expected at least 17 (train.block_size + 1): give more data, a larger data.val_fraction";
    assert!(code == Some(3) && said.contains(why), "{said}");
}

#[test]
fn files_that_are_no_text_are_named() {
    let folder = temporary();
    let at = folder.path();
    for (file, content, parts) in [
        ("ids.npy", &b"\x93NUMPY\x01\0"[..], &["found a NumPy array", "numpy.load(\"ids.npy\")"][..]),
        ("a.parquet", b"PAR1\x15\x04\xff", &["found a Parquet file", "to_json"]),
        ("a.zip", b"PK\x03\x04\xff", &["found a zip archive"]),
        ("a.pkl", b"\x80\x04\x95\xff", &["found a Python pickle"]),
        ("latin.txt", b"caf\xe9", &["latin.txt:1:4", "iconv"]),
        (
            "chat.jsonl",
            b"{\"messages\": []}",
            &["chat.jsonl:1:1: expected key \"text\", found keys \"messages\": a row of a chat"],
        ),
        ("none.json", b"{}", &["none.json:1:1", "data.on_bad_row=skip skips such rows"]),
    ] {
        fs::write(at.join(file), content).expect("file");
        let (code, said) = trained(at, file, &[]);
        assert!(code == Some(3) && parts.iter().all(|part| said.contains(part)), "{file}: {said}");
        assert!(!at.join("run").exists());
    }
}

#[test]
fn data_is_known_by_its_content() {
    let folder = temporary();
    let at = folder.path();
    fs::write(at.join("a.txt"), "some words, ".repeat(100)).expect("text");
    let shard: Vec<u8> = (0..400u16).flat_map(|i| (i * 7 % 60).to_le_bytes()).collect();
    fs::write(at.join("a.bin"), &shard).expect("ids");
    for (kind, other, more) in [
        ("txt", "other words, ".repeat(100).into_bytes(), &[][..]),
        ("bin", shard[2..].to_vec(), &["--set", "model.vocab_size=60"]),
    ] {
        let [was, moved] = ["a", "b"].map(|name| format!("{name}.{kind}"));
        assert_eq!(trained(at, &was, more).0, Some(0));
        fs::rename(at.join(&was), at.join(&moved)).expect("a move");
        done(at, &["train", "--resume", "--out", "run", "--data", &moved, "-q", "--set", "train.steps=2"]);
        assert!(fs::read_to_string(at.join("run/run.toml")).expect("run.toml").contains(&format!("path = \"{moved}\"")));
        fs::write(at.join("c").with_extension(kind), &other).expect("data");
        let changed = format!("data.path = \"{moved}\", now \"c.{kind}\"");
        let other_data = format!("c.{kind}");
        refused(at, &["train", "--resume", "--out", "run", "--data", &other_data], 2, &[&changed]);
        if kind == "bin" {
            fs::write(at.join(&moved), &other).expect("data");
            let restore = ["b.bin: expected the data of the start of the run (shards: crc32c ", "restore it"];
            refused(at, &["train", "--resume", "--out", "run"], 3, &restore);
        }
    }
}
