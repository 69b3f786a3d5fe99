//! QEMU's mps2 boards with a Cortex-M, talking through semihosting.

use core::sync::atomic::{AtomicU32, Ordering};

use cortex_m::Peripherals;
use cortex_m::peripheral::SYST;
use cortex_m::peripheral::syst::SystClkSource;
use cortex_m_rt::{ExceptionFrame, exception};
use cortex_m_semihosting::{debug, syscall1};

unsafe extern "C" {
    static _stack_end: u32;
    static _stack_start: u32;
}

/// SysTick counts 24 bits.
const PERIOD: u32 = 1 << 24;

/// How often SysTick ran out. There are no other writers than its handler, so that loads and stores do: a Cortex-M0 has nothing else.
static PERIODS: AtomicU32 = AtomicU32::new(0);

#[exception]
fn SysTick() {
    PERIODS.store(PERIODS.load(Ordering::Relaxed).wrapping_add(1), Ordering::Relaxed);
}

#[exception]
unsafe fn HardFault(_: &ExceptionFrame) -> ! {
    // The stack may be lost: the text is in flash, and nothing returns.
    // SAFETY: the text ends with a zero.
    unsafe { syscall1!(WRITE0, c"fault, perhaps for want of stack\n".as_ptr()) };
    exit(1);
    loop {
        cortex_m::asm::wfi();
    }
}

/// Guards the end of the stack and starts the timer.
pub fn start() {
    // SAFETY: nothing else uses the peripherals.
    let Peripherals { MPU: mpu, SYST: mut timer, .. } = unsafe { Peripherals::steal() };
    // No access to the 4 KiB below the stack, everything else as without protection. QEMU reads zeros there, and a fault would pass unnoticed.
    // SAFETY: the region holds nothing.
    unsafe {
        mpu.rbar.write((&raw const _stack_end as u32).wrapping_sub(4096));
        mpu.rasr.write(11 << 1 | 1);
        mpu.ctrl.write(1 << 2 | 1);
    }
    timer.set_clock_source(SystClkSource::Core);
    timer.set_reload(PERIOD - 1);
    timer.clear_current();
    timer.enable_interrupt();
    timer.enable_counter();
}

/// Shows bytes of text.
pub fn print(text: &[u8]) {
    for byte in text {
        // SAFETY: the host reads one byte.
        unsafe { syscall1!(WRITEC, byte as *const u8) };
    }
}

/// Instructions since [`start`]: the timer ticks every 40 ns, and QEMU makes an instruction last 64 ns.
#[inline(never)]
pub fn instructions() -> Option<u64> {
    loop {
        let periods = PERIODS.load(Ordering::Relaxed);
        let ticks = PERIOD - 1 - SYST::get_current();
        if PERIODS.load(Ordering::Relaxed) == periods {
            return Some((u64::from(periods) * u64::from(PERIOD) + u64::from(ticks)) * 5 / 8);
        }
    }
}

/// Bytes of stack that were ever in use.
pub fn stack_used() -> Option<usize> {
    Some(super::written(&raw const _stack_end, &raw const _stack_start))
}

/// Ends the emulation.
pub fn exit(code: i32) -> i32 {
    debug::exit(if code == 0 { debug::EXIT_SUCCESS } else { debug::EXIT_FAILURE });
    code
}
