"""Write what Pillow makes of files/photo.png by the operations of RandAugment (Pillow 13.0.0, numpy, safetensors).

Run from any place: python make_operations.py [OUT_DIR]  (default: the folder of this script).
  operations.safetensors  NAME.STRENGTH  the pixels (H, W, 3); the strength as a whole number of hundredths
"""

import pathlib
import sys

import numpy as np
import safetensors.numpy
from PIL import Image, ImageEnhance, ImageOps


def main():
    here = pathlib.Path(__file__).resolve().parent
    out = pathlib.Path(sys.argv[1]) if len(sys.argv) > 1 else here
    image = Image.open(here / "files" / "photo.png").convert("RGB")

    def affine(matrix):
        return image.transform(image.size, Image.Transform.AFFINE, matrix, Image.Resampling.NEAREST)

    made = {}
    for percent in (-27, 13, 30):
        made[f"shear-x.{percent}"] = affine((1, percent / 100, 0, 0, 1, 0))
        made[f"shear-y.{percent}"] = affine((1, 0, 0, percent / 100, 1, 0))
    for pixels in (-5, 3):
        made[f"shift-x.{100 * pixels}"] = affine((1, 0, pixels, 0, 1, 0))
        made[f"shift-y.{100 * pixels}"] = affine((1, 0, 0, 0, 1, pixels))
    for degrees in (-30, 7, 29):
        made[f"turn.{100 * degrees}"] = image.rotate(degrees, Image.Resampling.NEAREST)
    for percent in (10, 37, 100, 190):
        factor = float(np.float32(percent / 100))
        made[f"brightness.{percent}"] = ImageEnhance.Brightness(image).enhance(factor)
        made[f"colour.{percent}"] = ImageEnhance.Color(image).enhance(factor)
        made[f"contrast.{percent}"] = ImageEnhance.Contrast(image).enhance(factor)
        made[f"sharpness.{percent}"] = ImageEnhance.Sharpness(image).enhance(factor)
    for bits in (4, 6, 8):
        made[f"posterize.{100 * bits}"] = ImageOps.posterize(image, bits)
    for threshold in (0, 100, 255):
        made[f"solarize.{100 * threshold}"] = ImageOps.solarize(image, threshold)
    made["autocontrast.0"] = ImageOps.autocontrast(image)
    made["equalize.0"] = ImageOps.equalize(image)
    safetensors.numpy.save_file({name: np.asarray(result) for name, result in made.items()}, out / "operations.safetensors")


if __name__ == "__main__":
    main()
