//! Tasks inside the pool take nothing from the heap once the pool is warm.

use std::alloc::{GlobalAlloc, Layout, System};
use std::sync::atomic::{AtomicUsize, Ordering};

use samara::threads::Pool;
use samara_core::threads::Threads;

struct Counting;

static ALLOCATIONS: AtomicUsize = AtomicUsize::new(0);

// SAFETY: hands everything on to the system's allocator.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        ALLOCATIONS.fetch_add(1, Ordering::Relaxed);
        // SAFETY: the caller's contract is the same.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        // SAFETY: the caller's contract is the same.
        unsafe { System.dealloc(pointer, layout) }
    }
}

#[global_allocator]
static GLOBAL: Counting = Counting;

#[test]
fn tasks_inside_the_pool_do_not_allocate() {
    for threads in [1, 2, 3] {
        let pool = Pool::new(threads).expect("threads");
        let sum = AtomicUsize::new(0);
        let task = |i: usize| {
            sum.fetch_add(std::hint::black_box(i), Ordering::Relaxed);
            std::thread::yield_now();
        };
        let allocated = pool.install(|| {
            (0..200).for_each(|_| pool.run(64, &task));
            let before = ALLOCATIONS.load(Ordering::Relaxed);
            (0..2000).for_each(|_| pool.run(64, &task));
            ALLOCATIONS.load(Ordering::Relaxed) - before
        });
        assert_eq!(allocated, 0, "{threads} threads");
        assert_eq!(sum.load(Ordering::Relaxed), 2200 * 63 * 32);
    }
}
