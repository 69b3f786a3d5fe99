//! What a step draws for its pairs: others that they do not belong to, and the patches that are seen. Draws are functions of the seed and of the row, which
//! counts all rows of a run.

use samara_core::math::rng::{Purpose, Rng};

use super::places::Places;

/// What draws are for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Draw {
    /// The image of a pair.
    Image,
    /// The patches that are seen with a masked text.
    MaskedPatches,
    /// The patches that are seen with a whole text.
    Patches,
    /// The texts of an image.
    Texts,
}

/// The draws of a row.
pub fn draws(seed: u64, row: u64, of: Draw) -> Rng {
    Rng::new(seed, Purpose::Pairing, 4 * row + of as u64)
}

/// Whether two pairs have one image or equal captions: rows of `same` (pairs, 2), the number of the image and of the first equal caption; negative is none.
pub fn are_same(a: &[i32], b: &[i32]) -> bool {
    a.iter().zip(b).any(|(a, b)| a == b && *a >= 0)
}

/// At most `count` pairs that have neither image nor caption of pair `own`, each at most once, every one with the same probability.
pub fn others(rng: &mut Rng, own: usize, same: &[[i32; 2]], count: usize) -> Vec<usize> {
    let Some(row) = same.get(own) else { return Vec::new() };
    let mut others: Vec<usize> = (0..same.len()).filter(|&other| other != own && !are_same(row, &same[other])).collect();
    draw(rng, &mut others, count);
    others
}

/// All patches of a grid, or `most` of them in their order, every one with the same probability.
pub fn seen(rng: &mut Rng, grid: [usize; 2], most: usize) -> Places {
    let mut places = Places::all(grid);
    if places.seen.len() > most {
        draw(rng, &mut places.seen, most);
        places.seen.sort_unstable();
    }
    places
}

/// Keeps `count` of all, by the first steps of a shuffle.
fn draw(rng: &mut Rng, all: &mut Vec<usize>, count: usize) {
    for at in 0..count.min(all.len()) {
        let other = at + rng.below((all.len() - at) as u64) as usize;
        all.swap(at, other);
    }
    all.truncate(count);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn others_share_neither_image_nor_caption() {
        let same = [[0, 0], [1, 1], [0, 2], [3, 1], [-1, -1], [5, 5]];
        let mut counts = [0; 6];
        for row in 0..3000 {
            let found = others(&mut draws(3, row, Draw::Image), 1, &same, 2);
            assert_eq!(found, others(&mut draws(3, row, Draw::Image), 1, &same, 2));
            assert!(found.len() == 2 && found[0] != found[1]);
            found.into_iter().for_each(|other| counts[other] += 1);
        }
        // Two of 0, 2, 4 and 5.
        assert_eq!([counts[1], counts[3]], [0; 2]);
        assert!([0, 2, 4, 5].iter().all(|&other| (1400..1600).contains(&counts[other])), "{counts:?}");
        assert!(others(&mut draws(3, 0, Draw::Image), 0, &same[..1], 2).is_empty());
    }

    #[test]
    fn patches_are_seen_with_one_probability_and_in_order() {
        let mut counts = [0; 12];
        for row in 0..3000 {
            let places = seen(&mut draws(1, row, Draw::Patches), [3, 4], 5);
            assert!(places.seen.len() == 5 && places.seen.is_sorted_by(|a, b| a < b));
            places.seen.iter().for_each(|&patch| counts[patch] += 1);
        }
        assert!(counts.iter().all(|&count| (1130..1370).contains(&count)), "{counts:?}");
        assert_eq!(seen(&mut draws(1, 0, Draw::Patches), [3, 4], 12), Places::all([3, 4]));
    }
}
