#!/usr/bin/env python3
"""Visual prompt tuning and its baselines on generated targets: eight methods, eight targets, equal search.

    python3 benches/prompt_tuning.py SAMARA FOLDER [--only TARGET]

A Vision Transformer of 64 columns and four blocks (217,728 parameters, 32 x 32 pixels, patches of 8) learns to tell 64 kinds of coloured shapes, with plain
images. Then every method adapts it to each target as VTAB-1k asks: 800 training images, 200 to choose the learning rate and the weight decay by, 1000 to
test on, which nothing else reads. Every method searches the same grid with the first seed, and the chosen cell is trained with five seeds. FOLDER keeps every
sweep: the same command goes on after a break. The table goes to standard output, every sweep to FOLDER/prompt_tuning.csv.
"""

import argparse
import csv
import json
import subprocess
import sys
from pathlib import Path

BACKBONE = [
    "model.model_type=vit", "model.image_size=32", "model.patch_size=8", "model.hidden_size=64", "model.num_hidden_layers=4", "model.num_attention_heads=4",
    "model.intermediate_size=256", "shapes.target=shape-colour", "shapes.train=40000", "shapes.val=1000", "train.steps=5000", "train.batch_size=64",
    "train.lr=2e-3", "train.weight_decay=0.05", "train.eval_every=500", "train.checkpoint_every=1000",
]
# Target, style, and the group of VTAB-1k that it stands for. The world's seed is another than that of the backbone.
TARGETS = [
    ("colour", "inverted", "natural"), ("shape", "inverted", "natural"), ("shape", "noisy", "natural"),
    ("shape", "rotated", "specialised"), ("shape", "cluttered", "specialised"),
    ("count", "plain", "structured"), ("column", "plain", "structured"), ("relation", "plain", "structured"),
]
METHODS = ["full", "linear", "mlp-3", "partial-1", "bias", "adapter", "vpt-shallow", "vpt-deep"]
EXTRA = {"vpt-shallow": ["tune.prompts=4"], "vpt-deep": ["tune.prompts=4"]}
COMMON = ["shapes.seed=1", "train.steps=120", "train.batch_size=32", "train.warmup_steps=12", "train.min_lr=0", "train.eval_every=0", "train.checkpoint_every=0"]
GRID = ["train.lr=1e-3,5e-3,2e-2", "train.weight_decay=1e-4,1e-1"]
SEEDS = "0,1,2,3,4"


def sets(values):
    return [word for value in values for word in ("--set", value)]


def run(command):
    done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, check=False)
    if done.returncode:
        sys.exit(f"{' '.join(map(str, command))}\n{done.stderr}")
    return done.stdout


def table(rows, named):
    """Mean ± deviation of the test accuracy in percent, and wins of every method over two of them."""
    accuracy = {(row["target"], row["method"]): float(row["mean"]) for row in rows}
    lines = ["| target | " + " | ".join(METHODS) + " |", "|---|" + "---|" * len(METHODS)]
    for name in named:
        cells = [next((row for row in rows if row["target"] == name and row["method"] == method), None) for method in METHODS]
        lines.append(f"| {name} | " + " | ".join("" if c is None else f"{100 * float(c['mean']):.1f} ± {100 * float(c['sd']):.1f}" for c in cells) + " |")
    whole = [name for name in named if all((name, method) in accuracy for method in METHODS)]
    if whole:
        mean = lambda method: 100 * sum(accuracy[name, method] for name in whole) / len(whole)
        lines.append(f"| mean of {len(whole)} | " + " | ".join(f"{mean(method):.1f}" for method in METHODS) + " |")
        for other in ("full", "linear"):
            wins = [sum(accuracy[name, method] > accuracy[name, other] for name in whole) for method in METHODS]
            lines.append(f"| wins over {other} | " + " | ".join(map(str, wins)) + " |")
    return "\n".join(lines)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("samara", type=Path)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--only", help="one target, as count-plain")
    args = parser.parse_args()
    args.folder.mkdir(parents=True, exist_ok=True)
    base, samara = args.folder / "backbone", args.samara.resolve()
    if not (base / "best" / "config.json").exists() or not (base / "MODEL_CARD.md").exists():
        run([samara, "train", "-q", "--threads", "1", "--resume", "--out", base, *sets(BACKBONE)])
    rows = []
    targets = [t for t in TARGETS if args.only in (None, f"{t[0]}-{t[1]}")]
    for target, style, group in targets:
        name = f"{target}-{style}"
        for method in METHODS:
            values = [f"shapes.target={target}", f"shapes.style={style}", f"tune.method={method}", *EXTRA.get(method, []), *COMMON]
            out = args.folder / name / method
            command = [samara, "sweep", "-q", "--json", "--threads", "1", "--init", base / "best", "--out", out, "--seeds", SEEDS, *sets(values)]
            found = json.loads(run(command + [word for grid in GRID for word in ("--grid", grid)]))
            test, chosen = found["chosen"]["test"], found["chosen"]["settings"]
            seconds = sum(cell["seconds"] for cell in found["cells"])
            rows.append({
                "target": name, "group": group, "method": method, "mean": test["mean"], "sd": test["sd"] or 0.0, "seeds": test["n"],
                "validation": found["chosen"]["validation"]["mean"], "chosen": " ".join(chosen), "seconds": round(seconds, 1),
            })
            print(f"{name} {method}: {test['mean']:.4f} ± {test['sd'] or 0:.4f}  {' '.join(chosen)}  {seconds:.0f} s", file=sys.stderr, flush=True)
        with open(args.folder / "prompt_tuning.csv", "w", newline="", encoding="utf-8") as file:
            writer = csv.DictWriter(file, fieldnames=list(rows[0]))
            writer.writeheader()
            writer.writerows(rows)
    print(table(rows, [f"{target}-{style}" for target, style, _ in targets]))


if __name__ == "__main__":
    main()
