"""Write small image files of many kinds, and what Pillow and transformers make of them.

Run from any place: python make_images.py [OUT_DIR]  (default: the folder of this script).
  files/              the images; files/broken/ those that must be refused
  golden.safetensors  rgb.NAME      the decoded pixels (H, W, 3), as `transformers` has them: turned by EXIF, transparency on white
                      resize.F.H.W  photo.png resized by Pillow with filter F
                      shaped.KIND.NAME, pixels.KIND.NAME   the results of an image processor without and with rescaling and normalising
                      positions.MODE.FROM.TO   position embeddings resized by torch
  processors/KIND/preprocessor_config.json   the processors
"""

import pathlib
import struct
import sys
import zlib

import numpy as np
import safetensors.numpy
import torch
from PIL import Image, ImageOps, PngImagePlugin
from transformers.image_transforms import convert_to_rgb
from transformers.models.clip.image_processing_pil_clip import CLIPImageProcessorPil
from transformers.models.convnext.image_processing_pil_convnext import ConvNextImageProcessorPil
from transformers.models.deit.image_processing_pil_deit import DeiTImageProcessorPil
from transformers.models.vit.image_processing_pil_vit import ViTImageProcessorPil

SIZE = (37, 29)  # width, height


def photo(seed, channels=3):
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[0 : SIZE[1], 0 : SIZE[0]]
    waves = [127 + 90 * np.sin(0.2 * (c + 1) * x + 0.13 * (3 - c) * y) for c in range(channels)]
    return np.clip(np.stack(waves, -1) + rng.normal(0, 18, (*y.shape, channels)), 0, 255).astype(np.uint8)


def png(path, width, height, bits, kind, rows, end=True):
    def chunk(name, data):
        return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))

    head = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, bits, kind, 0, 0, 0))
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + head + chunk(b"IDAT", zlib.compress(rows, 9)) + (chunk(b"IEND", b"") if end else b""))


def make_files(out):
    out.mkdir(parents=True, exist_ok=True)
    rgb = photo(1)
    image = Image.fromarray(rgb)
    image.save(out / "photo.png")
    image.save(out / "photo.bmp")
    image.save(out / "photo.webp", lossless=True)
    image.quantize(16).save(out / "photo.gif")
    image.save(out / "photo.jpg", quality=95, subsampling=0)
    image.convert("L").save(out / "grey.png")
    image.convert("1").save(out / "black-white.png")
    image.convert("L").save(out / "grey.jpg", quality=95)
    image.convert("CMYK").save(out / "cmyk.jpg", quality=95, subsampling=0)
    image.quantize(7).save(out / "palette.png")
    image.quantize(7).save(out / "palette-transparent.png", transparency=3)
    rgba = np.dstack([rgb, photo(2, 1)])
    rgba[:5, :5, 3], rgba[-5:, -5:, 3] = 0, 255
    Image.fromarray(rgba, "RGBA").save(out / "rgba.png")
    Image.fromarray(np.dstack([rgb[..., 0], rgba[..., 3]]), "LA").save(out / "grey-alpha.png")
    for turn in (2, 5, 6, 8):
        exif = Image.Exif()
        exif[0x0112] = turn
        image.save(out / f"turned-{turn}.png", exif=exif)
    exif[0x0112] = 6
    image.save(out / "turned-6.jpg", exif=exif, quality=95, subsampling=0)
    image.save(out / "turned-6.webp", exif=exif, lossless=True)
    xmp = PngImagePlugin.PngInfo()
    xmp.add_itxt("XML:com.adobe.xmp", '<x:xmpmeta><rdf:Description tiff:Orientation="8"/></x:xmpmeta>')
    image.save(out / "turned-xmp.png", pnginfo=xmp)
    deep = (photo(3, 1)[..., 0].astype(">u2") * 257 + photo(4, 1)[..., 0] % 128).astype(">u2")
    png(out / "grey-16.png", *SIZE, 16, 0, b"".join(b"\0" + row.tobytes() for row in deep))
    colours = (photo(5).astype(">u2") * 257 - photo(6) % 128).astype(">u2")
    png(out / "rgb-16.png", *SIZE, 16, 2, b"".join(b"\0" + row.tobytes() for row in colours))
    Image.fromarray(rgb[:1, :1]).save(out / "one-pixel.png")
    return {"rgb.grey-16.png": (deep, 1), "rgb.rgb-16.png": (colours, 3)}


def make_broken(files, out):
    out.mkdir(parents=True, exist_ok=True)
    for name in ["photo.png", "photo.jpg", "photo.bmp", "photo.webp", "photo.gif"]:
        data = (files / name).read_bytes()
        (out / f"half-{name}").write_bytes(data[: len(data) // 2])
    (out / "empty.png").write_bytes(b"")
    (out / "text.jpg").write_bytes(b"not an image\n")
    (out / "head-only.png").write_bytes((files / "photo.png").read_bytes()[:33])
    png(out / "wide.png", 1_000_000, 1, 8, 2, b"\0")
    png(out / "bomb.png", 32_000, 32_000, 8, 2, b"\0" * 4096)
    png(out / "zero.png", 0, 5, 8, 2, b"\0")
    data = bytearray((files / "photo.png").read_bytes())
    data[60] ^= 0xFF
    (out / "flipped-bits.png").write_bytes(data)


PROCESSORS = {
    "vit": ViTImageProcessorPil(size={"height": 24, "width": 24}, do_convert_rgb=True),
    "clip": CLIPImageProcessorPil(size={"shortest_edge": 20}, crop_size={"height": 20, "width": 20}),
    "deit": DeiTImageProcessorPil(size={"height": 33, "width": 33}, crop_size={"height": 28, "width": 28}, do_convert_rgb=True),
    "convnext": ConvNextImageProcessorPil(size={"shortest_edge": 19}, do_convert_rgb=True),
    "framed": CLIPImageProcessorPil(size={"shortest_edge": 12}, crop_size={"height": 17, "width": 14}, resample=1),
    "large": ViTImageProcessorPil(size={"height": 50, "width": 41}, resample=0, image_mean=[0.4, 0.5, 0.6], image_std=[0.2, 0.3, 0.25]),
}


def decode(path):
    return convert_to_rgb(ImageOps.exif_transpose(Image.open(path)), return_numpy=True)


def positions():
    gen = torch.Generator().manual_seed(7)
    golden = {}
    for (h, w), to in [((4, 4), (7, 7)), ((6, 6), (4, 4)), ((3, 5), (6, 4)), ((5, 5), (5, 5)), ((4, 4), (1, 2))]:
        grid = torch.randn((1, 3, h, w), generator=gen)
        golden[f"positions.from.{h}.{w}.{to[0]}.{to[1]}"] = grid[0].permute(1, 2, 0).contiguous().numpy()
        for mode, options in {
            "antialias": {"mode": "bicubic", "antialias": True, "align_corners": False},
            "bicubic": {"mode": "bicubic", "align_corners": False},
            "bilinear": {"mode": "bilinear", "align_corners": True},
        }.items():
            resized = torch.nn.functional.interpolate(grid, size=to, **options)
            golden[f"positions.{mode}.{h}.{w}.{to[0]}.{to[1]}"] = resized[0].permute(1, 2, 0).contiguous().numpy()
    return golden


def main():
    out = pathlib.Path(sys.argv[1]) if len(sys.argv) > 1 else pathlib.Path(__file__).parent
    files = out / "files"
    sixteen = make_files(files)
    make_broken(files, files / "broken")
    golden = {f"rgb.{path.name}": decode(path) for path in sorted(files.iterdir()) if path.is_file() and "16" not in path.name}
    for name, (values, channels) in sixteen.items():
        scaled = np.round(values.astype(np.float64) / 257).astype(np.uint8)
        golden[name] = np.broadcast_to(scaled.reshape(SIZE[1], SIZE[0], channels), (SIZE[1], SIZE[0], 3))
    image = Image.open(files / "photo.png")
    for number in range(6):
        for width, height in [(13, 50), (80, 7), (37, 11), (20, 29)]:
            golden[f"resize.{number}.{height}.{width}"] = np.array(image.resize((width, height), number))
    for kind, processor in PROCESSORS.items():
        (out / "processors" / kind).mkdir(parents=True, exist_ok=True)
        processor.save_pretrained(out / "processors" / kind)
        for name in ["photo.png", "grey.png", "rgba.png"]:
            rgb = Image.fromarray(decode(files / name))
            pixels = processor(rgb, return_tensors="np")["pixel_values"][0]
            plain = processor(rgb, do_rescale=False, do_normalize=False, return_tensors="np")["pixel_values"][0]
            golden[f"shaped.{kind}.{name}"] = np.moveaxis(plain, 0, -1)
            if name == "photo.png":
                golden[f"pixels.{kind}.{name}"] = np.moveaxis(pixels, 0, -1)
    golden |= positions()
    golden = {name: np.ascontiguousarray(value) for name, value in golden.items()}
    safetensors.numpy.save_file(golden, out / "golden.safetensors")


if __name__ == "__main__":
    main()
