"""Training steps of a ViLT in turns: `samara train` on its world of captions, and the ViltForMaskedLM of transformers on PyTorch.

    pip install torch transformers
    python vilt_steps.py BINARY [--threads 1] [--rounds 5] [--steps 40] [--shape small|s32]

small: 64 pixels in patches of 8, 64 wide, 4 blocks, 32 pairs. s32: 224 pixels in patches of 32, 384 wide, 6 blocks, 16 pairs. A step restores masked tokens beside
their images and, in a second pass, tells pairs from texts with another image, as the authors train; the alignment of words and patches is left out on both sides.
The vocabulary is that of the captions, texts are as long as the longest of them. AdamW, clipping at 1. samara's time is that of all its steps but the first five,
by its own metrics, images, masks and draws included; the batch of transformers stays in memory. Prints milliseconds of a step and the median ratio with its range.
"""

import argparse
import json
import pathlib
import statistics
import subprocess
import tempfile
import time

import torch
import transformers

parser = argparse.ArgumentParser()
parser.add_argument("binary")
parser.add_argument("--threads", type=int, default=1)
parser.add_argument("--rounds", type=int, default=5)
parser.add_argument("--steps", type=int, default=40)
parser.add_argument("--shape", choices=["small", "s32"], default="small")
options = parser.parse_args()
SMALL = dict(image_size=64, patch_size=8, hidden_size=64, num_hidden_layers=4, num_attention_heads=4, intermediate_size=256)
S32 = dict(image_size=224, patch_size=32, hidden_size=384, num_hidden_layers=6, num_attention_heads=6, intermediate_size=1536)
of, pairs = (SMALL, 32) if options.shape == "small" else (S32, 16)
torch.set_num_threads(options.threads)
torch.manual_seed(0)


def samara(steps, folder):
    sets = [f"model.{key}={value}" for key, value in {"model_type": "vilt", "max_position_embeddings": 40, **of}.items()]
    sets += ["data.vocab_size=1024", "captions.objects=3", "captions.train=512", "captions.val=0", f"train.steps={steps + 5}", f"train.batch_size={pairs}"]
    sets += ["train.lr=1e-4", "train.eval_every=0", "vilt.wpa_weight=0"]
    out = pathlib.Path(folder) / "run"
    command = [options.binary, "train", "--quiet", "--threads", str(options.threads), "--out", out]
    subprocess.run([*command, *(word for key in sets for word in ("--set", key))], check=True, stdout=subprocess.DEVNULL)
    times = {record["step"]: record["wall_s"] for record in map(json.loads, (out / "metrics.jsonl").read_text().splitlines())}
    return (times[steps + 5] - times[5]) * 1e3 / steps, out


with tempfile.TemporaryDirectory() as folder:
    _, out = samara(1, folder)
    tokenizer = transformers.AutoTokenizer.from_pretrained(out)
    captions = [caption for _, caption in json.loads((out / "data/pairs.json").read_text())["train"]]
    texts = tokenizer(captions, padding=True, return_tensors="pt")
    vocabulary = len(tokenizer)

length = texts.input_ids.shape[1]
model = transformers.ViltForMaskedLM(transformers.ViltConfig(vocab_size=vocabulary, max_position_embeddings=40, **of)).train()
head = torch.nn.Linear(of["hidden_size"], 2)
parameters = [*model.parameters(), *head.parameters()]
optimizer = torch.optim.AdamW(parameters, lr=1e-4, fused=True)
ids, mask = texts.input_ids[:pairs], texts.attention_mask[:pairs]
chosen = (torch.rand(ids.shape) < 0.15) & (mask == 1)
chosen[:, 1] = True
masked, labels = torch.where(chosen, tokenizer.mask_token_id, ids), torch.where(chosen, ids, -100)
side = of["image_size"]
images, pixels = torch.randn(pairs, 3, side, side), torch.ones(pairs, side, side, dtype=torch.long)
others = images.flip(0)
fits = torch.arange(pairs) % 2


def loss_of(run):
    restored = run(masked, mask, pixel_values=images, pixel_mask=pixels, labels=labels).loss
    pooled = run.vilt(ids, mask, pixel_values=torch.where(fits[:, None, None, None] == 1, images, others), pixel_mask=pixels).pooler_output
    return restored + torch.nn.functional.cross_entropy(head(pooled), fits)


def torch_ms(run, steps):
    begun = time.perf_counter()
    for _ in range(steps):
        loss_of(run).backward()
        torch.nn.utils.clip_grad_norm_(parameters, 1.0)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
    return (time.perf_counter() - begun) * 1e3 / steps


def samara_ms(steps):
    with tempfile.TemporaryDirectory() as folder:
        return samara(steps, folder)[0]


class Compiled:
    """The whole model and its encoder alone, each compiled."""

    def __init__(self, model):
        self.run, self.vilt = torch.compile(model), torch.compile(model.vilt)

    def __call__(self, *args, **kwargs):
        return self.run(*args, **kwargs)


ways = {"eager": model, "compiled": Compiled(model)}
for run in ways.values():
    torch_ms(run, 3)
rounds = [(samara_ms(options.steps), *(torch_ms(run, options.steps) for run in ways.values())) for _ in range(options.rounds)]
ratios = [min(others) / ours for ours, *others in rounds]
ours, eager, compiled = (statistics.median(times) for times in zip(*rounds))
print(
    f"{options.shape}, {length} tokens, {options.threads} threads: samara {ours:.1f} ms, transformers {eager:.1f} eager, {compiled:.1f} compiled, "
    f"{statistics.median(ratios):.2f} ({min(ratios):.2f} to {max(ratios):.2f})"
)
