//! Contenders for a matrix product: samara, the crates gemm and faer, and PyTorch in a process of its own.

use std::hint::black_box;
use std::io::{BufRead, BufReader, Write};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::time::Duration;

#[cfg(feature = "peers")]
use ::faer::linalg::matmul::matmul;
#[cfg(feature = "peers")]
use ::faer::{Accum, MatMut, MatRef as FaerRef, Par};
use samara::kernels::gemm::{GemmChoice, gemm, gemm_scratch_len};
use samara::memory::Buffer;
use samara_core::gemm::{Major, MatRef, Store};
use samara_core::threads::Threads;

use super::{Layout, seconds_of};

/// Someone who multiplies two matrices.
pub(super) trait Peer: Send {
    /// Mean seconds of some calls.
    fn seconds(&mut self, calls: usize) -> f64;
}

impl<F: FnMut() + Send> Peer for F {
    fn seconds(&mut self, calls: usize) -> f64 {
        seconds_of(calls, self)
    }
}

/// A, B and C of a product, row after row, in the order of their layout; each begins on a cache line, as PyTorch's tensors do.
pub(super) struct Operands {
    a: Buffer, // (m, k) or (k, m)
    b: Buffer, // (k, n) or (n, k)
    c: Buffer, // (m, n)
    #[cfg_attr(not(feature = "peers"), expect(dead_code, reason = "only peers ask"))]
    m: usize,
    #[cfg_attr(not(feature = "peers"), expect(dead_code, reason = "only peers ask"))]
    n: usize,
    #[cfg_attr(not(feature = "peers"), expect(dead_code, reason = "only peers ask"))]
    k: usize,
}

impl Operands {
    pub(super) fn new(m: usize, n: usize, k: usize) -> Self {
        let filled = |len: usize, value: fn(usize) -> f32| {
            let mut buffer = Buffer::new(len).expect("memory");
            buffer.get_mut().iter_mut().enumerate().for_each(|(i, x)| *x = value(i));
            buffer
        };
        let (a, b) = (filled(m * k, |i| (i % 17) as f32 - 8.0), filled(k * n, |i| (i % 13) as f32 - 6.0));
        Self { a, b, c: filled(m * n, |_| 0.0), m, n, k }
    }
}

/// The engine's product, by its own kernels or by matrixmultiply.
pub(super) fn samara<'a>(
    choice: &'a GemmChoice,
    threads: &'a (dyn Threads + Send),
    layout: Layout,
    m: usize,
    n: usize,
    k: usize,
) -> Box<dyn Peer + 'a> {
    let Operands { a, b, mut c, .. } = Operands::new(m, n, k);
    let major = if layout == Layout::ATransposed { Major::Columns } else { Major::Rows };
    let mut scratch = vec![0.0; gemm_scratch_len(choice, major, m, n, k)];
    Box::new(move || {
        let (a, b, c) = (a.get(), b.get(), c.get_mut());
        let (a, b) = match layout {
            Layout::Plain => (MatRef::new(a, m, k), MatRef::new(b, k, n)),
            Layout::BTransposed => (MatRef::new(a, m, k), MatRef::new(b, n, k).t()),
            Layout::ATransposed => (MatRef::new(a, k, m).t(), MatRef::new(b, k, n)),
        };
        gemm(choice, threads, a, b, c, n, Store::Overwrite, None, &mut scratch);
        black_box(c);
    })
}

/// The crate gemm.
#[cfg(feature = "peers")]
pub(super) fn gemm_crate<'a>(mut operands: Operands, threads: usize, layout: Layout) -> Box<dyn Peer + 'a> {
    let parallelism = if threads == 1 { ::gemm::Parallelism::None } else { ::gemm::Parallelism::Rayon(threads) };
    Box::new(move || {
        let Operands { a, b, c, m, n, k } = &mut operands;
        let (a, b, c, m, n, k) = (a.get(), b.get(), c.get_mut(), *m, *n, *k);
        // Steps from a column and from a row to the next.
        let (a_cs, a_rs) = if layout == Layout::ATransposed { (m, 1) } else { (1, k) };
        let (b_cs, b_rs) = if layout == Layout::BTransposed { (k, 1) } else { (1, n) };
        // SAFETY: A, B and C hold m·k, k·n and m·n numbers, which the steps walk through once each; C is borrowed alone.
        unsafe {
            ::gemm::gemm(
                m,
                n,
                k,
                c.as_mut_ptr(),
                1,
                n as isize,
                false,
                a.as_ptr(),
                a_cs as isize,
                a_rs as isize,
                b.as_ptr(),
                b_cs as isize,
                b_rs as isize,
                0.0,
                1.0,
                false,
                false,
                false,
                parallelism,
            );
        }
        black_box(c);
    })
}

/// The crate faer.
#[cfg(feature = "peers")]
pub(super) fn faer<'a>(mut operands: Operands, threads: usize, layout: Layout) -> Box<dyn Peer + 'a> {
    let par = if threads == 1 { Par::Seq } else { Par::rayon(threads) };
    Box::new(move || {
        let Operands { a, b, c, m, n, k } = &mut operands;
        let (a, b, c, m, n, k) = (a.get(), b.get(), c.get_mut(), *m, *n, *k);
        let a = match layout {
            Layout::ATransposed => FaerRef::from_row_major_slice(a, k, m).transpose(),
            Layout::Plain | Layout::BTransposed => FaerRef::from_row_major_slice(a, m, k),
        };
        let b = match layout {
            Layout::BTransposed => FaerRef::from_row_major_slice(b, n, k).transpose(),
            Layout::Plain | Layout::ATransposed => FaerRef::from_row_major_slice(b, k, n),
        };
        matmul(MatMut::from_row_major_slice_mut(c, m, n), Accum::Replace, a, b, 1.0, par);
        black_box(c);
    })
}

/// PyTorch in a process that takes a product for each line and answers with seconds.
pub(super) struct Torch {
    process: Child,
    to: ChildStdin,
    from: BufReader<ChildStdout>,
}

impl Torch {
    /// How long its threads may still spin after an answer.
    const SETTLE: Duration = Duration::from_millis(20);

    /// Starts `compare/gemm_worker.py` with that interpreter.
    pub(super) fn start(python: &str, threads: usize) -> Self {
        let script = concat!(env!("CARGO_MANIFEST_DIR"), "/compare/gemm_worker.py");
        let mut process = Command::new(python)
            .args([script, &threads.to_string()])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap_or_else(|error| panic!("{python} {script}: {error}"));
        let (to, from) = (process.stdin.take().expect("piped"), process.stdout.take().expect("piped"));
        Self { process, to, from: BufReader::new(from) }
    }

    /// One product as a contender.
    pub(super) fn product(&mut self, layout: Layout, m: usize, n: usize, k: usize) -> impl Peer {
        TorchProduct { torch: self, layout, m, n, k }
    }
}

impl Drop for Torch {
    fn drop(&mut self) {
        // It ends when nothing more comes in; it may have ended already.
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

struct TorchProduct<'t> {
    torch: &'t mut Torch,
    layout: Layout,
    m: usize,
    n: usize,
    k: usize,
}

impl Peer for TorchProduct<'_> {
    fn seconds(&mut self, calls: usize) -> f64 {
        let Self { torch, layout, m, n, k } = self;
        writeln!(torch.to, "{layout:?} {m} {n} {k} {calls}").expect("the worker takes a product");
        let mut line = String::new();
        torch.from.read_line(&mut line).expect("the worker answers");
        std::thread::sleep(Torch::SETTLE);
        line.trim().parse().unwrap_or_else(|_| panic!("the worker answered {line:?}, not seconds"))
    }
}
