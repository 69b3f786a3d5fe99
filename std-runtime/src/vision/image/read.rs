//! Image files: PNG, JPEG, GIF (the first picture), BMP and WebP as RGB.
//!
//! The orientation of EXIF or XMP is applied, so that an image is as viewers show it. Transparency is composited on white, with Pillow's rounding, as `transformers`
//! does. Values of 16 bits are scaled to 8 (Pillow cuts them off at 255 where they are grey). Grey becomes three equal channels, a palette its colours, CMYK
//! RGB. Files are only read.

use std::fs;
use std::io::Cursor;
use std::path::Path;

use image::metadata::Orientation;
use image::{DynamicImage, ImageDecoder, ImageError, ImageFormat, ImageReader, Limits};

use super::Image;
use crate::files::{FileError, IoError, refuse_device};

/// What an image may be.
#[derive(Clone, Copy, Debug)]
pub struct ImageLimits {
    /// The largest height and width.
    pub side: u32,
    /// The largest number of pixels.
    pub pixels: u64,
    /// Bytes of memory that a decoder may take.
    pub decoder: u64,
}

impl ImageLimits {
    /// Those of files: 2²⁷ pixels are 384 MiB of RGB.
    pub const FILES: Self = Self { side: 32_768, pixels: 1 << 27, decoder: 1 << 30 };
}

/// The largest file.
const FILE_BYTES: u64 = 1 << 30;

const EXPECTED: &str = "a PNG, JPEG, GIF, BMP or WebP image";

/// Whether a name ends like that of a supported image.
pub fn is_image_name(path: &Path) -> bool {
    const ENDS: [&str; 6] = ["png", "jpg", "jpeg", "gif", "bmp", "webp"];
    path.extension().and_then(|end| end.to_str()).is_some_and(|end| ENDS.iter().any(|known| end.eq_ignore_ascii_case(known)))
}

/// Reads an image file.
///
/// # Errors
/// A file that cannot be read, is empty, truncated or damaged, of another format, or larger than the limits.
pub fn read(path: &Path) -> Result<Image, FileError> {
    decode(path, bytes(path)?)
}

/// Height and width of an image file as [`read`] returns them, from its first bytes alone.
///
/// # Errors
/// A file that cannot be read, or does not begin as an image.
pub fn size(path: &Path) -> Result<[usize; 2], FileError> {
    let metadata = fs::metadata(path).map_err(IoError::at(path, "read"))?;
    refuse_device(path, &metadata)?;
    let wrong = |found: String| FileError::format(path, EXPECTED, found);
    let reader = ImageReader::open(path).and_then(ImageReader::with_guessed_format).map_err(IoError::at(path, "read"))?;
    let mut decoder = reader.into_decoder().map_err(|error| wrong(error.to_string()))?;
    let (width, height) = decoder.dimensions();
    let size = [height as usize, width as usize];
    let is_turned = matches!(
        orientation(&mut decoder),
        Orientation::Rotate90 | Orientation::Rotate270 | Orientation::Rotate90FlipH | Orientation::Rotate270FlipH
    );
    Ok(if is_turned { [size[1], size[0]] } else { size })
}

/// The content of an image file.
///
/// # Errors
/// A file that cannot be read, or is larger than the limit.
pub fn bytes(path: &Path) -> Result<Vec<u8>, FileError> {
    let metadata = fs::metadata(path).map_err(IoError::at(path, "read"))?;
    refuse_device(path, &metadata)?;
    if metadata.is_dir() {
        return Err(FileError::format(path, EXPECTED, "a folder"));
    }
    if metadata.len() > FILE_BYTES {
        return Err(FileError::format(path, format!("at most {FILE_BYTES} bytes of an image"), metadata.len().to_string()));
    }
    Ok(fs::read(path).map_err(IoError::at(path, "read"))?)
}

/// Decodes the content of an image file; errors call it `path`.
///
/// # Errors
/// As [`read`].
pub fn decode(path: &Path, bytes: Vec<u8>) -> Result<Image, FileError> {
    decode_within(path, bytes, &ImageLimits::FILES)
}

/// The same within limits.
///
/// # Errors
/// As [`read`].
pub fn decode_within(path: &Path, bytes: Vec<u8>, limits: &ImageLimits) -> Result<Image, FileError> {
    if bytes.is_empty() {
        return Err(FileError::format(path, EXPECTED, "an empty file"));
    }
    let wrong = |error: ImageError| FileError::format(path, format!("{EXPECTED} that is whole"), error.to_string());
    let Ok(format) = image::guess_format(&bytes) else { return Err(FileError::format(path, EXPECTED, first_bytes(&bytes))) };
    if !matches!(format, ImageFormat::Png | ImageFormat::Jpeg | ImageFormat::Gif | ImageFormat::Bmp | ImageFormat::WebP) {
        return Err(FileError::format(path, format!("{EXPECTED}; convert it"), format!("{format:?}")));
    }
    if format == ImageFormat::Jpeg && !jpeg_has_end(&bytes) {
        return Err(FileError::format(path, "a whole JPEG image", "a file that ends before the image"));
    }
    let mut reader = ImageReader::with_format(Cursor::new(bytes), format);
    reader.limits(limits.of_decoder());
    let mut decoder = reader.into_decoder().map_err(|error| limits.refuse(path, &error).unwrap_or_else(|| wrong(error)))?;
    let (width, height) = decoder.dimensions();
    if u64::from(width) * u64::from(height) > limits.pixels {
        let expected = format!("an image of at most {} pixels", limits.pixels);
        return Err(FileError::format(path, expected, format!("{width} x {height}")));
    }
    if width == 0 || height == 0 {
        return Err(FileError::format(path, "an image with pixels", format!("{width} x {height}")));
    }
    let orientation = orientation(&mut decoder);
    let mut image = DynamicImage::from_decoder(decoder).map_err(wrong)?;
    image.apply_orientation(orientation);
    let size = [image.height() as usize, image.width() as usize];
    Image::new(size, on_white(image)).ok_or_else(|| FileError::format(path, EXPECTED, "an image without all of its pixels"))
}

/// The orientation of EXIF, or of XMP, as Pillow looks for it; none where they are damaged.
fn orientation(decoder: &mut impl ImageDecoder) -> Orientation {
    // Some programs write the header of a JPEG segment into WebP.
    const HEADER: &[u8] = b"Exif\0\0";
    let exif = decoder.exif_metadata().ok().flatten().unwrap_or_default();
    let exif = Orientation::from_exif_chunk(exif.strip_prefix(HEADER).unwrap_or(&exif));
    let mut xmp = || in_xmp(&decoder.xmp_metadata().ok().flatten()?).and_then(Orientation::from_exif);
    exif.or_else(&mut xmp).unwrap_or(Orientation::NoTransforms)
}

/// The digit after `tiff:Orientation`, an attribute or an element.
fn in_xmp(xmp: &[u8]) -> Option<u8> {
    const KEY: &[u8] = b"tiff:Orientation";
    let at = xmp.windows(KEY.len()).position(|window| window == KEY)?;
    let digit = match xmp.get(at + KEY.len()..)? {
        [b'=', b'"' | b'\'', digit, ..] | [b'>', digit, ..] => digit,
        _ => return None,
    };
    digit.checked_sub(b'0').filter(|digit| (1..=8).contains(digit))
}

impl ImageLimits {
    fn of_decoder(&self) -> Limits {
        let mut limits = Limits::no_limits();
        (limits.max_image_width, limits.max_image_height) = (Some(self.side), Some(self.side));
        limits.max_alloc = Some(self.decoder);
        limits
    }

    fn refuse(&self, path: &Path, error: &ImageError) -> Option<FileError> {
        let expected = || format!("an image of at most {0} x {0} pixels and {1} in all", self.side, self.pixels);
        matches!(error, ImageError::Limits(_)).then(|| FileError::format(path, expected(), format!("a larger one ({error})")))
    }
}

fn first_bytes(bytes: &[u8]) -> String {
    let shown: Vec<String> = bytes.iter().take(8).map(|byte| format!("{byte:02x}")).collect();
    format!("a file that begins with the bytes {}", shown.join(" "))
}

/// Whether a JPEG has an end marker behind its first scan. The decoder fills the rest of a truncated image with grey.
fn jpeg_has_end(bytes: &[u8]) -> bool {
    const START_OF_SCAN: u8 = 0xda;
    let mut at = 2;
    while let Some(&[0xff, marker, ref rest @ ..]) = bytes.get(at..) {
        let len = match rest {
            // Padding, and markers without a length.
            _ if matches!(marker, 0x01 | 0xd0..=0xd8 | 0xff) => 0,
            &[high, low, ..] => usize::from(u16::from_be_bytes([high, low])),
            _ => return false,
        };
        if marker == START_OF_SCAN {
            return rest.windows(2).any(|pair| pair == [0xff, 0xd9]);
        }
        at += if marker == 0xff { 1 } else { 2 + len };
    }
    // Not as expected: the decoder says what is wrong.
    true
}

/// The pixels in RGB (H, W, 3), transparency on white.
fn on_white(image: DynamicImage) -> Vec<u8> {
    if image.color().has_alpha() {
        return image.into_rgba8().as_chunks().0.iter().flat_map(|&pixel| opaque(pixel)).collect();
    }
    image.into_rgb8().into_raw()
}

/// A pixel on white, as Pillow's `alpha_composite` rounds it.
fn opaque([r, g, b, alpha]: [u8; 4]) -> [u8; 3] {
    const BITS: u32 = 7;
    [r, g, b].map(|value| {
        let (over, under) = (u32::from(alpha) << BITS, u32::from(255 - alpha) << BITS);
        let sum = u32::from(value) * over + 255 * under + (0x80 << BITS);
        ((((sum >> 8) + sum) >> 8) >> BITS) as u8
    })
}
