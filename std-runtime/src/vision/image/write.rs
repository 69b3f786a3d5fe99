//! Images as PNG files.

use std::io::Cursor;
use std::path::Path;

use image::{ImageFormat, RgbImage};

use super::Image;
use crate::files::IoError;
use crate::run::durable;

/// The content of a PNG file.
pub fn png(image: &Image) -> Vec<u8> {
    let [height, width] = image.size();
    let mut bytes = Cursor::new(Vec::new());
    if let Some(image) = RgbImage::from_raw(width as u32, height as u32, image.pixels().to_vec()) {
        // Memory takes everything.
        let written = image.write_to(&mut bytes, ImageFormat::Png);
        debug_assert!(written.is_ok(), "{written:?}");
    }
    bytes.into_inner()
}

/// Writes a PNG file.
///
/// # Errors
/// The operating system refuses.
pub fn write(path: &Path, image: &Image) -> Result<(), IoError> {
    durable::write(path, &png(image)).map_err(IoError::at(path, "write"))
}

/// An image as the address of a page of HTML that contains it.
pub fn data_uri(image: &Image) -> String {
    format!("data:image/png;base64,{}", base64(&png(image)))
}

/// Base64 of RFC 4648, with padding.
fn base64(bytes: &[u8]) -> String {
    const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut text = String::with_capacity(bytes.len().div_ceil(3) * 4);
    for chunk in bytes.chunks(3) {
        let at = |i: usize| chunk.get(i).copied().map_or(0, u32::from);
        let word = at(0) << 16 | at(1) << 8 | at(2);
        let digits =
            (0..4).map(|i| if i <= chunk.len() { char::from(DIGITS[(word >> (18 - 6 * i) & 63) as usize]) } else { '=' });
        text.extend(digits);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::base64;

    /// RFC 4648, section 10.
    #[test]
    fn base64_of_the_standards_examples() {
        let all = ["", "f", "fo", "foo", "foob", "fooba", "foobar"].map(|text| base64(text.as_bytes()));
        assert_eq!(all, ["", "Zg==", "Zm8=", "Zm9v", "Zm9vYg==", "Zm9vYmE=", "Zm9vYmFy"]);
    }
}
