//! `preprocessor_config.json` as libFuzzer makes it up: reading must refuse it or give a processor that is read again as it was written and makes small images of small
//! images, without a panic and without a hang.
//!
//! `cd tests/fuzz && cargo run --release --bin processor -- -max_len=200 -runs=1000000`. The first byte chooses the class and whether the rest stands in an object. A
//! failure leaves a file `crash-…`, which is run again as `cargo run --release --bin processor -- crash-…`.

#![no_main]

use std::path::Path;

use libfuzzer_sys::fuzz_target;
use samara::vision::image::Image;
use samara::vision::processor::Processor;

/// Words from which a file is put together: a byte below their number stands for one, any other for itself.
#[rustfmt::skip]
const WORDS: [&str; 48] = [
    "\"image_processor_type\":", "\"feature_extractor_type\":", "\"ViTImageProcessor\"", "\"DeiTFeatureExtractor\"", "\"CLIPImageProcessorFast\"",
    "\"ConvNextImageProcessor\"", "\"DetrImageProcessorPil\"", "\"size\":", "\"height\":", "\"width\":", "\"shortest_edge\":", "\"longest_edge\":",
    "\"max_height\":", "\"max_width\":", "\"max_size\":", "\"crop_pct\":", "\"crop_size\":", "\"do_center_crop\":", "\"do_resize\":", "\"do_rescale\":",
    "\"do_normalize\":", "\"do_pad\":", "\"pad_size\":", "\"rescale_factor\":", "\"image_mean\":", "\"image_std\":", "\"resample\":", "\"do_convert_rgb\":",
    "{", "}", "[", "]", ",", "null", "true", "false", "0", "1", "2", "8", "64", "8192", "0.5", "1e-300", "1e308", "-1", "9223372036854775808", "\"x\":",
];
const CLASSES: [&str; 6] = ["ViT", "DeiT", "CLIP", "ConvNext", "Detr", "Vilt"];
/// Height and width of images, and the most pixels of a result that is made.
const IMAGES: [[usize; 2]; 4] = [[1, 1], [1, 3000], [2000, 1], [5, 7]];
const MOST: usize = 1 << 14;

/// The text that bytes stand for.
fn text(bytes: &[u8]) -> Vec<u8> {
    bytes.iter().flat_map(|byte| WORDS.get(usize::from(*byte)).map_or(std::slice::from_ref(byte), |word| word.as_bytes()).to_vec()).collect()
}

fuzz_target!(|bytes: &[u8]| {
    let Some((&how, bytes)) = bytes.split_first() else { return };
    let head = format!("{{\"image_processor_type\":\"{}ImageProcessor\",", CLASSES[usize::from(how) % 6]);
    let whole = [head.as_bytes(), &text(bytes), b"}"].concat();
    let text = if how & 128 == 0 { whole } else { text(bytes) };
    let path = Path::new("fuzz.json");
    let processor = match Processor::parse(path, &text) {
        Ok(processor) => processor,
        Err(error) => {
            assert!(error.to_string().starts_with("fuzz.json"), "{error}");
            return;
        }
    };
    let again = Processor::parse(path, processor.to_json().to_string().as_bytes());
    assert_eq!(again.expect("what was written"), processor);
    let size = processor.size();
    for image in IMAGES.map(Image::black) {
        let expected = size.unwrap_or_else(|| processor.unpadded(image.size()));
        if expected[0].saturating_mul(expected[1]) <= MOST {
            assert_eq!(processor.shape(&image).size(), expected);
        }
    }
});
