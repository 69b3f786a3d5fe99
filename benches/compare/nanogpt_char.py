"""Train nanoGPT's CPU recipe for a character-level GPT in PyTorch and print times and losses as JSON.

    python nanogpt_char.py TEXT [--threads 2] [--steps 2000] [--seed 0] [--fused] [--compile] [--no-eval]
                           [--init FOLDER] [--batches FILE.npy] [--losses]

4 layers, 4 heads, 128 wide, block 64, batch 12, no dropout, no biases, erf GELU; AdamW (0.9, 0.99), decay 0.1 on matrices
and embeddings, clip 1.0, learning rate 1e-3 (it+1)/101 for 100 steps, then cosine to 1e-4 at step 2000. The vocabulary
is the sorted characters of TEXT, its first 90 % train. Every 250 steps: loss of 20 batches of each split. At the end:
loss over the whole validation split in blocks of 64. --init (a Hugging Face folder) and --batches ((steps, 12) start
offsets) fix what is otherwise random.
"""

import argparse
import json
import math
import pathlib
import time

import numpy
import torch

import gpt

BLOCK, BATCH = 64, 12
LR, MIN_LR, WARMUP, DECAY_STEPS = 1e-3, 1e-4, 100, 2000
EVAL_EVERY, EVAL_BATCHES = 250, 20


def arguments():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("text", type=pathlib.Path)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--steps", type=int, default=2000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--fused", action="store_true", help="fused AdamW (nanoGPT itself takes torch's default on a CPU)")
    parser.add_argument("--compile", action="store_true")
    parser.add_argument("--no-eval", action="store_true", help="only the steps, for timing")
    parser.add_argument("--init", type=pathlib.Path)
    parser.add_argument("--batches", type=pathlib.Path)
    parser.add_argument("--losses", action="store_true", help="also the training loss and gradient norm of every step")
    return parser.parse_args()


def read(path):
    text = path.read_text(encoding="utf-8")
    ids = {c: i for i, c in enumerate(sorted(set(text)))}
    data = torch.tensor([ids[c] for c in text])
    cut = int(0.9 * len(data))
    return data[:cut], data[cut:], len(ids)


def rows(data, starts):
    at = starts[:, None] + torch.arange(BLOCK)
    return data[at], data[at + 1]


def random_rows(data, gen):
    return rows(data, torch.randint(len(data) - BLOCK, (BATCH,), generator=gen))


def learning_rate(step):
    if step < WARMUP:
        return LR * (step + 1) / (WARMUP + 1)
    done = min(1.0, (step - WARMUP) / (DECAY_STEPS - WARMUP))
    return MIN_LR + 0.5 * (1.0 + math.cos(math.pi * done)) * (LR - MIN_LR)


@torch.no_grad()
def sampled_loss(model, data, gen):
    return sum(model(*random_rows(data, gen)).item() for _ in range(EVAL_BATCHES)) / EVAL_BATCHES


@torch.no_grad()
def whole_loss(model, data):
    starts = torch.arange(0, len(data) - BLOCK, BLOCK)
    total = sum(model(*rows(data, part)).item() * len(part) for part in starts.split(256))
    return total / len(starts)


def main():
    args = arguments()
    torch.set_num_threads(args.threads)
    torch.manual_seed(args.seed)
    gen = torch.Generator().manual_seed(args.seed + 1)
    train, val, vocab = read(args.text)
    model = gpt.Gpt(4, 4, 128, vocab, BLOCK, bias=False, gelu="none")
    if args.init:
        model.load_folder(args.init)
    given = torch.from_numpy(numpy.load(args.batches)).long() if args.batches else None
    if given is not None and len(given) < args.steps:
        raise SystemExit(f"{args.batches}: {len(given)} batches, need {args.steps}")
    optimizer = gpt.adamw(model, LR, 0.99, 0.1, args.fused)
    forward = torch.compile(model) if args.compile else model

    def evaluate(step):
        return {"step": step, "train": sampled_loss(model, train, gen), "val": sampled_loss(model, val, gen)}

    seconds, losses, norms, evals = [], [], [], []
    began = time.perf_counter()
    for step in range(args.steps):
        if step % EVAL_EVERY == 0 and not args.no_eval:
            evals.append(evaluate(step))
        start = time.perf_counter()
        tokens, targets = rows(train, given[step]) if given is not None else random_rows(train, gen)
        for group in optimizer.param_groups:
            group["lr"] = learning_rate(step)
        loss = forward(tokens, targets)
        loss.backward()
        norms.append(torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0))
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        seconds.append(time.perf_counter() - start)
        losses.append(loss.detach())
    if not args.no_eval:
        evals.append(evaluate(args.steps))
    wall = time.perf_counter() - began
    ms = gpt.spread(seconds[min(10, len(seconds) // 2) :])
    report = {
        "bench": "nanogpt_char",
        "peer": "torch " + ("compile" if args.compile else "eager") + (", fused AdamW" if args.fused else ", AdamW"),
        "steps": args.steps,
        "seed": args.seed,
        "parameters": sum(p.numel() for p in model.parameters()),
        "wall_s": round(wall, 3),
        "ms_per_step": ms,
        "tokens_per_s": round(1e3 * BATCH * BLOCK / ms["median"], 1),
        "last_train_loss": losses[-1].item(),
        "evals": evals,
        "whole_val_loss": None if args.no_eval else whole_loss(model, val),
        **gpt.environment(),
    }
    if args.losses:
        report |= {"train_loss": [x.item() for x in losses], "grad_norm": [x.item() for x in norms]}
    print(json.dumps(report, indent=1))


if __name__ == "__main__":
    main()
