//! Assignment of 7 tracks and 100 detections, and nothing else, as a device links it.

#![no_std]
#![no_main]

#[cfg(any(feature = "f32", feature = "f64", feature = "i32"))]
mod assign {
    use core::hint::black_box;
    use samara_core::assignment::{Costs, Dirty, Fixed, Objective, Options, Ties, linear_sum_assignment};

    #[cfg(feature = "f32")]
    type Cost = f32;
    #[cfg(feature = "f64")]
    type Cost = f64;
    #[cfg(feature = "i32")]
    type Cost = i32;

    /// The number of pairs.
    pub fn pairs() -> usize {
        let costs = black_box([Cost::default(); 700]);
        let options = if cfg!(feature = "default-options") {
            Options::default()
        } else {
            black_box(Options {
                objective: Objective::Minimize,
                ties: Ties::Any,
                dirty: Dirty::Reject,
                cost_limit: Some(Cost::default()),
            })
        };
        let mut memory = Fixed::<7, 100, Cost, u16>::default();
        let Ok(costs) = Costs::new(&costs, 7, 100) else { return 0 };
        let Ok(mut workspace) = memory.workspace(7, 100) else { return 0 };
        linear_sum_assignment(costs, &options, &mut workspace).map_or(0, |answer| answer.pairs().count())
    }
}

#[unsafe(no_mangle)]
extern "C" fn _start() -> ! {
    #[cfg(any(feature = "f32", feature = "f64", feature = "i32"))]
    core::hint::black_box(assign::pairs());
    loop {}
}

#[panic_handler]
fn panic(_: &core::panic::PanicInfo<'_>) -> ! {
    loop {}
}
