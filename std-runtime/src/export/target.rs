//! Microcontrollers by name, with their memory.

/// A microcontroller.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Target {
    /// Its name on the command line.
    pub name: &'static str,
    /// Its core.
    pub core: &'static str,
    /// Flash that can be read like memory.
    pub flash_bytes: u64,
    /// Its RAM; of several banks, the largest that is contiguous.
    pub ram_bytes: u64,
    /// Flash for the engine, without and with training, for any family of models: the maximum that the firmware's tests measure for such a core. The
    /// tests train a GPT; the additional 4 KiB of a Llama (measured without training) are included.
    pub engine_bytes: [u64; 2],
}

const KIB: u64 = 1024;

/// Flash for the engine on a core with single-precision floats; on one without; on RISC-V.
pub const ENGINE_BYTES: [u64; 2] = [37 * KIB, 52 * KIB];
const ENGINE_SOFT_BYTES: [u64; 2] = [39 * KIB, 54 * KIB];
const ENGINE_RISCV_BYTES: [u64; 2] = [47 * KIB, 66 * KIB];

const fn target(name: &'static str, core: &'static str, flash_kib: u64, ram_kib: u64) -> Target {
    Target { name, core, flash_bytes: flash_kib * KIB, ram_bytes: ram_kib * KIB, engine_bytes: ENGINE_BYTES }
}

const fn soft(target: Target, engine_bytes: [u64; 2]) -> Target {
    Target { engine_bytes, ..target }
}

/// Microcontrollers from their data sheets, with the flash of the usual board if they have none on chip (rp2040, rp2350, esp32c3, of which boot code
/// takes some); and bare RAM limits.
pub const TARGETS: [Target; 10] = [
    target("stm32l4r5", "Cortex-M4F", 2048, 640),
    target("stm32f411", "Cortex-M4F", 512, 128),
    target("stm32f746", "Cortex-M7", 1024, 320),
    target("stm32h743", "Cortex-M7", 2048, 512),
    target("nrf52840", "Cortex-M4F", 1024, 256),
    soft(target("rp2040", "Cortex-M0+", 2048, 264), ENGINE_SOFT_BYTES),
    target("rp2350", "Cortex-M33", 4096, 520),
    soft(target("esp32c3", "RV32IMC", 4096, 384), ENGINE_RISCV_BYTES),
    target("m7-256k", "Cortex-M7", 4096, 256),
    target("m7-160k", "Cortex-M7", 4096, 160),
];

/// The microcontroller of a name.
pub fn find(name: &str) -> Option<&'static Target> {
    TARGETS.iter().find(|target| target.name == name)
}
