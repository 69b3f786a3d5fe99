//! The inputs of DETR that the host computes: masks of padding and positions.

use samara_core::detect::{nearest_mask, sine_positions};
use samara_core::exec::WriteError;
use samara_core::model::detr::{Detr, DetrInputs, Positions};

use crate::session::{Device, OwnedProgram, Session};

/// The parts of a batch of equally large images that are no padding: whether each pixel is in its image (B, H, W); `None`: all are.
#[derive(Clone, Copy, Debug)]
pub struct Frame<'f> {
    /// B.
    pub batch: usize,
    /// H, W.
    pub image: [usize; 2],
    /// The mask.
    pub mask: Option<&'f [bool]>,
}

/// Writes everything that a program of DETR reads but pixels. `padded`: its inputs have segments.
///
/// # Errors
/// Inputs of another shape.
pub fn write_places<D: Device>(
    session: &mut Session<D>,
    program: &OwnedProgram,
    (model, inputs): (&Detr, &DetrInputs),
    frame: &Frame<'_>,
) -> Result<(), WriteError> {
    let (config, [height, width]) = (model.config(), frame.image);
    let map @ [h, w] = config.map(frame.image).unwrap_or_default();
    let places = h * w;
    let mut masks = vec![true; frame.batch * places];
    if let Some(pixels) = frame.mask {
        for (pixels, mask) in pixels.chunks((height * width).max(1)).zip(masks.chunks_mut(places.max(1))) {
            nearest_mask(pixels, frame.image, map, mask);
        }
    }
    match (config.positions, inputs.places) {
        (Positions::Sine, [Some(sine), ..]) => session.write(program, sine, &sines(&masks, map, config.d_model))?,
        (Positions::Learned, [_, Some(columns), Some(rows)]) => {
            let ids = |of: &dyn Fn(usize) -> usize| (0..places).map(|i| of(i) as i32).collect::<Vec<_>>();
            session.write_ints(program, columns, &ids(&|i| i % w))?;
            session.write_ints(program, rows, &ids(&|i| i / w))?;
        }
        _ => {}
    }
    if let Some([of_places, keys, of_queries]) = inputs.segments {
        session.write_ints(program, of_places, &vec![0; frame.batch * places])?;
        session.write_ints(program, keys, &masks.iter().map(|&inside| if inside { 0 } else { -1 }).collect::<Vec<_>>())?;
        session.write_ints(program, of_queries, &vec![0; frame.batch * config.num_queries])?;
    }
    Ok(())
}

/// Whether each pixel of frames (B, H, W) is in its image, whose height and width are `extents` (B, 2).
pub fn frame_mask(extents: &[i32], [height, width]: [usize; 2]) -> Vec<bool> {
    let pixels = || (0..height).flat_map(|y| (0..width).map(move |x| [y, x]));
    let of = |size: &[i32; 2]| pixels().map(|at| at.iter().zip(size).all(|(&at, &side)| (at as i64) < i64::from(side))).collect();
    extents.as_chunks().0.iter().flat_map(|size| -> Vec<bool> { of(size) }).collect()
}

/// The sine positions (B, h·w, d) of masks (B, h, w); those of equal masks are computed once.
fn sines(masks: &[bool], map: [usize; 2], width: usize) -> Vec<f32> {
    let places = (map[0] * map[1]).max(1);
    let mut all: Vec<f32> = vec![0.0; masks.len() * width];
    let mut before: Option<(&[bool], usize)> = None;
    for (image, mask) in masks.chunks(places).enumerate() {
        let len = places * width;
        match before {
            Some((same, at)) if same == mask => all.copy_within(at * len..(at + 1) * len, image * len),
            _ => {
                sine_positions(mask, map, all.get_mut(image * len..(image + 1) * len).unwrap_or(&mut []));
                before = Some((mask, image));
            }
        }
    }
    all
}
