#!/usr/bin/env python3
"""Folders of ResNets that samara has trained, opened by transformers: probabilities of the same PNG files.

    python3 benches/compare/resnet_folder.py SAMARA

Basic blocks and bottlenecks, a few steps on noise in three colours. transformers resizes with its PIL processor, in float32 on one thread. Prints the largest
difference of a probability, and how many image classes agree.
"""

import json
import pathlib
import subprocess
import sys
import tempfile

import numpy as np
import torch
import transformers
from PIL import Image

torch.set_num_threads(1)
samara = str(pathlib.Path(sys.argv[1]).resolve())
rng = np.random.default_rng(0)
with tempfile.TemporaryDirectory() as scratch:
    at = pathlib.Path(scratch)
    files = []
    for name, colour in (("blue", (40, 60, 200)), ("green", (50, 180, 60)), ("red", (200, 50, 40))):
        (at / "data" / name).mkdir(parents=True)
        for i in range(10):
            pixels = np.clip(np.array(colour) + rng.normal(0, 40, (int(rng.integers(40, 90)), int(rng.integers(40, 90)), 3)), 0, 255)
            files.append(at / "data" / name / f"{i}.png")
            Image.fromarray(pixels.astype(np.uint8)).save(files[-1])
    for kind, widths in (("basic", "[16, 32]"), ("bottleneck", "[16, 32]")):
        keys = dict(
            model_type="resnet", layer_type=kind, image_size=48, embedding_size=8, hidden_sizes=widths, depths="[2, 1]",
        )  # fmt: skip
        sets = [f"model.{key}={value}" for key, value in keys.items()] + ["train.steps=30", "train.batch_size=8", "train.lr=1e-3"]
        run = at / kind
        words = [word for key in sets for word in ("--set", key)]
        subprocess.run([samara, "train", "--quiet", "--data", at / "data", "--out", run, *words], check=True, stdout=subprocess.DEVNULL)
        found = subprocess.run([samara, "predict", "--model", run, "--json", "--top-k", "3", *files], check=True, capture_output=True, text=True).stdout
        ours = [{row["label"]: row["probability"] for row in json.loads(line)["top"]} for line in found.splitlines()]
        model = transformers.AutoModelForImageClassification.from_pretrained(run).eval()
        processor = transformers.AutoImageProcessor.from_pretrained(run, backend="pil")
        with torch.no_grad():
            inputs = processor(images=[Image.open(file).convert("RGB") for file in files], return_tensors="pt")
            theirs = model(**inputs).logits.softmax(-1).double()
        labels = model.config.id2label
        apart = max(abs(own[labels[c]] - theirs[i, c].item()) for i, own in enumerate(ours) for c in range(len(labels)))
        same = sum(max(own, key=own.get) == labels[theirs[i].argmax().item()] for i, own in enumerate(ours))
        print(f"{type(model).__name__}, {kind}: largest difference of a probability {apart:.1e}, {same} of {len(files)} classes agree")
