"""Time samara beside its peers, in turns on this machine, and write the tables of benches/RESULTS.md.

    python run.py [step] [busy] [decode] [bpe] [gemm] [crates] [--rounds 5] [--threads 2] [--text FILE] [--only TEXT]
                  [--samara BINARY] [--results FILE] [--page FILE]

No part named: all but `crates`. Run it with the interpreter that has `requirements.txt`; it builds nothing but what `cargo bench` and
`cargo run` build, so `cargo build --release` comes first. In every round each contender takes its turn; a figure is the median over
rounds. Each part replaces its rows in the file of results, from which the tables are written between the two marker comments.
"""

import argparse
import contextlib
import json
import os
import pathlib
import subprocess
import sys
import tempfile
import threading
import time

import report

HERE = pathlib.Path(__file__).resolve().parent
ROOT = HERE.parent.parent
PARTS = ["step", "busy", "decode", "bpe", "gemm", "crates"]
MIB = 1 << 20

NANOGPT = {"nanogpt": True, "clip": 1.0, "vocab": 65}
# What PyTorch's script is told; samara is told the same.
STEPS = {
    "GPT-2 124M, 4 x 64": dict(preset="gpt2-124m", layers=12, heads=12, width=768, vocab=50257, positions=1024, batch=4, tokens=64, steps=3),
    "GPT-2 124M, 4 x 256": dict(
        # A budget that has norms and activations computed again.
        preset="gpt2-124m", layers=12, heads=12, width=768, vocab=50257, positions=1024, batch=4, tokens=256, steps=2, budget_mib=2400
    ),
    "6 layers, 384 wide, 8 x 256": dict(
        preset="nanogpt-char-cpu", layers=6, heads=6, width=384, positions=256, batch=8, tokens=256, steps=5, **NANOGPT
    ),
    "nanogpt-char-cpu, 12 x 64": dict(
        preset="nanogpt-char-cpu", layers=4, heads=4, width=128, positions=64, batch=12, tokens=64, steps=40, **NANOGPT
    ),
}


def arguments():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("parts", nargs="*", metavar="part", help=f"any of {' '.join(PARTS)}")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--text", type=pathlib.Path, help="text for bpe; without it samara's tales")
    parser.add_argument("--only", default="", help="only cases whose name contains this")
    parser.add_argument("--samara", type=pathlib.Path, default=ROOT / "target/release/samara")
    parser.add_argument("--results", type=pathlib.Path, default=HERE / "results.json")
    parser.add_argument("--page", type=pathlib.Path, default=ROOT / "benches/RESULTS.md")
    parser.add_argument("--work", type=pathlib.Path, default=pathlib.Path(tempfile.gettempdir()) / "samara-compare")
    args = parser.parse_args()
    unknown = [part for part in args.parts if part not in PARTS]
    if unknown:
        parser.error(f"unknown part {unknown[0]}: expected some of {' '.join(PARTS)}")
    args.parts = args.parts or [part for part in PARTS if part != "crates"]
    return args


class Worker:
    """A process that says "ready" and then answers each line with a line of JSON."""

    def __init__(self, command, cwd=HERE):
        self.process = subprocess.Popen(
            list(map(str, command)), cwd=cwd, text=True, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL
        )
        if self.process.stdout.readline().strip() != "ready":
            raise SystemExit(f"{' '.join(map(str, command))}: did not start; run it by hand to see why")

    def ask(self, line):
        self.process.stdin.write(f"{line}\n")
        self.process.stdin.flush()
        answer = json.loads(self.process.stdout.readline())
        # Its threads may spin for a while after their work.
        time.sleep(0.3)
        return answer

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.process.stdin.close()
        self.process.wait()


def measured(command):
    """Standard output as JSON, and the peaks of resident and of anonymous memory in MiB."""
    process = subprocess.Popen(list(map(str, command)), stdout=subprocess.PIPE, cwd=ROOT)
    anonymous = [0]

    def watch():
        with contextlib.suppress(FileNotFoundError, ProcessLookupError):
            while True:
                text = pathlib.Path(f"/proc/{process.pid}/status").read_text()
                found = [line for line in text.splitlines() if line.startswith("RssAnon")]
                if not found:
                    return
                anonymous[0] = max(anonymous[0], int(found[0].split()[1]) / 1024)
                time.sleep(0.02)

    watcher = threading.Thread(target=watch)
    watcher.start()
    text = process.stdout.read()
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    watcher.join()
    if process.returncode != 0:
        raise SystemExit(f"{' '.join(map(str, command))}: exit code {process.returncode}")
    return json.loads(text), usage.ru_maxrss / 1024, anonymous[0]


@contextlib.contextmanager
def busy_loop():
    """Another process that wants one core."""
    process = subprocess.Popen([sys.executable, "-c", "while True: pass"])
    try:
        yield
    finally:
        process.kill()
        process.wait()


def samara_settings(case, threads):
    sets = [f"train.threads={threads}", "train.grad_accumulation=1", f"train.batch_size={case['batch']}", f"train.block_size={case['tokens']}"]
    if "budget_mib" in case:
        sets.append(f"train.memory_budget_mib={case['budget_mib']}")
    for key, value in dict(n_layer="layers", n_head="heads", n_embd="width", n_positions="positions", vocab_size="vocab").items():
        sets.append(f"model.{key}={case[value]}")
    return ["--preset", case["preset"], *(word for key in sets for word in ("--set", key))]


def samara_step(args, case):
    command = [args.samara, "bench", "step", "--json", "--repeats", case["steps"], *samara_settings(case, args.threads)]
    rows, resident, anonymous = measured(command)
    return {"ms": rows[0]["milliseconds"], "resident_mib": resident, "anonymous_mib": anonymous}


def torch_worker(args, case, *flags):
    command = [sys.executable, "train_step.py", "--serve", "--threads", args.threads, *flags]
    for key in ("layers", "heads", "width", "vocab", "positions", "batch", "tokens", "clip"):
        command += [f"--{key}", case[key]] if key in case else []
    return Worker(command + (["--nanogpt"] if case.get("nanogpt") else []))


def torch_step(worker, case):
    answer = worker.ask(case["steps"])
    return {"ms": answer["ms"]["step"]["median"], "resident_mib": answer["peak_rss_mib"]}


def turns(rounds, contenders):
    """{name: [result of each round]}: in every round each contender in turn."""
    results = {name: [] for name in contenders}
    for number in range(rounds):
        for name, run in contenders.items():
            results[name].append(run())
            print(f"    round {number + 1}, {name}: {results[name][-1]}", file=sys.stderr)
    return results


def chosen(args, cases):
    return {name: case for name, case in cases.items() if args.only in name}


def step(args):
    """Training steps: milliseconds and peak memory."""
    rows = {}
    for name, case in chosen(args, STEPS).items():
        print(f"  {name}", file=sys.stderr)
        plan, _, _ = measured([args.samara, "plan", "--json", *samara_settings(case, args.threads)])
        with torch_worker(args, case) as eager, torch_worker(args, case, "--compile") as compiled:
            contenders = {
                "samara": lambda: samara_step(args, case),
                "torch eager": lambda: torch_step(eager, case),
                "torch.compile": lambda: torch_step(compiled, case),
            }
            rows[name] = {"rounds": turns(args.rounds, contenders), "plan_mib": plan["resident_bytes"] / MIB}
    return rows


def busy(args):
    """The same steps alone and beside one busy loop."""
    rows = {}
    for name, case in chosen(args, STEPS).items():
        print(f"  {name}", file=sys.stderr)
        with torch_worker(args, case) as eager:
            calls = {"samara": lambda: samara_step(args, case), "torch eager": lambda: torch_step(eager, case)}

            def beside(call):
                with busy_loop():
                    return call()

            contenders = dict(calls) | {f"{key}, busy": lambda call=call: beside(call) for key, call in calls.items()}
            rows[name] = {"rounds": turns(args.rounds, contenders)}
    return rows


DECODES = {"f32": ("f32", []), "Q8_0": ("q8_0", ["--quantize", "q8"]), "Q4_0": ("q4_0", ["--quantize", "q4"])}


def samara_decode(args, threads, flags, prompt, new):
    command = [args.samara, "bench", "decode", "--json", "--preset", "gpt2-124m", "--repeats", 3, "--set", f"train.threads={threads}"]
    command += ["--prompt-tokens", prompt, "--new-tokens", new, *flags]
    rows, resident, _ = measured(command)
    prompt_row, token_row = rows
    return {
        "prompt_ms": prompt_row["milliseconds"],
        "token_ms": token_row["milliseconds"],
        "token_floor_ms": token_row["floor_milliseconds"],
        "prompt_floor_ms": prompt_row["floor_milliseconds"],
        "resident_mib": resident,
    }


def takes_quantize(args):
    return "--quantize" in subprocess.run([args.samara, "bench", "--help"], capture_output=True, text=True).stdout


def decode(args):
    """GPT-2 124M: 16 + 64 tokens in three formats, and a prompt of 512; with all threads and with one."""
    args.work.mkdir(parents=True, exist_ok=True)
    folder = args.work / "gpt2"
    peer = [sys.executable, "decode_peer.py"]
    with Worker([*peer, "transformers", folder]):
        pass
    rows = {}
    for name, (kind, flags) in chosen(args, DECODES).items():
        gguf = args.work / f"gpt2-{kind}.gguf"
        if not gguf.is_file():
            subprocess.run([sys.executable, HERE / "make_gguf.py", folder, gguf, kind], check=True)
        for threads in sorted({1, args.threads}):
            with contextlib.ExitStack() as stack:
                workers = {"llama.cpp": stack.enter_context(Worker([*peer, "llama.cpp", gguf, "--threads", threads]))}
                if kind == "f32":
                    command = [*peer, "transformers", folder, "--threads", threads]
                    workers["transformers"] = stack.enter_context(Worker(command))
                for prompt, new in ((16, 64), (512, 1)) if kind == "f32" else ((16, 64),):
                    contenders = {key: lambda w=worker: w.ask(f"{prompt} {new}") for key, worker in workers.items()}
                    if not flags or takes_quantize(args):
                        contenders = {"samara": lambda: samara_decode(args, threads, flags, prompt, new)} | contenders
                    title = f"{name}, {threads} thread{'s' if threads > 1 else ''}, {prompt} + {new}"
                    print(f"  {title}", file=sys.stderr)
                    rows[title] = {"rounds": turns(args.rounds, contenders)}
    return rows


def cargo_bench(bench, *flags):
    command = ["cargo", "bench", "-q", "-p", "samara-benches", "--features", "peers", "--bench", bench, "--", *flags]
    return json.loads(subprocess.run(list(map(str, command)), check=True, cwd=ROOT, stdout=subprocess.PIPE).stdout)


def bpe(args):
    """Byte-level BPE: encoding on one thread, and training."""
    args.work.mkdir(parents=True, exist_ok=True)
    rows = {}
    text = [args.text.resolve()] if args.text else []
    for vocabulary in (1024, 8192):
        folder = args.work / f"bpe-{vocabulary}"
        ours = lambda: cargo_bench("tokenizer", *text, "--vocab", vocabulary, "--out", folder)
        command = [sys.executable, HERE / "bpe_peer.py", folder / "text.txt", folder / "tokenizer.json", "--threads", args.threads]
        peers = lambda: measured(command)[0]
        rows[f"vocabulary {vocabulary}, {args.text.name if args.text else 'tales'}"] = {"rounds": turns(args.rounds, {"samara": ours, "peers": peers})}
    return rows


def gemm(args):
    """Matrix products: GFLOP/s; the rounds are inside `benches/gemm.rs`."""
    rows = {}
    for threads in sorted({1, args.threads}):
        for family in [args.only] if args.only else ["square", "gpt2"]:
            flags = ["--json", "--threads", threads, "--only", family, "--rounds", args.rounds, "--torch", sys.executable]
            found = cargo_bench("gemm", *flags)
            for product in found["products"]:
                name = f"{product['name']}: {product['m']} x {product['n']} x {product['k']}"
                rows.setdefault(name, {})[str(threads)] = product["speeds"]
    return rows


def crates(args):
    """The same steps in candle and burn, which build in a workspace of their own."""
    rows = {}
    for name, preset in {"6 layers, 384 wide, 8 x 256": "mid", "nanogpt-char-cpu, 12 x 64": "nano"}.items():
        case = STEPS[name]

        def peer(package):
            command = ["cargo", "run", "-q", "--release", "-p", package, "--", preset, str(case["steps"])]
            environment = os.environ | {"RAYON_NUM_THREADS": str(args.threads)}
            done = subprocess.run(command, check=True, cwd=HERE / "rust-peers", env=environment, stdout=subprocess.PIPE)
            return json.loads(done.stdout)

        contenders = {"samara": lambda: samara_step(args, case)}
        contenders |= {package: lambda package=package: peer(f"peer-{package}") for package in ("candle", "burn")}
        rows[name] = {"rounds": turns(args.rounds, contenders)}
    return rows


def main():
    args = arguments()
    results = json.loads(args.results.read_text()) if args.results.is_file() else {}
    functions = {"step": step, "busy": busy, "decode": decode, "bpe": bpe, "gemm": gemm, "crates": crates}
    for part in args.parts:
        print(part, file=sys.stderr)
        rows = functions[part](args)
        before = results.get(part, {}).get("rows", {}) if args.only else {}
        results[part] = {
            "machine": report.machine(args.samara),
            "versions": report.versions(ROOT),
            "when": time.strftime("%Y-%m-%d"),
            "threads": args.threads,
            "number_of_rounds": args.rounds,
            "rows": before | rows,
        }
        args.results.write_text(json.dumps(results, indent=1) + "\n")
    report.write(results, args.page)


if __name__ == "__main__":
    main()
