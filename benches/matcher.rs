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
use samara_core::detect::{LossWeights, MatchCosts, MatchMemory, Prediction, UNMATCHED, matched_queries};

/// Memory of a thread.
struct Scratch {
    machine: ThisMachine,
    matrix: Vec<f32>,
    costs: Vec<f32>,
    indices: Vec<u32>,
    matched: Vec<i32>,
}

/// The values of a file.
struct Sets {
    values: Vec<f32>,
    /// B, L, Q, C, M.
    sizes: [usize; 5],
    /// The classes of objects.
    labels: Vec<u32>,
    signed: Vec<i32>,
}

impl Sets {
    fn read(path: &str) -> Self {
        let bytes = std::fs::read(path).expect("a file");
        let values: Vec<f32> = bytes.as_chunks().0.iter().map(|&bytes| f32::from_le_bytes(bytes)).collect();
        let sizes @ [images, layers, queries, classes, most] = std::array::from_fn(|i| values[i] as usize);
        let from = 5 + images * layers * queries * (classes + 5);
        let signed: Vec<i32> = values[from..from + images * most].iter().map(|&class| class as i32).collect();
        Self { labels: signed.iter().map(|class| class.unsigned_abs()).collect(), values, sizes, signed }
    }

    fn batch(&self) -> SetBatch<'_> {
        let [images, layers, queries, classes, most] = self.sizes;
        let rows = images * layers * queries;
        let (logits, rest) = self.values[5..].split_at(rows * (classes + 1));
        let (boxes, rest) = rest.split_at(rows * 4);
        SetBatch { logits, boxes, classes: &self.signed, objects: &rest[images * most..], extents: [images, layers] }
    }

    /// Matches every image and layer on the threads of the current pool; returns the sum of all costs.
    fn matches(&self) -> f64 {
        let ([_, layers, queries, classes, most], batch) = (self.sizes, self.batch());
        let len = workspace_len(most, queries);
        let scratch = || Scratch {
            machine: ThisMachine::new(),
            matrix: vec![0.0; most * queries],
            costs: vec![0.0; len.costs],
            indices: vec![0; len.indices],
            matched: vec![UNMATCHED; queries],
        };
        let one = |scratch: &mut Scratch, (item, (logits, boxes)): (usize, (&[f32], &[f32]))| {
            let own = item / layers * most..(item / layers + 1) * most;
            let objects = &batch.objects[4 * own.start..4 * own.end];
            let prediction = Prediction { logits, boxes, classes: &self.labels[own], objects };
            let memory = MatchMemory { matrix: &mut scratch.matrix, costs: &mut scratch.costs, indices: &mut scratch.indices };
            matched_queries(scratch.machine, &prediction, &MatchCosts::default(), memory, &mut scratch.matched).expect("a match")
        };
        let work = batch.logits.par_chunks(queries * (classes + 1)).zip(batch.boxes.par_chunks(queries * 4)).enumerate();
        work.map_init(scratch, one).collect::<Vec<f64>>().iter().sum()
    }
}

fn main() {
    let words: Vec<String> = std::env::args().skip(1).filter(|word| !word.starts_with("--")).collect();
    let sets = Sets::read(words.first().expect("a file"));
    let pool = Pool::new(words.get(1).map_or(2, |word| word.parse().expect("threads"))).expect("a pool");
    let batch = sets.batch();
    let criterion = SetCriterion { costs: MatchCosts::default(), weights: LossWeights::default() };
    let (mut by_logits, mut by_boxes) = (vec![0.0; batch.logits.len()], vec![0.0; batch.boxes.len()]);
    let mut losses = || criterion.losses(&batch, &mut by_logits, &mut by_boxes).expect("losses").total;
    pool.install(|| {
        let cost = sets.matches();
        println!("ready");
        for line in std::io::stdin().lock().lines() {
            let repeats: u32 = line.expect("a line").trim().parse().expect("repetitions");
            let timed = |work: &mut dyn FnMut() -> f64| {
                let begun = Instant::now();
                (0..repeats).for_each(|_| _ = std::hint::black_box(work()));
                begun.elapsed().as_secs_f64() * 1e3 / f64::from(repeats)
            };
            let (matched, with_losses) = (timed(&mut || sets.matches()), timed(&mut losses));
            println!("{{\"ms\": {matched:.4}, \"with_losses_ms\": {with_losses:.4}, \"cost\": {cost:.4}}}");
        }
    });
}
