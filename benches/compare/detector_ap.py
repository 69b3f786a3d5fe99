#!/usr/bin/env python3
"""Average precision of a DETR that transformers trains on samara's images, from samara's initial weights; or on from a folder that samara has trained.

    cargo bench -p samara-benches --bench shapes --no-run        # prints the path of IMAGES
    python3 benches/compare/detector_ap.py SAMARA IMAGES [--seed 0] [--steps 6000] [--threads 1]
    python3 benches/compare/detector_ap.py SAMARA IMAGES --seed 0 --folder RUN --steps 200

The detector of the world of shapes in benches/RESULTS.md: the same weights at the start, the same 32 images in every step, the same AdamW, schedule, groups of weight
decay and clipping. Average precision by pycocotools on the same 500 held-out images. `--folder`: a run of samara; its last weights are trained further, at its last
learning rate with new moments, on the images that would have come next. The losses are transformers' own. Its decoder with auxiliary losses lets the last norm's
result enter the next layer; here, as the authors have it, only the heads read it (`config.auxiliary_loss` is set for the loss alone).
"""

import argparse
import contextlib
import io
import json
import math
import os
import subprocess
import tempfile

import numpy as np
import torch
import transformers
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

parser = argparse.ArgumentParser()
parser.add_argument("samara")
parser.add_argument("images")
parser.add_argument("--seed", type=int, default=0)
parser.add_argument("--steps", type=int, default=6000)
parser.add_argument("--threads", type=int, default=1)
parser.add_argument("--folder")
options = parser.parse_args()
torch.set_num_threads(options.threads)
SIDE, MOST, BATCH, IMAGES, HELD_OUT = 64, 5, 32, 100_000, 500
LR, LEAST, WARMUP, TRAINED = 7e-4, 7e-5, 50, 6000
MODEL = dict(
    model_type="detr", image_size=SIDE, embedding_size=32, hidden_sizes="[32,64]", depths="[1,1]", layer_type="basic", d_model=64, encoder_layers=2, decoder_layers=3,
    encoder_attention_heads=4, decoder_attention_heads=4, encoder_ffn_dim=256, decoder_ffn_dim=256, num_queries=20, num_labels=8,
)  # fmt: skip


def initial(folder):
    """A folder with the weights that samara begins with: those after a step that is too small to change them."""
    keys = [f"model.{key}={value}" for key, value in MODEL.items()]
    keys += ["train.steps=1", "train.lr=1e-30", f"train.batch_size={BATCH}", "train.grad_clip=0.1", f"train.seed={options.seed}", "train.eval_every=0", "detect.val_images=0"]
    words = [word for key in keys for word in ("--set", key)]
    subprocess.run([options.samara, "train", "--quiet", "--out", folder, *words], check=True, stdout=subprocess.DEVNULL)
    return folder


def rate(step):
    if step < WARMUP:
        return LR * (step + 1) / (WARMUP + 1)
    return LEAST + 0.5 * (1 + math.cos(math.pi * (step - WARMUP) / (TRAINED - WARMUP))) * (LR - LEAST)


def read(pipe, rows):
    """Pixels (B, 3, S, S), and for each image its classes and boxes."""
    counts = [rows * SIDE * SIDE * 3, rows * MOST, rows * MOST * 4]
    values = np.frombuffer(pipe.read(4 * sum(counts)), "<f4")
    pixels, classes, boxes = np.split(values, np.cumsum(counts)[:2])
    pixels = torch.from_numpy(pixels.reshape(rows, SIDE, SIDE, 3).transpose(0, 3, 1, 2).copy())
    labels = []
    for own, places in zip(classes.reshape(rows, MOST), boxes.reshape(rows, MOST, 4)):
        live = own >= 0
        labels.append({"class_labels": torch.from_numpy(own[live]).long(), "boxes": torch.from_numpy(places[live])})
    return pixels, labels


def loss_of(model, pixels, labels):
    """transformers' loss of every decoder layer, each read through the last norm by the heads alone."""
    outputs = []
    hooks = [layer.register_forward_hook(lambda _, __, out: outputs.append(out[0] if isinstance(out, tuple) else out)) for layer in model.model.decoder.layers]
    model.model(pixel_values=pixels)
    [hook.remove() for hook in hooks]
    hidden = model.model.decoder.layernorm(torch.stack(outputs))
    logits, boxes = model.class_labels_classifier(hidden), model.bbox_predictor(hidden).sigmoid()
    model.config.auxiliary_loss = True
    loss = model.loss_function(logits[-1], labels, model.device, boxes[-1], model.config, logits, boxes)[0]
    model.config.auxiliary_loss = False
    return loss


@torch.no_grad()
def precision(model, pixels, labels):
    """AP and AP50 by pycocotools: of every query its likeliest object."""
    model.eval()
    parts = [model(pixel_values=part) for part in pixels.split(50)]
    logits, boxes = (torch.cat([part[key] for part in parts]).double() for key in ("logits", "pred_boxes"))
    scores, classes = logits.softmax(-1)[..., :-1].max(-1)
    corners = torch.cat([boxes[..., :2] - boxes[..., 2:] / 2, boxes[..., 2:]], -1) * SIDE
    annotations = []
    for image, own in enumerate(labels):
        for kind, (x, y, w, h) in zip(own["class_labels"].tolist(), own["boxes"].double().tolist()):
            box = [(x - w / 2) * SIDE, (y - h / 2) * SIDE, w * SIDE, h * SIDE]
            annotations.append(dict(id=len(annotations) + 1, image_id=image, category_id=kind, bbox=box, area=box[2] * box[3], iscrowd=0))
    detections = [
        dict(image_id=image, category_id=classes[image, query].item(), bbox=corners[image, query].tolist(), score=scores[image, query].item())
        for image in range(len(labels))
        for query in range(boxes.shape[1])
    ]
    with contextlib.redirect_stdout(io.StringIO()):
        truth = COCO()
        truth.dataset = dict(images=[dict(id=i) for i in range(len(labels))], categories=[dict(id=i) for i in range(8)], annotations=annotations)
        truth.createIndex()
        evaluation = COCOeval(truth, truth.loadRes(detections), "bbox")
        evaluation.evaluate()
        evaluation.accumulate()
        evaluation.summarize()
    model.train()
    return evaluation.stats[:2]


with tempfile.TemporaryDirectory() as scratch:
    model = transformers.DetrForObjectDetection.from_pretrained(options.folder or initial(os.path.join(scratch, "initial")))
for parameter in model.parameters():
    parameter.requires_grad_(True)
model.train()
first = TRAINED if options.folder else 0
shapes = subprocess.Popen([options.images, *map(str, [SIDE, IMAGES, HELD_OUT, options.seed, BATCH, first, options.steps])], stdout=subprocess.PIPE)
held_out = read(shapes.stdout, HELD_OUT)
groups = [[p for p in model.parameters() if (p.ndim > 1) == matrices] for matrices in (True, False)]
optimizer = torch.optim.AdamW([dict(params=groups[0], weight_decay=0.1), dict(params=groups[1], weight_decay=0.0)], betas=(0.9, 0.99), eps=1e-8)
losses = []
every = options.steps // 10 if options.folder else 1000
if options.folder:
    ap, ap50 = precision(model, *held_out)
    print(f"seed {options.seed}, as samara left it: AP {ap:.4f}, AP50 {ap50:.4f}", flush=True)
    past = [json.loads(line)["train_loss"] for line in open(os.path.join(options.folder, "metrics.jsonl"))]
    print(f"   samara's mean loss over its last {every}, 200 steps: {np.mean(past[-every:]):.4f}, {np.mean(past[-200:]):.4f}", flush=True)
for step in range(options.steps):
    for group in optimizer.param_groups:
        group["lr"] = LEAST if options.folder else rate(step)
    loss = loss_of(model, *read(shapes.stdout, BATCH))
    optimizer.zero_grad()
    loss.backward()
    torch.nn.utils.clip_grad_norm_(model.parameters(), 0.1)
    optimizer.step()
    losses.append(loss.item())
    if (step + 1) % every == 0:
        measured = ""
        if not options.folder or step + 1 == options.steps:
            ap, ap50 = precision(model, *held_out)
            measured = f"; AP {ap:.4f}, AP50 {ap50:.4f}"
        print(f"seed {options.seed}, step {step + 1}: first loss {losses[0]:.6f}, mean of the last {every} {np.mean(losses[-every:]):.4f}{measured}", flush=True)
