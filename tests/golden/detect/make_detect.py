#!/usr/bin/env python3
"""Random detections and what pycocotools makes of them: `sets.json`.

    python3 make_detect.py [--sets 30] [--out sets.json]

Needs pycocotools and numpy; the versions are written into the file.
"""

import argparse
import contextlib
import copy
import importlib.metadata
import io
import json
from pathlib import Path

import numpy as np
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval


def box(rng, digits):
    """A box of any size, the sides of which are spread over 4 to 200 pixels by their logarithms."""
    w, h = np.exp(rng.uniform(np.log(4), np.log(200), 2))
    x, y = rng.uniform(0, 300, 2)
    return [round(float(v), digits) if digits else int(v) for v in (x, y, w, h)]


def near(rng, xywh, digits):
    """The same box, moved a little; sometimes not at all."""
    spread = rng.choice([0, .03, .1, .3])
    x, y, w, h = xywh
    dx, dy, dw, dh = rng.normal(0, spread, 4)
    moved = (x + dx * w, y + dy * h, max(w * (1 + dw), 0), max(h * (1 + dh), 0))
    return [round(float(v), digits) if digits else int(v) for v in moved]


def random_set(seed):
    """Annotations as [id, image, category, box, area, iscrowd], detections as [image, category, box, score]."""
    rng = np.random.default_rng(seed)
    digits = int(rng.choice([0, 1, 2]))
    ties = rng.random() < .5
    images = rng.permutation(rng.choice(10_000, rng.integers(1, 9), replace=False)).tolist()
    categories = rng.permutation(rng.choice(90, rng.integers(1, 5), replace=False)).tolist()
    annotations, detections = [], []

    def score():
        return round(float(rng.random()), 1 if ties else 4)

    used = categories[: max(1, len(categories) - 1)]  # the last one has no annotation, unless it is the only one
    for image in images:
        if rng.random() < .15:  # an image without objects
            count = 0
        else:
            count = int(rng.integers(1, 7))
        for _ in range(count):
            xywh = box(rng, digits)
            kind = rng.random()
            if kind < .05:
                xywh[int(rng.choice([2, 3]))] = 0  # a box without an extent
            elif kind < .15 and annotations:
                xywh = list(annotations[-1][3])  # two objects in the same place
            category = int(rng.choice(used))
            area = round(xywh[2] * xywh[3] * float(rng.uniform(.4, 1)), 1) if rng.random() < .5 else xywh[2] * xywh[3]
            annotations.append([0, image, category, xywh, area, int(rng.random() < .12)])
            for _ in range(int(rng.choice([0, 1, 2, 3], p=[.2, .4, .25, .15]))):
                of = category if rng.random() < .9 else int(rng.choice(categories))
                detections.append([image, of, near(rng, xywh, digits), score()])
        for _ in range(int(rng.integers(0, 4))):
            detections.append([image, int(rng.choice(categories)), box(rng, digits), score()])
    if seed % 10 == 3:  # more than a hundred detections of one category in an image
        target = annotations[0] if annotations else [0, images[0], categories[0], box(rng, digits), 0, 0]
        for _ in range(int(rng.integers(101, 125))):
            detections.append([target[1], target[2], near(rng, target[3], digits), score()])
    compat = seed % 6 == 5
    ids = rng.permutation(np.arange(len(annotations)) + (0 if compat else 1)).tolist()
    if seed % 12 == 11 and len(ids) > 2:
        ids[1] = ids[-1]  # one id for two annotations
    for annotation, number in zip(annotations, ids):
        annotation[0] = number
    if not detections:
        detections.append([images[0], categories[0], box(rng, digits), .5])
    rng.shuffle(detections)
    return {"seed": seed, "compat": compat, "images": images, "categories": categories, "annotations": annotations,
            "detections": detections}


def files(rows):
    """The two files of COCO."""
    keys = ("id", "image_id", "category_id", "bbox", "area", "iscrowd")
    dataset = {
        "images": [{"id": i} for i in rows["images"]],
        "categories": [{"id": i, "name": str(i)} for i in rows["categories"]],
        "annotations": [dict(zip(keys, row)) for row in rows["annotations"]],
    }
    return dataset, [dict(zip(("image_id", "category_id", "bbox", "score"), row)) for row in rows["detections"]]


def evaluated(dataset, results):
    """An evaluation by pycocotools."""
    with contextlib.redirect_stdout(io.StringIO()):
        coco = COCO()
        coco.dataset = copy.deepcopy(dataset)
        coco.createIndex()
        found = COCOeval(coco, coco.loadRes(copy.deepcopy(results)), "bbox")
        found.evaluate()
        found.accumulate()
        found.summarize()
    return found


def mean(precision):
    known = precision[precision > -1]
    return float(np.mean(known)) if known.size else -1.0


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--sets", type=int, default=30)
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "sets.json")
    args = parser.parse_args()
    lines = []
    for seed in range(args.sets):
        rows = random_set(seed)
        found = evaluated(*files(rows))
        precision = found.eval["precision"]
        rows["stats"] = [float(x) for x in found.stats]
        # By category in the order of ids: AP, AP50.
        rows["classes"] = [[mean(precision[:, :, k, 0, 2]), mean(precision[0, :, k, 0, 2])] for k in range(precision.shape[2])]
        lines.append(json.dumps(rows, separators=(",", ":")))
    versions = {name: importlib.metadata.version(name) for name in ("pycocotools", "numpy")}
    args.out.write_text('{"versions":' + json.dumps(versions) + ',"sets":[\n' + ",\n".join(lines) + "\n]}\n")


if __name__ == "__main__":
    main()
