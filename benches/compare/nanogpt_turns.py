"""Time nanoGPT's CPU recipe in samara and in PyTorch, in turns, and print the medians and their ratio as JSON.

    python nanogpt_turns.py TEXT --samara target/release/samara [--threads 2] [--rounds 5]
"""

import argparse
import json
import pathlib
import statistics
import subprocess
import sys

HERE = pathlib.Path(__file__).parent


def arguments():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("text", type=pathlib.Path)
    parser.add_argument("--samara", type=pathlib.Path, required=True)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--steps", type=int, default=40)
    return parser.parse_args()


def samara(args):
    command = [args.samara, "bench", "step", "--preset", "nanogpt-char-cpu", "--json", "--repeats", str(args.steps)]
    command += ["--set", "model.vocab_size=65", "--set", f"train.threads={args.threads}"]
    return json.loads(subprocess.run(command, check=True, capture_output=True).stdout)[0]["milliseconds"]


def torch(args):
    command = [sys.executable, HERE / "nanogpt_char.py", args.text, "--no-eval", "--steps", str(args.steps)]
    command += ["--threads", str(args.threads)]
    return json.loads(subprocess.run(command, check=True, capture_output=True).stdout)["ms_per_step"]["median"]


def main():
    args = arguments()
    rounds = [(samara(args), torch(args)) for _ in range(args.rounds)]
    ours, theirs = ([round_[i] for round_ in rounds] for i in (0, 1))
    medians = {"samara": statistics.median(ours), "torch": statistics.median(theirs)}
    print(json.dumps({"ms_per_step": medians, "torch_over_samara": medians["torch"] / medians["samara"], "samara": ours, "torch": theirs}, indent=1))


main()
