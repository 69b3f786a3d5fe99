"""Writes core/src/tokenizer/unicode.rs: which code points GPT-2's split pattern takes as \\p{L}, \\p{N} and \\s.

The classes are asked of the peer itself, one code point at a time, so that the tables hold the Unicode version that Hugging Face
`tokenizers` splits with. Run from the root of the repository:

    pip install tokenizers==0.23.3 unicodedata2==16.0.0
    python tests/golden/tokenizer/unicode.py

unicodedata2 is only a cross-check: the classes equal the general categories L* and N* of Unicode 16.0.0.
"""

import tokenizers
from tokenizers import pre_tokenizers

LETTER, NUMBER, SPACE, OTHER = range(4)
BLOCK = 128
split = pre_tokenizers.ByteLevel(add_prefix_space=False)


def joins(before, c):
    return len(split.pre_tokenize_str(before + c)) == 1


def classify(code):
    if 0xD800 <= code < 0xE000:
        return OTHER
    c = chr(code)
    for before, cls in (("a", LETTER), ("1", NUMBER), ("!", OTHER)):
        if joins(before, c):
            return cls
    return SPACE


classes = [classify(code) for code in range(0x110000)]

import unicodedata2

for code, cls in enumerate(classes):
    if not 0xD800 <= code < 0xE000:
        expected = {"L": LETTER, "N": NUMBER}.get(unicodedata2.category(chr(code))[0])
        assert (cls if cls in (LETTER, NUMBER) else None) == expected, hex(code)

last = max(code for code, cls in enumerate(classes) if cls != OTHER)
blocks, index = [], []
for start in range(0, last + 1, BLOCK):
    block = tuple(
        sum(classes[start + word * 32 + i] << (2 * i) for i in range(32)) for word in range(BLOCK // 32)
    )
    if block not in blocks:
        blocks.append(block)
    index.append(blocks.index(block))
assert len(blocks) <= 256

with open("core/src/tokenizer/unicode.rs", "w") as out:
    out.write(
        f"""//! Classes of code points as GPT-2's split pattern sees them; written by `tests/golden/tokenizer/unicode.py`.
//!
//! Unicode {unicodedata2.unidata_version}, as in Hugging Face `tokenizers` {tokenizers.__version__}.

/// Number of the block of every 128 code points; what lies beyond belongs to no class.
#[rustfmt::skip]
pub(super) static INDEX: [u8; {len(index)}] = [
"""
    )
    for i in range(0, len(index), 24):
        out.write("    " + " ".join(f"{b}," for b in index[i : i + 24]) + "\n")
    out.write(f"];\n\n/// Two bits for each of 128 code points, the lowest first; see [`super::Classes`].\n#[rustfmt::skip]\npub(super) static BLOCKS: [[u64; 4]; {len(blocks)}] = [\n")
    for block in blocks:
        out.write("    [" + ", ".join(f"0x{word:x}" for word in block) + "],\n")
    out.write("];\n")
