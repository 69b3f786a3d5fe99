//! Convolutions, pooling, and losses against distributions.

use samara_core::graph::{ConvEpilogue, Tensor, Window};

use super::cases::len;
use super::{Case, Size};
use crate::draw::Draw;

pub(super) fn all(d: &mut Draw, size: Size) -> Vec<Case> {
    let mut list = Vec::new();
    for bits in 0..16 {
        list.push(convolution(d, size, [1, 2, 4, 8].map(|bit| bits & bit != 0)));
    }
    for input in [0, 1, 2] {
        list.push(convolution(d, size, [true; 4]).frozen(input));
    }
    // 1 x 1 at strides 1 and 2, a window that is mostly outside, and the stem of a residual network.
    list.push(windows(d, [2, 3, 4, 5], 6, Window::square(1, 1, 0), [true, true, false, true]));
    list.push(windows(d, [1, 5, 4, 3], 2, Window::square(1, 2, 0), [false; 4]));
    list.push(windows(d, [1, 2, 1, 2], 3, Window::square(5, 3, 4), [false, true, false, false]));
    list.push(windows(
        d,
        [1, size.of(7, 40), size.of(6, 37), 3],
        size.of(2, 64),
        Window::square(7, 2, 3),
        [true, true, false, true],
    ));
    list.push(convolution_twice(d, size));
    for _ in 0..4 {
        list.push(pool(d, size));
    }
    for (classes, rows) in [(false, size.of(3, 40)), (true, size.of(3, 40)), (true, 1)] {
        list.push(soft_loss(d, rows, size.of(5, 300), classes));
    }
    list
}

/// Any window that fits an image.
fn any_window(d: &mut Draw, image: [usize; 2]) -> Window {
    loop {
        let mut pair = |low, high| [d.int(low, high) as u8, d.int(low, high) as u8];
        let (kernel, stride, padding) = (pair(1, 4), pair(1, 3), pair(0, 3));
        let window = Window { kernel, stride, padding, dilation: d.int(1, 2) as u8 };
        if window.extents(image).is_some() {
            return window;
        }
    }
}

fn convolution(d: &mut Draw, size: Size, parts: [bool; 4]) -> Case {
    let x = [d.extent(3), d.extent(size.of(4, 20)), d.extent(size.of(4, 20)), d.extent(size.of(3, 40))];
    let outputs = d.extent(size.of(3, 40));
    let window = any_window(d, [x[1], x[2]]);
    windows(d, x, outputs, window, parts)
}

/// With or without scale, bias, residual, ReLU. Values before the activation are at least 0.1 from its kink: sums of a window are below 0.5 and the
/// bias is above 1; without bias there is no ReLU.
fn windows(d: &mut Draw, x: [usize; 4], outputs: usize, window: Window, parts: [bool; 4]) -> Case {
    let [scale, bias, residual, relu] = parts;
    let relu = relu && bias;
    let [n, h, w, c] = x;
    let [down, across] = window.extents([h, w]).expect("the window fits");
    let columns = window.taps() * c;
    let y = [n, down, across, outputs];
    let weight = d.values(outputs * columns, -1.0, 1.0).into_iter().map(|x| f64::from((x / columns as f64) as f32)).collect();
    let mut case = Case::new(format!("conv2d {x:?} -> {y:?}, {window:?}, {parts:?}"))
        .real(&x, d.values(len(&x), -0.5, 0.5))
        .real(&[outputs, columns], weight)
        .tolerance(3e-6, 2e-5);
    if scale {
        case = case.real(&[outputs], d.values(outputs, 0.5, 1.0));
    }
    if bias {
        let signs: Vec<bool> = (0..outputs).map(|_| d.coin()).collect();
        let values = d.values(outputs, 1.0, 2.0);
        case = case.real(&[outputs], values.iter().zip(signs).map(|(x, sign)| if sign { *x } else { -x }).collect());
    }
    if residual {
        case = case.real(&y, d.values(len(&y), -0.4, 0.4));
    }
    case.build(move |g, t, _| {
        let mut rest = t[2..].iter().copied();
        let mut next = |wanted: bool| wanted.then(|| rest.next()).flatten();
        let epilogue = ConvEpilogue { scale: next(scale), bias: next(bias), residual: next(residual), relu };
        g.conv2d(t[0], t[1], window, epilogue)
    })
    .naive(move |v, _| {
        let mut rest = v[2..].iter();
        let mut next = |wanted: bool| wanted.then(|| rest.next()).flatten();
        let (scale, bias, residual) = (next(scale), next(bias), next(residual));
        let mut out = convolve(&v[0], x, &v[1], window);
        for (i, y) in out.iter_mut().enumerate() {
            let o = i % outputs;
            *y = *y * scale.map_or(1.0, |s| s[o]) + bias.map_or(0.0, |b| b[o]) + residual.map_or(0.0, |r| r[i]);
            *y = if relu { y.max(0.0) } else { *y };
        }
        out
    })
}

/// The sum over every window, by plain loops.
fn convolve(x: &[f64], [n, h, w, c]: [usize; 4], weight: &[f64], window: Window) -> Vec<f64> {
    let [down, across] = window.extents([h, w]).expect("the window fits");
    let columns = window.taps() * c;
    let mut out = Vec::new();
    for image in 0..n {
        for (row, column) in (0..down).flat_map(|row| (0..across).map(move |column| (row, column))) {
            for weight in weight.chunks_exact(columns) {
                let value = |i: usize, j: usize, k: usize| {
                    let place = |at: usize, stride: u8, tap: usize, padding: u8, extent: usize| {
                        let at = (at * stride as usize + tap * window.dilation as usize) as i64 - i64::from(padding);
                        (0..extent as i64).contains(&at).then_some(at as usize)
                    };
                    let y = place(row, window.stride[0], i, window.padding[0], h);
                    let x_at = place(column, window.stride[1], j, window.padding[1], w);
                    y.zip(x_at).map_or(0.0, |(y, x_at)| x[((image * h + y) * w + x_at) * c + k])
                };
                let [kh, kw] = window.kernel.map(|k| k as usize);
                let taps = (0..kh).flat_map(|i| (0..kw).flat_map(move |j| (0..c).map(move |k| (i, j, k))));
                out.push(taps.zip(weight).map(|((i, j, k), w)| w * value(i, j, k)).sum());
            }
        }
    }
    out
}

/// One image through two convolutions, whose input gradients are added: the second adds to the gradient of the first.
fn convolution_twice(d: &mut Draw, size: Size) -> Case {
    let x = [2, 4, 3, size.of(2, 20)];
    let window = Window::square(3, 1, 1);
    let columns = window.taps() * x[3];
    Case::new(format!("two convolutions of {x:?}"))
        .real(&x, d.values(len(&x), -1.0, 1.0))
        .real(&[x[3], columns], d.values(x[3] * columns, -0.2, 0.2))
        .real(&[x[3], columns], d.values(x[3] * columns, -0.2, 0.2))
        .build(move |g, t: &[Tensor], _| {
            let both = [1, 2].map(|i| g.conv2d(t[0], t[i], window, ConvEpilogue::default()));
            g.add(both[0], both[1])
        })
        .naive(move |v, _| {
            let [a, b] = [1, 2].map(|i| convolve(&v[0], x, &v[i], window));
            a.iter().zip(b).map(|(a, b)| a + b).collect()
        })
        .tolerance(5e-6, 2e-5)
}

/// Windows without ties: all values differ by at least 1/16. No window is outside of the image altogether.
fn pool(d: &mut Draw, size: Size) -> Case {
    let x = [d.extent(3), 2 + d.extent(size.of(4, 20)), 2 + d.extent(size.of(4, 20)), d.extent(size.of(3, 40))];
    let window = loop {
        let window = any_window(d, [x[1], x[2]]);
        if (0..2).all(|axis| window.padding[axis] < window.kernel[axis]) {
            break Window { dilation: 1, ..window };
        }
    };
    let mut values = d.values(len(&x), -1.0, 1.0);
    let mut order: Vec<usize> = (0..values.len()).collect();
    order.sort_by(|&i, &j| values[i].total_cmp(&values[j]));
    order.iter().enumerate().for_each(|(rank, &i)| values[i] = rank as f64 / 16.0 - 4.0);
    Case::new(format!("max pool of {x:?}, {window:?}"))
        .real(&x, values)
        .build(move |g, t, _| g.max_pool(t[0], window))
        .naive(move |v, _| {
            let [n, h, w, c] = x;
            let [down, across] = window.extents([h, w]).expect("the window fits");
            let at = |n: usize, axis: usize, tap: usize| {
                (n * window.stride[axis] as usize + tap) as i64 - i64::from(window.padding[axis])
            };
            let mut out = Vec::new();
            for (image, row, column, k) in
                (0..n).flat_map(|i| (0..down).flat_map(move |r| (0..across).flat_map(move |l| (0..c).map(move |k| (i, r, l, k)))))
            {
                let mut best = f64::NEG_INFINITY;
                for (i, j) in (0..window.kernel[0]).flat_map(|i| (0..window.kernel[1]).map(move |j| (i, j))) {
                    let (y, z) = (at(row, 0, i as usize), at(column, 1, j as usize));
                    if (0..h as i64).contains(&y) && (0..w as i64).contains(&z) {
                        best = best.max(v[0][((image * h + y as usize) * w + z as usize) * c + k]);
                    }
                }
                out.push(best);
            }
            out
        })
        .tolerance(0.0, 1e-6)
}

fn soft_loss(d: &mut Draw, rows: usize, classes: usize, mixed: bool) -> Case {
    let shape = [rows, classes];
    let mut case = Case::new(format!("soft loss {shape:?}, mixed {mixed}"))
        .real(&shape, d.values(len(&shape), -3.0, 3.0))
        .real(&shape, d.values(len(&shape), 0.0, 2.0 / classes as f64));
    case.reals[1].differentiable = false;
    if mixed {
        case = case.real(&[1], d.values(1, 0.1, 0.9)).int(&[rows], d.ints(rows, -1, classes as i32 - 1));
        case.reals[2].differentiable = false;
    }
    case.build(move |g, t, i| g.soft_loss(t[0], t[1], mixed.then(|| [i[0], t[2]])))
        .naive(move |v, i| {
            let row = |r: usize| {
                let part = r * classes..(r + 1) * classes;
                let lse = v[0][part.clone()].iter().map(|z| z.exp()).sum::<f64>().ln();
                let mix = if mixed { v[2][0] } else { 1.0 };
                let target = |j: usize| {
                    let hit = mixed && i[0][r] == j as i32;
                    mix * v[1][r * classes + j] + if hit { 1.0 - mix } else { 0.0 }
                };
                part.enumerate().map(|(j, at)| target(j) * (lse - v[0][at])).sum()
            };
            (0..rows).map(row).collect()
        })
        .tolerance(3e-6, 1e-5)
}
