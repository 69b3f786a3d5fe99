//! Prefetches: hints that memory will be read soon.

/// Prefetches f32 values.
#[inline(always)]
pub(super) fn prefetch(numbers: &[f32]) {
    numbers.chunks(16).for_each(|line| prefetch_line(line.as_ptr()));
}

/// Prefetches a cache line, at any address.
#[inline(always)]
pub(super) fn prefetch_line(at: *const f32) {
    #[cfg(target_arch = "x86_64")]
    {
        use std::arch::x86_64::{_MM_HINT_T1, _mm_prefetch};
        // SAFETY: every x86-64 has SSE, and a prefetch of any address reads nothing.
        unsafe { _mm_prefetch::<_MM_HINT_T1>(at.cast()) };
    }
    #[cfg(not(target_arch = "x86_64"))]
    let _ = at;
}
