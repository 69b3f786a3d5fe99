"""Training steps of a CLIP in turns: `samara train` on its world of captions, and open_clip's model and loss on PyTorch.

    pip install torch open_clip_torch tokenizers
    python clip_steps.py BINARY [--threads 1] [--rounds 5] [--steps 40] [--shape small|s32]

small: 64 pixels in patches of 8, both encoders 64 wide with 4 blocks, 64 pairs. s32: the image encoder of ViT-S-32-alt (384 wide, 12 blocks, 224 pixels), its text
encoder (256 wide, 10 blocks), 16 pairs; the vocabulary of both is that of the captions, 1,024 tokens at most, and texts are as long as the longest of them.
AdamW, clipping at 1. samara's time is that of all its steps but the first five, by its own metrics, images included; open_clip's batch stays in memory. Prints
milliseconds of a step and the median ratio with its range.
"""

import argparse
import json
import pathlib
import statistics
import subprocess
import tempfile
import time

import open_clip
import tokenizers
import torch

parser = argparse.ArgumentParser()
parser.add_argument("binary")
parser.add_argument("--threads", type=int, default=1)
parser.add_argument("--rounds", type=int, default=5)
parser.add_argument("--steps", type=int, default=40)
parser.add_argument("--shape", choices=["small", "s32"], default="small")
options = parser.parse_args()
SMALL = dict(size=64, patch=8, vision=(64, 4, 4), text=(64, 4, 4), embed=64, batch=64)
S32 = dict(size=224, patch=32, vision=(384, 12, 6), text=(256, 10, 4), embed=256, batch=16)
of = SMALL if options.shape == "small" else S32
torch.set_num_threads(options.threads)
torch.manual_seed(0)


def samara(steps, folder):
    keys = dict(model_type="clip", image_size=of["size"], patch_size=of["patch"], projection_dim=of["embed"], max_position_embeddings=77, hidden_act="gelu")
    for tower in ("vision", "text"):
        width, layers, heads = of[tower]
        keys |= {f"{tower}_hidden_size": width, f"{tower}_num_hidden_layers": layers, f"{tower}_num_attention_heads": heads, f"{tower}_intermediate_size": 4 * width}
    sets = [f"model.{key}={value}" for key, value in keys.items()]
    sets += ["data.vocab_size=1024", "captions.objects=3", "captions.train=512", "captions.val=0", f"train.steps={steps + 5}", f"train.batch_size={of['batch']}"]
    sets += ["train.lr=1e-4", "train.eval_every=0"]
    out = pathlib.Path(folder) / "run"
    command = [options.binary, "train", "--quiet", "--threads", str(options.threads), "--out", out]
    subprocess.run([*command, *(word for key in sets for word in ("--set", key))], check=True, stdout=subprocess.DEVNULL)
    times = {record["step"]: record["wall_s"] for record in map(json.loads, (out / "metrics.jsonl").read_text().splitlines())}
    return (times[steps + 5] - times[5]) * 1e3 / steps, out


with tempfile.TemporaryDirectory() as folder:
    _, out = samara(1, folder)
    tokenizer = tokenizers.Tokenizer.from_file(str(out / "tokenizer.json"))
    captions = [caption for _, caption in json.loads((out / "data/pairs.json").read_text())["train"]]
    length = max(len(tokenizer.encode(caption).ids) for caption in captions)

(v_width, v_layers, v_heads), (t_width, t_layers, t_heads) = of["vision"], of["text"]
model = open_clip.CLIP(
    of["embed"], open_clip.CLIPVisionCfg(layers=v_layers, width=v_width, head_width=v_width // v_heads, patch_size=of["patch"], image_size=of["size"]),
    open_clip.CLIPTextCfg(context_length=length, vocab_size=tokenizer.get_vocab_size(), width=t_width, heads=t_heads, layers=t_layers),
).train()  # fmt: skip
loss_of = open_clip.ClipLoss()
optimizer = torch.optim.AdamW(model.parameters(), lr=1e-4, fused=True)
images, texts = torch.randn(of["batch"], 3, of["size"], of["size"]), torch.randint(tokenizer.get_vocab_size(), (of["batch"], length))


def torch_ms(run, steps):
    begun = time.perf_counter()
    for _ in range(steps):
        loss_of(*run(images, texts)[:3]).backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
    return (time.perf_counter() - begun) * 1e3 / steps


def samara_ms(steps):
    with tempfile.TemporaryDirectory() as folder:
        return samara(steps, folder)[0]


ways = {"eager": model, "compiled": torch.compile(model)}
for run in ways.values():
    torch_ms(run, 3)
rounds = [(samara_ms(options.steps), *(torch_ms(run, options.steps) for run in ways.values())) for _ in range(options.rounds)]
ratios = [min(others) / ours for ours, *others in rounds]
ours, eager, compiled = (statistics.median(times) for times in zip(*rounds))
print(
    f"{options.shape}, {length} tokens, {options.threads} threads: samara {ours:.1f} ms, open_clip {eager:.1f} eager, {compiled:.1f} compiled, "
    f"{statistics.median(ratios):.2f} ({min(ratios):.2f} to {max(ratios):.2f})"
)
