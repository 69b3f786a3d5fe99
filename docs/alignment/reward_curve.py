"""How good a reward model gets with more comparisons, and whether all pairs of a prompt belong into one batch.

    python3 docs/alignment/reward_curve.py SAMARA FOLDER [--seeds 3] [--counts 128 512 2048 8192] [--threads 1]

Answers of the small world (`world.py`) with faults by chance, valued by `gold.py`, compared by people who follow σ(Δ/τ): rankings are drawn by Plackett and
Luce's rule, whose pairs are such comparisons. Three ways to buy as many comparisons: pairs of prompts of their own; four answers of a prompt, all six pairs
one element of a batch (Ouyang et al. 2022, section 3.5); the same six pairs as rows of their own, shuffled. One pass over each. A result is
(accuracy − ½)/(ceiling − ½) on 2,000 held-out labels: the ceiling is what the gold values themselves reach on them.
--short: 512 comparisons, one seed, in which more than 0.4 must be reached.
"""

import argparse
import json
import math
import pathlib
import random
import shutil
import statistics
import subprocess
import sys

from gold import value
from world import KIND, NAMES, THINGS, UNKIND, messages, question, write

TAU, HELD_OUT, FOUR = 0.5, 2000, 4
WAYS = ["pairs", "rankings of four", "their pairs, shuffled"]


def answer(rng, turns, name):
    """An answer whose faults are drawn one by one: the name, the word, the length."""
    told = name if rng.random() < 0.5 else rng.choice([other for other in NAMES if other != name])
    word = rng.choice(KIND if rng.random() < 0.5 else UNKIND)
    text = f"{told} is a {word} child." if len(turns) == 1 else f"Your name is {told}, {word} friend."
    return text + "".join(f" There is {thing}." for thing in rng.sample(THINGS, rng.choice([0, 0, 1, 2, 3])))


def ranked(rng, count):
    """A prompt and so many answers in the order of somebody who looks at value/τ and noise of Gumbel; and their values."""
    turns, name = question(rng)
    prompt = " ".join(text for _, text in turns)
    answers = [answer(rng, turns, name) for _ in range(count)]
    values = [value(prompt, text) for text in answers]
    noisy = sorted(((v / TAU - math.log(-math.log(rng.random())), v, text) for v, text in zip(values, answers)), reverse=True)
    return messages(turns), [text for _, _, text in noisy], [v for _, v, _ in noisy]


def row(prompt, texts):
    return {"prompt": prompt, "completions": texts, "ranks": list(range(1, len(texts) + 1))}


def rows(rng, way, comparisons):
    if way == "pairs":
        return [row(*ranked(rng, 2)[:2]) for _ in range(comparisons)]
    lists = [ranked(rng, FOUR)[:2] for _ in range(round(comparisons / math.comb(FOUR, 2)))]
    if way == "rankings of four":
        return [row(*of) for of in lists]
    pairs = [row(prompt, [texts[i], texts[j]]) for prompt, texts in lists for i in range(FOUR) for j in range(i + 1, FOUR)]
    rng.shuffle(pairs)
    return pairs


def run(command):
    done = subprocess.run([str(word) for word in command], capture_output=True, text=True, check=False)
    if done.returncode != 0:
        sys.exit(f"{' '.join(map(str, command))}\n{done.stderr}")


def sets(settings):
    return [word for key, value in settings.items() for word in ("--set", f"{key}={value}")]


def accuracy(arguments, base, held_out, way, comparisons, seed):
    out, data = arguments.folder / "reward", arguments.folder / "comparisons.jsonl"
    write(data, rows(random.Random(seed), way, comparisons))
    # As many comparisons in a batch, whatever the way.
    batch = 4 if way == "rankings of four" else 24
    settings = {
        "train.lr": 1e-3, "train.batch_size": batch, "dialogue.epochs": 1, "dialogue.val": held_out, "train.eval_every": 0,
        "train.checkpoint_every": 0,
    }
    command = [arguments.samara, "reward", "--quiet", "--init", base, "--data", data, "--out", out, "--seed", seed, "--threads", arguments.threads]
    run([*command, *sets(settings)])
    found = [json.loads(line).get("val_accuracy") for line in (out / "metrics.jsonl").read_text().splitlines()]
    shutil.rmtree(out)
    return [x for x in found if x is not None][-1]


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("samara", type=pathlib.Path)
    parser.add_argument("folder", type=pathlib.Path)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--counts", type=int, nargs="+", default=[128, 512, 2048, 8192])
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--short", action="store_true")
    arguments = parser.parse_args()
    if arguments.short:
        arguments.seeds, arguments.counts = 1, [512]
    arguments.folder.mkdir(parents=True, exist_ok=True)
    base, held_out, dialogues = (arguments.folder / name for name in ("base", "held_out.jsonl", "dialogues.jsonl"))
    rng = random.Random("held out")
    test = [ranked(rng, 2) for _ in range(HELD_OUT)]
    write(held_out, [row(prompt, texts) for prompt, texts, _ in test])
    ceiling = statistics.mean((a > b) + 0.5 * (a == b) for _, _, (a, b) in test)
    of_turns = [(prompt, texts[0]) for prompt, texts, _ in (ranked(rng, 1) for _ in range(1000))]
    write(dialogues, [{"messages": [*prompt, {"role": "assistant", "content": text}]} for prompt, text in of_turns])
    if not base.exists():
        small = {"model.n_layer": 2, "model.n_embd": 64, "model.n_head": 2, "train.steps": 100, "train.eval_every": 0, "data.corpus_bytes": 300000}
        first = arguments.folder / "first"
        run([arguments.samara, "train", "--quiet", "--out", first, "--threads", arguments.threads, *sets(small)])
        tuned = {"train.steps": 150, "train.lr": 1e-3, "train.batch_size": 16, "train.eval_every": 0}
        run([arguments.samara, "sft", "--quiet", "--init", first, "--data", dialogues, "--out", base, "--threads", arguments.threads, *sets(tuned)])
    print(f"ceiling {ceiling:.3f}", flush=True)
    least = 1.0
    for way in WAYS[:1] if arguments.short else WAYS:
        for comparisons in arguments.counts:
            shares = [(accuracy(arguments, base, held_out, way, comparisons, seed) - 0.5) / (ceiling - 0.5) for seed in range(arguments.seeds)]
            least = min(least, statistics.mean(shares))
            spread = f" ± {statistics.stdev(shares):.3f}" if len(shares) > 1 else ""
            print(f"| {way} | {comparisons} | {statistics.mean(shares):.3f}{spread} | {' '.join(f'{x:.3f}' for x in shares)} |", flush=True)
    sys.exit(arguments.short and least < 0.4)


if __name__ == "__main__":
    main()
