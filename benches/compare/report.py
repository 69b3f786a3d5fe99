"""Tables of benches/RESULTS.md from the results of `run.py`, and what they were measured on."""

import importlib.metadata
import json
import re
import statistics
import subprocess

BEGIN, END = "<!-- compare: written by benches/compare/run.py -->", "<!-- end of compare -->"
PYTHON = ["torch", "transformers", "llama-cpp-python", "tiktoken", "tokenizers"]
RUST = ["gemm", "faer", "matrixmultiply"]


def machine(samara):
    """Processor, instruction sets and cores as `samara env` sees them."""
    found = json.loads(subprocess.run([samara, "env", "--json"], check=True, capture_output=True).stdout)
    return {key: found[key] for key in ("cpu", "cpu_features", "threads", "version")}


def versions(root):
    found = {}
    for package in PYTHON:
        try:
            found[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            pass
    lock = (root / "Cargo.lock").read_text()
    for crate in RUST:
        match = re.search(rf'name = "{crate}"\nversion = "(.*)"', lock)
        found |= {crate: match[1]} if match else {}
    return found


def write(results, page):
    """Replaces what stands between the markers."""
    text = page.read_text()
    if BEGIN not in text or END not in text:
        raise SystemExit(f"{page}: no lines {BEGIN!r} and {END!r} to write between")
    head, rest = text.split(BEGIN, 1)
    tail = rest.split(END, 1)[1]
    tables = [TABLES[part](results[part]) for part in TABLES if part in results]
    page.write_text(head + BEGIN + "\n\n" + "\n".join(tables) + END + tail)


def median(rounds, key):
    return statistics.median(round_[key] for round_ in rounds)


def table(head, rows):
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines) + "\n"


def heading(title, part):
    where = part["machine"]
    instructions = next((name for name in ("avx512f", "avx2") if name in where["cpu_features"]), "no AVX2")
    versions_ = ", ".join(f"{name} {version}" for name, version in part["versions"].items())
    return (
        f"**{title}** {where['cpu']} ({instructions}), {where['threads']} cores, {part['when']}; "
        f"medians of {part['number_of_rounds']} rounds in turns; {versions_}.\n\n"
    )


def ratio(theirs, ours):
    return f"{theirs / ours:.2f} x" if ours else "-"


def ms(x):
    return f"{x:.0f}" if x >= 100 else f"{x:.1f}" if x >= 10 else f"{x:.2f}"


def step(part):
    rows = []
    for name, row in part["rows"].items():
        times = {peer: median(rounds, "ms") for peer, rounds in row["rounds"].items()}
        memory = {peer: median(rounds, "resident_mib") for peer, rounds in row["rounds"].items()}
        ours = times.pop("samara")
        anonymous = median(row["rounds"]["samara"], "anonymous_mib")
        torch = memory["torch eager"]
        rows.append(
            [name, ms(ours), *(ms(times[p]) for p in ("torch eager", "torch.compile")), ratio(min(times.values()), ours)]
            + [f"{memory['samara']:.0f}", f"{torch:.0f}", f"{memory['samara'] / torch:.2f}", f"{anonymous:.0f} of {row['plan_mib']:.0f}"]
        )
    head = ["training step", "samara, ms", "PyTorch eager", "torch.compile", "best / samara"]
    head += ["peak MiB", "PyTorch's", "ratio", "anonymous MiB, of the plan"]
    return heading(f"Training steps, {part['threads']} threads.", part) + table(head, rows)


def busy(part):
    rows = []
    for name, row in part["rows"].items():
        times = {peer: median(rounds, "ms") for peer, rounds in row["rounds"].items()}
        cells = [name]
        for peer in ("samara", "torch eager"):
            alone, beside = times[peer], times[f"{peer}, busy"]
            cells += [ms(alone), ms(beside), ratio(beside, alone)]
        rows.append(cells)
    head = ["beside one busy loop", "samara alone, ms", "beside it", "slower", "PyTorch alone", "beside it", "slower"]
    return heading(f"Beside another process, {part['threads']} threads.", part) + table(head, rows)


def decode(part):
    rows = []
    for name, row in part["rows"].items():
        rounds = row["rounds"]
        prompt = name.endswith("512 + 1")
        key = "prompt_ms" if prompt else "token_ms"
        cells = [name]
        for peer in ("samara", "llama.cpp", "transformers"):
            cells.append(ms(median(rounds[peer], key)) if peer in rounds else "-")
        ours = median(rounds["samara"], key) if "samara" in rounds else 0
        for peer in ("llama.cpp", "transformers"):
            cells.append(ratio(median(rounds[peer], key), ours) if peer in rounds else "-")
        floor = median(rounds["samara"], key.replace("_ms", "_floor_ms")) if ours else 0
        cells.append(f"{floor / ours:.2f}" if ours else "-")
        rows.append([cells[0], "prompt" if prompt else "token", *cells[1:]])
    head = ["GPT-2 124M, prompt + new", "ms of a", "samara", "llama.cpp", "transformers", "llama.cpp / samara", "transformers / samara", "floor / samara"]
    return heading("Generating.", part) + table(head, rows)


def bpe(part):
    rows = []
    for name, row in part["rows"].items():
        ours, peers = row["rounds"]["samara"], row["rounds"]["peers"]
        encode, train = median(ours, "encode_mb_per_s"), median(ours, "train_ms")
        tik, hf, hf_train = (median(peers, key) for key in ("tiktoken_mb_per_s", "tokenizers_mb_per_s", "tokenizers_train_ms"))
        cells = [f"{encode:.1f}", f"{tik:.1f}", f"{hf:.1f}", ratio(encode, tik), ms(train), ms(hf_train), ratio(hf_train, train)]
        rows.append([name, *cells])
    head = ["byte-level BPE", "samara, MB/s", "tiktoken", "tokenizers", "samara / tiktoken", "training, ms", "tokenizers", "tokenizers / samara"]
    return heading("Tokenizing, one thread.", part) + table(head, rows)


def gemm(part):
    rows, threads = [], []
    for name, by_threads in part["rows"].items():
        cells = [name]
        threads = list(by_threads)
        for speeds in by_threads.values():
            peak, ours, *peers = [(peer, speed["median"]) for peer, speed in speeds.items()]
            # The engine's other kernels are not its peers.
            peers = [peer for peer in peers if not peer[0].startswith("samara")]
            best = max(peers, key=lambda peer: peer[1])
            cells += [f"{ours[1]:.0f}", f"{ours[1] / peak[1]:.2f}", f"{best[1]:.0f} {best[0]}", f"{ours[1] / best[1]:.2f} x"]
        rows.append(cells)
    head = ["product: m x n x k"]
    for n in threads:
        head += [f"samara, GFLOP/s, {n} thread{'s' if n != '1' else ''}", "of peak", "best peer", "samara / best"]
    return heading("Matrix products.", part) + table(head, rows)


def crates(part):
    rows = []
    for name, row in part["rows"].items():
        times = {peer: median(rounds, "ms") for peer, rounds in row["rounds"].items()}
        ours = times.pop("samara")
        rows.append([name, ms(ours), *(f"{ms(t)} ({ratio(t, ours)})" for t in times.values())])
    return heading(f"Training steps of other crates, {part['threads']} threads.", part) + table(["training step", "samara, ms", "candle", "burn"], rows)


TABLES = {"step": step, "busy": busy, "decode": decode, "bpe": bpe, "gemm": gemm, "crates": crates}
