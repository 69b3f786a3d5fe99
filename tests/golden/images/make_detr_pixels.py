"""Write what `DetrImageProcessor` and `ViltImageProcessor` of transformers (with Pillow) makes of the images of `make_images.py`, which is run first.

Run from any place: python make_detr_pixels.py [OUT_DIR]  (default: the folder of this script).
  processors/KIND/preprocessor_config.json   the processors
  detr.safetensors   pixels.KIND.NAME (H, W, 3) with padding, mask.KIND.NAME (H, W)
Made with transformers 5.24.0 and Pillow 13.0.0.
"""

import pathlib
import sys

import numpy as np
import safetensors.numpy
from PIL import Image, ImageOps
from transformers.image_transforms import convert_to_rgb
from transformers.models.detr.image_processing_pil_detr import DetrImageProcessorPil
from transformers.models.vilt.image_processing_pil_vilt import ViltImageProcessorPil

PROCESSORS = {
    "detr": DetrImageProcessorPil(size={"shortest_edge": 24, "longest_edge": 29}),
    "detr-square": DetrImageProcessorPil(size={"shortest_edge": 32, "longest_edge": 32}, pad_size={"height": 32, "width": 32}),
    "detr-within": DetrImageProcessorPil(size={"max_height": 21, "max_width": 40}, image_mean=[0.4, 0.5, 0.6]),
    "detr-fixed": DetrImageProcessorPil(size={"height": 20, "width": 31}),
    "vilt": ViltImageProcessorPil(size={"shortest_edge": 24}, size_divisor=4),
    "vilt-long": ViltImageProcessorPil(size={"shortest_edge": 50}, size_divisor=8),
}


def main():
    out = pathlib.Path(sys.argv[1]) if len(sys.argv) > 1 else pathlib.Path(__file__).parent
    golden = {}
    for kind, processor in PROCESSORS.items():
        (out / "processors" / kind).mkdir(parents=True, exist_ok=True)
        processor.save_pretrained(out / "processors" / kind)
        for name in ["photo.png", "grey.png", "turned-6.png"]:
            image = Image.fromarray(convert_to_rgb(ImageOps.exif_transpose(Image.open(out / "files" / name)), return_numpy=True))
            made = processor(image, return_tensors="np")
            golden[f"pixels.{kind}.{name}"] = np.ascontiguousarray(np.moveaxis(made["pixel_values"][0], 0, -1), dtype=np.float32)
            golden[f"mask.{kind}.{name}"] = np.ascontiguousarray(made["pixel_mask"][0], dtype=np.int64)
    safetensors.numpy.save_file(golden, out / "detr.safetensors")


if __name__ == "__main__":
    main()
