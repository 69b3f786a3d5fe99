//! COCO's files of annotations and detections, as libFuzzer makes them up: reading must refuse them or give what can be evaluated, without a panic and
//! without a hang. Numbers must be from 0 to 1, or −1.
//!
//! `cd tests/fuzz && cargo run --release --bin coco -- -max_len=600 -max_total_time=300`. The first byte chooses `compat` and what stands around the lists; 0xFF
//! separates what stands for annotations from what stands for detections. A failure leaves a file `crash-…`, which is run again as
//! `cargo run --release --bin coco -- crash-…`.

#![no_main]

use std::path::Path;

use libfuzzer_sys::fuzz_target;
use samara::detect::average_precision::evaluate;
use samara::detect::coco::Dataset;

/// Words from which a file is put together: a byte below their number stands for one, any other for itself.
const WORDS: [&str; 36] = [
    "{\"images\":[{\"id\":1},{\"id\":2}],\"categories\":[{\"id\":1,\"name\":\"a\"}],\"annotations\":[",
    "{\"id\":1,\"image_id\":1,\"category_id\":1,\"bbox\":[0,0,9,9],\"area\":81,\"iscrowd\":0}",
    "{\"image_id\":1,\"category_id\":1,\"bbox\":[0,0,9,9],\"score\":0.5}",
    "{\"id\":0,\"image_id\":2,\"category_id\":1,\"bbox\":[",
    "{\"image_id\":2,\"category_id\":1,\"bbox\":[",
    "],\"score\":", "],\"area\":", ",\"iscrowd\":1}", "\"images\":", "\"categories\":", "\"annotations\":", "\"id\":", "\"image_id\":",
    "\"category_id\":", "\"bbox\":", "\"score\":", "\"area\":", "\"iscrowd\":", "\"ignore\":", "\"width\":", "\"height\":", "\"name\":",
    "{", "}", "[", "]", ",", "null", "true", "NaN", "-Infinity", "1e308", "5e-324", "-0.0", "9223372036854775807", "\"\\u0000\"",
];

/// The text that bytes stand for.
fn text(bytes: &[u8]) -> Vec<u8> {
    bytes.iter().flat_map(|byte| WORDS.get(usize::from(*byte)).map_or(std::slice::from_ref(byte), |word| word.as_bytes()).to_vec()).collect()
}

fuzz_target!(|bytes: &[u8]| {
    let Some((&how, bytes)) = bytes.split_first() else { return };
    let mut parts = bytes.splitn(2, |byte| *byte == 0xFF);
    let (annotations, detections) = (text(parts.next().unwrap_or_default()), text(parts.next().unwrap_or_default()));
    let name = Path::new("fuzz.json");
    let whole = [WORDS[0].as_bytes(), &annotations, b"]}"].concat();
    let annotations = if how & 2 == 0 { &annotations } else { &whole };
    let mut dataset = match Dataset::read(annotations.as_slice(), name) {
        Ok(dataset) => dataset,
        Err(error) => {
            assert!(error.to_string().starts_with("fuzz.json"), "{error}");
            return;
        }
    };
    let list = if how & 4 == 0 { detections } else { [b"[", detections.as_slice(), b"]"].concat() };
    let (mut detections, _) = dataset.read_detections(list.as_slice(), name).unwrap_or_default();
    let compat = how & 1 == 1;
    if compat {
        dataset.merge_same_ids();
    }
    let categories = dataset.categories.len();
    let found = evaluate(&mut dataset.annotations, &mut detections, categories, compat).expect("memory");
    assert!(found.stats.iter().all(|x| *x == -1.0 || (0.0..=1.0).contains(x)), "{:?}", found.stats);
    // Sorted once, both stay as they are.
    let again = evaluate(&mut dataset.annotations, &mut detections, categories, compat).expect("memory");
    assert_eq!(found, again);
});
