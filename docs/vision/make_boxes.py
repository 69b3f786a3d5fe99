"""Writes small pictures of discs, squares and bars with their boxes: COCO's annotations, or with --yolo a YOLO folder. Needs nothing but Python.

Usage: python3 make_boxes.py FOLDER [--yolo]
"""

import json
import random
import struct
import sys
import zlib
from pathlib import Path

NAMES = ["disc", "square", "bar"]


def chunk(name, data):
    return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))


def picture(rng, width, height):
    """The bytes of a PNG, and its objects as (class, x, y, width, height) in pixels."""
    pixels = [[[rng.randint(0, 60)] * 3 for _ in range(width)] for _ in range(height)]
    objects = []
    for side in rng.sample(range(2), rng.randint(1, 2)):
        kind, r = rng.randrange(len(NAMES)), rng.randint(6, 10)
        w, h = 2 * r, r if NAMES[kind] == "bar" else 2 * r
        x, y = rng.randint(0, width // 2 - w) + side * width // 2, rng.randint(0, height - h)
        colour = [rng.randint(120, 255) for _ in range(3)]
        for dy in range(h):
            for dx in range(w):
                inside = NAMES[kind] != "disc" or (dx + 0.5 - r) ** 2 + (dy + 0.5 - r) ** 2 <= r * r
                if inside:
                    pixels[y + dy][x + dx] = colour
        objects.append((kind, x, y, w, h))
    rows = b"".join(b"\0" + bytes(value for pixel in row for value in pixel) for row in pixels)
    head = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b""), objects


folder, yolo, rng = Path(sys.argv[1]), "--yolo" in sys.argv, random.Random(0)
for split, count in [("train", 160), ("val", 40)]:
    images, annotations = [], []
    place = folder / ("images/" + split if yolo else split)
    place.mkdir(parents=True, exist_ok=True)
    for number in range(count):
        width, height = rng.choice([(64, 48), (64, 64), (48, 56)])
        png, objects = picture(rng, width, height)
        (place / f"{number:03}.png").write_bytes(png)
        images.append({"id": number + 1, "file_name": f"{number:03}.png", "width": width, "height": height})
        for kind, x, y, w, h in objects:
            own = {"id": len(annotations) + 1, "image_id": number + 1, "category_id": kind + 1, "iscrowd": 0}
            annotations.append(own | {"bbox": [x, y, w, h], "area": w * h})
        if yolo:
            lines = [f"{c} {(x + w / 2) / width} {(y + h / 2) / height} {w / width} {h / height}" for c, x, y, w, h in objects]
            (folder / "labels" / split).mkdir(parents=True, exist_ok=True)
            (folder / "labels" / split / f"{number:03}.txt").write_text("\n".join(lines) + "\n")
    if not yolo:
        categories = [{"id": i + 1, "name": name} for i, name in enumerate(NAMES)]
        dataset = {"images": images, "annotations": annotations, "categories": categories}
        (place / "_annotations.coco.json").write_text(json.dumps(dataset))
if yolo:
    (folder / "data.yaml").write_text("train: images/train\nval: images/val\nnames: [" + ", ".join(NAMES) + "]\n")
