//! Prefetches: hints that memory will be read soon.
//!
//! A tile fetches what later tiles write, one line of C in four steps. Fetching all of a tile's own lines at its beginning kept the numbers of A and
//! B waiting that it needed at once: up to a fifth of the speed where the summed dimension is short and C is in memory, as in weight gradients. What
//! was tried beside it and gained nothing in whole steps: packing the next panel of B meanwhile, a line in four steps (7 % for one shape alone,
//! whose rows lie whole pages apart), fetching the rows of A to come, and threads that look out for the next node before they sleep (1 %).

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
