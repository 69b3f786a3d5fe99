"""Times an old binary against a new one, in turns on this machine: training steps and decoding.

    python ab.py OLD NEW [--rounds 15] [--threads 2] [--only TEXT] [--least 0.97] [--json]

In every round each binary measures every case once, and the one that begins changes from round to round. The ratio of a round is the old time divided
by the new one, so that above 1 the new binary is faster. Printed are the median of the ratios, the middle half of them (from the first quartile to the
third), and the least and the most. The exit code is 1 when a median is below `--least`.
"""

import argparse
import json
import pathlib
import statistics
import subprocess
import sys

TINY = ["--preset", "nanogpt-char-cpu", "--set", "model.vocab_size=65"]
WIDE = ["model.n_layer=6", "model.n_head=6", "model.n_embd=384", "model.n_positions=256", "train.block_size=256", "train.batch_size=8"]
MID = [*TINY, *(word for key in WIDE for word in ("--set", key))]
GPT2 = ["--preset", "gpt2-124m"]
SHORT = [word for key in ("train.batch_size=4", "train.block_size=64", "train.grad_accumulation=1") for word in ("--set", key)]
# The arguments of `samara bench`, with as many measurements as take a second or two.
CASES = {
    "step, nanogpt-char-cpu, 12 x 64": ["step", *TINY, "--repeats", "25"],
    "step, 6 layers, 384 wide, 8 x 256": ["step", *MID, "--repeats", "3"],
    "step, GPT-2 124M, 4 x 64": ["step", *GPT2, *SHORT, "--repeats", "3"],
    "decode, nanogpt-char-cpu, 1 + 63": ["decode", *TINY, "--prompt-tokens", "1", "--new-tokens", "63", "--repeats", "45"],
    "decode, GPT-2 124M, 16 + 64": ["decode", *GPT2, "--prompt-tokens", "16", "--new-tokens", "64", "--repeats", "1"],
    "decode, GPT-2 124M, Q8, 16 + 64": ["decode", *GPT2, "--quantize", "q8", "--prompt-tokens", "16", "--new-tokens", "64", "--repeats", "1"],
}


def arguments():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("old", type=pathlib.Path)
    parser.add_argument("new", type=pathlib.Path)
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--only", default="", help="only cases whose name contains this")
    parser.add_argument("--least", type=float, default=0.97, help="the least median ratio that passes")
    parser.add_argument("--json", action="store_true", help="print all ratios as JSON")
    args = parser.parse_args()
    for binary in (args.old, args.new):
        if not binary.is_file():
            parser.error(f"{binary}: there is no such file; build one with cargo build --release and keep a copy of it")
    if args.rounds < 2:
        parser.error("--rounds: at least 2, for quartiles")
    return args


def milliseconds(binary, case, threads):
    """One measurement: of a step, or of a token after the prompt."""
    command = [binary.resolve(), "bench", *case, "--threads", str(threads), "--quiet", "--json"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        sys.exit(f"{' '.join(map(str, command))} failed with {done.returncode}: {done.stderr.strip()}")
    return json.loads(done.stdout)[-1]["milliseconds"]


def ratios(old, new, case, rounds, threads):
    """Old time divided by new time, for every round."""
    found = []
    for number in range(rounds):
        times = {}
        for binary in (old, new) if number % 2 == 0 else (new, old):
            times[binary is new] = milliseconds(binary, case, threads)
        found.append(times[False] / times[True])
    return found


def main():
    args = arguments()
    cases = {name: case for name, case in CASES.items() if args.only in name}
    if not cases:
        sys.exit(f"no case contains {args.only!r}: expected a part of {'; '.join(CASES)}")
    found, slower = {}, []
    print(f"{'old time / new time':<36}{'median':>8}{'middle half':>16}{'all':>16}", file=sys.stderr if args.json else sys.stdout)
    for name, case in cases.items():
        found[name] = ratios(args.old, args.new, case, args.rounds, args.threads)
        median = statistics.median(found[name])
        low, _, high = statistics.quantiles(found[name], n=4, method="inclusive")
        line = f"{name:<36}{median:>8.3f}{f'{low:.3f}..{high:.3f}':>16}{f'{min(found[name]):.3f}..{max(found[name]):.3f}':>16}"
        print(line, file=sys.stderr if args.json else sys.stdout, flush=True)
        if median < args.least:
            slower.append(f"{name}: {median:.3f}")
    if args.json:
        print(json.dumps({"rounds": args.rounds, "threads": args.threads, "ratios": found}))
    if slower:
        sys.exit(f"below {args.least}: {'; '.join(slower)}")


if __name__ == "__main__":
    main()
