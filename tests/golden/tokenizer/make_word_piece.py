"""Vocabularies of WordPiece that Hugging Face `tokenizers` trains, as BertWordPieceTokenizer does.

    pip install tokenizers==0.23.3
    python make_word_piece.py          # writes word_piece.json beside this file, from corpus.txt and the licence of the repository

The peer numbers the characters within words in the order of a hash table, and ties between pairs depend on those numbers, so that two runs differ. Here all
characters are named before the training, in the order of code points: then nothing is left to chance.
"""

import json
import pathlib

import tokenizers
from tokenizers import BertWordPieceTokenizer

HERE = pathlib.Path(__file__).parent
SPECIALS = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]


def trained(path, size):
    text = path.read_bytes().decode()
    peer = BertWordPieceTokenizer()
    words = [word for word, _ in peer._tokenizer.pre_tokenizer.pre_tokenize_str(peer._tokenizer.normalizer.normalize_str(text))]
    first = sorted({c for word in words for c in word})
    within = sorted({"##" + c for word in words for c in word[1:]})
    peer.train_from_iterator([text], vocab_size=size, min_frequency=2, special_tokens=SPECIALS + first + within, show_progress=False)
    vocab = peer.get_vocab(with_added_tokens=True)
    return {"text": path.name, "vocab_size": size, "tokens": sorted(vocab, key=vocab.get)}


files = [(HERE / "corpus.txt", 420), (HERE / "corpus.txt", 5000), (HERE.parents[2] / "LICENSE-APACHE", 700)]
file = {"versions": {"tokenizers": tokenizers.__version__}, "cases": [trained(*file) for file in files]}
(HERE / "word_piece.json").write_text(json.dumps(file, separators=(",", ":")) + "\n")
