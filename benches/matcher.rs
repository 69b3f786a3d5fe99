//! Matching of predicted sets: costs of DETR's matcher and their assignment, for every image and decoder layer of a batch.
//!
//! `cargo bench -p samara-benches --bench matcher -- FILE THREADS`; FILE has f32 values of `compare/matcher.py`: B, L, Q, C, M, then logits (B, L·Q, C + 1),
//! boxes (B, L·Q, 4), classes (B, M) and boxes of objects (B, M, 4). It answers each line of standard input, a number of repetitions, with a line of JSON:
//! milliseconds of a batch matched, and matched with losses and gradients; and the sum of all costs.

use std::io::BufRead;
use std::time::Instant;

use rayon::prelude::*;
use samara::assignment::ThisMachine;
use samara::detect::set_loss::{SetBatch, SetCriterion};
use samara::threads::Pool;
use samara_core::assignment::workspace_len;
use samara_core::detect::{MatchCosts, MatchMemory, Prediction, UNMATCHED, matched_queries};

/// Memory of a thread.
struct Scratch {
    machine: ThisMachine,
    matrix: Vec<f32>,
    costs: Vec<f32>,
    indices: Vec<u32>,
    matched: Vec<i32>,
}

fn main() {
    let words: Vec<String> = std::env::args().skip(1).filter(|word| !word.starts_with("--")).collect();
    let path = words.first().expect("a file");
    let bytes = std::fs::read(path).expect("a file");
    let values: Vec<f32> = bytes.as_chunks().0.iter().map(|&bytes| f32::from_le_bytes(bytes)).collect();
    let (sizes, rest) = values.split_at(5);
    let [images, layers, queries, classes, most]: [usize; 5] = std::array::from_fn(|i| sizes[i] as usize);
    let rows = images * layers * queries;
    let (logits, rest) = rest.split_at(rows * (classes + 1));
    let (boxes, rest) = rest.split_at(rows * 4);
    let (of_objects, objects) = rest.split_at(images * most);
    let labels: Vec<u32> = of_objects.iter().map(|&class| class as u32).collect();
    let signed: Vec<i32> = of_objects.iter().map(|&class| class as i32).collect();
    let pool = Pool::new(words.get(1).map_or(2, |word| word.parse().expect("threads"))).expect("a pool");
    let len = workspace_len(most, queries);
    let scratch = || Scratch {
        machine: ThisMachine::new(),
        matrix: vec![0.0; most * queries],
        costs: vec![0.0; len.costs],
        indices: vec![0; len.indices],
        matched: vec![UNMATCHED; queries],
    };
    let matches = || -> f64 {
        let work = logits.par_chunks(queries * (classes + 1)).zip(boxes.par_chunks(queries * 4)).enumerate();
        let one = |scratch: &mut Scratch, (item, (logits, boxes)): (usize, (&[f32], &[f32]))| {
            let image = item / layers;
            let prediction = Prediction {
                logits,
                boxes,
                classes: &labels[image * most..(image + 1) * most],
                objects: &objects[4 * image * most..4 * (image + 1) * most],
            };
            let memory = MatchMemory { matrix: &mut scratch.matrix, costs: &mut scratch.costs, indices: &mut scratch.indices };
            matched_queries(scratch.machine, &prediction, &MatchCosts::default(), memory, &mut scratch.matched).expect("a match")
        };
        work.map_init(scratch, one).collect::<Vec<f64>>().iter().sum()
    };
    let batch = SetBatch { logits, boxes, classes: &signed, objects, extents: [images, layers] };
    let (mut by_logits, mut by_boxes) = (vec![0.0; logits.len()], vec![0.0; boxes.len()]);
    let mut losses = || SetCriterion::default().losses(&batch, &mut by_logits, &mut by_boxes).expect("losses").total;
    pool.install(|| {
        let cost = matches();
        println!("ready");
        for line in std::io::stdin().lock().lines() {
            let repeats: u32 = line.expect("a line").trim().parse().expect("repetitions");
            let timed = |work: &mut dyn FnMut() -> f64| {
                let begun = Instant::now();
                (0..repeats).for_each(|_| _ = std::hint::black_box(work()));
                begun.elapsed().as_secs_f64() * 1e3 / f64::from(repeats)
            };
            let (matched, with_losses) = (timed(&mut || matches()), timed(&mut losses));
            println!("{{\"ms\": {matched:.4}, \"with_losses_ms\": {with_losses:.4}, \"cost\": {cost:.4}}}");
        }
    });
}
