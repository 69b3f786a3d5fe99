//! Prompts tuned on the device: a Vision Transformer of 48 columns and four blocks, which tells light shapes on dark ground apart, learns to see them
//! through fog, by four learnt tokens before every block and its head, with AdamW (`std-runtime/examples/device_prompts.rs` makes model and images). The hash is over the logits before and after, the losses of all steps and the parameters at the end.

use core::hint::black_box;

use samara_core::exec::Kernels;
use samara_core::file::ProgramFile;
use samara_core::ops::{self, elementwise::GeluErf};
use samara_core::session::{Hyper, ImageSession};

use crate::{Hash, Program, decimals, figure};

static KERNELS: Kernels<f32> = ops::vit_training::<_, GeluErf>();
/// Images, each with its class behind it: those to tune with, and those to be judged by.
static IMAGES: &[u8] = include_bytes!("../../models/shapes.bin");
const IMAGE: usize = 3 * 32 * 32;
const TUNED: usize = 32;
const STEPS: usize = 32;
/// What `samara export` says that a session takes, in numbers of four bytes.
const RAM_LEN: usize = 24_385;

/// The memory of the session, and an image as the model reads it.
pub struct Prompts {
    ram: [f32; RAM_LEN],
    pixels: [f32; IMAGE],
}

impl Program for Prompts {
    const NEW: Self = Self { ram: [0.0; RAM_LEN], pixels: [0.0; IMAGE] };

    fn run(&mut self) -> Option<Hash> {
        static MODEL: &[u8] = samara_core::include_program!("../../models/prompts.samara");
        let file = ProgramFile::open_images(black_box(MODEL), &KERNELS).ok()?;
        figure("file", MODEL.len() as u64);
        figure("session", 4 * file.sizes().total_len() as u64);
        if ImageSession::ram_len(&file) != RAM_LEN {
            return None;
        }
        let mut session = ImageSession::new(file, &mut self.ram).ok()?;
        let (mut hash, pixels) = (Hash::default(), &mut self.pixels);
        judge("before", &mut session, pixels, &mut hash)?;
        for row in IMAGES.chunks(IMAGE + 1).take(TUNED).cycle().take(black_box(STEPS)) {
            let label = read(row, pixels)?;
            hash.reals(&[session.train(&*pixels, &[i32::from(label)], &Hyper::adamw(0.01)).ok()?]);
        }
        judge("after", &mut session, pixels, &mut hash)?;
        hash.reals(session.trainable());
        figure("steps", STEPS as u64);
        Some(hash)
    }
}

/// Scales the pixels of an image, and returns its class.
fn read(row: &[u8], pixels: &mut [f32; IMAGE]) -> Option<u8> {
    pixels.iter_mut().zip(row).for_each(|(pixel, &byte)| *pixel = f32::from(byte) / 127.5 - 1.0);
    row.last().copied()
}

/// Reports the share of images that are classified rightly.
fn judge(name: &str, session: &mut ImageSession<'_, '_>, pixels: &mut [f32; IMAGE], hash: &mut Hash) -> Option<()> {
    let (mut right, mut all) = (0, 0);
    for row in IMAGES.chunks(IMAGE + 1).skip(TUNED) {
        let label = read(row, pixels)?;
        let logits = session.classify(&*pixels).ok()?;
        hash.reals(logits);
        let best = (0..).zip(logits).fold((0, f32::MIN), |best, (class, &z)| if z > best.1 { (class, z) } else { best });
        right += u64::from(best.0 == label);
        all += 1;
    }
    decimals(name, right, all);
    Some(())
}
