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
