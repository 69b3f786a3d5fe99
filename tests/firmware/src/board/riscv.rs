//! QEMU's virt machine with a 32-bit RISC-V and no firmware.

use core::arch::{asm, global_asm};

// The start: stack, a locked guard of 4 KiB below it that nothing may touch, paint, .data, .bss, and the program. Faults end the emulation.
global_asm!(
    ".section .start, \"ax\"",
    ".global _start",
    "_start:",
    "la sp, _stack_start",
    "la t0, 5f",
    "csrw mtvec, t0",
    "la t0, _stack_end",
    "addi t0, t0, -2048",
    "addi t0, t0, -2048",
    "srli t0, t0, 2",
    "ori t0, t0, 0x1ff",
    "csrw pmpaddr0, t0",
    "li t0, 0x98",
    "csrw pmpcfg0, t0",
    "la t0, _stack_end",
    "li t1, 0xcccccccc",
    "1: sw t1, 0(t0)",
    "addi t0, t0, 4",
    "bltu t0, sp, 1b",
    "la t0, __sdata",
    "la t1, __edata",
    "la t2, __sidata",
    "2: bgeu t0, t1, 3f",
    "lw t3, 0(t2)",
    "sw t3, 0(t0)",
    "addi t0, t0, 4",
    "addi t2, t2, 4",
    "j 2b",
    "3: la t0, __sbss",
    "la t1, __ebss",
    "4: bgeu t0, t1, 6f",
    "sw zero, 0(t0)",
    "addi t0, t0, 4",
    "j 4b",
    ".balign 4",
    "5: la sp, _stack_start",
    "call fault",
    "6: call main",
    "7: j 7b",
);

#[unsafe(no_mangle)]
extern "C" fn fault() {
    print("fault, perhaps for want of stack\n");
    exit(1);
}

/// The counters run from the reset on.
pub fn start() {}

/// Shows bytes of text.
pub fn print(text: &[u8]) {
    for &byte in text {
        // SAFETY: this address is the transmit register of the machine's serial port.
        unsafe { (0x1000_0000 as *mut u8).write_volatile(byte) };
    }
}

/// Instructions since the reset.
pub fn instructions() -> Option<u64> {
    loop {
        let (high, low, again): (u32, u32, u32);
        // SAFETY: reading counters changes nothing.
        unsafe {
            asm!("csrr {}, minstreth", "csrr {}, minstret", "csrr {}, minstreth", out(reg) high, out(reg) low, out(reg) again)
        };
        if high == again {
            return Some(u64::from(high) << 32 | u64::from(low));
        }
    }
}

/// Bytes of stack that were ever in use.
pub fn stack_used() -> Option<usize> {
    unsafe extern "C" {
        static _stack_end: u32;
        static _stack_start: u32;
    }
    Some(super::written(&raw const _stack_end, &raw const _stack_start))
}

/// Ends the emulation.
pub fn exit(code: i32) -> i32 {
    let word = if code == 0 { 0x5555 } else { 0x3333 | code.cast_unsigned() << 16 };
    // SAFETY: this address is the machine's test device, which ends the emulation.
    unsafe { (0x0010_0000 as *mut u32).write_volatile(word) };
    code
}
