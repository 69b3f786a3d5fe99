"""What PPO gains by the gold reward at a KL of 6 nats, and what it costs on the text of pretraining, without and with that text in its updates (PPO-ptx).

    python3 docs/alignment/tax.py SAMARA FOLDER [--seeds 3] [--coefficients 0 1 8] [--steps 120] [--threads 1]

A model of 2 layers × 64 is pretrained on tales, instructed with answers that have faults by chance (`reward_curve.py`), and improved by PPO on a reward model of
8,192 comparisons; an adaptive coefficient leads its KL to the target. Gold rewards are those of 500 held-out prompts in standard deviations of the
instructed model's; the tax is how much the loss of held-out tales grows over that model's (Ouyang et al. 2022, section 4.2 and appendix E.6).
--short: one seed, 3 steps: only what runs is checked.
"""

import argparse
import json
import pathlib
import random
import shutil
import statistics
import subprocess
import sys

from gold import of_row
from reward_curve import messages, question, ranked, row, run, sets, write

TARGET_KL = 6.0


def outcome(command):
    done = subprocess.run([str(word) for word in command], capture_output=True, text=True, check=False)
    if done.returncode != 0:
        sys.exit(f"{' '.join(map(str, command))}\n{done.stderr}")
    return json.loads(done.stdout)


def golds(arguments, model, prompts, seed):
    out = arguments.folder / "rollouts.jsonl"
    out.unlink(missing_ok=True)
    run([arguments.samara, "rollout", "--quiet", "--model", model, "--data", prompts, "--out", out, "--seed", seed, "--threads", arguments.threads,
         *sets({"rollout.max_new_tokens": 48})])
    return [of_row(json.loads(line)) for line in out.read_text().splitlines()]


def loss_of_tales(arguments, model):
    tales = arguments.folder / "first/data/val.bin"
    return outcome([arguments.samara, "eval", "lm", "--quiet", "--json", "--model", model, "--data", tales, "--threads", arguments.threads])["loss"]


def prepared(arguments, steps):
    """The instructed model and the reward model; made once."""
    first, base, reward = (arguments.folder / name for name in ("first", "base", "reward"))
    rng = random.Random("tax")
    write(arguments.folder / "dialogues.jsonl", [
        {"messages": [*prompt, {"role": "assistant", "content": texts[0]}]} for prompt, texts, _ in (ranked(rng, 1) for _ in range(2000))])
    write(arguments.folder / "comparisons.jsonl", [row(*ranked(rng, 2)[:2]) for _ in range(8192)])
    for name, count in [("prompts", 2000), ("held_out", 500)]:
        write(arguments.folder / f"{name}.jsonl", [{"prompt": messages(question(rng)[0])} for _ in range(count)])
    common, threads = {"train.eval_every": 0, "train.checkpoint_every": 0}, ["--threads", arguments.threads]
    if not first.exists():
        small = {"model.n_layer": 2, "model.n_embd": 64, "model.n_head": 2, "train.steps": steps[0], "data.corpus_bytes": 2000000}
        run([arguments.samara, "train", "--quiet", "--out", first, *threads, *sets(common | small)])
    if not base.exists():
        tuned = {"train.steps": steps[1], "train.lr": 1e-3, "train.batch_size": 16}
        run([arguments.samara, "sft", "--quiet", "--init", first, "--data", arguments.folder / "dialogues.jsonl", "--out", base, *threads, *sets(common | tuned)])
    if not reward.exists():
        compared = {"train.lr": 1e-3, "train.batch_size": 24, "dialogue.epochs": 1}
        run([arguments.samara, "reward", "--quiet", "--init", base, "--data", arguments.folder / "comparisons.jsonl", "--out", reward, *threads, *sets(common | compared)])
    return base, reward


def improved(arguments, models, coefficient, seed, steps):
    """A policy's folder, and the KL over the last fifth of its steps."""
    (base, reward), out = models, arguments.folder / "policy"
    shutil.rmtree(out, ignore_errors=True)
    settings = {
        "train.lr": 3e-4, "train.steps": steps, "train.eval_every": 0, "train.checkpoint_every": 0, "rollout.max_new_tokens": 48,
        "ppo.kl_coef": 0.05, "ppo.kl_target": TARGET_KL, "ppo.kl_horizon": 1000,
    }
    if coefficient > 0:
        settings |= {"ptx.data": arguments.folder / "first/data/train.bin", "ptx.coef": coefficient}
    run([arguments.samara, "ppo", "--quiet", "--init", base, "--reward", reward, "--data", arguments.folder / "prompts.jsonl", "--out", out, "--seed", seed,
         "--threads", arguments.threads, *sets(settings)])
    kls = [json.loads(line).get("objective/kl") for line in (out / "metrics.jsonl").read_text().splitlines()]
    kls = [kl for kl in kls if kl is not None]
    return out, statistics.mean(kls[-max(1, len(kls) // 5):])


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("samara", type=pathlib.Path)
    parser.add_argument("folder", type=pathlib.Path)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--coefficients", type=float, nargs="+", default=[0, 1, 8])
    parser.add_argument("--steps", type=int, default=120)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--short", action="store_true")
    arguments = parser.parse_args()
    if arguments.short:
        arguments.seeds, arguments.steps, arguments.coefficients = 1, 3, [0, 1]
    arguments.folder.mkdir(parents=True, exist_ok=True)
    models = prepared(arguments, (30, 30) if arguments.short else (800, 250))
    held_out = arguments.folder / "held_out.jsonl"
    before = golds(arguments, models[0], held_out, 0)
    mean, deviation, instructed = statistics.mean(before), statistics.stdev(before), loss_of_tales(arguments, models[0])
    print(f"tales: pretrained {loss_of_tales(arguments, arguments.folder / 'first'):.3f}, instructed {instructed:.3f} nats; gold {mean:.3f} ± {deviation:.3f}", flush=True)
    print("| γ | KL | gold, sd | tax, nats a token | of each seed: KL, gold, tax |", flush=True)
    for coefficient in arguments.coefficients:
        found = []
        for seed in range(arguments.seeds):
            policy, kl = improved(arguments, models, coefficient, seed, arguments.steps)
            gain = (statistics.mean(golds(arguments, policy, held_out, seed)) - mean) / deviation
            found.append((kl, gain, loss_of_tales(arguments, policy) - instructed))
        cells = [f"{statistics.mean(x):.3f}" + (f" ± {statistics.stdev(x):.3f}" if len(x) > 1 else "") for x in zip(*found)]
        print(f"| {coefficient:g} | {' | '.join(cells)} | {'; '.join(' '.join(f'{x:.2f}' for x in one) for one in found)} |", flush=True)


if __name__ == "__main__":
    main()
