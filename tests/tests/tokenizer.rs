//! Tokenizers against Hugging Face `tokenizers`, on any bytes, and on broken files.

use proptest::prelude::*;
use samara::encoder::masking::{Masking, MaskingConfig, Separators};
use samara::tokenizer::{
    AddedToken, BpeTrainOptions, BpeTrainer, EncodeError, Model, PartsError, Specials, Tokenizer, TrainError, WordPieceOptions,
    WordPieceTrainer, prompt_ids,
};
use samara_core::tokenizer::Split;
use serde_json::{Value, json};
use std::path::{Path, PathBuf};
use std::sync::LazyLock;

fn golden(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("golden/tokenizer").join(name)
}

fn read_json(path: &Path) -> Value {
    serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap()
}

fn peer() -> Tokenizer {
    Tokenizer::load(&golden("bpe.json")).unwrap()
}

fn encode(tokenizer: &Tokenizer, text: &str) -> Vec<u32> {
    tokenizer.encode(text.as_bytes(), Specials::None).unwrap()
}

/// splitmix64, as in make_golden.py.
struct Random(u64);

impl Random {
    fn below(&mut self, n: usize) -> usize {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ z >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ z >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
        ((z ^ z >> 31) % n as u64) as usize
    }
}

/// FRAGMENTS of make_golden.py.
#[rustfmt::skip]
const FRAGMENTS: [&str; 56] = [
    "'s", "'t", "'re", "'ve", "'m", "'ll", "'d", "'S", "'LL", "''", " '", "\r\n", "\n\n", "  ", "   ", " \n", "\t ", " the", " and", "123", " 2024",
    "3.14", "\u{200d}", "\u{fe0f}", "\u{301}", "e\u{301}", "\u{1f469}\u{200d}\u{1f33e}", "\u{1f1eb}\u{1f1f7}", "\u{a0}", "\u{3000}", "\u{2028}", "\u{180e}",
    "\u{200b}", "\u{85}", "\u{1c}", "\u{feff}", "\u{fffd}", "\u{bd}", "\u{663}", "\u{2167}", "\u{3007}", "\u{4e00}", "\u{378}", "\u{1e900}", "\u{e0001}",
    "\u{323af}", "\u{323b0}", "\u{10ffff}", "\u{0}", "!!", "->", "<|endoftext|>", "\u{130}", "\u{1c5}", "\u{2b0}", "\u{903}",
];

fn piece(random: &mut Random, corpus: &[char]) -> String {
    match random.below(8) {
        kind @ 0..4 => {
            let code = random.below([0x80, 0x250, 0x1_0000, 0x11_0000][kind]) as u32;
            char::from_u32(code).or(char::from_u32(code.wrapping_sub(0xd800))).unwrap().to_string()
        }
        4 | 5 => FRAGMENTS[random.below(FRAGMENTS.len())].to_string(),
        _ => {
            let (start, length) = (random.below(corpus.len()), random.below(16));
            corpus[start..].iter().take(length).collect()
        }
    }
}

fn fuzz_string(seed: u64, index: u64, corpus: &[char]) -> String {
    let mut random = Random(seed + index * 0x100_0003);
    let mut text = String::new();
    for _ in 0..random.below(24) {
        let part = piece(&mut random, corpus);
        let times = if random.below(8) == 0 { 1 + random.below(5) } else { 1 };
        text += &part.repeat(times);
    }
    text
}

const HASH_START: u64 = 0xcbf2_9ce4_8422_2325;

/// FNV-1a over the number of ids and the ids.
fn hash_ids(ids: &[u32], start: u64) -> u64 {
    let numbers = std::iter::once(ids.len() as u32).chain(ids.iter().copied());
    numbers.flat_map(u32::to_le_bytes).fold(start, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x100_0000_01b3))
}

fn check_cases(tokenizer: &Tokenizer, cases: &Value) {
    for case in cases["texts"].as_array().unwrap() {
        let text = case["text"].as_str().unwrap();
        assert_eq!(json!(encode(tokenizer, text)), case["ids"], "{text:?}");
    }
    for case in cases["long"].as_array().unwrap() {
        let text = case["text"].as_str().unwrap();
        let ids = encode(tokenizer, &text.repeat(case["times"].as_u64().unwrap() as usize));
        let found = (json!(ids.len()), json!(format!("{:016x}", hash_ids(&ids, HASH_START))));
        assert_eq!(found, (case["count"].clone(), case["hash"].clone()), "{text:?}");
    }
}

fn check_fuzz(tokenizer: &Tokenizer, fuzz: &Value) {
    let corpus: Vec<char> = std::fs::read_to_string(golden("corpus.txt")).unwrap().chars().collect();
    let (seed, strings) = (fuzz["seed"].as_u64().unwrap(), fuzz["strings"].as_u64().unwrap());
    assert_eq!(strings, 100 * fuzz["hashes"].as_array().unwrap().len() as u64);
    for (hundred, expected) in fuzz["hashes"].as_array().unwrap().iter().enumerate() {
        let first = 100 * hundred as u64;
        let hash = (first..first + 100).fold(HASH_START, |hash, index| {
            let text = fuzz_string(seed, index, &corpus);
            let ids = encode(tokenizer, &text);
            assert_eq!(tokenizer.decode(&ids).unwrap(), text.as_bytes());
            hash_ids(&ids, hash)
        });
        assert_eq!(&json!(format!("{hash:016x}")), expected, "strings {first} to {}", first + 99);
    }
}

fn check_code_points(tokenizer: &Tokenizer, golden: &Value) {
    let hashes = (0_u32..17).map(|plane| {
        let chars = (plane << 16..(plane + 1) << 16).filter_map(char::from_u32);
        let text: String = chars.map(|c| format!("a{c}1{c}!{c} {c}")).collect();
        format!("{:016x}", hash_ids(&encode(tokenizer, &text), HASH_START))
    });
    assert_eq!(json!(hashes.collect::<Vec<_>>()), golden["hashes"]);
}

/// Merges as pairs of bytes: what does not depend on where special tokens have their ids.
fn merges(tokenizer: &Tokenizer) -> Vec<(Vec<u8>, Vec<u8>)> {
    let Model::Bpe(bpe) = tokenizer.model() else { panic!("not BPE") };
    let token = |id| bpe.tables().token(id).unwrap().to_vec();
    bpe.merges().iter().map(|&(left, right)| (token(left), token(right))).collect()
}

fn train(text: &[u8], vocab_size: usize, specials: &[&str]) -> Tokenizer {
    let specials = specials.iter().map(|text| (*text).to_owned()).collect();
    let mut trainer = BpeTrainer::new(BpeTrainOptions { vocab_size, specials, ..Default::default() }).unwrap();
    trainer.add(text);
    trainer.train().unwrap()
}

#[test]
fn ids_equal_the_peers() {
    check_cases(&peer(), &read_json(&golden("cases.json")));
}

#[test]
fn ids_equal_the_peers_on_fuzzed_strings() {
    check_fuzz(&peer(), &read_json(&golden("fuzz.json")));
}

#[test]
fn ids_equal_the_peers_on_every_code_point() {
    check_code_points(&peer(), &read_json(&golden("code_points.json")));
}

#[test]
fn training_finds_the_peers_merges() {
    let trained = train(&std::fs::read(golden("corpus.txt")).unwrap(), 600, &[]);
    assert_eq!(merges(&trained), merges(&peer()));
    check_cases(&trained, &read_json(&golden("cases.json")));
}

/// Any vocabulary of the peer, such as those of published models, which are not a part of this repository.
#[test]
#[ignore = "needs a folder that make_golden.py wrote from another tool: SAMARA_TOKENIZER_PEER=DIR cargo test --workspace --test tokenizer -- --ignored"]
fn agrees_with_peer_in_folder() {
    let folder = PathBuf::from(std::env::var_os("SAMARA_TOKENIZER_PEER").expect("SAMARA_TOKENIZER_PEER names a folder"));
    let tokenizer = Tokenizer::load(&folder).unwrap();
    check_cases(&tokenizer, &read_json(&folder.join("cases.json")));
    check_code_points(&tokenizer, &read_json(&folder.join("code_points.json")));
    check_fuzz(&tokenizer, &read_json(&folder.join("fuzz.json")));
    if let Ok(text) = std::fs::read(folder.join("trained_on.txt")) {
        assert!(merges(&train(&text, tokenizer.vocab_size(), &[])) == merges(&tokenizer));
    }
}

#[test]
fn special_tokens_are_parsed_only_where_allowed() {
    let tokenizer = train(b"a tale, a tale, a tale", 300, &["<|endoftext|>", "<|end|>", "<|end|>!"]);
    let id = |text| tokenizer.added_id(text).unwrap();
    assert_eq!(tokenizer.end_of_text(), Some(id("<|endoftext|>")));
    let text = b"a<|end|>!<|endoftext|><|end|> tale";
    let with = |specials| tokenizer.encode(text, specials).unwrap();
    let plain = |text: &str| encode(&tokenizer, text);
    assert!(with(Specials::None).iter().all(|&found| found < id("<|endoftext|>")));
    let all = [plain("a"), vec![id("<|end|>!"), id("<|endoftext|>"), id("<|end|>")], plain(" tale")].concat();
    assert_eq!(with(Specials::All), all);
    let only = [plain("a"), vec![id("<|end|>")], plain("!<|endoftext|>"), vec![id("<|end|>")], plain(" tale")].concat();
    assert_eq!(with(Specials::Only(&["<|end|>"])), only);
    for specials in [Specials::None, Specials::All] {
        assert_eq!(tokenizer.decode(&with(specials)).unwrap(), text);
    }
}

#[test]
fn vocabularies_too_small_are_errors() {
    let options = |vocab_size| BpeTrainOptions { vocab_size, ..Default::default() };
    let error = BpeTrainer::new(options(256)).unwrap_err();
    assert_eq!(error, TrainError::VocabSize { vocab_size: 256, specials: 1 });
    assert!(error.to_string().ends_with("use at least 257"), "{error}");
    let smallest = BpeTrainer::new(options(257)).unwrap().train().unwrap();
    assert_eq!((smallest.vocab_size(), smallest.end_of_text()), (257, Some(256)));
    assert_eq!(train(b"aaaa", 5000, &[]).vocab_size(), 257, "one pair occurs twice or more");
}

#[test]
fn characters_are_sorted_and_unknown_ones_named() {
    let tokenizer = Tokenizer::characters(["hé\nllo", "😀"], &["<|endoftext|>"]).unwrap();
    assert_eq!((tokenizer.vocab_size(), tokenizer.end_of_text()), (7, Some(6)));
    assert_eq!(encode(&tokenizer, "héllo"), [1, 4, 2, 2, 3]);
    assert_eq!(tokenizer.decode(&[5, 0, 6]).unwrap(), "😀\n<|endoftext|>".as_bytes());
    let error = tokenizer.encode("hé\nlxo".as_bytes(), Specials::None).unwrap_err();
    assert_eq!(error, EncodeError::UnknownChar { char: 'x', at_bytes: 5, line: 2, column: 2, known: 6 });
    assert!(error.to_string().starts_with("character 'x' (U+0078) at line 2, column 2 (byte 5) is not among the 6"));
    assert_eq!(tokenizer.encode(b"h\xff", Specials::None), Err(EncodeError::NotUtf8 { at_bytes: 1, line: 1 }));
}

#[test]
fn ids_outside_the_vocabulary_are_errors() {
    let error = Tokenizer::bytes(&["<|endoftext|>"]).unwrap().decode(&[1, 257]).unwrap_err();
    assert_eq!(error.to_string(), "token id 257 at position 1 is outside the vocabulary of 257 tokens");
}

#[test]
fn added_tokens_must_fit() {
    let added = AddedToken::special;
    let new = |added| Tokenizer::new(Model::Byte, added).unwrap_err();
    assert_eq!(new(vec![added(256, "")]), PartsError::Empty { id: 256 });
    assert_eq!(new(vec![added(256, "<a>"), added(257, "<a>")]), PartsError::Repeated { id: 257, text: "<a>".to_owned() });
    assert_eq!(new(vec![added(7, "<a>")]), PartsError::Id { id: 7, text: "<a>".to_owned(), expected: 256 });
    // Ids may have gaps.
    let gap = Tokenizer::new(Model::Byte, vec![added(258, "<a>"), added(300, "</s>")]).unwrap();
    assert_eq!(gap.encode(b"x<a></s>", Specials::All).unwrap(), [120, 258, 300]);
    assert_eq!((gap.vocab_size(), gap.text_vocab_size(), gap.end_of_text()), (301, 256, Some(300)));
    assert_eq!(gap.decode(&[258, 120]).unwrap(), b"<a>x");
    assert!(gap.decode(&[257]).is_err());
    assert_eq!(new(vec![added(256, "a")]), PartsError::Taken { text: "a".to_owned() });
    let chars = Tokenizer::new(Model::Character(vec!['b', 'a']), vec![]).unwrap_err();
    assert_eq!(chars, PartsError::CharOrder { id: 1, char: 'a' });
}

fn saved_examples() -> [(&'static str, Tokenizer); 3] {
    let corpus = std::fs::read_to_string(golden("corpus.txt")).unwrap();
    let specials = ["<|endoftext|>"];
    [
        ("byte", Tokenizer::bytes(&specials).unwrap()),
        ("character", Tokenizer::characters([corpus.as_str()], &specials).unwrap()),
        ("bpe", train(corpus.as_bytes(), 320, &specials)),
    ]
}

/// The files under golden/tokenizer/saved are those that open_saved.py opened with `transformers`.
/// `SAMARA_WRITE_GOLDEN=1` writes them anew: then run that script again.
#[test]
fn saved_files_are_those_that_the_peer_opened() {
    for (name, tokenizer) in saved_examples() {
        let expected = golden("saved").join(name);
        if std::env::var_os("SAMARA_WRITE_GOLDEN").is_some() {
            std::fs::create_dir_all(&expected).unwrap();
            tokenizer.save(&expected, Some(1024)).unwrap();
        }
        let folder = tempfile::tempdir().unwrap();
        tokenizer.save(folder.path(), Some(1024)).unwrap();
        for file in ["tokenizer.json", "tokenizer_config.json"] {
            assert!(read_json(&folder.path().join(file)) == read_json(&expected.join(file)), "{name}/{file}");
        }
    }
}

#[test]
fn loaded_is_what_was_saved() {
    let text = std::fs::read(golden("corpus.txt")).unwrap();
    for (name, tokenizer) in saved_examples() {
        let folder = tempfile::tempdir().unwrap();
        tokenizer.save(folder.path(), None).unwrap();
        let same = |loaded: &Tokenizer| {
            assert_eq!(std::mem::discriminant(loaded.model()), std::mem::discriminant(tokenizer.model()), "{name}");
            assert_eq!((loaded.added(), loaded.vocab_size()), (tokenizer.added(), tokenizer.vocab_size()));
            assert_eq!(loaded.end_of_text(), tokenizer.end_of_text());
            assert_eq!(loaded.encode(&text, Specials::All), tokenizer.encode(&text, Specials::All));
        };
        same(&Tokenizer::load(folder.path()).unwrap());
        same(&Tokenizer::load(&folder.path().join("tokenizer.json")).unwrap());
        std::fs::remove_file(folder.path().join("tokenizer.json")).unwrap();
        assert_eq!(tokenizer.save_vocab_and_merges(folder.path()).unwrap(), name == "bpe");
        match Tokenizer::load(folder.path()) {
            Ok(loaded) => same(&loaded),
            Err(error) => assert!(name != "bpe" && error.to_string().contains("no tokenizer here"), "{error}"),
        }
    }
}

/// Tokenizers whose text is encoded in parts.
static CUT: LazyLock<Vec<Tokenizer>> = LazyLock::new(|| {
    let names = ["prefix_space", "nfc", "nfkd", "gpt4", "qwen2", "smollm2", "deepseek", "stripped", "llama2"];
    names.into_iter().map(|name| variant(name).1).chain([peer(), Tokenizer::bytes(&[]).unwrap()]).collect()
});

proptest! {
    #[test]
    fn bytes_out_are_the_bytes_in(text: Vec<u8>) {
        for tokenizer in [peer(), Tokenizer::bytes(&["<|endoftext|>"]).unwrap()] {
            let ids = tokenizer.encode(&text, Specials::None).unwrap();
            prop_assert_eq!(tokenizer.decode(&ids).unwrap(), &text[..]);
        }
    }

    #[test]
    fn parts_have_the_ids_of_the_whole(picks in prop::collection::vec(0_usize..14, 0..30), at in 0_usize..9) {
        let parts = ["a", "Bc", " ", "  ", "\n", "\u{3000}", "'s", "!", "12", "é", "\t", "don't", "\u{301}", "<|endoftext|>"];
        let text = picks.iter().map(|&pick| parts[pick]).collect::<String>();
        let own = Tokenizer::characters([text.as_str()], &[]).unwrap();
        for tokenizer in CUT.iter().chain([&own]) {
            for specials in [Specials::None, Specials::All] {
                let (mut rest, mut ids) = (text.as_str(), Vec::new());
                while !rest.is_empty() {
                    let (part, after) = rest.split_at(tokenizer.cut(rest, at.max(1), specials));
                    ids.extend(tokenizer.encode(part.as_bytes(), specials).unwrap());
                    rest = after;
                }
                prop_assert_eq!(ids, tokenizer.encode(text.as_bytes(), specials).unwrap());
            }
        }
    }

    #[test]
    fn broken_bytes_split_as_replacement_characters(picks in prop::collection::vec(0_usize..6, 0..9)) {
        let parts: [&[u8]; 6] = [b"\xff", b"\xc3", b" a", b"'s \n", b"1", b"!"];
        let text = picks.iter().map(|&pick| parts[pick]).collect::<Vec<_>>().concat();
        let lossy = String::from_utf8_lossy(&text).into_owned();
        let words = |text: &[u8]| Split::Gpt2.words(text).map(|word| String::from_utf8_lossy(word).into_owned()).collect::<Vec<_>>();
        prop_assert_eq!(words(&text), words(lossy.as_bytes()));
    }
}

/// Files that make_variants.py wrote: a tokenizer in the shape of a popular model, and what the peer makes of some texts.
const VARIANTS: [&str; 25] = [
    "gpt2",
    "prefix_space",
    "roberta",
    "nfc",
    "nfkd",
    "lowercase",
    "replace",
    "empty_sequence",
    "gpt4",
    "nanochat",
    "gpt4o",
    "llama3",
    "qwen2",
    "smollm2",
    "falcon",
    "deepseek",
    "merged",
    "words",
    "stripped",
    "llama2",
    "mistral",
    "clip",
    "gpt1",
    "bert",
    "bert_cased",
];

fn variant(name: &str) -> (Value, Tokenizer) {
    let file = read_json(&golden("variants").join(name).with_extension("json"));
    let tokenizer = Tokenizer::from_json(file["tokenizer"].to_string().as_bytes(), Path::new(name)).unwrap();
    (file, tokenizer)
}

#[test]
fn variants_have_the_peers_ids() {
    for name in VARIANTS {
        let (file, tokenizer) = variant(name);
        for case in file["cases"].as_array().unwrap() {
            let text = case[0].as_str().unwrap();
            let encode = |specials| tokenizer.encode(text.as_bytes(), specials).map(|ids| json!(ids));
            assert_eq!(encode(Specials::All).as_ref(), Ok(&case[1]), "{name}: {text:?}");
            assert_eq!(encode(Specials::None).as_ref(), Ok(&case[2]), "{name}: {text:?}");
            let ids: Vec<u32> = serde_json::from_value(case[1].clone()).unwrap();
            assert_eq!(json!(tokenizer.with_template(&ids)), case[4], "{name}: {text:?}");
            let decoded = tokenizer.decode(&ids).unwrap();
            let (decoded, expected) = (String::from_utf8_lossy(&decoded), case[3].as_str().unwrap());
            // The peer decodes an added token as it is normalised.
            let same = decoded == expected || name == "lowercase" && decoded.to_lowercase() == expected.to_lowercase();
            assert!(same, "{name}: {text:?}: {decoded:?}, expected {expected:?}");
        }
        let folder = tempfile::tempdir().unwrap();
        tokenizer.save(folder.path(), None).unwrap();
        assert_eq!(read_json(&folder.path().join("tokenizer.json")), file["tokenizer"], "{name}");
    }
}

/// GPT-1's pair of files has no place for the steps that its `tokenizer.json` names.
#[test]
fn a_pair_of_files_with_marked_ends_of_words_is_that_of_gpt1() {
    let (file, tokenizer) = variant("gpt1");
    let (folder, model) = (tempfile::tempdir().unwrap(), &file["tokenizer"]["model"]);
    let write = |name: &str, content: String| std::fs::write(folder.path().join(name), content).unwrap();
    let side = |merge: &Value, at: usize| merge[at].as_str().unwrap().to_owned();
    let lines = model["merges"].as_array().unwrap().iter().map(|merge| format!("{} {}\n", side(merge, 0), side(merge, 1)));
    write("merges.txt", lines.collect());
    write("vocab.json", model["vocab"].to_string());
    let of_pair = Tokenizer::load(folder.path()).unwrap();
    assert_eq!(of_pair.added(), tokenizer.added());
    for case in file["cases"].as_array().unwrap() {
        let ids = of_pair.encode(case[0].as_str().unwrap().as_bytes(), Specials::All).unwrap();
        assert_eq!(json!(ids), case[1], "{}", case[0]);
        assert_eq!(of_pair.decode(&ids), tokenizer.decode(&ids));
    }
    // White space is no token of GPT-1's, and no token ends its texts.
    let stop = encode(&tokenizer, ".").into_iter().map(|id| id as i32).collect::<Vec<_>>();
    assert_eq!((stop.len(), prompt_ids(&tokenizer, "", false, 300).unwrap()), (1, stop));
    write("vocab.json", model["vocab"].to_string().replace("<unk>", "<|unknown|>"));
    let error = Tokenizer::load(folder.path()).map(drop).unwrap_err().to_string();
    assert!(
        error.contains("merges.txt: the merges: ends of words are marked with </w>, but <unk> is not in vocab.json"),
        "{error}"
    );
}

/// What is put before the first word of a text is not put before those after an added token, normalised or not.
#[test]
fn only_the_beginning_of_a_text_is_its_beginning() {
    let (mut file, tokenizer) = variant("mistral");
    let text = "the crow</s>the fox<s>";
    let ids = tokenizer.encode(text.as_bytes(), Specials::All).unwrap();
    assert_eq!(tokenizer.decode(&ids).unwrap(), text.as_bytes());
    file["tokenizer"]["normalizer"] = json!({"type": "NFC"});
    let normalised = Tokenizer::from_json(file["tokenizer"].to_string().as_bytes(), Path::new("t.json")).unwrap();
    assert_eq!(normalised.encode(text.as_bytes(), Specials::All).unwrap(), ids);
}

/// Bytes put in, taken out and exchanged, in the parts before the vocabulary too.
#[test]
fn no_change_of_a_file_makes_it_panic() {
    let mut random = Random(7);
    let text = "The crow's <|endoftext|> \u{2581}tale\n\n 1234 \u{98a8}\u{0} it'S";
    for name in VARIANTS {
        let (file, _) = variant(name);
        let json = file["tokenizer"].to_string().into_bytes();
        for _ in 0..60 {
            let mut changed = json.clone();
            for _ in 0..=random.below(3) {
                let within = if random.below(2) == 0 { 1200 } else { changed.len() };
                let at = random.below(within).min(changed.len() - 1);
                match random.below(3) {
                    0 => changed[at] = b"0\"a{}[],:\\-\xff"[random.below(12)],
                    1 => drop(changed.remove(at)),
                    _ => changed.insert(at, json[random.below(json.len())]),
                }
            }
            if let Ok(tokenizer) = Tokenizer::from_json(&changed, Path::new("t.json")) {
                let ids = tokenizer.encode(text.as_bytes(), Specials::All);
                ids.map(|ids| tokenizer.decode(&ids).unwrap()).ok();
                tokenizer.cut(text, 3, Specials::None);
            }
        }
    }
}

fn error_of(content: &[u8]) -> Option<String> {
    Tokenizer::from_json(content, Path::new("t.json")).err().map(|error| error.to_string())
}

#[test]
fn broken_json_is_named_by_line_and_column() {
    let error = error_of(b"{\n \"model\": {\"vocab\": {\"a\": -1}}}").unwrap();
    assert!(error.starts_with("t.json:2:") && error.contains("-1"), "{error}");
    let lists = "[".repeat(100_000);
    let nested = "{\"pre_tokenizer\":".to_owned() + &"{\"type\":\"\",\"pretokenizers\":[".repeat(50_000);
    for hostile in [lists.clone(), format!("{{\"pre_tokenizer\":{lists}"), format!("{{\"x\":{lists}"), nested] {
        let error = error_of(hostile.as_bytes()).unwrap();
        assert!(error.starts_with("t.json:1:"), "{error}");
    }
}

#[test]
fn every_prefix_is_an_error_and_bit_flips_never_panic() {
    let small = train(b"ab ab ab", 259, &["<|endoftext|>"]).to_json().to_string().into_bytes();
    for end in 0..small.len() {
        assert!(error_of(&small[..end]).is_some(), "prefix of {end} bytes");
    }
    for at in 0..small.len() {
        for bit in 0..8 {
            let mut flipped = small.clone();
            flipped[at] ^= 1 << bit;
            if let Ok(tokenizer) = Tokenizer::from_json(&flipped, Path::new("t.json")) {
                let ids = tokenizer.encode("ab \0é<|endoftext|>".as_bytes(), Specials::All);
                ids.map(|ids| tokenizer.decode(&ids).unwrap()).ok();
            }
        }
    }
}

#[test]
fn wrong_items_are_named() {
    let good = train(b"ab ab ab abab abab", 262, &["<|endoftext|>"]).to_json();
    assert_eq!(error_of(good.to_string().as_bytes()), None);
    let changed = |pointer: &str, value: Value| {
        let mut json = good.clone();
        let (parent, key) = pointer.rsplit_once('/').unwrap();
        match json.pointer_mut(parent).unwrap() {
            Value::Array(list) => list[key.parse::<usize>().unwrap()] = value,
            parent => parent[key] = value,
        }
        error_of(json.to_string().as_bytes()).unwrap_or_default()
    };
    #[rustfmt::skip]
    let wrong = [
        ("/model/merges/1", json!("Ġ zz"), "t.json: merge 1 (\"Ġ\" \"zz\"): token \"zz\" is not in the vocabulary"),
        ("/model/merges/1", json!("a a"), "t.json: merge 1 (\"a\" \"a\"): merge 1 makes a token that is not in the vocabulary"),
        ("/model/merges/1", json!("a b"), "t.json: merge 1 (\"a\" \"b\"): merge 1 repeats an earlier one"),
        ("/model/merges/1", json!("ab"), "expected a merge"),
        ("/model/vocab/a", json!(0), "t.json: model.vocab: tokens \"!\" and \"a\" have one id, 0"),
        ("/model/vocab/a", json!(4_000_000_000_u32), "t.json: model.vocab: token \"a\" has id 4000000000; "),
        ("/added_tokens/0/id", json!(5), "t.json: added token \"<|endoftext|>\": has id 5, but "),
        ("/normalizer", json!({"type": "Precompiled"}), "t.json: normalizer: \"Precompiled\" is not supported; expected NFC, "),
        ("/normalizer", json!({"type": "Replace", "pattern": {"Regex": "(a"}}), "t.json: normalizer: the pattern \"(a\" is not supported: "),
        ("/normalizer", json!({"type": "Replace"}), "t.json: normalizer: \"Replace\" has no pattern"),
        ("/pre_tokenizer", json!({"type": "UnicodeScripts"}), "t.json: pre_tokenizer: \"UnicodeScripts\" is not supported; expected ByteLevel, "),
        ("/pre_tokenizer", json!({"type": "Split", "pattern": {"String": "a"}, "behavior": "x"}), "t.json: pre_tokenizer.behavior: found \"x\""),
        ("/pre_tokenizer", json!({"type": "Metaspace", "prepend_scheme": "x"}), "t.json: Metaspace.prepend_scheme: found \"x\""),
        ("/pre_tokenizer", Value::Null, "t.json: decoder: \"ByteLevel\" is not supported; expected BPEDecoder"),
        ("/model/unk_token", json!("<x>"), ""),
        ("/model/type", json!("Unigram"), "t.json: model.type: \"Unigram\" is not supported; expected \"BPE\", \"WordPiece\" or \"WordLevel\"; token ids can be used without"),
        ("/model/type", json!("WordLevel"), "t.json: pre_tokenizer: a WordLevel model"),
        ("/model/dropout", json!(0.1), "t.json: model.dropout:"),
        ("/model/vocab", json!([["a", -1.0]]), "expected an object of tokens and ids"),
    ];
    for (pointer, value, expected) in wrong {
        let error = changed(pointer, value);
        assert!(error.contains(expected), "{pointer}: {error}");
    }
    let twice = good.to_string().replace("\"vocab\":{", "\"vocab\":{\"a\":7,");
    let error = error_of(twice.as_bytes()).unwrap();
    assert!(error.contains("token \"a\" occurs twice, with ids 7 and 64"), "{error}");
}

#[test]
fn broken_vocab_and_merges_files_are_named() {
    let folder = tempfile::tempdir().unwrap();
    let tokenizer = train(b"ab ab ab abab", 260, &["<|endoftext|>"]);
    tokenizer.save_vocab_and_merges(folder.path()).unwrap();
    let loaded = Tokenizer::load(folder.path()).unwrap();
    assert_eq!(loaded.end_of_text(), tokenizer.end_of_text());
    let expect = |name: &str, content: &str, expected: &str| {
        std::fs::write(folder.path().join(name), content).unwrap();
        let error = Tokenizer::load(folder.path()).map(drop).unwrap_err().to_string();
        assert!(error.contains(expected), "{error}");
    };
    expect("merges.txt", "#version: 0.2\na b\r\nab\n", "merges.txt: line 3: found \"ab\"; expected two tokens");
    expect("merges.txt", "a b\nĠ q\n", "merges.txt: merge 1 (\"Ġ\" \"q\"): merge 1 makes a token that");
    expect("vocab.json", "{\"a\": 0,\n \"b\": x}", "vocab.json:2:");
    expect("merges.txt", "", "vocab.json:2:");
    expect("vocab.json", "{\"a\": 0, \"b\": 0}", "vocab.json: model.vocab: tokens \"a\" and \"b\" have one id, 0");
    expect("tokenizer_config.json", "{", "tokenizer_config.json:1:");
}

/// Tokens of real text are grouped to words as by transformers' collator for whole-word masking; see make_word_groups.py.
#[test]
fn words_to_mask_are_the_peers() {
    let file = read_json(&golden("variants/bert.json"))["tokenizer"].to_string();
    let tokenizer = Tokenizer::from_json(file.as_bytes(), Path::new("bert.json")).unwrap();
    let config = MaskingConfig { whole_word: true, ..MaskingConfig::default() };
    let masking = Masking::new(&config, &tokenizer, tokenizer.vocab_size(), Separators::Kept).unwrap();
    let numbers = |list: &Value| list.as_array().unwrap().iter().map(|n| n.as_i64().unwrap() as i32).collect::<Vec<_>>();
    let mut long = 0;
    for case in read_json(&golden("word_groups.json"))["cases"].as_array().unwrap() {
        let (ids, expected) = (numbers(&case["ids"]), numbers(&case["words"]));
        let mut found = vec![-1; ids.len()];
        for (word, number) in masking.words(&ids).into_iter().zip(1..) {
            long += usize::from(word.len() > 1);
            found[word].fill(number);
        }
        assert_eq!(found, expected);
    }
    assert!(long > 50, "{long}");
}

/// Trained vocabularies are the peer's, number by number; see make_word_piece.py.
#[test]
fn word_pieces_are_merged_as_by_the_peer() {
    for case in read_json(&golden("word_piece.json"))["cases"].as_array().unwrap() {
        let name = case["text"].as_str().unwrap();
        let path = if name == "corpus.txt" { golden(name) } else { golden("../../..").join(name) };
        let text = std::fs::read_to_string(path).unwrap();
        let vocab_size = case["vocab_size"].as_u64().unwrap() as usize;
        let mut trainer = WordPieceTrainer::new(WordPieceOptions { vocab_size, ..WordPieceOptions::default() });
        trainer.add(&text).unwrap();
        let json = trainer.train().unwrap().to_json();
        let mut tokens: Vec<(u64, &String)> =
            json["model"]["vocab"].as_object().unwrap().iter().map(|(text, id)| (id.as_u64().unwrap(), text)).collect();
        tokens.sort_unstable();
        let expected: Vec<&str> = case["tokens"].as_array().unwrap().iter().map(|text| text.as_str().unwrap()).collect();
        assert_eq!(tokens.into_iter().map(|(_, text)| text).collect::<Vec<_>>(), expected);
    }
    let error = |vocab_size| {
        let mut trainer = WordPieceTrainer::new(WordPieceOptions { vocab_size, ..WordPieceOptions::default() });
        trainer.add("abc cab").unwrap();
        trainer.train().map(|_| ()).map_err(|error| error.to_string())
    };
    assert!(error(10).unwrap_err().ends_with("6 characters that begin or continue words; use at least 11"));
    assert_eq!(error(11), Ok(()));
}

/// A trained WordPiece and BERT's list of its tokens give the same ids, and are written again as they were.
#[test]
fn a_list_of_tokens_is_a_tokenizer() {
    let mut trainer = WordPieceTrainer::new(WordPieceOptions { vocab_size: 200, ..WordPieceOptions::default() });
    let text = std::fs::read_to_string(golden("corpus.txt")).unwrap();
    let text: String = text.chars().filter(char::is_ascii).collect();
    trainer.add(&text).unwrap();
    let trained = trainer.train().unwrap();
    let folders = [(); 3].map(|()| tempfile::tempdir().unwrap());
    let [json, list, again] = folders.each_ref().map(tempfile::TempDir::path);
    trained.save(json, Some(64)).unwrap();
    assert!(Tokenizer::is_as_trained(json));
    let config = read_json(&json.join("tokenizer_config.json"));
    assert_eq!(
        (&config["mask_token"], &config["cls_token"], &config["model_max_length"]),
        (&json!("[MASK]"), &json!("[CLS]"), &json!(64))
    );
    let vocab = trained.to_json()["model"]["vocab"].as_object().unwrap().clone();
    let mut lines = vec![String::new(); vocab.len()];
    vocab.iter().for_each(|(text, id)| lines[id.as_u64().unwrap() as usize] = format!("{text}\n"));
    assert!(!Tokenizer::is_in(list));
    std::fs::write(list.join("vocab.txt"), lines.concat()).unwrap();
    let listed = Tokenizer::load(list).unwrap();
    listed.save(again, None).unwrap();
    for tokenizer in
        [Tokenizer::load(json).unwrap(), Tokenizer::load(&list.join("vocab.txt")).unwrap(), Tokenizer::load(again).unwrap()]
    {
        let ids = |text: &str| tokenizer.with_template(&tokenizer.encode(text.as_bytes(), Specials::All).unwrap()).unwrap();
        let expected = trained.with_template(&trained.encode(text.as_bytes(), Specials::All).unwrap()).unwrap();
        assert_eq!(ids(&text), expected);
        assert!(ids("The SEED [MASK].").starts_with(&[2]) && ids("The SEED [MASK].").contains(&4) && ids("").ends_with(&[3]));
        assert_eq!(tokenizer.end_of_text(), Some(3));
    }
    std::fs::write(list.join("tokenizer_config.json"), "{\"do_lower_case\": false}").unwrap();
    let cased = Tokenizer::load(list).unwrap();
    assert_eq!(cased.encode(b"The", Specials::None).unwrap(), [1], "upper case is unknown");
    std::fs::write(list.join("vocab.txt"), "[UNK]\nx\nx\n").unwrap();
    let error = Tokenizer::load(list).unwrap_err().to_string();
    assert!(error.ends_with("vocab.txt: line 3: token \"x\" occurs before; expected every token once"), "{error}");
}
