//! Image files that libFuzzer makes up: reading must refuse them or give an image within its limits, in a bounded amount of memory, without a panic and
//! without a hang.
//!
//! `cd tests/fuzz && cargo run --release --bin images -- corpus/images ../golden/images/files -max_len=4096 -runs=1000000`. A failure leaves a file `crash-…`, which is
//! run again as `cargo run --release --bin images -- crash-…`. Checksums are not looked at (`--cfg fuzzing`), or no changed PNG would be read.

#![no_main]

use std::alloc::{GlobalAlloc, Layout, System};
use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};

use libfuzzer_sys::fuzz_target;
use samara::vision::image::read::{ImageLimits, decode_within};

/// Small ones, so that they are met.
const LIMITS: ImageLimits = ImageLimits { side: 1024, pixels: 1 << 16, decoder: 4 << 20 };
/// What reading may take: the decoder's share, the pixels in up to 16 bytes each twice, as much for tables; and a partition of WebP's, whose size of 24 bits its
/// decoder believes.
const MOST: usize = (8 + 16) << 20;

/// Counts bytes.
struct Counting;

static NOW: AtomicUsize = AtomicUsize::new(0);
static PEAK: AtomicUsize = AtomicUsize::new(0);

// SAFETY: the system's allocator does the work.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        let now = NOW.fetch_add(layout.size(), Ordering::Relaxed) + layout.size();
        PEAK.fetch_max(now, Ordering::Relaxed);
        // SAFETY: as the caller promises.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, at: *mut u8, layout: Layout) {
        NOW.fetch_sub(layout.size(), Ordering::Relaxed);
        // SAFETY: as the caller promises.
        unsafe { System.dealloc(at, layout) }
    }

    // Zeroed memory that is never written to costs nothing, but counts.
    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        let now = NOW.fetch_add(layout.size(), Ordering::Relaxed) + layout.size();
        PEAK.fetch_max(now, Ordering::Relaxed);
        // SAFETY: as the caller promises.
        unsafe { System.alloc_zeroed(layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

fuzz_target!(|bytes: &[u8]| {
    let bytes = bytes.to_vec();
    let before = NOW.load(Ordering::Relaxed);
    PEAK.store(before, Ordering::Relaxed);
    match decode_within(Path::new("fuzz.image"), bytes, &LIMITS) {
        Ok(image) => {
            let [height, width] = image.size();
            assert!(height > 0 && width > 0 && height.max(width) <= LIMITS.side as usize && (height * width) as u64 <= LIMITS.pixels);
        }
        Err(error) => assert!(error.to_string().starts_with("fuzz.image: expected"), "{error}"),
    }
    let taken = PEAK.load(Ordering::Relaxed) - before;
    assert!(taken <= MOST, "{taken} bytes");
});
