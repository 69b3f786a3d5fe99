//! Panels for micro-kernels in plain Rust, for machines whose compiler makes good loads and stores of it.

use samara_core::gemm::MatRef;

/// Writes `panel[p * width + j] = source[p, j]`: a step of the summed dimension after the other, its 8 or 12 numbers side by side.
pub(super) fn pack(source: MatRef<'_, f32>, panel: &mut [f32]) {
    match source.cols {
        8 => pack_width::<8>(source, panel),
        12 => pack_width::<12>(source, panel),
        width => unreachable!("no kernel has panels of {width}"),
    }
}

fn pack_width<const W: usize>(source: MatRef<'_, f32>, panel: &mut [f32]) {
    let steps = panel.as_chunks_mut::<W>().0;
    if source.col_stride == 1 {
        for (p, step) in steps.iter_mut().enumerate() {
            let start = p * source.row_stride;
            step.copy_from_slice(&source.data[start..start + W]);
        }
        return;
    }
    // Four steps of every column at a time: few lines of the panel are open at once, and columns are read in order.
    for (i, steps) in steps.chunks_mut(4).enumerate() {
        for j in 0..W {
            for (p, step) in (4 * i..).zip(steps.iter_mut()) {
                step[j] = source.at(p, j);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kernels::tests::numbers;

    #[test]
    fn panels_hold_steps_side_by_side() {
        for (k, width) in [(1, 8), (7, 8), (9, 12), (16, 12)] {
            let data = numbers(k * width, 1);
            for source in [MatRef::new(&data, k, width), MatRef::new(&data, width, k).t()] {
                let mut panel = vec![f32::NAN; k * width];
                pack(source, &mut panel);
                assert!(panel.iter().enumerate().all(|(at, &x)| x == source.at(at / width, at % width)), "{k} {width}");
            }
        }
    }
}
