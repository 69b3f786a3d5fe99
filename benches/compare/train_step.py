"""Time a training step of a GPT in PyTorch: eager or compiled, with fused AdamW.

    python train_step.py [--threads 2] [--batch 4] [--tokens 64] [--positions N] [--steps 7] [--warmup 2] [--compile] [--clip X]
                         [--layers 12 --heads 12 --width 768 --vocab 50257] [--nanogpt] [--no-fused] [--serve]

Prints one line of JSON: milliseconds of the whole step and its parts (forward with loss, backward with clipping, update). With
--serve it does so for every line "STEPS" of standard input, for turns with others. GFLOP/s counts (6 (N - positions) + 12 layers
width T) per token, N with the tied embedding once.
"""

import argparse
import json
import sys
import time

import torch

import gpt


def arguments():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--batch", type=int, default=4)
    parser.add_argument("--tokens", type=int, default=64)
    parser.add_argument("--positions", type=int, help="rows of the position embedding (default: --tokens)")
    parser.add_argument("--steps", type=int, default=7)
    parser.add_argument("--warmup", type=int, default=2)
    parser.add_argument("--layers", type=int, default=12)
    parser.add_argument("--heads", type=int, default=12)
    parser.add_argument("--width", type=int, default=768)
    parser.add_argument("--vocab", type=int, default=50257)
    parser.add_argument("--nanogpt", action="store_true", help="no biases and the exact GELU, as nanoGPT's character models")
    parser.add_argument("--clip", type=float, default=0.0, help="largest gradient norm; 0: no clipping")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--no-fused", action="store_true", help="torch's default AdamW")
    parser.add_argument("--compile", action="store_true")
    parser.add_argument("--serve", action="store_true")
    return parser.parse_args()


class Trainer:
    """A model that takes steps on random tokens."""

    def __init__(self, args):
        self.args = args
        gelu = "none" if args.nanogpt else "tanh"
        positions = args.positions or args.tokens
        self.model = gpt.Gpt(args.layers, args.heads, args.width, args.vocab, positions, bias=not args.nanogpt, gelu=gelu)
        self.optimizer = gpt.adamw(self.model, 1e-4, 0.95, 0.1, not args.no_fused)
        self.forward = torch.compile(self.model) if args.compile else self.model
        self.generator = torch.Generator().manual_seed(args.seed)

    def step(self):
        """Seconds of the whole, forward, backward, update."""
        args, clock = self.args, time.perf_counter
        ids = torch.randint(args.vocab, (args.batch * args.tokens + 1,), generator=self.generator)
        tokens, targets = (part.view(args.batch, args.tokens) for part in (ids[:-1], ids[1:]))
        t0 = clock()
        loss = self.forward(tokens, targets)
        t1 = clock()
        loss.backward()
        if args.clip:
            torch.nn.utils.clip_grad_norm_(self.model.parameters(), args.clip)
        t2 = clock()
        self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)
        t3 = clock()
        return t3 - t0, t1 - t0, t2 - t1, t3 - t2

    def report(self, steps):
        args = self.args
        parts = zip(*(self.step() for _ in range(steps)))
        ms = {name: gpt.spread(seconds) for name, seconds in zip(("step", "forward", "backward", "update"), parts)}
        parameters = sum(p.numel() for p in self.model.parameters())
        flop = 6 * (parameters - self.model.wpe.weight.numel()) + 12 * args.layers * args.width * args.tokens
        per_step = args.batch * args.tokens
        return {
            "peer": "torch " + ("compile" if args.compile else "eager") + (", AdamW" if args.no_fused else ", fused AdamW"),
            "parameters": parameters,
            "steps": steps,
            "ms": ms,
            "tokens_per_s": round(1e3 * per_step / ms["step"]["median"], 2),
            "gflop_per_s": round(flop * per_step / ms["step"]["median"] / 1e6, 2),
            **gpt.environment(),
        }


def main():
    args = arguments()
    torch.set_num_threads(args.threads)
    torch.manual_seed(args.seed)
    trainer = Trainer(args)
    for _ in range(args.warmup):
        trainer.step()
    if not args.serve:
        print(json.dumps(trainer.report(args.steps)))
        return
    print("ready", flush=True)
    for line in sys.stdin:
        print(json.dumps(trainer.report(int(line))), flush=True)


if __name__ == "__main__":
    main()
