"""Time a training step of a GPT in PyTorch (default: GPT-2 124M, batch 4, 64 tokens, eager, fused AdamW) and print JSON.

    python train_step.py [--threads 2] [--text FILE] [--batch 4] [--tokens 64] [--steps 7] [--warmup 2]
                         [--layers 12 --heads 12 --width 768 --vocab 50257] [--no-fused] [--compile]

Milliseconds for the whole step and its parts (forward with loss, backward, update); no clipping. GFLOP/s counts
(6 (N - positions) + 12 layers width T) per token, N with the tied embedding once.
"""

import argparse
import json
import pathlib
import time

import torch

import gpt


def arguments():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--text", type=pathlib.Path, help="tokens come from pairs of bytes of this file (default: random)")
    parser.add_argument("--batch", type=int, default=4)
    parser.add_argument("--tokens", type=int, default=64)
    parser.add_argument("--steps", type=int, default=7)
    parser.add_argument("--warmup", type=int, default=2)
    parser.add_argument("--layers", type=int, default=12)
    parser.add_argument("--heads", type=int, default=12)
    parser.add_argument("--width", type=int, default=768)
    parser.add_argument("--vocab", type=int, default=50257)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--no-fused", action="store_true", help="torch's default AdamW")
    parser.add_argument("--compile", action="store_true")
    return parser.parse_args()


def batches(args):
    """Endless (tokens, targets)."""
    need = args.batch * args.tokens + 1
    gen = torch.Generator().manual_seed(args.seed)
    if args.text:
        raw = torch.frombuffer(bytearray(args.text.read_bytes()), dtype=torch.uint8).long()
        stream = (raw[:-1] * 256 + raw[1:]) % args.vocab
        if len(stream) < need:
            raise SystemExit(f"{args.text}: need more than {need} bytes")
    while True:
        if args.text:
            start = torch.randint(len(stream) - need + 1, (), generator=gen).item()
            ids = stream[start : start + need]
        else:
            ids = torch.randint(args.vocab, (need,), generator=gen)
        yield ids[:-1].view(args.batch, -1), ids[1:].view(args.batch, -1)


def main():
    args = arguments()
    torch.set_num_threads(args.threads)
    torch.manual_seed(args.seed)
    model = gpt.Gpt(args.layers, args.heads, args.width, args.vocab, args.tokens)
    optimizer = gpt.adamw(model, 1e-4, 0.95, 0.1, not args.no_fused)
    forward = torch.compile(model) if args.compile else model
    parts = {"step": [], "forward": [], "backward": [], "update": []}
    losses, source, clock = [], batches(args), time.perf_counter
    for step in range(args.warmup + args.steps):
        tokens, targets = next(source)
        t0 = clock()
        loss = forward(tokens, targets)
        t1 = clock()
        loss.backward()
        t2 = clock()
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        t3 = clock()
        losses.append(loss.item())
        if step >= args.warmup:
            for name, seconds in zip(parts, (t3 - t0, t1 - t0, t2 - t1, t3 - t2)):
                parts[name].append(seconds)
    parameters = sum(p.numel() for p in model.parameters())
    flop = 6 * (parameters - model.wpe.weight.numel()) + 12 * args.layers * args.width * args.tokens
    per_step = args.batch * args.tokens
    ms = {name: gpt.spread(seconds) for name, seconds in parts.items()}
    report = {
        "bench": "train_step",
        "peer": "torch " + ("compile" if args.compile else "eager") + (", AdamW" if args.no_fused else ", fused AdamW"),
        "model": {"layers": args.layers, "heads": args.heads, "width": args.width, "vocab": args.vocab, "parameters": parameters},
        "batch": args.batch,
        "tokens": args.tokens,
        "steps": args.steps,
        "ms": ms,
        "tokens_per_s": round(1e3 * per_step / ms["step"]["median"], 2),
        "gflop_per_s": round(flop * per_step / ms["step"]["median"] / 1e6, 2),
        "first_loss": losses[0],
        "last_loss": losses[-1],
        **gpt.environment(),
    }
    print(json.dumps(report, indent=1))


if __name__ == "__main__":
    main()
