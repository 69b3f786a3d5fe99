"""Time byte-level BPE of the peers on a text, with the merges of a given tokenizer.

    python bpe_peer.py TEXT TOKENIZER.JSON [--threads 1]

Prints a line of JSON: tiktoken's and Hugging Face tokenizers' MB/s in encoding the whole text on one thread (least time of five),
and Hugging Face's milliseconds to train a vocabulary of the same size with --threads threads (least of three).
"""

import argparse
import json
import os
import pathlib
import time

PATTERN = r"'(?:[sdmt]|ll|ve|re)| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+"


def least(rounds, call):
    times = []
    for _ in range(rounds):
        begun = time.perf_counter()
        result = call()
        times.append(time.perf_counter() - begun)
    return min(times), result


def byte_of_character():
    """GPT-2's printable stand-ins for bytes."""
    printable = [*range(33, 127), *range(161, 173), *range(174, 256)]
    others = [b for b in range(256) if b not in printable]
    return {chr(b): b for b in printable} | {chr(256 + i): b for i, b in enumerate(others)}


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("text", type=pathlib.Path)
    parser.add_argument("tokenizer", type=pathlib.Path)
    parser.add_argument("--threads", type=int, default=1)
    args = parser.parse_args()
    os.environ["RAYON_NUM_THREADS"] = str(args.threads)

    import tiktoken
    import tokenizers

    text = args.text.read_text(encoding="utf-8")
    size = len(text.encode()) / 1e6
    theirs = tokenizers.Tokenizer.from_file(str(args.tokenizer))
    byte = byte_of_character()
    ranks = {bytes(byte[c] for c in token): i for token, i in theirs.get_vocab().items()}
    tik = tiktoken.Encoding("ours", pat_str=PATTERN, mergeable_ranks=ranks, special_tokens={})
    tik_s, tik_ids = least(5, lambda: tik.encode_ordinary(text))
    hf_s, hf_ids = least(5, lambda: theirs.encode(text, add_special_tokens=False).ids)
    if tik_ids != hf_ids:
        raise SystemExit("tiktoken and tokenizers disagree")

    def train():
        new = tokenizers.Tokenizer(tokenizers.models.BPE())
        new.pre_tokenizer = tokenizers.pre_tokenizers.ByteLevel(add_prefix_space=False)
        alphabet = tokenizers.pre_tokenizers.ByteLevel.alphabet()
        trainer = tokenizers.trainers.BpeTrainer(vocab_size=len(ranks), initial_alphabet=alphabet, show_progress=False)
        new.train_from_iterator([text], trainer)
        return new

    train_s, _ = least(3, train)
    report = {
        "tokens": len(tik_ids),
        "tiktoken_mb_per_s": size / tik_s,
        "tokenizers_mb_per_s": size / hf_s,
        "tokenizers_train_ms": 1e3 * train_s,
    }
    print(json.dumps(report))


if __name__ == "__main__":
    main()
