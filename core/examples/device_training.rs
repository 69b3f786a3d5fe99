//! What a device will learn, on the desk: trains with the training program of a file on the first two thirds of a text, a block after the other, and
//! prints the loss of the last third before and after.
//!
//! `cargo run --release -p samara-core --example device_training -- FILE.samara TEXT STEPS LR adamw|sgd`

use std::error::Error;
use std::{env, fs};

use samara_core::file::{FileTokenizer, ProgramFile, ProgramKind};
use samara_core::ops;
use samara_core::session::{Hyper, Session};

fn main() -> Result<(), Box<dyn Error>> {
    let arguments: Vec<String> = env::args().skip(1).collect();
    let [file, text, steps, lr, rule] = &arguments[..] else { return Err("expected FILE.samara TEXT STEPS LR RULE".into()) };
    let (bytes, text, lr) = (fs::read(file)?, fs::read(text)?, lr.parse()?);
    let mut words = vec![0u64; bytes.len().div_ceil(8)];
    bytemuck::cast_slice_mut(&mut words)[..bytes.len()].copy_from_slice(&bytes);
    let kernels = ops::training();
    let file = ProgramFile::open(&bytemuck::cast_slice(&words)[..bytes.len()], &kernels)?;
    let Some(FileTokenizer::Bytes) = file.tokenizer() else { return Err("expected a model of bytes".into()) };
    let tokens: Vec<i32> = text.iter().map(|&byte| byte.into()).collect();
    let (train, held_out) = tokens.split_at(tokens.len() * 2 / 3);
    let mut ram = vec![0.0; Session::ram_len(&file)];
    let mut session = Session::new(file, &mut ram)?;
    let hyper = match &rule[..] {
        "sgd" => Hyper::sgd(lr),
        "adamw" => Hyper::adamw(lr),
        other => return Err(format!("rule {other:?}: expected adamw or sgd").into()),
    };
    // A step takes one sequence: a file exported with more of them would need its text cut otherwise.
    let block = session.tokens_of(ProgramKind::Train);
    if block == 0 || held_out.len() <= block {
        return Err(format!(
            "the text has {} bytes, expected more than {}, and a file exported with --train",
            tokens.len(),
            3 * block
        )
        .into());
    }
    let before = loss(&mut session, held_out)?;
    let starts = (0..train.len() - block).step_by(block).cycle();
    for start in starts.take(steps.parse()?) {
        session.train(&train[start..start + block], &train[start + 1..start + block + 1], &hyper)?;
    }
    let after = loss(&mut session, held_out)?;
    println!("held-out loss {before:.4} before, {after:.4} after {steps} steps: {:+.4}", after - before);
    Ok(())
}

/// Mean loss of a text in blocks that do not overlap.
fn loss(session: &mut Session<'_, '_>, tokens: &[i32]) -> Result<f32, Box<dyn Error>> {
    let block = session.tokens_of(ProgramKind::Evaluate);
    let (mut sum, mut count) = (0.0, 0);
    for start in (0..tokens.len() - block).step_by(block) {
        sum += session.evaluate(&tokens[start..start + block], &tokens[start + 1..start + block + 1])?.iter().sum::<f32>();
        count += block;
    }
    Ok(sum / count as f32)
}
