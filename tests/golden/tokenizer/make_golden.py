"""Golden ids and merges from Hugging Face `tokenizers`.

    pip install tokenizers==0.23.3
    python make_golden.py                          # writes its four files beside this one, from corpus.txt
    python make_golden.py --to DIR --vocab VOCAB.JSON --merges MERGES.TXT [--seed N] [--strings N]
    python make_golden.py --to DIR --corpus FILE --vocab-size N [--seed N] [--strings N]

The last two write the same for another vocabulary (GPT-2's, or one trained on FILE) into a folder that the ignored test
`agrees_with_peer_in_folder` reads:

    SAMARA_TOKENIZER_PEER=DIR cargo test -p samara-tests --test tokenizer -- --ignored

`fuzz.json` holds a hash for every 100 of 10 000 strings; the strings come from the generator below, which the test repeats.
"""

import argparse
import json
import pathlib

import tokenizers
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

HERE = pathlib.Path(__file__).parent
MASK = (1 << 64) - 1
CORPUS = (HERE / "corpus.txt").read_bytes().decode()

FRAGMENTS = [
    "'s", "'t", "'re", "'ve", "'m", "'ll", "'d", "'S", "'LL", "''", " '", "\r\n", "\n\n", "  ", "   ", " \n", "\t ", " the", " and", "123", " 2024",
    "3.14", "\u200d", "\ufe0f", "\u0301", "e\u0301", "\U0001f469\u200d\U0001f33e", "\U0001f1eb\U0001f1f7", "\u00a0", "\u3000", "\u2028", "\u180e",
    "\u200b", "\u0085", "\u001c", "\ufeff", "\ufffd", "\u00bd", "\u0663", "\u2167", "\u3007", "\u4e00", "\u0378", "\U0001e900", "\U000e0001",
    "\U000323af", "\U000323b0", "\U0010ffff", "\u0000", "!!", "->", "<|endoftext|>", "\u0130", "\u01c5", "\u02b0", "\u0903",
]


class Random:
    """splitmix64"""

    def __init__(self, seed):
        self.state = seed & MASK

    def below(self, n):
        self.state = (self.state + 0x9E3779B97F4A7C15) & MASK
        z = self.state
        z = (z ^ z >> 30) * 0xBF58476D1CE4E5B9 & MASK
        z = (z ^ z >> 27) * 0x94D049BB133111EB & MASK
        return (z ^ z >> 31) % n


def piece(random):
    kind = random.below(8)
    if kind < 4:
        top = (0x80, 0x250, 0x10000, 0x110000)[kind]
        code = random.below(top)
        return chr(code if not 0xD800 <= code < 0xE000 else code - 0xD800)
    if kind < 6:
        return FRAGMENTS[random.below(len(FRAGMENTS))]
    start, length = random.below(len(CORPUS)), random.below(16)
    return CORPUS[start : start + length]


def fuzz_string(seed, index):
    random = Random(seed + index * 0x1000003)
    text = []
    for _ in range(random.below(24)):
        part = piece(random)
        text.append(part * (1 + random.below(5) if random.below(8) == 0 else 1))
    return "".join(text)


def hash_ids(ids, value=0xCBF29CE484222325):
    """FNV-1a over the number of ids and the ids, each as four bytes, little endian."""
    for number in [len(ids), *ids]:
        for byte in number.to_bytes(4, "little"):
            value = (value ^ byte) * 0x100000001B3 & MASK
    return value


def byte_level(model):
    tokenizer = Tokenizer(model)
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    return tokenizer


def train(text, vocab_size):
    tokenizer = byte_level(models.BPE())
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(vocab_size=vocab_size, initial_alphabet=alphabet, show_progress=False, min_frequency=2)
    tokenizer.train_from_iterator([text], trainer)
    return tokenizer


def cases(tokenizer):
    texts = ["", " ", "  ", "\n", "\r\n", "a", " a", "  a", "\u0301", " \u0301", "e\u0301\u0301", "don't I'LL we've 'tis", "x\r\n\r\ny \r\n z", "1234567 12,5 ½ ٣"]
    texts += ["\U0001f469\u200d\U0001f33e\U0001f341", "\u0378\U000323b0", "a\u00a0b\u3000\u3000c", "<|endoftext|>", "The crow's <|endoftext|> tale", "\ufffd\ufffd", "été, été!"]
    texts += FRAGMENTS + CORPUS.split("\n")[:3]
    long = [("a", 100_000), (" ", 100_000), ("\n", 100_000), ("é", 50_000), ("\U0001f341", 25_000), ("1", 100_000), ("!", 100_000), ("\u0301", 50_000)]
    long += [("ab", 50_000), ("seed", 25_000), ("the", 33_333), ("風", 33_333)]
    ids = lambda text: tokenizer.encode(text).ids
    return {
        "versions": {"tokenizers": tokenizers.__version__},
        "texts": [{"text": text, "ids": ids(text)} for text in texts],
        "long": [{"text": text, "times": n, "count": len(ids(text * n)), "hash": f"{hash_ids(ids(text * n)):016x}"} for text, n in long],
    }


def fuzz(tokenizer, seed, strings):
    hashes = []
    for start in range(0, strings, 100):
        value = 0xCBF29CE484222325
        for index in range(start, min(start + 100, strings)):
            text = fuzz_string(seed, index)
            encoding = tokenizer.encode(text)
            assert tokenizer.decode(encoding.ids) == text
            value = hash_ids(encoding.ids, value)
        hashes.append(f"{value:016x}")
    return {"versions": {"tokenizers": tokenizers.__version__}, "seed": seed, "strings": strings, "hashes": hashes}


def code_points(tokenizer):
    """A hash for every 65536 code points, each beside a letter, a number, another character and a space."""
    hashes = []
    for plane in range(17):
        chars = (chr(code) for code in range(plane << 16, plane + 1 << 16) if not 0xD800 <= code < 0xE000)
        hashes.append(f"{hash_ids(tokenizer.encode(''.join(f'a{c}1{c}!{c} {c}' for c in chars)).ids):016x}")
    return {"versions": {"tokenizers": tokenizers.__version__}, "hashes": hashes}


def write(path, value):
    path.write_text(json.dumps(value, indent=0) + "\n")


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--to", type=pathlib.Path, default=HERE)
    parser.add_argument("--vocab", default=None)
    parser.add_argument("--merges", default=None)
    parser.add_argument("--corpus", type=pathlib.Path, default=HERE / "corpus.txt")
    parser.add_argument("--vocab-size", type=int, default=600)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--strings", type=int, default=10_000)
    args = parser.parse_args()
    if args.vocab:
        tokenizer = byte_level(models.BPE.from_file(args.vocab, args.merges))
    else:
        tokenizer = train(args.corpus.read_bytes().decode(), args.vocab_size)
    args.to.mkdir(parents=True, exist_ok=True)
    if not args.vocab and args.to != HERE:
        (args.to / "trained_on.txt").write_bytes(args.corpus.read_bytes())
    name = "bpe.json" if args.to == HERE else "tokenizer.json"
    tokenizer.save(str(args.to / name), pretty=False)
    write(args.to / "cases.json", cases(tokenizer))
    write(args.to / "code_points.json", code_points(tokenizer))
    write(args.to / "fuzz.json", fuzz(tokenizer, args.seed, args.strings))
