//! Image files, image processors and position embeddings against Pillow, `transformers` and PyTorch (`tests/golden/images`).

use std::fs;
use std::path::{Path, PathBuf};

use safetensors::SafeTensors;
use samara::vision::data::rand_augment::Operation;
use samara::vision::image::Image;
use samara::vision::image::read::{decode, is_image_name, read};
use samara::vision::image::resize::{Filter, resize};
use samara::vision::positions::PositionResize;
use samara::vision::processor::Processor;
use samara_tests::golden::path;

fn folder() -> PathBuf {
    path("images")
}

fn files(folder: &Path) -> Vec<PathBuf> {
    let mut files: Vec<PathBuf> = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    files.retain(|path| path.is_file());
    files.sort();
    files
}

/// Calls `check` with the name of every golden tensor that begins like this, split at points, its shape and its bytes.
fn each_golden(beginning: &str, mut check: impl FnMut(&[&str], &[usize], &[u8])) {
    let bytes = fs::read(folder().join("golden.safetensors")).unwrap();
    let golden = SafeTensors::deserialize(&bytes).unwrap();
    let mut seen = 0;
    for (name, tensor) in golden.tensors() {
        if let Some(rest) = name.strip_prefix(beginning) {
            check(&rest.split('.').collect::<Vec<_>>(), tensor.shape(), tensor.data());
            seen += 1;
        }
    }
    assert!(seen > 0, "no golden tensor {beginning}");
}

fn floats(bytes: &[u8]) -> Vec<f32> {
    bytes.as_chunks().0.iter().map(|&bytes| f32::from_le_bytes(bytes)).collect()
}

/// The largest difference between an image and golden pixels.
fn apart(image: &Image, shape: &[usize], pixels: &[u8]) -> u8 {
    assert_eq!(image.size()[..], shape[..2]);
    image.pixels().iter().zip(pixels).map(|(a, b)| a.abs_diff(*b)).max().unwrap_or(0)
}

#[test]
fn files_are_decoded_as_pillow_and_transformers_do() {
    each_golden("rgb.", |name, shape, pixels| {
        let name = name.join(".");
        let image = read(&folder().join("files").join(&name)).unwrap();
        // Decoders of JPEG differ in the last digits.
        let most = if name.ends_with(".jpg") { 3 } else { 0 };
        let apart = apart(&image, shape, pixels);
        assert!(apart <= most, "{name}: {apart} levels apart");
    });
    assert!(is_image_name(Path::new("a.b/c.JPeg")) && !is_image_name(Path::new("png")));
}

#[test]
fn broken_files_are_refused_by_name() {
    for path in files(&folder().join("files/broken")) {
        let error = read(&path).expect_err(&path.display().to_string()).to_string();
        assert!(error.starts_with(&format!("{}: expected ", path.display())), "{error}");
    }
    let error = read(&folder()).unwrap_err().to_string();
    assert!(error.contains("found a folder"), "{error}");
    assert!(read(Path::new("absent.png")).unwrap_err().to_string().contains("absent.png"));
}

#[test]
fn a_file_that_ends_anywhere_is_refused_or_read_without_a_panic() {
    for name in ["photo.png", "photo.jpg", "photo.webp", "photo.bmp", "photo.gif", "cmyk.jpg"] {
        let whole = fs::read(folder().join("files").join(name)).unwrap();
        for end in (0..whole.len()).step_by(17) {
            let _ = decode(Path::new(name), whole[..end].to_vec());
            let mut damaged = whole.clone();
            damaged[end] ^= 0x55;
            let _ = decode(Path::new(name), damaged);
        }
    }
}

#[test]
fn resizing_has_pillows_bits() {
    let photo = read(&folder().join("files/photo.png")).unwrap();
    each_golden("resize.", |name, shape, pixels| {
        let filter = Filter::of_number(name[0].parse().unwrap()).unwrap();
        let resized = resize(&photo, [shape[0], shape[1]], filter);
        assert_eq!(apart(&resized, shape, pixels), 0, "{filter:?} {shape:?}");
    });
}

#[test]
fn processors_have_the_bits_of_transformers() {
    let processor = |kind: &str| Processor::read(&folder().join("processors").join(kind)).unwrap().unwrap();
    each_golden("shaped.", |name, shape, pixels| {
        let image = read(&folder().join("files").join(name[1..].join("."))).unwrap();
        assert_eq!(apart(&processor(name[0]).shape(&image), shape, pixels), 0, "{name:?}");
    });
    each_golden("pixels.", |name, _, bytes| {
        let image = read(&folder().join("files").join(name[1..].join("."))).unwrap();
        let processor = processor(name[0]);
        let (shaped, values) = (processor.shape(&image), processor.values());
        assert_eq!(processor.size(), Some(shaped.size()));
        let computed = shaped.pixels().iter().enumerate().map(|(i, &byte)| values.of(i % 3, byte));
        let apart = computed.zip(floats(bytes)).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
        assert!(apart <= 2e-7, "{name:?}: {apart}");
    });
}

#[test]
fn processors_with_padding_have_the_bits_of_transformers() {
    let bytes = fs::read(folder().join("detr.safetensors")).unwrap();
    let golden = SafeTensors::deserialize(&bytes).unwrap();
    let mut seen = 0;
    for (name, tensor) in golden.tensors() {
        let Some((kind, file)) = name.strip_prefix("pixels.").and_then(|rest| rest.split_once('.')) else { continue };
        let processor = Processor::read(&folder().join("processors").join(kind)).unwrap().unwrap();
        let image = read(&folder().join("files").join(file)).unwrap();
        let (shaped, values) = (processor.shape(&image), processor.values());
        let size @ [height, width] = shaped.size();
        assert_eq!(size, processor.unpadded(image.size()), "{name}");
        let [all_high, all_wide] = [tensor.shape()[0], tensor.shape()[1]];
        assert_eq!(processor.pad.unwrap_or(size), [all_high, all_wide], "{name}");
        let mask = golden.tensor(&format!("mask.{kind}.{file}")).unwrap();
        let mask: Vec<bool> = mask.data().chunks(8).map(|value| value[0] != 0).collect();
        for (i, expected) in floats(tensor.data()).into_iter().enumerate() {
            let (channel, y, x) = (i % 3, i / 3 / all_wide, i / 3 % all_wide);
            let inside = y < height && x < width;
            assert_eq!(inside, mask[i / 3], "{name}");
            let found = if inside { values.of(channel, shaped.pixels()[(y * width + x) * 3 + channel]) } else { 0.0 };
            assert!((found - expected).abs() <= 4e-7, "{name} at {y}, {x}: {found} for {expected}");
        }
        seen += 1;
    }
    assert_eq!(seen, 18);
}

#[test]
fn position_embeddings_are_resized_as_by_torch() {
    let mut from = std::collections::BTreeMap::new();
    each_golden("positions.from.", |name, _, bytes| _ = from.insert(name.join("."), floats(bytes)));
    for (word, mode) in
        [("antialias", PositionResize::Antialias), ("bicubic", PositionResize::Bicubic), ("bilinear", PositionResize::Bilinear)]
    {
        each_golden(&format!("positions.{word}."), |name, _, bytes| {
            let sizes: Vec<usize> = name.iter().map(|word| word.parse().unwrap()).collect();
            let grid = &from[&name.join(".")];
            let resized = mode.resize(grid, [sizes[0], sizes[1]], [sizes[2], sizes[3]], 3);
            let expected = floats(bytes);
            assert_eq!(resized.len(), expected.len());
            let apart = resized.iter().zip(&expected).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
            assert!(apart <= 2e-6, "{word} {sizes:?}: {apart}");
        });
    }
}

#[test]
fn operations_of_rand_augment_have_pillows_bits() {
    let photo = read(&folder().join("files/photo.png")).unwrap();
    let size = photo.size();
    let bytes = fs::read(folder().join("operations.safetensors")).unwrap();
    let golden = SafeTensors::deserialize(&bytes).unwrap();
    for (name, tensor) in golden.tensors() {
        let (word, strength) = name.rsplit_once('.').unwrap();
        let x = strength.parse::<f64>().unwrap() / 100.0;
        let operation = match word {
            "shear-x" => Operation::Affine([1.0, x, 0.0, 0.0, 1.0, 0.0]),
            "shear-y" => Operation::Affine([1.0, 0.0, 0.0, x, 1.0, 0.0]),
            "shift-x" => Operation::Affine([1.0, 0.0, x, 0.0, 1.0, 0.0]),
            "shift-y" => Operation::Affine([1.0, 0.0, 0.0, 0.0, 1.0, x]),
            "turn" => Operation::rotation(x, size),
            "brightness" => Operation::Brightness(x as f32),
            "colour" => Operation::Colour(x as f32),
            "contrast" => Operation::Contrast(x as f32),
            "sharpness" => Operation::Sharpness(x as f32),
            "posterize" => Operation::Posterize(x as u32),
            "solarize" => Operation::Solarize(x as u32),
            "autocontrast" => Operation::AutoContrast,
            _ => Operation::Equalize,
        };
        let mut changed = photo.clone();
        operation.apply(changed.pixels_mut(), size[1], &mut Vec::new());
        let different = changed.pixels().iter().zip(tensor.data()).filter(|(a, b)| a != b).count();
        assert_eq!(different, 0, "{name}");
    }
}
