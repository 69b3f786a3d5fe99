#!/usr/bin/env python3
"""Builds every program for every target that this machine can build for, runs it where there is an emulator, and compares the hashes of results.

    python3 run.py [--quick] [--renew] [PROGRAM...]

A target needs its standard library: rustup's (`rustup target add` is tried), or else Debian's `rustc-web cargo-web rust-web-src`, which compile it
from source. Programs for ARM and RISC-V run in `qemu-system-arm` and `qemu-system-riscv32`, those for wasm32 in `node` (.cargo/config.toml says
how); Debian's packages are called qemu-system-arm, qemu-system-misc, nodejs. What is missing is skipped, and the last lines say so.

The exit code is 1 when something that ran was wrong: a program failed or found too little stack, or a hash differs from this machine's; and with CI=true
also when something was skipped. RAM is limited when a program is linked (build.rs), and on bare metal a program with a panic path does not link.

Flash is .text and .rodata without those of the program `empty` and without the model and the text that a program includes, so that it is the
engine's and the program's own. RAM is .data and .bss, stack not included. Neither may exceed what sizes.json says by more than 2 %: a change that means
to take more, or that takes less, renews that file (`--renew`) in the same commit. `--quick` leaves out what takes minutes: training on processors
without an FPU. `stack` is how deep it was at its deepest; `instructions` repeat exactly.
"""

import json
import os
import re
import shutil
import signal
import subprocess
import sys
from pathlib import Path

FOLDER = Path(__file__).resolve().parent
BINS = sorted(path.stem for path in (FOLDER / "src/bin").glob("*.rs"))
# Name in the table, target, what runs its programs.
TARGETS = [
    ("Cortex-M7", "thumbv7em-none-eabihf", "qemu-system-arm"),
    ("no FPU", "thumbv6m-none-eabi", "qemu-system-arm"),
    ("RV32IMC", "riscv32imc-unknown-none-elf", "qemu-system-riscv32"),
    ("wasm32", "wasm32-unknown-unknown", "node"),
]
SECONDS = 1800
SLOW = [(program, where) for program in ("finetune-sgd", "finetune-adamw", "reinforce", "prompts") for where in ("no FPU", "RV32IMC")]
# What a program includes from models/.
INCLUDED = {
    "generate": ["generate.samara"],
    "generate-llama": ["generate-llama.samara"],
    "finetune-sgd": ["finetune-sgd.samara", "changed.txt"],
    "finetune-adamw": ["finetune-adamw.samara", "changed.txt"],
    "reinforce": ["reinforce.samara"],
    "prompts": ["prompts.samara", "shapes.bin"],
}
SIZES = FOLDER / "sizes.json"
GROWTH = 1.02


class Trouble(Exception):
    """Something that should have worked."""


def output(command, **options):
    """What a command prints, or nothing when it cannot be run."""
    try:
        return subprocess.run(command, capture_output=True, text=True, check=True, **options).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return ""


def toolchain(target):
    """The command and environment that build for a target, or None and the reason."""
    library = Path(output(["rustc", "--print", "sysroot"], cwd=FOLDER)) / "lib/rustlib"
    if not (library / target / "lib").is_dir() and shutil.which("rustup"):
        subprocess.run(["rustup", "target", "add", target], cwd=FOLDER, capture_output=True, check=False)
    if (library / target / "lib").is_dir():
        return ["cargo"], {}
    if not (Path("/usr/bin/cargo").exists() and Path("/usr/lib/rustlib/src/rust/library").is_dir()):
        return None, f"no {target}: try rustup target add {target}, or Debian's rustc-web, cargo-web and rust-web-src"
    host = re.search("host: (.*)", output(["rustc", "-vV"], cwd=FOLDER))
    linker = library / (host[1] if host else "") / "bin/rust-lld"
    if not linker.exists():
        return None, f"no rust-lld in {library}"
    flavor = "wasm-ld" if target.startswith("wasm32") else "ld.lld"
    flags = f"CARGO_TARGET_{target.upper().replace('-', '_')}_RUSTFLAGS"
    environment = {"RUSTC": "/usr/bin/rustc", "RUSTC_BOOTSTRAP": "1", flags: f"-C linker={linker} -C linker-flavor={flavor}"}
    return ["/usr/bin/cargo", "-Zbuild-std=core,panic_abort"], environment


def run(command, environment):
    """Runs a command and returns what it printed; it and its children are ended when it takes too long."""
    process = subprocess.Popen(
        command, cwd=FOLDER, env={**os.environ, **environment}, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, stdin=subprocess.DEVNULL,
        text=True, start_new_session=True,
    )
    try:
        out, _ = process.communicate(timeout=SECONDS)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        process.communicate()
        raise Trouble(f"took more than {SECONDS} s: {' '.join(command)}") from None
    if process.returncode != 0:
        raise Trouble(f"failed with {process.returncode}: {' '.join(command)}\n{out[-4000:]}")
    return out


def figures(text):
    """The keys and values that a program printed."""
    lines = (line.split() for line in text.splitlines())
    return {line[0]: line[1] for line in lines if len(line) == 2}


def sections(path):
    """Bytes of flash and of RAM of an ELF file."""
    header = output(["readelf", "-SW", path])
    if not header:
        raise Trouble("no readelf: install binutils")
    size = dict(re.findall(r"\] (\.\w+)\s+\w+\s+\w+\s+\w+\s+(\w+)", header))
    size = {name: int(value, 16) for name, value in size.items()}
    return size.get(".text", 0) + size.get(".rodata", 0), size.get(".data", 0) + size.get(".bss", 0)


def build_and_run(bins, slow, target, cargo, environment, runs, wrong):
    """What every program printed, with its sizes. Programs that fail are added to `wrong`."""
    found = {}
    place = ["--release", "--quiet"] + (["--target", target] if target else [])
    run([cargo[0], "build", *cargo[1:], *place], environment)
    folder = Path(os.environ.get("CARGO_TARGET_DIR", FOLDER / "target")) / (target or "") / "release"
    has_sections = target is not None and not target.startswith("wasm32")
    base = sections(folder / "empty")[0] if has_sections else 0
    for name in bins:
        try:
            found[name] = figures(run([cargo[0], "run", *cargo[1:], *place, "--bin", name], environment)) if runs and name not in slow else {}
        except Trouble as trouble:
            found[name] = {}
            wrong.append(f"{name} on {target or 'the host'}: {trouble}")
        if has_sections:
            flash, ram = sections(folder / name)
            included = sum((FOLDER / "models" / model).stat().st_size for model in INCLUDED.get(name, []))
            found[name] |= {"flash": str(flash - included - base if name != "empty" else flash), "ram": str(ram)}
    return found


def table(rows):
    """Prints rows of text in columns."""
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
    for row in rows:
        print("  ".join(cell.ljust(width) if i < 2 else cell.rjust(width) for i, (cell, width) in enumerate(zip(row, widths))).rstrip())


def report(bins, results):
    """Prints one table of what all programs report, and one of what only some do."""
    common = ["hash", "flash", "ram", "stack", "instructions"]
    rows = [["program", "target", *common]]
    for name in bins:
        rows += [[name, target, *(found[name].get(key, "-") for key in common)] for target, found in results.items()]
    table(rows)
    targets = list(results)
    rows = [["program", "figure", *targets]]
    for name in bins:
        keys = dict.fromkeys(key for target in targets for key in results[target][name] if key not in common)
        rows += [[name, key, *(results[target][name].get(key, "-") for target in targets)] for key in keys]
    if len(rows) > 1:
        print()
        table(rows)


def recorded():
    """Bytes of flash and of RAM by program and target, as they were when somebody last looked."""
    return json.loads(SIZES.read_text()) if SIZES.exists() else {}


def ending(skipped, wrong):
    """Says what was skipped and what was wrong; the exit code. In CI a check that is skipped is a check that fails."""
    for line in skipped:
        print(f"skipped: {line}")
    for line in wrong:
        print(f"wrong: {line}", file=sys.stderr)
    strict = os.environ.get("CI") == "true"
    if skipped and strict:
        print("wrong: with CI=true nothing may be skipped; install what is missing", file=sys.stderr)
    return 1 if wrong or (skipped and strict) else 0


def main():
    options = {word for word in sys.argv[1:] if word.startswith("--")}
    if unknown := options - {"--quick", "--renew"}:
        sys.exit(f"unknown option {' '.join(sorted(unknown))}: expected --quick or --renew")
    bins = [word for word in sys.argv[1:] if word not in options] or BINS
    if unknown := set(bins) - set(BINS):
        sys.exit(f"no program {' '.join(sorted(unknown))}: expected {', '.join(BINS)}")
    skipped, left_out, wrong = [], [], []
    results = {"host": build_and_run(bins, [], None, ["cargo"], {}, True, wrong)}
    for name, target, emulator in TARGETS:
        cargo, environment = toolchain(target)
        if cargo is None:
            skipped.append(f"{name}: {environment}")
            continue
        runs = shutil.which(emulator) is not None
        if not runs:
            skipped.append(f"{name}: built but not run, there is no {emulator}")
        try:
            slow = [program for program, where in SLOW if "--quick" in options and where == name]
            left_out += [f"{name}: {program} was not run" for program in slow if program in bins]
            results[name] = build_and_run(bins, slow, target, cargo, environment, runs, wrong)
        except Trouble as trouble:
            wrong.append(f"{name}: {trouble}")
    report(bins, results)
    for target, found in results.items():
        for name in bins:
            ours, theirs = results["host"][name].get("hash"), found[name].get("hash")
            if ours and theirs and theirs != ours:
                wrong.append(f"{name} on {target}: the hash is {theirs}, and here {ours}")
    kinds = ("flash", "ram")
    sizes = {
        name: {target: {kind: int(found[name][kind]) for kind in kinds} for target, found in results.items() if "flash" in found[name]}
        for name in bins
    }
    if "--renew" in options:
        merged = {name: recorded().get(name, {}) | sizes.get(name, {}) for name in recorded() | sizes}
        SIZES.write_text(json.dumps(merged, indent=4, sort_keys=True) + "\n")
    for name, targets in sizes.items():
        for target, found in targets.items():
            allowed = recorded().get(name, {}).get(target)
            if allowed is None:
                skipped.append(f"{target}: {SIZES.name} does not know {name}; run.py --renew")
                continue
            for kind in kinds:
                if found[kind] > GROWTH * allowed[kind]:
                    wrong.append(f"{name} on {target}: {found[kind]} bytes of {kind}, {SIZES.name} says {allowed[kind]}; if that is meant, run.py --renew")
    for line in left_out:
        print(f"left out: {line}")
    sys.exit(ending(skipped, wrong))


if __name__ == "__main__":
    main()
