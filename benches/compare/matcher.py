#!/usr/bin/env python3
"""Matching of queries and objects in turns: samara, and DETR's loop (softmax, torch.cdist, generalised IoU, scipy for each image and layer).

    cargo bench -p samara-benches --bench matcher --no-run      # prints the path of BINARY
    python3 benches/compare/matcher.py BINARY [--images 96] [--layers 6] [--queries 100] [--objects 20] [--classes 91] [--threads 2] [--rounds 7]

The loop is that of DETR's matcher: for each layer the costs of the whole batch, (B·Q, all objects), of which each image's block is assigned. `blocks` computes
only those blocks. Prints milliseconds of a batch, and the median of the ratios of rounds, with the least and the largest; the sums of costs must agree. Then
the same in seconds of processors, for a machine that is shared: there samara's are those of a match and of a match with losses and gradients together.
"""

import argparse
import json
import os
import statistics
import subprocess
import tempfile
import time
from pathlib import Path

import numpy as np
import torch
from scipy.optimize import linear_sum_assignment

parser = argparse.ArgumentParser()
parser.add_argument("binary")
for name, value in [("images", 96), ("layers", 6), ("queries", 100), ("objects", 20), ("classes", 91), ("threads", 2), ("rounds", 7)]:
    parser.add_argument(f"--{name}", type=int, default=value)
options = parser.parse_args()
REPEATS = 10
B, L, Q, M, C = options.images, options.layers, options.queries, options.objects, options.classes
torch.set_num_threads(options.threads)
rng = np.random.default_rng(1)
logits = rng.normal(0, 1, (B, L, Q, C + 1)).astype(np.float32)
sides = lambda *shape: rng.uniform(0.05, 0.5, shape)
boxes = np.concatenate([rng.uniform(0.25, 0.75, (B, L, Q, 2)), sides(B, L, Q, 2)], -1).astype(np.float32)
classes = rng.integers(0, C, (B, M))
objects = np.concatenate([rng.uniform(0.25, 0.75, (B, M, 2)), sides(B, M, 2)], -1).astype(np.float32)


def corners(b):
    centre, extents = b[..., :2], b[..., 2:]
    return torch.cat([centre - extents / 2, centre + extents / 2], -1)


def giou(a, b):
    area = lambda x: (x[:, 2] - x[:, 0]) * (x[:, 3] - x[:, 1])
    shared = (torch.min(a[:, None, 2:], b[:, 2:]) - torch.max(a[:, None, :2], b[:, :2])).clamp(min=0).prod(-1)
    union = area(a)[:, None] + area(b) - shared
    hull = (torch.max(a[:, None, 2:], b[:, 2:]) - torch.min(a[:, None, :2], b[:, :2])).clamp(min=0).prod(-1)
    return shared / union - (hull - union) / hull


def cost_of(z, found, label, target):
    return 5 * torch.cdist(found, target, p=1) - z.softmax(-1)[:, label] - 2 * giou(corners(found), corners(target))


z, found = torch.from_numpy(logits), torch.from_numpy(boxes)
label, target = torch.from_numpy(classes), torch.from_numpy(objects)


@torch.no_grad()
def whole_batch():
    total = 0.0
    for layer in range(L):
        cost = cost_of(z[:, layer].flatten(0, 1), found[:, layer].flatten(0, 1), label.flatten(), target.flatten(0, 1))
        blocks = cost.view(B, Q, -1).split([M] * B, -1)
        for image, block in enumerate(blocks):
            own = block[image]
            rows, columns = linear_sum_assignment(own)
            total += float(own[rows, columns].sum())
    return total


@torch.no_grad()
def by_blocks():
    total = 0.0
    for layer in range(L):
        for image in range(B):
            own = cost_of(z[image, layer], found[image, layer], label[image], target[image])
            rows, columns = linear_sum_assignment(own)
            total += float(own[rows, columns].sum())
    return total


with tempfile.NamedTemporaryFile() as file:
    parts = [np.array([B, L, Q, C, M]), logits, boxes, classes, objects]
    file.write(b"".join(part.astype("<f4").tobytes() for part in parts))
    file.flush()
    ours = subprocess.Popen([options.binary, file.name, str(options.threads)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert ours.stdout.readline() == "ready\n"

    def processor_ms():
        fields = Path(f"/proc/{ours.pid}/stat").read_text().rsplit(")", 1)[1].split()
        return sum(map(int, fields[11:13])) * 1e3 / os.sysconf("SC_CLK_TCK")

    rounds = []
    for _ in range(options.rounds):
        before = processor_ms()
        ours.stdin.write(f"{REPEATS}\n")
        ours.stdin.flush()
        row = json.loads(ours.stdout.readline())
        row["cpu"] = (processor_ms() - before) / REPEATS
        for name, loop in [("whole batch", whole_batch), ("blocks", by_blocks)]:
            begun, used = time.perf_counter(), time.process_time()
            total = loop()
            row[name], row[f"{name}, cpu"] = (time.perf_counter() - begun) * 1e3, (time.process_time() - used) * 1e3
            assert abs(total - row["cost"]) < 1e-4 * abs(total), (total, row["cost"])
        rounds.append(row)
    ours.stdin.close()
    ours.wait()

print(f"{B} images x {L} layers x {Q} queries x {M} objects, {C} classes, {options.threads} threads")
for name in ["ms", "with_losses_ms", "whole batch", "blocks"]:
    print(f"{name:16} {statistics.median(row[name] for row in rounds):10.2f} ms")
for name in ["whole batch", "blocks"]:
    for own in ["ms", "with_losses_ms"]:
        ratios = sorted(row[name] / row[own] for row in rounds)
        print(f"{name} / samara ({own}): {statistics.median(ratios):.1f} ({ratios[0]:.1f} to {ratios[-1]:.1f})")
    ratios = sorted(row[f"{name}, cpu"] / row["cpu"] for row in rounds)
    times = statistics.median(row[f"{name}, cpu"] for row in rounds), statistics.median(row["cpu"] for row in rounds)
    print(f"{name} / samara, processors: {statistics.median(ratios):.1f} ({ratios[0]:.1f} to {ratios[-1]:.1f}); {times[0]:.0f} and {times[1]:.0f} ms")
