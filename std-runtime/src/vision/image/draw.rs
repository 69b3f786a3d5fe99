//! Rectangles, short texts and heat on images.

use super::{CHANNELS, Image};

/// Red, green and blue.
pub type Colour = [u8; CHANNELS];

/// Colours that are told apart easily, for the classes in turn.
const COLOURS: [Colour; 8] =
    [[230, 60, 60], [40, 170, 60], [60, 90, 230], [235, 150, 20], [170, 60, 200], [0, 160, 170], [200, 40, 120], [110, 110, 20]];

/// The colour of a class.
pub fn colour_of(class: usize) -> Colour {
    COLOURS[class % COLOURS.len()]
}

/// Pixels of a glyph, and its distance to the next.
const GLYPH: [usize; 2] = [5, 3];
const ADVANCE: usize = 4;

/// Five rows of three pixels each, the first in the highest bits.
const GLYPHS: &[(char, u16)] = &[
    ('%', 0b101001010100101),
    ('\'', 0b010010000000000),
    ('(', 0b010100100100010),
    (')', 0b010001001001010),
    ('+', 0b000010111010000),
    (',', 0b000000000010100),
    ('-', 0b000000111000000),
    ('.', 0b000000000000010),
    ('/', 0b001001010100100),
    ('0', 0b111101101101111),
    ('1', 0b010110010010111),
    ('2', 0b110001010100111),
    ('3', 0b110001010001110),
    ('4', 0b101101111001001),
    ('5', 0b111100110001110),
    ('6', 0b011100111101111),
    ('7', 0b111001010010010),
    ('8', 0b111101111101111),
    ('9', 0b111101111001110),
    (':', 0b000010000010000),
    ('A', 0b010101111101101),
    ('B', 0b110101110101110),
    ('C', 0b011100100100011),
    ('D', 0b110101101101110),
    ('E', 0b111100110100111),
    ('F', 0b111100110100100),
    ('G', 0b011100101101011),
    ('H', 0b101101111101101),
    ('I', 0b111010010010111),
    ('J', 0b001001001101010),
    ('K', 0b101101110101101),
    ('L', 0b100100100100111),
    ('M', 0b101111111101101),
    ('N', 0b110101101101101),
    ('O', 0b010101101101010),
    ('P', 0b110101110100100),
    ('Q', 0b010101101010001),
    ('R', 0b110101110101101),
    ('S', 0b011100010001110),
    ('T', 0b111010010010010),
    ('U', 0b101101101101111),
    ('V', 0b101101101101010),
    ('W', 0b101101111111101),
    ('X', 0b101101010101101),
    ('Y', 0b101101010010010),
    ('Z', 0b111001010100111),
    ('_', 0b000000000000111),
];

/// The edge of a rectangle, `thick` pixels inwards. It is cut at the edges of the image.
pub fn rectangle(image: &mut Image, [left, top, right, bottom]: [f64; 4], colour: Colour, thick: usize) {
    let [height, width] = image.size();
    let at = |x: f64, most: usize| x.round().clamp(0.0, most.saturating_sub(1) as f64) as usize;
    let (x0, x1) = (at(left, width), at(right - 1.0, width));
    let (y0, y1) = (at(top, height), at(bottom - 1.0, height));
    for y in y0..=y1 {
        for x in x0..=x1 {
            let depth = (x - x0).min(x1 - x).min(y - y0).min(y1 - y);
            if depth < thick {
                put(image, [y, x], colour);
            }
        }
    }
}

/// A line of text in white on a colour, its left upper corner at (x, y) or as close as it fits. Letters are capitals; unknown characters are blank.
pub fn label(image: &mut Image, [x, y]: [f64; 2], text: &str, colour: Colour, scale: usize) {
    let [height, width] = image.size();
    let extents = [(GLYPH[0] + 2) * scale, (text.chars().count() * ADVANCE + 1) * scale];
    let start = |at: f64, all: usize, extent: usize| at.round().clamp(0.0, all.saturating_sub(extent) as f64) as usize;
    let (top, left) = (start(y, height, extents[0]), start(x, width, extents[1]));
    for dy in 0..extents[0] {
        for dx in 0..extents[1] {
            put(image, [top + dy, left + dx], colour);
        }
    }
    for (i, letter) in text.chars().enumerate() {
        let letter = letter.to_ascii_uppercase();
        let bits = GLYPHS.iter().find(|(known, _)| *known == letter).map_or(0, |(_, bits)| *bits);
        for pixel in (0..GLYPH[0] * GLYPH[1]).filter(|pixel| bits >> (GLYPH[0] * GLYPH[1] - 1 - pixel) & 1 == 1) {
            let (row, column) = (pixel / GLYPH[1] + 1, pixel % GLYPH[1] + 1 + i * ADVANCE);
            for (dy, dx) in (0..scale * scale).map(|k| (k / scale, k % scale)) {
                put(image, [top + row * scale + dy, left + column * scale + dx], [255; 3]);
            }
        }
    }
}

/// Blends values (h, w) from 0 to 1 over an image, bilinearly enlarged: blue where they are 0, red where they are 1.
pub fn heat(image: &mut Image, values: &[f32], [h, w]: [usize; 2]) {
    let [height, width] = image.size();
    let value =
        |y: usize, x: usize| values.get(y.min(h.saturating_sub(1)) * w + x.min(w.saturating_sub(1))).copied().unwrap_or(0.0);
    let along = |i: usize, all: usize, cells: usize| {
        let at = ((i as f32 + 0.5) * cells as f32 / all as f32 - 0.5).clamp(0.0, cells.saturating_sub(1) as f32);
        (at as usize, at.fract())
    };
    for (i, pixel) in image.pixels_mut().chunks_exact_mut(CHANNELS).enumerate() {
        let ((y, v), (x, u)) = (along(i / width.max(1), height, h), along(i % width.max(1), width, w));
        let above = value(y, x) * (1.0 - u) + value(y, x + 1) * u;
        let below = value(y + 1, x) * (1.0 - u) + value(y + 1, x + 1) * u;
        let heat = (above * (1.0 - v) + below * v).clamp(0.0, 1.0);
        let colour = [(2.0 * heat - 0.5).clamp(0.0, 1.0), 1.0 - (2.0 * heat - 1.0).abs(), (1.5 - 2.0 * heat).clamp(0.0, 1.0)];
        for (to, colour) in pixel.iter_mut().zip(colour) {
            *to = (f32::from(*to) * 0.5 + 127.5 * colour) as u8;
        }
    }
}

fn put(image: &mut Image, [y, x]: [usize; 2], colour: Colour) {
    let [height, width] = image.size();
    if y < height && x < width {
        let start = (y * width + x) * CHANNELS;
        image.pixels_mut().iter_mut().skip(start).zip(colour).for_each(|(to, value)| *to = value);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lit(image: &Image) -> Vec<[usize; 2]> {
        let [_, width] = image.size();
        let pixels = image.pixels().chunks_exact(CHANNELS).enumerate();
        pixels.filter(|(_, pixel)| *pixel == [255, 0, 0]).map(|(i, _)| [i / width, i % width]).collect()
    }

    #[test]
    fn a_rectangle_is_its_edge_cut_at_the_image() {
        let mut image = Image::black([4, 5]);
        rectangle(&mut image, [1.0, 0.0, 4.0, 3.0], [255, 0, 0], 1);
        assert_eq!(lit(&image), [[0, 1], [0, 2], [0, 3], [1, 1], [1, 3], [2, 1], [2, 2], [2, 3]]);
        let mut image = Image::black([2, 2]);
        rectangle(&mut image, [-9.0, -9.0, 99.0, 99.0], [255, 0, 0], 9);
        assert_eq!(lit(&image).len(), 4);
    }

    #[test]
    fn text_is_white_on_its_colour_and_stays_in_the_image() {
        let mut image = Image::black([7, 5]);
        label(&mut image, [90.0, 90.0], "l", [255, 0, 0], 1);
        let white: Vec<usize> =
            image.pixels().chunks_exact(CHANNELS).enumerate().filter(|(_, p)| *p == [255; 3]).map(|(i, _)| i).collect();
        assert_eq!(white, [6, 11, 16, 21, 26, 27, 28]);
    }

    #[test]
    fn heat_is_blue_where_it_is_0_and_red_where_it_is_1() {
        let mut image = Image::black([1, 4]);
        heat(&mut image, &[0.0, 1.0], [1, 2]);
        assert_eq!((&image.pixels()[..3], &image.pixels()[9..]), (&[0, 0, 127][..], &[127, 0, 0][..]));
    }
}
