//! Which detections of an image find which of its objects: greedily, the surest first, as pycocotools does.

use super::boxes::{Annotation, Detection};

/// Number of IoU thresholds.
pub const THRESHOLDS: usize = 10;
/// Detections of one category that count in an image: the surest.
pub const MOST_DETECTIONS: usize = 100;
/// Number of ranges of areas.
pub const RANGES: usize = 4;
/// All objects, small, medium and large ones: least and largest area in pixels², both included.
pub const AREAS: [(f64, f64); RANGES] = [(0.0, 1e10), (0.0, 1024.0), (1024.0, 9216.0), (9216.0, 1e10)];

/// The IoU thresholds .5, .55 to .95, computed as `numpy.linspace(.5, .95, 10)`.
pub fn thresholds() -> [f64; THRESHOLDS] {
    let step = (0.95 - 0.5) / 9.0;
    std::array::from_fn(|i| if i == THRESHOLDS - 1 { 0.95 } else { i as f64 * step + 0.5 })
}

/// A detection after matching.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Matched {
    /// Its confidence.
    pub score: f64,
    /// How many of the same image and category are surer.
    pub rank: u8,
    /// For each range of areas: bit t is set if it found an object at threshold t.
    pub found: [u16; RANGES],
    /// For each range of areas: bit t is set if it counts neither as right nor as wrong at threshold t.
    pub ignored: [u16; RANGES],
}

/// Matches the images of one category, one after the other; its memory is reused.
#[derive(Debug)]
pub struct Matcher {
    thresholds: [f64; THRESHOLDS],
    compat: bool,
    /// Objects that overlap with a detection enough to be found by it.
    near: Vec<(usize, f64)>,
    /// For every object: whether the range of areas ignores it, and the thresholds at which it is found already.
    ignored: Vec<bool>,
    taken: Vec<u16>,
}

impl Matcher {
    /// A matcher. With `compat` the object with id 0 is found without effect, because pycocotools marks detections by the id that they found, and
    /// 0 as none.
    pub fn new(compat: bool) -> Self {
        Self { thresholds: thresholds(), compat, near: Vec::new(), ignored: Vec::new(), taken: Vec::new() }
    }

    /// Matches detections of one image and category, the surest first, with its objects. Appends one entry for each of the first
    /// [`MOST_DETECTIONS`].
    pub fn image(&mut self, objects: &[Annotation], detections: &[Detection], to: &mut Vec<Matched>) {
        let first = to.len();
        let detections = detections.get(..MOST_DETECTIONS).unwrap_or(detections);
        let matched = |(rank, detection): (usize, &Detection)| Matched {
            score: detection.score,
            rank: rank as u8,
            found: [0; RANGES],
            ignored: [0; RANGES],
        };
        to.extend(detections.iter().enumerate().map(matched));
        for (range, &(least, most)) in AREAS.iter().enumerate() {
            let outside = |area: f64| area < least || area > most;
            self.ignored.clear();
            self.ignored.extend(objects.iter().map(|object| object.crowd || outside(object.area)));
            self.taken.clear();
            self.taken.resize(objects.len(), 0);
            for (detection, matched) in detections.iter().zip(to.iter_mut().skip(first)) {
                let (found, ignored) = self.detection(objects, detection);
                let missed = if outside(detection.bbox.area()) { !found } else { 0 };
                matched.found[range] = found;
                matched.ignored[range] = ignored | missed;
            }
        }
    }

    /// The thresholds at which a detection finds an object, and those at which it finds an ignored one, as bits.
    fn detection(&mut self, objects: &[Annotation], detection: &Detection) -> (u16, u16) {
        self.near.clear();
        let overlaps = objects.iter().map(|object| object.overlap(&detection.bbox)).enumerate();
        // A NaN, of areas too small for f64, is not less: it passes here and below as it does in pycocotools.
        let is_far = |overlap: f64| overlap < self.thresholds[0];
        self.near.extend(overlaps.filter(|&(_, overlap)| !is_far(overlap)));
        let (mut found, mut ignored) = (0, 0);
        if self.near.is_empty() {
            return (found, ignored);
        }
        for t in 0..THRESHOLDS {
            let bit = 1 << t;
            let Some(k) = self.best(objects, t) else { continue };
            self.taken[k] |= bit;
            ignored |= if self.ignored[k] { bit } else { 0 };
            found |= if self.compat && objects[k].id == 0 { 0 } else { bit };
        }
        (found, ignored)
    }

    /// The object that a detection finds at threshold t: of those that are free, the one with the largest overlap, the last of equals; an ignored
    /// one only where there is no other. A crowd is always free.
    fn best(&self, objects: &[Annotation], t: usize) -> Option<usize> {
        let is_free = |k: usize| objects[k].crowd || self.taken[k] & (1 << t) == 0;
        [false, true].into_iter().find_map(|ignored| {
            let (mut best, mut least) = (None, self.thresholds[t]);
            for &(k, overlap) in self.near.iter().filter(|&&(k, _)| self.ignored[k] == ignored && is_free(k)) {
                if overlap < least {
                    continue;
                }
                (best, least) = (Some(k), overlap);
            }
            best
        })
    }
}

#[cfg(test)]
mod tests {
    use super::super::boxes::BoundingBox;
    use super::*;

    fn object(id: i64, xywh: [f64; 4], crowd: bool) -> Annotation {
        let bbox = BoundingBox::from_xywh(xywh);
        Annotation { id, image: 0, category: 0, bbox, area: bbox.area(), crowd }
    }

    fn detection(xywh: [f64; 4], score: f64) -> Detection {
        Detection { image: 0, category: 0, bbox: BoundingBox::from_xywh(xywh), score }
    }

    fn matched(objects: &[Annotation], detections: &[Detection], compat: bool) -> Vec<Matched> {
        let mut to = Vec::new();
        Matcher::new(compat).image(objects, detections, &mut to);
        to
    }

    const ALL: u16 = (1 << THRESHOLDS) - 1;
    const WHOLE: [f64; 4] = [0.0, 0.0, 10.0, 10.0];

    #[test]
    fn the_thresholds_are_those_of_numpy() {
        assert_eq!(thresholds(), [0.5, 0.55, 0.6, 0.65, 0.7, 0.75, 0.8, 0.85, 0.899_999_999_999_999_9, 0.95]);
    }

    #[test]
    fn the_surest_takes_an_object_and_the_next_is_wrong() {
        let found = matched(&[object(1, WHOLE, false)], &[detection(WHOLE, 0.9), detection(WHOLE, 0.8)], false);
        assert_eq!((found[0].found[0], found[1].found[0]), (ALL, 0));
        assert_eq!((found[0].ignored[0], found[1].ignored[0]), (0, 0));
        // Beyond its range of areas an object is ignored, and so is who finds it; who finds nothing is ignored for its own area.
        assert_eq!((found[0].ignored[2] & ALL, found[1].ignored[2] & ALL), (ALL, ALL));
    }

    #[test]
    fn a_crowd_is_found_again_and_again_and_only_after_real_objects() {
        let objects = [object(1, WHOLE, true), object(2, [0.0, 0.0, 10.0, 6.0], false)];
        let found = matched(&objects, &[detection(WHOLE, 0.9), detection(WHOLE, 0.8)], false);
        // The first finds the object with IoU .6 where that is enough (thresholds .5, .55, .6), and the crowd elsewhere.
        assert_eq!((found[0].found[0], found[0].ignored[0]), (ALL, ALL & !0b111));
        assert_eq!((found[1].found[0], found[1].ignored[0]), (ALL, ALL));
    }

    #[test]
    fn the_last_of_equal_overlaps_is_found() {
        let objects = [object(0, WHOLE, false), object(7, WHOLE, false)];
        let found = matched(&objects, &[detection(WHOLE, 0.9), detection(WHOLE, 0.8)], true);
        // Object 0 comes second, and in compat counts for nothing.
        assert_eq!((found[0].found[0], found[1].found[0]), (ALL, 0));
        let found = matched(&objects, &[detection(WHOLE, 0.9), detection(WHOLE, 0.8)], false);
        assert_eq!((found[0].found[0], found[1].found[0]), (ALL, ALL));
    }

    #[test]
    fn only_the_first_hundred_count() {
        let many: Vec<Detection> = (0..130).map(|i| detection(WHOLE, 1.0 - f64::from(i) / 200.0)).collect();
        let found = matched(&[], &many, false);
        assert_eq!((found.len(), found[99].rank), (MOST_DETECTIONS, 99));
    }
}
