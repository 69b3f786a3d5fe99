#!/usr/bin/env python3
"""Losses of DETR in training: samara beside `DetrForObjectDetection` of transformers, from the same weights on the same batches.

    cargo bench -p samara-benches --bench detector --no-run      # prints the path of BINARY
    python3 benches/compare/detector.py BINARY [--steps 200] [--lr 1e-4] [--clip 0.1] [--seeds 3] [--threads 1] [--auxiliary]

A small DETR (ResNet of two basic stages, d = 64, 3 + 3 layers, 12 queries) learns rectangles in images of 64 pixels: 8 batches of 8, in turn. AdamW without
weight decay, all convolutions trained, dropout 0. Prints the largest relative difference of a step's loss, and losses on the way. Beside it: how far transformers departs from
itself with two threads instead of one, from weights that are moved by one part in 10^7, about a rounding of f32, at the start, and with PyTorch's own convolutions instead
of oneDNN's, which round otherwise in every step.
"""

import argparse
import copy
import json
import subprocess
import tempfile
from pathlib import Path

import numpy as np
import torch
import transformers

parser = argparse.ArgumentParser()
parser.add_argument("binary")
parser.add_argument("--steps", type=int, default=200)
parser.add_argument("--lr", type=float, default=1e-4)
parser.add_argument("--clip", type=float, default=0.1)
parser.add_argument("--seeds", type=int, default=3)
parser.add_argument("--threads", type=int, default=1, help="of PyTorch")
parser.add_argument("--auxiliary", action="store_true", help="losses of all decoder layers, and transformers' norm between them")
options = parser.parse_args()
COUNT, B, S, M, C = 8, 8, 64, 5, 4


def batches(rng):
    """Pixels (B, S, S, 3), classes (B, M) with -1 after the last, boxes (B, M, 4)."""
    pixels = rng.normal(0, 0.2, (COUNT, B, S, S, 3)).astype(np.float32)
    classes, boxes = -np.ones((COUNT, B, M), np.float32), np.zeros((COUNT, B, M, 4), np.float32)
    colours = rng.uniform(-2, 2, (C, 3))
    for n in range(COUNT):
        for b in range(B):
            for m in range(rng.integers(1, M + 1)):
                w, h = rng.integers(8, 25, 2)
                x, y = rng.integers(0, S - w), rng.integers(0, S - h)
                classes[n, b, m] = c = rng.integers(0, C)
                pixels[n, b, y : y + h, x : x + w] = colours[c]
                boxes[n, b, m] = [(x + w / 2) / S, (y + h / 2) / S, w / S, h / S]
    return pixels, classes, boxes


def model_of(seed):
    backbone = transformers.ResNetConfig(embedding_size=16, hidden_sizes=[16, 32], depths=[1, 1], layer_type="basic", out_features=["stage2"])
    config = transformers.DetrConfig(
        backbone_config=backbone, use_timm_backbone=False, d_model=64, encoder_layers=3, decoder_layers=3, encoder_attention_heads=4,
        decoder_attention_heads=4, encoder_ffn_dim=128, decoder_ffn_dim=128, num_queries=12, num_labels=C, dropout=0.0,
        attention_dropout=0.0, activation_dropout=0.0, auxiliary_loss=options.auxiliary,
    )  # fmt: skip
    torch.manual_seed(seed)
    return transformers.DetrForObjectDetection(config)


def theirs(model, pixels, classes, boxes):
    for parameter in model.parameters():
        parameter.requires_grad_(True)
    model.train()
    optimizer = torch.optim.AdamW(model.parameters(), lr=options.lr, weight_decay=0.0)
    losses = []
    for step in range(options.steps):
        n = step % COUNT
        labels = []
        for own, places in zip(classes[n], boxes[n]):
            live = own >= 0
            labels.append({"class_labels": torch.from_numpy(own[live]).long(), "boxes": torch.from_numpy(places[live])})
        images = torch.from_numpy(pixels[n]).permute(0, 3, 1, 2).contiguous()
        loss = model(pixel_values=images, pixel_mask=torch.ones((B, S, S), dtype=torch.int64), labels=labels).loss
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), options.clip)
        optimizer.step()
        losses.append(loss.item())
    return np.array(losses)


def apart_from(peer, losses):
    apart = np.abs(losses - peer) / peer
    return f"{apart.max():.1e} at step {apart.argmax()}, last {apart[-1]:.1e}"


def moved(model, seed):
    """The same model, every weight times 1 ± 1e-7."""
    model, rng = copy.deepcopy(model), torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in model.parameters():
            signs = torch.randint(0, 2, parameter.shape, generator=rng) * 2 - 1
            parameter.copy_((parameter.double() * (1 + 1e-7 * signs)).float())
    return model


torch.set_num_threads(options.threads)
for seed in range(options.seeds):
    data = batches(np.random.default_rng(seed))
    with tempfile.TemporaryDirectory() as folder:
        model = model_of(seed)
        model.save_pretrained(folder)
        values = np.array([COUNT, B, S, M], "<f4").tobytes()
        values += b"".join(part[n].astype("<f4").tobytes() for n in range(COUNT) for part in data)
        (Path(folder) / "batches").write_bytes(values)
        words = [options.binary, folder, f"{folder}/batches", *map(str, [options.steps, options.lr, options.clip])]
        ours = np.array(json.loads(subprocess.run(words, capture_output=True, text=True, check=True).stdout))
    others = [moved(model, seed), moved(model, seed + 100)]
    two, same = copy.deepcopy(model), copy.deepcopy(model)
    peer = theirs(model, *data)
    print(f"seed {seed}: largest relative difference {apart_from(peer, ours)}, first {abs(ours[0] - peer[0]) / peer[0]:.1e}")
    torch.set_num_threads(2 if options.threads == 1 else 1)
    print(f"   transformers with {torch.get_num_threads()} threads: {apart_from(peer, theirs(two, *data))}", flush=True)
    torch.set_num_threads(options.threads)
    with torch.backends.mkldnn.flags(enabled=False):
        print(f"   transformers without oneDNN: {apart_from(peer, theirs(same, *data))}", flush=True)
    for other in others:
        print(f"   transformers, weights moved by 1e-7: {apart_from(peer, theirs(other, *data))}", flush=True)
    shown = [0, options.steps // 4, options.steps // 2, options.steps - 1]
    print("   " + "; ".join(f"step {i}: {ours[i]:.4f}, transformers {peer[i]:.4f}" for i in shown))
