#!/usr/bin/env python3
"""Average precision of samara beside pycocotools: seconds of processors, peak memory, the largest difference of a number.

    python3 benches/compare/detect.py [--binary target/release/samara] [--annotations 200000] [--detections 500000] [--folder DIR]

Each runs in a process of its own on the same files, in turns; needs pycocotools.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np

PEER = """
import json, sys
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval
out, sys.stdout = sys.stdout, sys.stderr
coco = COCO(sys.argv[1])
found = COCOeval(coco, coco.loadRes(sys.argv[2]), "bbox")
found.evaluate(); found.accumulate(); found.summarize()
print(json.dumps([float(x) for x in found.stats]), file=out)
"""


def make(folder, annotations, detections):
    """Files as of COCO: 80 classes with ids up to 90, 7.3 objects an image, boxes of all sizes, detections around them."""
    rng = np.random.default_rng(1)
    images = np.sort(rng.choice(600_000, max(1, annotations * 10 // 73), replace=False)).tolist()
    classes = np.sort(rng.choice(np.arange(1, 91), 80, replace=False)).tolist()
    sides = np.exp(rng.uniform(np.log(8), np.log(400), (annotations, 2)))
    corners = rng.uniform(0, 1, (annotations, 2)) * np.maximum(640 - sides, 0)
    boxes = np.round(np.concatenate([corners, sides], 1), 2)
    of_image = rng.integers(0, len(images), annotations)
    of_class = (80 * rng.random(annotations) ** 2).astype(int)
    crowds = rng.random(annotations) < .01
    keys = ("id", "image_id", "category_id", "bbox", "area", "iscrowd")
    rows = zip(range(1, annotations + 1), of_image, of_class, boxes.tolist(), crowds)
    objects = [dict(zip(keys, (i, images[m], classes[c], b, round(b[2] * b[3] * .7, 2), int(k)))) for i, m, c, b, k in rows]
    dataset = {
        "images": [{"id": i, "width": 640, "height": 640, "file_name": f"{i:012}.jpg"} for i in images],
        "categories": [{"id": i, "name": f"class {i}"} for i in classes],
        "annotations": objects,
    }
    (folder / "val.json").write_text(json.dumps(dataset))
    base = rng.integers(0, annotations, detections)
    moved = boxes[base] + rng.normal(0, 1, (detections, 4)) * np.repeat(sides[base], 2, 1) * rng.choice([.02, .1, .4], (detections, 1))
    moved[:, 2:] = np.maximum(moved[:, 2:], 1)
    wrong = rng.random(detections) < .2
    found_class = np.where(wrong, rng.integers(0, 80, detections), of_class[base])
    scores = np.round(rng.random(detections), 4)
    rows = zip(of_image[base], found_class, np.round(moved, 2).tolist(), scores.tolist())
    found = [{"image_id": images[m], "category_id": classes[c], "bbox": b, "score": s} for m, c, b, s in rows]
    (folder / "found.json").write_text(json.dumps(found))


def run(command):
    """Standard output, seconds of processors, and MiB at the peak, of a process."""
    child = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
    output = child.stdout.read()
    _, status, usage = os.wait4(child.pid, 0)
    if status:
        sys.exit(f"{command[0]} failed: {status}")
    return output, usage.ru_utime + usage.ru_stime, usage.ru_maxrss / 1024


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--binary", default="target/release/samara")
    parser.add_argument("--annotations", type=int, default=200_000)
    parser.add_argument("--detections", type=int, default=500_000)
    parser.add_argument("--rounds", type=int, default=1)
    parser.add_argument("--folder", type=Path)
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        folder = args.folder or Path(temporary)
        if not (folder / "found.json").exists():
            make(folder, args.annotations, args.detections)
        files = [str(folder / "val.json"), str(folder / "found.json")]
        for name in files:
            print(f"{Path(name).name}: {Path(name).stat().st_size / 2**20:.0f} MiB")
        for _ in range(args.rounds):
            ours, seconds, mib = run([args.binary, "eval", "detect", "--annotations", files[0], "--predictions", files[1], "--json"])
            print(f"samara       {seconds:7.2f} s of processors {mib:7.0f} MiB")
            theirs, seconds, mib = run([sys.executable, "-c", PEER, *files])
            print(f"pycocotools  {seconds:7.2f} s of processors {mib:7.0f} MiB")
            pairs = zip(json.loads(ours)["stats"], json.loads(theirs))
            print(f"largest difference {max(abs(a - b) for a, b in pairs):.1e}; {json.loads(theirs)}")


if __name__ == "__main__":
    main()
