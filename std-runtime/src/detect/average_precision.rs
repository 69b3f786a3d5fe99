//! Average precision and recall of COCO, with the bits of pycocotools.
//!
//! For every category, range of areas and IoU threshold the detections of all images are put in order of confidence. With TP and FP the right and
//! wrong ones so far, and P the number of objects, recall is TP / P and precision TP / (TP + FP + ε). Precision at a recall of r is the largest one at
//! any recall ≥ r, and 0 where r is not reached. Average precision is its mean over r = 0, .01 to 1, thresholds and categories with objects.

use rayon::prelude::*;

use super::boxes::{Annotation, Detection};
use super::matching::{MOST_DETECTIONS, Matched, Matcher, RANGES, THRESHOLDS};
use super::mean::mean;
use crate::memory::{self, OutOfMemory};

/// Points of recall at which precision is read.
const RECALLS: usize = 101;
/// Range of areas and number of detections an image, for each of the six recalls.
const RECALL_OF: [(usize, usize); 6] = [(0, 1), (0, 10), (0, 100), (1, 100), (2, 100), (3, 100)];
/// The thresholds .5 and .75.
const IOU_50: usize = 0;
const IOU_75: usize = 5;

/// Labels of the numbers in [`AveragePrecision::stats`]: as pycocotools prints them.
pub const LABELS: [&str; 12] = [
    "Average Precision  (AP) @[ IoU=0.50:0.95 | area=   all | maxDets=100 ]",
    "Average Precision  (AP) @[ IoU=0.50      | area=   all | maxDets=100 ]",
    "Average Precision  (AP) @[ IoU=0.75      | area=   all | maxDets=100 ]",
    "Average Precision  (AP) @[ IoU=0.50:0.95 | area= small | maxDets=100 ]",
    "Average Precision  (AP) @[ IoU=0.50:0.95 | area=medium | maxDets=100 ]",
    "Average Precision  (AP) @[ IoU=0.50:0.95 | area= large | maxDets=100 ]",
    "Average Recall     (AR) @[ IoU=0.50:0.95 | area=   all | maxDets=  1 ]",
    "Average Recall     (AR) @[ IoU=0.50:0.95 | area=   all | maxDets= 10 ]",
    "Average Recall     (AR) @[ IoU=0.50:0.95 | area=   all | maxDets=100 ]",
    "Average Recall     (AR) @[ IoU=0.50:0.95 | area= small | maxDets=100 ]",
    "Average Recall     (AR) @[ IoU=0.50:0.95 | area=medium | maxDets=100 ]",
    "Average Recall     (AR) @[ IoU=0.50:0.95 | area= large | maxDets=100 ]",
];

/// How well objects are found. A number is −1 where there is no object.
#[derive(Clone, Debug, PartialEq)]
pub struct AveragePrecision {
    /// The twelve numbers of pycocotools' `stats`, in its order: see [`LABELS`].
    pub stats: [f64; 12],
    /// Every category, by its index.
    pub classes: Vec<ClassPrecision>,
    /// Detections beyond the surest 100 of their image and category, which do not count.
    pub beyond: u64,
}

/// How well the objects of a category are found.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct ClassPrecision {
    /// Mean over all thresholds.
    pub ap: f64,
    /// At an IoU of .5.
    pub ap50: f64,
    /// Objects, crowds included.
    pub annotations: u64,
}

/// Precision and recall of one category; `None` for a range of areas without objects.
struct Curves {
    /// By range of areas: by threshold, then by recall.
    precision: [Option<Vec<f64>>; RANGES],
    /// As [`RECALL_OF`]: by threshold.
    recall: [Option<[f64; THRESHOLDS]>; 6],
    annotations: u64,
    beyond: u64,
}

/// Average precision of detections. Categories and images are counted from 0; both slices get sorted. Runs on the threads of the current pool; the
/// result does not depend on their number. `compat` as in [`Matcher::new`].
///
/// # Errors
/// Too little memory for the curves, 32 KiB a category.
pub fn evaluate(
    annotations: &mut [Annotation],
    detections: &mut [Detection],
    categories: usize,
    compat: bool,
) -> Result<AveragePrecision, OutOfMemory> {
    memory::ensure((categories * (RANGES + 1) * THRESHOLDS * RECALLS * size_of::<f64>()) as u64)?;
    annotations.par_sort_by_key(|object| (object.category, object.image));
    // Adding 0 makes a positive zero of a negative one: they are equal, and keep their order.
    let place = |detection: &Detection| (detection.category, detection.image);
    detections.par_sort_by(|a, b| place(a).cmp(&place(b)).then_with(|| (b.score + 0.0).total_cmp(&(a.score + 0.0))));
    let curves: Vec<Curves> = (0..categories)
        .into_par_iter()
        .map(|category| {
            let objects = run_of(annotations, |object| object.category as usize, category);
            let detections = run_of(detections, |detection| detection.category as usize, category);
            Curves::of(objects, detections, compat)
        })
        .collect();
    Ok(summary(&curves))
}

/// The elements with this key, of a slice in the order of keys.
fn run_of<T>(sorted: &[T], key: impl Fn(&T) -> usize, wanted: usize) -> &[T] {
    let from = sorted.partition_point(|element| key(element) < wanted);
    let sorted = sorted.get(from..).unwrap_or_default();
    sorted.get(..sorted.partition_point(|element| key(element) == wanted)).unwrap_or_default()
}

/// Takes the elements of an image from the front of a slice in the order of images.
fn take_image<'s, T>(rest: &mut &'s [T], image_of: impl Fn(&T) -> u32, image: u32) -> &'s [T] {
    let (taken, left) = rest.split_at(rest.iter().take_while(|element| image_of(element) == image).count());
    *rest = left;
    taken
}

impl Curves {
    /// Of the objects and detections of one category, in the order of images.
    fn of(mut objects: &[Annotation], mut detections: &[Detection], compat: bool) -> Self {
        let annotations = objects.len() as u64;
        let positives = super::matching::AREAS.map(|(least, most)| {
            let counts = |object: &&Annotation| !(object.crowd || object.area < least || object.area > most);
            objects.iter().filter(counts).count()
        });
        let (mut matcher, mut matched, mut beyond) = (Matcher::new(compat), Vec::new(), 0);
        while let Some(image) = objects.first().map(|o| o.image).into_iter().chain(detections.first().map(|d| d.image)).min() {
            let of_image = take_image(&mut objects, |object| object.image, image);
            let found = take_image(&mut detections, |detection| detection.image, image);
            beyond += found.len().saturating_sub(MOST_DETECTIONS) as u64;
            matcher.image(of_image, found, &mut matched);
        }
        matched.sort_by(|a, b| (b.score + 0.0).total_cmp(&(a.score + 0.0)));
        let some = |range: usize| Some(positives[range]).filter(|&positives| positives > 0);
        Self {
            precision: std::array::from_fn(|range| some(range).map(|positives| precision(&matched, range, positives))),
            recall: RECALL_OF.map(|(range, most)| some(range).map(|positives| recall(&matched, range, most, positives))),
            annotations,
            beyond,
        }
    }
}

/// The recall that is reached with at most `most` detections an image, by threshold.
fn recall(matched: &[Matched], range: usize, most: usize, positives: usize) -> [f64; THRESHOLDS] {
    let mut right = [0_u32; THRESHOLDS];
    for detection in matched.iter().filter(|detection| usize::from(detection.rank) < most) {
        let bits = detection.found[range] & !detection.ignored[range];
        right.iter_mut().enumerate().for_each(|(t, right)| *right += u32::from(bits >> t & 1));
    }
    right.map(|right| f64::from(right) / positives as f64)
}

/// Precision by threshold and recall.
fn precision(matched: &[Matched], range: usize, positives: usize) -> Vec<f64> {
    let mut all = Vec::with_capacity(THRESHOLDS * RECALLS);
    let mut points = Vec::new();
    for t in 0..THRESHOLDS {
        points.clear();
        let (mut right, mut wrong) = (0.0, 0.0);
        for detection in matched.iter().filter(|detection| detection.ignored[range] >> t & 1 == 0) {
            if detection.found[range] >> t & 1 == 0 {
                wrong += 1.0;
            } else {
                // Only here can precision be the largest one of all further to the right.
                right += 1.0;
                points.push((right / positives as f64, right / (wrong + right + f64::EPSILON)));
            }
        }
        let mut largest = 0.0_f64;
        for (_, precision) in points.iter_mut().rev() {
            largest = largest.max(*precision);
            *precision = largest;
        }
        let mut rest = points.as_slice();
        all.extend((0..RECALLS).map(|point| {
            // As numpy.linspace(0, 1, 101) computes it.
            let wanted = if point == RECALLS - 1 { 1.0 } else { point as f64 * 0.01 };
            rest = rest.get(rest.iter().take_while(|(recall, _)| *recall < wanted).count()..).unwrap_or_default();
            rest.first().map_or(0.0, |&(_, precision)| precision)
        }));
    }
    all
}

/// The means over categories, in the order in which pycocotools adds.
fn summary(curves: &[Curves]) -> AveragePrecision {
    let all = 0..THRESHOLDS * RECALLS;
    let at = |t: usize| t * RECALLS..(t + 1) * RECALLS;
    let ap = |range: usize, points: std::ops::Range<usize>| {
        let known: Vec<&Vec<f64>> = curves.iter().filter_map(|curves| curves.precision[range].as_ref()).collect();
        mean(&points.flat_map(|point| known.iter().map(move |precision| precision[point])).collect::<Vec<_>>())
    };
    let ar = |which: usize| {
        let known = || curves.iter().filter_map(|curves| curves.recall[which]);
        mean(&(0..THRESHOLDS).flat_map(|t| known().map(move |recall| recall[t])).collect::<Vec<_>>())
    };
    let class = |curves: &Curves| {
        let part =
            |points: std::ops::Range<usize>| curves.precision[0].as_ref().map_or(-1.0, |precision| mean(&precision[points]));
        ClassPrecision { ap: part(all.clone()), ap50: part(at(IOU_50)), annotations: curves.annotations }
    };
    AveragePrecision {
        stats: [
            ap(0, all.clone()),
            ap(0, at(IOU_50)),
            ap(0, at(IOU_75)),
            ap(1, all.clone()),
            ap(2, all.clone()),
            ap(3, all.clone()),
            ar(0),
            ar(1),
            ar(2),
            ar(3),
            ar(4),
            ar(5),
        ],
        classes: curves.iter().map(class).collect(),
        beyond: curves.iter().map(|curves| curves.beyond).sum(),
    }
}
