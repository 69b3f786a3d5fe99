"""Training steps of a DETR in turns: `samara train` on its world of shapes, and `DetrForObjectDetection` of transformers with its own loss and matcher.

    pip install torch transformers scipy
    python detector_steps.py BINARY [--threads 1] [--rounds 5] [--steps 40] [--shape shapes|r18]

shapes: 64 pixels, two stages 32 and 64 wide, 2 + 3 layers of 64, 20 queries, 32 images. r18: a ResNet-18, 320 pixels, 6 + 6 layers of 256, 100 queries, 2 images,
the stem and the first stage frozen. Auxiliary losses, AdamW, clipping at 0.1, no dropout, up to 5 objects in an image. samara's time is that of all its steps
but the first ten, by its own metrics, images included; PyTorch's images stay in memory. Prints milliseconds of a step and the median ratio with its range.
"""

import argparse
import json
import pathlib
import statistics
import subprocess
import sys
import tempfile
import time

import torch
import transformers

parser = argparse.ArgumentParser()
parser.add_argument("binary")
parser.add_argument("--threads", type=int, default=1)
parser.add_argument("--rounds", type=int, default=5)
parser.add_argument("--steps", type=int, default=40)
parser.add_argument("--shape", choices=["shapes", "r18"], default="shapes")
options = parser.parse_args()
SHAPES = dict(size=64, stem=32, widths=[32, 64], depths=[1, 1], d=64, layers=[2, 3], heads=4, ffn=256, queries=20, batch=32, frozen=0)
R18 = dict(size=320, stem=64, widths=[64, 128, 256, 512], depths=[2, 2, 2, 2], d=256, layers=[6, 6], heads=8, ffn=2048, queries=100, batch=2, frozen=2)
of = SHAPES if options.shape == "shapes" else R18
torch.set_num_threads(options.threads)
torch.manual_seed(0)

backbone = transformers.ResNetConfig(embedding_size=of["stem"], hidden_sizes=of["widths"], depths=of["depths"], layer_type="basic", out_features=[f"stage{len(of['widths'])}"])
config = transformers.DetrConfig(
    use_timm_backbone=False, use_pretrained_backbone=False, backbone=None, backbone_config=backbone, d_model=of["d"], encoder_layers=of["layers"][0], decoder_layers=of["layers"][1],
    encoder_attention_heads=of["heads"], decoder_attention_heads=of["heads"], encoder_ffn_dim=of["ffn"], decoder_ffn_dim=of["ffn"], num_queries=of["queries"], num_labels=8, dropout=0.0,
    auxiliary_loss=True,
)  # fmt: skip
model = transformers.DetrForObjectDetection(config).train()
for name, parameter in model.named_parameters():
    below = "embedder" in name and "backbone" in name or "stages.0." in name
    parameter.requires_grad_(not (of["frozen"] and below))
for part in model.modules():
    if isinstance(part, torch.nn.BatchNorm2d):
        part.eval()
trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
optimizer = torch.optim.AdamW(trained, lr=1e-4, fused=True)
pixels = torch.randn(of["batch"], 3, of["size"], of["size"])
labels = [{"class_labels": torch.randint(8, (n,)), "boxes": torch.rand(n, 4) * 0.3 + 0.3} for n in torch.randint(1, 6, (of["batch"],)).tolist()]


def torch_ms(steps):
    begun = time.perf_counter()
    for _ in range(steps):
        loss = model(pixel_values=pixels, labels=labels).loss
        loss.backward()
        torch.nn.utils.clip_grad_norm_(trained, 0.1)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
    return (time.perf_counter() - begun) * 1e3 / steps


def samara_ms(steps):
    keys = dict(
        model_type="detr", image_size=of["size"], embedding_size=of["stem"], hidden_sizes=json.dumps(of["widths"]), depths=json.dumps(of["depths"]), layer_type="basic", d_model=of["d"],
        encoder_layers=of["layers"][0], decoder_layers=of["layers"][1], encoder_attention_heads=of["heads"], decoder_attention_heads=of["heads"], encoder_ffn_dim=of["ffn"],
        decoder_ffn_dim=of["ffn"], num_queries=of["queries"], num_labels=8,
    )  # fmt: skip
    sets = [f"model.{key}={value}" for key, value in keys.items()]
    sets += [f"train.steps={steps + 10}", f"train.batch_size={of['batch']}", "train.lr=1e-4", "train.grad_clip=0.1", "train.eval_every=0", "detect.val_images=0", f"detect.frozen_stages={of['frozen']}"]
    with tempfile.TemporaryDirectory() as folder:
        out = pathlib.Path(folder) / "run"
        command = [options.binary, "train", "--quiet", "--threads", str(options.threads), "--out", out]
        subprocess.run([*command, *(word for key in sets for word in ("--set", key))], check=True, stdout=subprocess.DEVNULL)
        records = [json.loads(line) for line in (out / "metrics.jsonl").read_text().splitlines()]
    times = {record["step"]: record["wall_s"] for record in records}
    return (times[steps + 10] - times[10]) * 1e3 / steps


torch_ms(3)
pairs = [(samara_ms(options.steps), torch_ms(options.steps)) for _ in range(options.rounds)]
ratios = [theirs / ours for ours, theirs in pairs]
ours, theirs = (statistics.median(times) for times in zip(*pairs))
print(f"{options.shape}, {options.threads} threads: samara {ours:.1f} ms, transformers {theirs:.1f} ms, {statistics.median(ratios):.2f} ({min(ratios):.2f} to {max(ratios):.2f})")
