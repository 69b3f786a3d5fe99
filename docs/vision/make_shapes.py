"""Writes a folder of small pictures: discs, squares, crosses and bars in two splits. Needs nothing but Python.

Usage: python3 make_shapes.py FOLDER [--inverted]
"""

import random
import struct
import sys
import zlib
from pathlib import Path

SIDE = 32
SHAPES = {
    "disc": lambda x, y, r: x * x + y * y <= r * r,
    "square": lambda x, y, r: max(abs(x), abs(y)) <= r,
    "cross": lambda x, y, r: min(abs(x), abs(y)) <= 2 and max(abs(x), abs(y)) <= r,
    "bar": lambda x, y, r: abs(y) <= 2 and abs(x) <= r,
}


def chunk(name, data):
    return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))


def picture(rng, inside, inverted):
    cx, cy, r = rng.randint(11, 20), rng.randint(11, 20), rng.randint(6, 9)
    colour = [rng.randint(150, 255) for _ in range(3)]
    rows = b""
    for y in range(SIDE):
        rows += b"\0"
        for x in range(SIDE):
            pixel = colour if inside(x - cx, y - cy, r) else [rng.randint(0, 80)] * 3
            rows += bytes(255 - value if inverted else value for value in pixel)
    head = struct.pack(">IIBBBBB", SIDE, SIDE, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")


folder, inverted = Path(sys.argv[1]), "--inverted" in sys.argv
rng = random.Random(1 if inverted else 0)
for split, count in [("train", 100), ("val", 25)]:
    for name, inside in SHAPES.items():
        (folder / split / name).mkdir(parents=True, exist_ok=True)
        for number in range(count):
            (folder / split / name / f"{number:03}.png").write_bytes(picture(rng, inside, inverted))
