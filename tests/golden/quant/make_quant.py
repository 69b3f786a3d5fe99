"""Write rows of numbers and what ggml's Python package makes of them in blocks.

Run: python make_quant.py [OUT_DIR]  (default: the folder of this script). One safetensors file; see README.md.
"""

import pathlib
import sys

import gguf
import numpy
import safetensors.numpy
from gguf.quants import dequantize, quantize

GEN = numpy.random.default_rng(5)


def rows():
    blocks = [GEN.standard_normal(32) * scale for scale in (0.02, 1.0, 1e-4, 300.0, 1e-7) for _ in range(6)]
    ties = numpy.arange(32) / 2.0 - 8.0  # halves of steps, the largest of them negative
    blocks += [numpy.zeros(32), ties, -ties, numpy.full(32, 0.1), numpy.full(32, -0.1)]
    uneven = numpy.zeros(32)
    uneven[17] = 5.0
    blocks += [uneven, -uneven, numpy.concatenate([ties[:16], -ties[:16]])]
    # The largest is 127, so that a step is 1 and halves are ties; then -8 for blocks of 4 bits.
    for largest in (127.0, -8.0):
        steps = GEN.integers(-14, 14, 32) / 2.0
        steps[3] = largest
        blocks.append(steps)
    return numpy.stack(blocks).astype(numpy.float32).reshape(-1, 64)  # two blocks a row


def main():
    folder = pathlib.Path(sys.argv[1] if len(sys.argv) > 1 else pathlib.Path(__file__).parent)
    given = rows()
    out = {"rows": given}
    for name, kind in [("f16", gguf.GGMLQuantizationType.F16), ("q8", gguf.GGMLQuantizationType.Q8_0), ("q4", gguf.GGMLQuantizationType.Q4_0)]:
        data = quantize(given, kind)
        out[f"{name}.values"] = dequantize(data, kind).astype(numpy.float32)
        out[f"{name}.bytes"] = numpy.ascontiguousarray(data).view(numpy.uint8).reshape(given.shape[0], -1)
    versions = {"numpy": numpy.__version__, "gguf": gguf_version(), "safetensors": safetensors.__version__}
    safetensors.numpy.save_file(out, folder / "quant.safetensors", metadata=versions)
    print(versions, {name: value.shape for name, value in out.items()})


def gguf_version():
    from importlib.metadata import version

    return version("gguf")


main()
