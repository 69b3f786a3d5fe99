//! The innermost loops of products, in assembly: whole tiles whose sums stay in registers.
//!
//! Compilers keep the sums of such a loop in registers only while they do not move its address computations; moved additions and spilled sums cost up
//! to a third of the speed. Each step reads some vectors of B, broadcasts the values of A for that step, and multiplies each with all vectors. Rows
//! of A are addressed from the first one by odd multiples of their stride with scaled addressing: this needs no additions on the execution ports that
//! multiply.
//!
//! Whole tiles are assembly on x86-64 (8 x 48 with AVX-512, 6 x 16 with AVX2). Tiles at the edges of C, and those of NEON (12 x 8), are intrinsics;
//! NEON's 24 sums stay in registers that way.

#[cfg(target_arch = "x86_64")]
use std::arch::asm;

/// A tile's operands; strides are in elements.
#[derive(Clone, Copy, Debug)]
#[cfg_attr(not(target_arch = "x86_64"), allow(dead_code, reason = "NEON has no loops of its own, which fetch ahead"))]
pub(super) struct Operands {
    /// Number of steps along k.
    pub(super) k: usize,
    /// First element of A.
    pub(super) a: *const f32,
    /// From a row of A to the next.
    pub(super) row_stride: usize,
    /// Stride of A from one step to the next.
    pub(super) step_stride: usize,
    /// First vector of B.
    pub(super) b: *const f32,
    /// From the vectors of B of a step to those of the next.
    pub(super) ld: usize,
    /// Destination of packed vectors of B, a panel as wide as the largest tile.
    pub(super) panel: *mut f32,
    /// Cache lines to prefetch for writing, one every four steps: the first, the stride in elements, and the count.
    pub(super) soon: *const f32,
    pub(super) soon_stride: usize,
    pub(super) soon_count: usize,
    /// Whether sums are added to C.
    pub(super) add: bool,
}

/// Unrolled steps per iteration, as in `.rept`: with fewer, branches cost time.
#[cfg(target_arch = "x86_64")]
const STEPS: usize = 4;

/// Loop parameters that are read from memory because all registers are in use.
#[cfg(target_arch = "x86_64")]
#[repr(C)]
struct Course<const ROWS: usize> {
    /// Iterations with a prefetch, iterations without, remaining steps, and whether sums are added.
    passes: [usize; 4],
    /// Start addresses of the rows of C.
    rows: [*mut f32; ROWS],
}

/// The body of a tile. Parameters in order: the clearing instruction, further registers, bytes of a panel row, the loads at the start of a step; and
/// for each row its index in C, its address in A, a register for its broadcast value of A, and for each vector the register of the sum, that of B,
/// and its offset in bytes.
#[cfg(target_arch = "x86_64")]
macro_rules! steps {
    (
        $o:ident, $course:ident, $clear:literal, [$($other:tt),*], $panel_bytes:literal, [$($line:literal),*],
        $($row:literal $at:literal $spread:literal [$($sum:tt $b:tt $place:literal),*];)*
    ) => {
        asm!(
            $($(concat!($clear, " ", $sum, ", ", $sum, ", ", $sum),)*)*
            "mov {passes}, [{course}]",
            "test {passes}, {passes}",
            "jz 3f",
            "2:",
            // One prefetch at a time: many at once would delay the loads of this tile.
            "prefetchw [{soon}]",
            "add {soon}, {soon_stride}",
            ".rept 4",
            steps!(@step $panel_bytes [$($line),*] $($at $spread [$($sum $b),*];)*),
            ".endr",
            "dec {passes}",
            "jnz 2b",
            "3:",
            "mov {passes}, [{course} + 8]",
            "test {passes}, {passes}",
            "jz 5f",
            "4:",
            ".rept 4",
            steps!(@step $panel_bytes [$($line),*] $($at $spread [$($sum $b),*];)*),
            ".endr",
            "dec {passes}",
            "jnz 4b",
            "5:",
            "mov {passes}, [{course} + 16]",
            "test {passes}, {passes}",
            "jz 7f",
            "6:",
            steps!(@step $panel_bytes [$($line),*] $($at $spread [$($sum $b),*];)*),
            "dec {passes}",
            "jnz 6b",
            "7:",
            "cmp qword ptr [{course} + 24], 0",
            "je 8f",
            $(
                concat!("mov {a}, [{course} + ", $row, "]"),
                $(concat!("vaddps ", $sum, ", ", $sum, ", [{a} + ", $place, "]"),)*
            )*
            "8:",
            $(
                concat!("mov {a}, [{course} + ", $row, "]"),
                $(concat!("vmovups [{a} + ", $place, "], ", $sum),)*
            )*
            // Six rows do without the last stride, which must be named all the same.
            "# {s7}",
            passes = out(reg) _,
            a = inout(reg) $o.a => _,
            b = inout(reg) $o.b => _,
            panel = inout(reg) $o.panel => _,
            soon = inout(reg) $o.soon => _,
            // The strides of a single step are unused and may have any value.
            soon_stride = in(reg) $o.soon_stride.wrapping_mul(4),
            ahead = in(reg) $o.step_stride.wrapping_mul(4),
            ld = in(reg) $o.ld.wrapping_mul(4),
            s1 = in(reg) 4 * $o.row_stride,
            s3 = in(reg) 12 * $o.row_stride,
            s5 = in(reg) 20 * $o.row_stride,
            s7 = in(reg) 28 * $o.row_stride,
            course = in(reg) &raw const $course,
            $($(out($sum) _,)*)*
            $(out($other) _,)*
            options(nostack),
        )
    };
    (@step $panel_bytes:literal [$($line:literal),*] $($at:literal $spread:literal [$($sum:tt $b:tt),*];)*) => {
        concat!(
            $($line, "\n",)*
            $(
                "vbroadcastss ", $spread, ", dword ptr [{a}", $at, "]\n",
                $("vfmadd231ps ", $sum, ", ", $b, ", ", $spread, "\n",)*
            )*
            "add {a}, {ahead}\n",
            "add {b}, {ld}\n",
            "add {panel}, ", $panel_bytes,
        )
    };
}

/// `fn name<PACK, FAR>(operands, rows)`: a whole tile, stored at or added to `rows[i]` for each row. With PACK, B is also copied to the panel; with
/// FAR, columns of A are far apart, where hardware prefetchers do not follow, and are prefetched eight steps ahead.
#[cfg(target_arch = "x86_64")]
macro_rules! tile {
    (
        $(#[$meta:meta])* $name:ident, $features:literal, $height:literal, $panel_bytes:literal, $clear:literal, $others:tt,
        [$($load:literal),*], [$($pack:literal),*], $($rows:tt)*
    ) => {
        $(#[$meta])*
        ///
        /// # Safety
        /// The instructions exist; every step of A and B can be read, every row written and, with PACK, the panel.
        #[target_feature(enable = $features)]
        pub(super) unsafe fn $name<const PACK: bool, const FAR: bool>(o: Operands, rows: &[*mut f32; $height]) {
            let fetching = o.soon_count.min(o.k / STEPS);
            let passes = [fetching, o.k / STEPS - fetching, o.k % STEPS, usize::from(o.add)];
            let course = Course { passes, rows: *rows };
            // SAFETY: the caller's contract. Fetching is a hint, at any address.
            unsafe {
                match (PACK, FAR) {
                    (false, false) => steps!(o, course, $clear, $others, $panel_bytes, [$($load),*], $($rows)*),
                    (false, true) => {
                        steps!(o, course, $clear, $others, $panel_bytes, [$($load,)* "prefetcht0 [{a} + 8*{ahead}]"], $($rows)*);
                    }
                    (true, false) => steps!(o, course, $clear, $others, $panel_bytes, [$($load,)* $($pack),*], $($rows)*),
                    (true, true) => {
                        steps!(o, course, $clear, $others, $panel_bytes, [$($load,)* $($pack,)* "prefetcht0 [{a} + 8*{ahead}]"], $($rows)*);
                    }
                }
            }
        }
    };
}

#[cfg(target_arch = "x86_64")]
tile! {
    /// Eight rows of three vectors of sixteen f32.
    avx512_8x3, "avx512f", 8, 192, "vpxord", ["zmm24", "zmm25", "zmm26", "zmm27", "zmm28", "zmm29"],
    ["vmovups zmm24, [{b} + 0]", "vmovups zmm25, [{b} + 64]", "vmovups zmm26, [{b} + 128]"],
    ["vmovups [{panel} + 0], zmm24", "vmovups [{panel} + 64], zmm25", "vmovups [{panel} + 128], zmm26", "prefetcht0 [{b} + 8*{ld} + 0]", "prefetcht0 [{b} + 8*{ld} + 64]", "prefetcht0 [{b} + 8*{ld} + 128]"],
    32 "" "zmm27" ["zmm0" "zmm24" 0, "zmm1" "zmm25" 64, "zmm2" "zmm26" 128];
    40 "+{s1}" "zmm28" ["zmm3" "zmm24" 0, "zmm4" "zmm25" 64, "zmm5" "zmm26" 128];
    48 "+2*{s1}" "zmm29" ["zmm6" "zmm24" 0, "zmm7" "zmm25" 64, "zmm8" "zmm26" 128];
    56 "+{s3}" "zmm27" ["zmm9" "zmm24" 0, "zmm10" "zmm25" 64, "zmm11" "zmm26" 128];
    64 "+4*{s1}" "zmm28" ["zmm12" "zmm24" 0, "zmm13" "zmm25" 64, "zmm14" "zmm26" 128];
    72 "+{s5}" "zmm29" ["zmm15" "zmm24" 0, "zmm16" "zmm25" 64, "zmm17" "zmm26" 128];
    80 "+2*{s3}" "zmm27" ["zmm18" "zmm24" 0, "zmm19" "zmm25" 64, "zmm20" "zmm26" 128];
    88 "+{s7}" "zmm28" ["zmm21" "zmm24" 0, "zmm22" "zmm25" 64, "zmm23" "zmm26" 128];
}

#[cfg(target_arch = "x86_64")]
tile! {
    /// Eight rows of two vectors of sixteen f32.
    avx512_8x2, "avx512f", 8, 192, "vpxord", ["zmm24", "zmm25", "zmm26", "zmm27", "zmm28", "zmm29"],
    ["vmovups zmm24, [{b} + 0]", "vmovups zmm25, [{b} + 64]"],
    ["vmovups [{panel} + 0], zmm24", "vmovups [{panel} + 64], zmm25", "prefetcht0 [{b} + 8*{ld} + 0]", "prefetcht0 [{b} + 8*{ld} + 64]"],
    32 "" "zmm27" ["zmm0" "zmm24" 0, "zmm1" "zmm25" 64];
    40 "+{s1}" "zmm28" ["zmm2" "zmm24" 0, "zmm3" "zmm25" 64];
    48 "+2*{s1}" "zmm29" ["zmm4" "zmm24" 0, "zmm5" "zmm25" 64];
    56 "+{s3}" "zmm27" ["zmm6" "zmm24" 0, "zmm7" "zmm25" 64];
    64 "+4*{s1}" "zmm28" ["zmm8" "zmm24" 0, "zmm9" "zmm25" 64];
    72 "+{s5}" "zmm29" ["zmm10" "zmm24" 0, "zmm11" "zmm25" 64];
    80 "+2*{s3}" "zmm27" ["zmm12" "zmm24" 0, "zmm13" "zmm25" 64];
    88 "+{s7}" "zmm28" ["zmm14" "zmm24" 0, "zmm15" "zmm25" 64];
}

#[cfg(target_arch = "x86_64")]
tile! {
    /// Eight rows of one vector of sixteen f32.
    avx512_8x1, "avx512f", 8, 192, "vpxord", ["zmm24", "zmm25", "zmm26", "zmm27", "zmm28", "zmm29"],
    ["vmovups zmm24, [{b} + 0]"],
    ["vmovups [{panel} + 0], zmm24", "prefetcht0 [{b} + 8*{ld} + 0]"],
    32 "" "zmm27" ["zmm0" "zmm24" 0];
    40 "+{s1}" "zmm28" ["zmm1" "zmm24" 0];
    48 "+2*{s1}" "zmm29" ["zmm2" "zmm24" 0];
    56 "+{s3}" "zmm27" ["zmm3" "zmm24" 0];
    64 "+4*{s1}" "zmm28" ["zmm4" "zmm24" 0];
    72 "+{s5}" "zmm29" ["zmm5" "zmm24" 0];
    80 "+2*{s3}" "zmm27" ["zmm6" "zmm24" 0];
    88 "+{s7}" "zmm28" ["zmm7" "zmm24" 0];
}

#[cfg(target_arch = "x86_64")]
tile! {
    /// Six rows of two vectors of eight f32.
    avx2_6x2, "avx2,fma", 6, 64, "vxorps", ["ymm12", "ymm13", "ymm14", "ymm15"],
    ["vmovups ymm12, [{b} + 0]", "vmovups ymm13, [{b} + 32]"],
    ["vmovups [{panel} + 0], ymm12", "vmovups [{panel} + 32], ymm13", "prefetcht0 [{b} + 8*{ld} + 0]"],
    32 "" "ymm14" ["ymm0" "ymm12" 0, "ymm1" "ymm13" 32];
    40 "+{s1}" "ymm15" ["ymm2" "ymm12" 0, "ymm3" "ymm13" 32];
    48 "+2*{s1}" "ymm14" ["ymm4" "ymm12" 0, "ymm5" "ymm13" 32];
    56 "+{s3}" "ymm15" ["ymm6" "ymm12" 0, "ymm7" "ymm13" 32];
    64 "+4*{s1}" "ymm14" ["ymm8" "ymm12" 0, "ymm9" "ymm13" 32];
    72 "+{s5}" "ymm15" ["ymm10" "ymm12" 0, "ymm11" "ymm13" 32];
}

#[cfg(target_arch = "x86_64")]
tile! {
    /// Six rows of one vector of eight f32.
    avx2_6x1, "avx2,fma", 6, 64, "vxorps", ["ymm12", "ymm13", "ymm14", "ymm15"],
    ["vmovups ymm12, [{b} + 0]"],
    ["vmovups [{panel} + 0], ymm12", "prefetcht0 [{b} + 8*{ld} + 0]"],
    32 "" "ymm14" ["ymm0" "ymm12" 0];
    40 "+{s1}" "ymm15" ["ymm1" "ymm12" 0];
    48 "+2*{s1}" "ymm14" ["ymm2" "ymm12" 0];
    56 "+{s3}" "ymm15" ["ymm3" "ymm12" 0];
    64 "+4*{s1}" "ymm14" ["ymm4" "ymm12" 0];
    72 "+{s5}" "ymm15" ["ymm5" "ymm12" 0];
}
