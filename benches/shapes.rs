//! The images that a detector of the world of shapes trains on, batch by batch in the order of `samara train`, for training others on them
//! (`compare/detector_ap.py`).
//!
//! `cargo bench -p samara-benches --bench shapes -- SIDE IMAGES HELD_OUT SEED BATCH FIRST STEPS` writes f32 values to standard output: the held-out images, then
//! the batches of steps FIRST to FIRST + STEPS − 1. Each is pixels (B, S, S, 3), classes (B, 5), −1 after the last object, and boxes (B, 5, 4).

use std::io::{BufWriter, Write};

use samara::data::batches::{Order, Sampler};
use samara::data::dataset::{Dataset, HostBatch};
use samara::vision::shapes::ShapesWorld;

fn write(to: &mut impl Write, world: &ShapesWorld, rows: &[u64], batch: &mut HostBatch) -> std::io::Result<()> {
    world.fill(rows, batch).expect("generated images");
    let classes: Vec<f32> = batch.ints("class_labels").iter().map(|&class| class as f32).collect();
    [batch.reals("pixel_values"), &classes, batch.reals("boxes")]
        .into_iter()
        .flatten()
        .try_for_each(|value| to.write_all(&value.to_le_bytes()))
}

fn main() -> std::io::Result<()> {
    let words = std::env::args().skip(1).filter(|word| !word.starts_with("--"));
    let numbers: Vec<u64> = words.map(|word| word.parse().expect("a number")).collect();
    let &[side, images, held_out, seed, size, first, steps] = numbers.as_slice() else {
        panic!("SIDE IMAGES HELD_OUT SEED BATCH FIRST STEPS")
    };
    let world = |first, len| ShapesWorld { side: side as usize, first, len, seed };
    let mut to = BufWriter::with_capacity(1 << 20, std::io::stdout().lock());
    let others = world(images, held_out);
    write(&mut to, &others, &(0..held_out).collect::<Vec<_>>(), &mut others.batch(held_out as usize))?;
    let (world, order) = (world(0, images), Sampler::over_rows(Order::Shuffled, seed, images, "the images").expect("images"));
    let mut batch = world.batch(size as usize);
    for step in first..first + steps {
        let rows: Vec<u64> = (step * size..(step + 1) * size).map(|row| order.start(row).expect("a row")).collect();
        write(&mut to, &world, &rows, &mut batch)?;
    }
    to.flush()
}
