//! Gives every program the memory that it claims to need and no more: what does not fit does not link.

use std::path::Path;
use std::{env, fs};

/// A program's name, its RAM in KiB, stack included, and how many KiB of it are stack.
/// `kernels` builds graphs on the board, which takes more stack than to run them.
const PROGRAMS: [(&str, u32, u32); 10] = [
    ("empty", 160, 4),
    ("assignment", 160, 4),
    ("generate", 110, 4),
    ("generate-llama", 32, 4),
    ("finetune-sgd", 160, 4),
    ("finetune-adamw", 256, 4),
    ("reference", 160, 4),
    ("reinforce", 228, 4),
    ("prompts", 116, 4),
    ("kernels", 256, 8),
];

fn main() {
    let target = env::var("TARGET").expect("cargo sets TARGET");
    let out = env::var("OUT_DIR").expect("cargo sets OUT_DIR");
    let folder = env::var("CARGO_MANIFEST_DIR").expect("cargo sets CARGO_MANIFEST_DIR");
    // Where the boards have memory: QEMU's mps2 and virt. On virt all of it is RAM; the first megabytes play the part of the flash.
    let (flash, ram, script) = match target.split('-').next() {
        Some("thumbv7em" | "thumbv6m") => (0, 0x2000_0000, "link.x"),
        Some("riscv32imc") => (0x8000_0000, 0x8100_0000, "riscv.x"),
        _ => return,
    };
    for (program, ram_kib, stack_kib) in PROGRAMS {
        let memory = Path::new(&out).join(program);
        fs::create_dir_all(&memory).expect("a folder in OUT_DIR");
        fs::write(memory.join("memory.x"), memory_x(flash, ram, ram_kib * 1024, stack_kib * 1024)).expect("a file in OUT_DIR");
        for argument in [format!("-L{}", memory.display()), format!("-L{folder}"), format!("-T{script}")] {
            println!("cargo:rustc-link-arg-bin={program}={argument}");
        }
    }
    println!("cargo:rerun-if-changed=riscv.x");
    println!("cargo:rerun-if-changed=build.rs");
}

/// The stack lies below everything else, so that it overflows into addresses without memory, or guarded ones, and not into data.
fn memory_x(flash: u32, ram: u32, ram_len: u32, stack_len: u32) -> String {
    let (data, data_len) = (ram + stack_len, ram_len - stack_len);
    format!(
        "MEMORY {{\n  FLASH (rx) : ORIGIN = {flash:#x}, LENGTH = 4M\n  RAM (rw) : ORIGIN = {data:#x}, LENGTH = {data_len:#x}\n}}\n\
         _stack_end = {ram:#x};\n_stack_start = {data:#x};\n"
    )
}
