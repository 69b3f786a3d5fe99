//! Microcontrollers by name, and what they have room for.

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
}

const KIB: u64 = 1024;

const fn target(name: &'static str, core: &'static str, flash_kib: u64, ram_kib: u64) -> Target {
    Target { name, core, flash_bytes: flash_kib * KIB, ram_bytes: ram_kib * KIB }
}

/// The microcontrollers that are known, from their data sheets.
pub const TARGETS: [Target; 10] = [
    target("stm32l4r5", "Cortex-M4F", 2048, 640),
    target("stm32f411", "Cortex-M4F", 512, 128),
    target("stm32f746", "Cortex-M7", 1024, 320),
    target("stm32h743", "Cortex-M7", 2048, 512),
    target("nrf52840", "Cortex-M4F", 1024, 256),
    target("rp2040", "Cortex-M0+", 2048, 264),
    target("rp2350", "Cortex-M33", 4096, 520),
    target("esp32c3", "RV32IMC", 4096, 400),
    target("m7-256k", "Cortex-M7", 4096, 256),
    target("m7-160k", "Cortex-M7", 4096, 160),
];

/// The microcontroller of a name.
pub fn find(name: &str) -> Option<&'static Target> {
    TARGETS.iter().find(|target| target.name == name)
}
