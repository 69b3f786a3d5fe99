"""Emoji as images with captions: a folder for `samara train`, and the pixel neighbour on the same held-out concepts.

    npm pack emoji-datasource-google@16.0.0 emoji-datasource-twitter@16.0.0
    for style in google twitter; do mkdir $style; tar xzf emoji-datasource-$style-16.0.0.tgz -C $style; done
    pip install pillow==13.0.0 numpy
    python emoji.py FOLDER --google google/package --twitter twitter/package
    samara train --config emoji.toml --data FOLDER/pairs.jsonl --out runs/emoji --threads 1
    samara eval retrieval --model runs/emoji --data FOLDER/pairs.jsonl --split val

Images are 32 x 32 on white. Captions are the names of emoji. Every Noto drawing (Google, Apache-2.0) and four fifths of the Twemoji drawings (CC-BY 4.0) are for
training, each in several versions (shifted, scaled, turned, other colours); of the other fifth of the concepts the Twemoji drawing is held out, so that its name is
known from the other style alone. The baseline ranks the Noto drawings of the same concepts by the cosine of centred pixels: it needs them when it is asked, the
model does not. Flags, symbols and components are left out.
"""

import argparse
import json
import pathlib
import random

import numpy as np
from PIL import Image, ImageEnhance

SIDE = 32
LEFT_OUT = {"Flags", "Component", "Symbols"}


def drawing(path):
    """A drawing on white."""
    image = Image.open(path).convert("RGBA")
    white = Image.new("RGBA", image.size, "white")
    return Image.alpha_composite(white, image).convert("RGB")


def version(image, draw):
    """A drawing that is shifted, scaled, turned and coloured a little."""
    side = round(image.width * draw.uniform(0.8, 1.1))
    turned = image.rotate(draw.uniform(-15, 15), Image.BICUBIC, fillcolor="white").resize((side, side), Image.BICUBIC)
    canvas = Image.new("RGB", image.size, "white")
    most = image.width // 10
    canvas.paste(turned, ((image.width - side) // 2 + draw.randint(-most, most), (image.height - side) // 2 + draw.randint(-most, most)))
    for kind, spread in ((ImageEnhance.Color, 0.4), (ImageEnhance.Brightness, 0.25), (ImageEnhance.Contrast, 0.25)):
        canvas = kind(canvas).enhance(draw.uniform(1 - spread, 1 + spread))
    return canvas


def small(image):
    return image.resize((SIDE, SIDE), Image.BICUBIC)


def recalls(scores):
    """R@1, 5 and 10 of rows whose own column is the right one; equal scores of others count as before it."""
    own = scores.diagonal()[:, None]
    rank = (scores >= own).sum(1) - 1
    return [round(float((rank < k).mean()), 4) for k in (1, 5, 10)]


def pixel_neighbour(queries, gallery):
    def rows(images):
        values = np.stack([np.asarray(image, np.float64).ravel() for image in images])
        values -= values.mean(1, keepdims=True)
        return values / np.linalg.norm(values, axis=1, keepdims=True)

    scores = rows(queries) @ rows(gallery).T
    return {"image_to_text": recalls(scores), "text_to_image": recalls(scores.T)}


def main():
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("folder", type=pathlib.Path)
    options.add_argument("--google", type=pathlib.Path, required=True)
    options.add_argument("--twitter", type=pathlib.Path, required=True)
    options.add_argument("--versions", type=int, default=8, help="versions of each drawing for training")
    options.add_argument("--seed", type=int, default=0)
    given = options.parse_args()
    draw = random.Random(given.seed)
    entries = json.loads((given.google / "emoji.json").read_text())
    named = {}
    for entry in entries:
        both = entry["has_img_google"] and entry["has_img_twitter"] and entry["name"] and entry["category"] not in LEFT_OUT
        if both:
            named.setdefault(entry["name"].lower(), entry["image"])
    names = sorted(named)
    draw.shuffle(names)
    held = names[: len(names) // 5]
    (given.folder / "images").mkdir(parents=True, exist_ok=True)
    rows, queries, gallery = [], [], []
    for number, name in enumerate(names):
        for style, package in (("google", given.google), ("twitter", given.twitter)):
            image = drawing(package / "img" / style / "64" / named[name])
            is_held = style == "twitter" and number < len(held)
            pictures = [small(image)] if is_held else [small(image)] + [small(version(image, draw)) for _ in range(given.versions - 1)]
            for copy, picture in enumerate(pictures):
                file = f"images/{number:04}-{style}-{copy}.png"
                picture.save(given.folder / file)
                rows.append({"image": file, "caption": name, "split": "val" if is_held else "train"})
            if number < len(held):
                (queries if style == "twitter" else gallery).append(small(image))
    (given.folder / "pairs.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    print(json.dumps({"concepts": len(names), "held_out": len(held), "rows": len(rows), "pixel_neighbour": pixel_neighbour(queries, gallery)}))


main()
