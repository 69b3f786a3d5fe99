"""Which terms of ALBEF help on the generated world of captions: trainings with equal steps, and what retrieval says of each.

    python fusion.py --samara target/release/samara --out runs/fusion [--seeds 0 1 2] [--steps 2000] [--sweep terms distillation]

`terms`: contrast alone; masked tokens and matching; all three; all three with hard negatives. `distillation`: all with hard negatives, α 0 and .4, a share of 0, .2 and .4
of the captions wrong. A model with a fusion is ranked by it over the whole gallery, one without by its vectors. Every finished run is a line of OUT/results.jsonl and is
not repeated. The predictions are in RESULTS.md.
"""

import argparse
import json
import pathlib
import statistics
import subprocess

HERE = pathlib.Path(__file__).parent
TERMS = {
    "ITC": ["albef.itm=0", "albef.mlm=0"],
    "MLM + ITM": ["albef.itc=0", "albef.hard_negatives=false"],
    "all": ["albef.hard_negatives=false"],
    "all, hard": [],
}
DISTILLATION = {
    f"alpha {alpha}, noise {noise}": [f"albef.alpha={alpha}", f"captions.noise={noise}"] for alpha in (0, 0.4) for noise in (0, 0.2, 0.4)
}


def run(args, name, settings, seed, results):
    """Trains and evaluates once; returns the record."""
    out = args.out / f"{name.replace(' ', '_').replace(',', '')}-{seed}"
    sets = [f"train.seed={seed}", f"train.steps={args.steps}", *settings]
    # Settings of a term that is left out have no effect, and samara refuses them.
    drop = {"albef.itc=0": {"queue_size", "momentum"}}.get(settings[0] if settings else "", set())
    config = "\n".join(line for line in (HERE / "fusion.toml").read_text().splitlines() if line.split(" =")[0] not in drop)
    file = args.out / f"{out.name}.toml"
    file.write_text(config)
    command = [args.samara, "train", "--config", file, "--out", out, "--threads", str(args.threads), "--quiet"]
    subprocess.run(command + [part for value in sets for part in ("--set", value)], check=True, stdout=subprocess.DEVNULL)
    rerank = "0" if "albef.itm=0" in settings else "100000"
    found = subprocess.run([args.samara, "eval", "retrieval", "--model", out, "--rerank", rerank, "--json", "--quiet"], check=True, capture_output=True, text=True)
    record = {"name": name, "seed": seed, "steps": args.steps, **json.loads(found.stdout)}
    with results.open("a") as file:
        file.write(json.dumps(record) + "\n")
    return record


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--samara", required=True)
    parser.add_argument("--out", type=pathlib.Path, required=True)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--steps", type=int, default=2000)
    parser.add_argument("--threads", type=int, default=0)
    parser.add_argument("--sweep", nargs="+", choices=["terms", "distillation"], default=["terms", "distillation"])
    args = parser.parse_args()
    args.out.mkdir(parents=True, exist_ok=True)
    results = args.out / "results.jsonl"
    done = [json.loads(line) for line in results.read_text().splitlines()] if results.exists() else []
    for name, settings in [item for sweep in args.sweep for item in {"terms": TERMS, "distillation": DISTILLATION}[sweep].items()]:
        records = []
        for seed in args.seeds:
            known = [r for r in done if (r["name"], r["seed"], r["steps"]) == (name, seed, args.steps)]
            records.append(known[0] if known else run(args, name, settings, seed, results))
        columns = {"R@1 text": lambda r: r["text_to_image"]["r1"], "R@1 image": lambda r: r["image_to_text"]["r1"]}
        columns |= {kind: lambda r, kind=kind: r["hard_pairs"][kind] or 0.0 for kind in ("colours", "sides", "attribute")}
        cells = [f"{key} {100 * statistics.mean(map(of, records)):.1f} ({100 * min(map(of, records)):.1f} to {100 * max(map(of, records)):.1f})" for key, of in columns.items()]
        print(f"{name}: " + ", ".join(cells), flush=True)


if __name__ == "__main__":
    main()
