#!/usr/bin/env python3
"""Builds the C interface and its examples for this machine and for a Cortex-M7, runs them, and compares what models answered.

    python3 run.py [--inference FILE.samara] [--training FILE.samara]

Needs a C compiler (`cc`, or what CC says). The device's programs need arm-none-eabi-gcc and qemu-system-arm (Debian: gcc-arm-none-eabi,
qemu-system-arm) and Rust's standard library for thumbv7em-none-eabihf, as ../../tests/firmware/run.py finds it; what is missing is skipped, and the
last lines say so. The files default to models of tests/firmware; `samara export --train none` and `--train last-block` write others.

The exit code is 1 when something that ran was wrong, and with CI=true also when something was skipped. A program with a panic path does not link. In the table, flash is code and constants without the
model file and without what start-up and printing take; RAM is everything but the stack.
"""

import argparse
import importlib.util
import os
import shutil
import sys
from pathlib import Path

FOLDER = Path(__file__).resolve().parent
FIRMWARE = FOLDER.parent.parent / "tests/firmware"
TARGET = "thumbv7em-none-eabihf"
WARNINGS = ["-std=c11", "-Wall", "-Wextra", "-Wpedantic", "-Werror"]
DEVICE = [
    *["arm-none-eabi-gcc", "-Os", "-ffreestanding", "-ffunction-sections", "-fdata-sections", "-nostdlib"],
    *["-mcpu=cortex-m7", "-mthumb", "-mfloat-abi=hard", "-mfpu=fpv4-sp-d16", "-T", str(FOLDER / "examples/device.ld")],
    *["-Wl,--gc-sections,--fatal-warnings,-z,noexecstack,--print-memory-usage", *WARNINGS],
]
QEMU = [
    *"qemu-system-arm -machine mps2-an500 -cpu cortex-m7 -display none -chardev stdio,id=out".split(),
    *"-semihosting-config enable=on,target=native,chardev=out -kernel".split(),
]


def shared():
    """The functions that programs for microcontrollers are built and run with."""
    place = importlib.util.spec_from_file_location("firmware", FIRMWARE / "run.py")
    module = importlib.util.module_from_spec(place)
    place.loader.exec_module(module)
    return module


firmware = shared()
BUILD = Path(os.environ.get("CARGO_TARGET_DIR", FOLDER / "target")).resolve()


def library(cargo, environment, target):
    """Builds the library and gives its path."""
    place = ["--target", target] if target else []
    manifest = ["--manifest-path", str(FOLDER / "Cargo.toml"), "--target-dir", str(BUILD)]
    firmware.run([cargo[0], "build", *cargo[1:], "--release", "--quiet", *manifest, *place], environment)
    return str(BUILD / (target or "") / "release/libsamara.a")


def host(variants, models):
    """What the examples print on this machine."""
    compiler, archive = os.environ.get("CC", "cc"), library(["cargo"], {}, None)
    if "inference" in models:
        misuse = [compiler, *WARNINGS, "-g", str(FOLDER / "tests/misuse.c"), archive, "-lm", "-o", str(BUILD / "misuse")]
        try:
            firmware.run([*misuse, "-fsanitize=address,undefined", "-fno-sanitize-recover=undefined"], {})
        except firmware.Trouble:
            firmware.run(misuse, {})
        firmware.run([str(BUILD / "misuse"), *models.values()], {})
    found = {}
    for name, flags in variants.items():
        if name in models:
            program = str(BUILD / f"generate-{name}")
            firmware.run([compiler, *WARNINGS, "-O2", *flags, str(FOLDER / "examples/generate.c"), archive, "-o", program], {})
            found[name] = firmware.figures(firmware.run([program, models[name]], {}))
    return found


def device(variants, models, desk, runs):
    """What the examples print on the device, with their sizes."""
    cargo, environment = firmware.toolchain(TARGET)
    if cargo is None:
        return None, environment
    archive = library(cargo, environment, TARGET)
    found, base = {}, 0
    for name, flags in variants.items():
        if name in ("inference", "training"):
            if name not in models:
                continue
            flags = [*flags, f'-DMODEL="{models[name]}"', f"-DRAM_BYTES={desk[name]['ram_bytes']}"]
        program = str(BUILD / f"device-{name}")
        usage = firmware.run([*DEVICE, *flags, str(FOLDER / "examples/device.c"), archive, "-o", program], {})
        print(f"{name}\n{usage}")
        found[name] = firmware.figures(firmware.run([*QEMU, program], {})) if runs else {}
        flash, ram = firmware.sections(program)
        base = base or flash
        found[name] |= {"flash": str(flash - base), "ram": str(ram)}
    return found, None


def main():
    parser = argparse.ArgumentParser(description="builds, runs and compares the examples of the C interface")
    parser.add_argument("--inference", default=str(FIRMWARE / "models/generate.samara"), help="a file that generates text")
    parser.add_argument("--training", default=str(FIRMWARE / "models/finetune-sgd.samara"), help="a file that also trains")
    files = vars(parser.parse_args())
    skipped, wrong = [], []
    models = {name: str(Path(file).resolve()) for name, file in files.items() if Path(file).exists()}
    skipped += [f"{name}: there is no {files[name]}" for name in files if name not in models]
    # The first is what is subtracted from the others.
    variants = {"start-up": [], "assignment": ["-DASSIGNMENT"], "inference": [], "training": ["-DTRAINING"]}
    desk = host(variants, models)
    board, runs = {}, shutil.which(QEMU[0]) is not None
    if shutil.which("arm-none-eabi-gcc"):
        if not runs:
            skipped.append(f"device: built but not run, there is no {QEMU[0]}")
        board, reason = device(variants, models, desk, runs)
        if board is None:
            board = {}
            skipped.append(f"device: {reason}")
    else:
        skipped.append("device: there is no arm-none-eabi-gcc")
    keys = ["flash", "ram", "stack", "hash"]
    rows = [["program", "where", *keys]]
    for name in variants:
        rows += [[name, where, *(found[name].get(key, "-") for key in keys)] for where, found in [("host", desk), ("device", board)] if name in found]
    firmware.table(rows)
    for name in desk:
        ours, theirs = desk[name].get("hash"), board.get(name, {}).get("hash")
        if ours is None or (name in board and runs and theirs != ours):
            wrong.append(f"{name}: the hash is {theirs} on the device, and here {ours}")
    return firmware.ending(skipped, wrong)


if __name__ == "__main__":
    try:
        sys.exit(main())
    except firmware.Trouble as trouble:
        sys.exit(f"wrong: {trouble}")
