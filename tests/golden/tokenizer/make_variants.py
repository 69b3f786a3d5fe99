"""Small tokenizer.json files in the shapes of popular models, and their ids from Hugging Face `tokenizers`.

    pip install tokenizers==0.23.3
    python make_variants.py            # writes variants/*.json beside this file, from corpus.txt

Each file holds a tokenizer (`tokenizer`) and what the peer makes of TEXTS (`cases`): `ids` with special tokens recognised, `plain` with them
taken as characters, `text`, the decoded `ids`, and `around`, the ids with what the post-processor puts around them.
"""

import json
import pathlib

import tokenizers
from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers

HERE = pathlib.Path(__file__).parent
CORPUS = (HERE / "corpus.txt").read_bytes().decode() * 2 + " we're I'll they've it's 2024 12345 !!\n\n -> return x\n\tif y:\n" * 20
END = "<|endoftext|>"

TEXTS = [
    "", " ", "  ", "\n", "\r\n\r\n", "a", " a", "  a  ", "The crow's tale, and the fox.", "we're I'LL they'VE it'\u017f don't 'tis ''s",
    "1 12 123 1234 12345678 3.14 x2y \u00bd \u0663\u0664 \u2167", "été caf\u0065\u0301 \u212b \ufb01n \u00c5 \u1e9b\u0323 I\u0307 \u0130 \u03a3\u03a3",
    "風が吹く。 漢字 한국어 \u3000x", "\U0001f469\u200d\U0001f33e\U0001f341 \U0001f1eb\U0001f1f7!", "a\u0301\u0302 \u0301 \u0903 नमस्ते",
    "x\t\ty\n\n\nz \n  w\r\n v \t\n", "def f(x):\n    return x+1  # !!\n\n\n", "!!\n\n!? ...\n word", "a<|endoftext|>b", " <|endoftext|> \n<|endoftext|>",
    "<|endoftext|><|endoftext|>x", "Hello, World! HELLO", "x\u00a0y\u2028z\u200b\ufeff\u0000\u0085w", "\u4e00\u4e8c3", "a <pad> b<pad>c <mask>,  <mask>d", "\u2581x \u2581",
    "²<pad>½<pad>٣ <pad>é", "!\r\n\r\n\r\n\r\n!", "<mask>\t  <mask>  <pad>\r\n\r\n ",
]


def train(tokenizer, size=330, alphabet=pre_tokenizers.ByteLevel.alphabet(), specials=(END,), **more):
    trainer = trainers.BpeTrainer(
        vocab_size=size, initial_alphabet=sorted(alphabet), special_tokens=list(specials), show_progress=False, min_frequency=2, **more
    )
    tokenizer.train_from_iterator([CORPUS], trainer)
    return tokenizer


def byte_level(pre=None, normalizer=None, **more):
    tokenizer = Tokenizer(models.BPE(**more))
    tokenizer.pre_tokenizer = pre or pre_tokenizers.ByteLevel(add_prefix_space=False)
    if normalizer:
        tokenizer.normalizer = normalizer
    tokenizer.decoder = decoders.ByteLevel()
    return train(tokenizer)


def split(pattern, behavior="isolated"):
    return pre_tokenizers.Split(Regex(pattern), behavior)


BYTES = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
CL100K = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
QWEN2 = CL100K.replace("{1,3}", "")
NANOCHAT = r"'(?i:[sdmt]|ll|ve|re)|[^\r\n\p{L}\p{N}]?+\p{L}+|\p{N}{1,2}| ?[^\s\p{L}\p{N}]++[\r\n]*|\s*[\r\n]|\s+(?!\S)|\s+"
O200K = (
    r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+(?i:'s|'t|'re|'ve|'m|'ll|'d)?"
    r"|[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*(?i:'s|'t|'re|'ve|'m|'ll|'d)?"
    r"|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)


def sequence(*steps):
    return pre_tokenizers.Sequence(list(steps))


def metaspace():
    tokenizer = Tokenizer(models.BPE(unk_token="<unk>", fuse_unk=True, byte_fallback=True))
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace()
    return tokenizer


def llama(spm):
    """Trained on words; `spm` says whether spaces are the normalizer's (Llama-2) or Metaspace's work (Mistral 0.3)."""
    bytes_ = [f"<0x{byte:02X}>" for byte in range(256)]
    trained = train(metaspace(), 640, [], ["<unk>", "<s>", "</s>"] + bytes_)
    file = json.loads(trained.to_str())
    file["added_tokens"] = file["added_tokens"][:3]
    if spm:
        file["pre_tokenizer"] = None
        file["normalizer"] = json.loads('{"type":"Sequence","normalizers":[{"type":"Prepend","prepend":"\u2581"},{"type":"Replace","pattern":{"String":" "},"content":"\u2581"}]}')
    else:
        file["pre_tokenizer"] = {"type": "Metaspace", "replacement": "\u2581", "prepend_scheme": "first", "split": False}
    file["decoder"] = json.loads(
        '{"type":"Sequence","decoders":[{"type":"Replace","pattern":{"String":"\u2581"},"content":" "},{"type":"ByteFallback"},{"type":"Fuse"},{"type":"Strip","content":" ","start":1,"stop":0}]}'
    )
    tokenizer = Tokenizer.from_str(json.dumps(file))
    tokenizer.post_processor = processors.TemplateProcessing(single="<s> $A </s>:1", special_tokens=[("<s>", 1), ("</s>", 2)])
    return tokenizer


def gpt1():
    tokenizer = Tokenizer(models.BPE(unk_token="<unk>", end_of_word_suffix="</w>"))
    tokenizer.normalizer = normalizers.BertNormalizer(lowercase=True)
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    tokenizer.decoder = decoders.BPEDecoder(suffix="</w>")
    return train(tokenizer, 420, [], ["<unk>"], end_of_word_suffix="</w>")


def bert(cased):
    """WordPiece: `cased` keeps letters as they are and words short; the other is BERT's uncased form with its template."""
    tokenizer = Tokenizer(models.WordPiece(unk_token="[UNK]", max_input_chars_per_word=12 if cased else 100))
    tokenizer.normalizer = normalizers.BertNormalizer(lowercase=not cased, strip_accents=None)
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    tokenizer.decoder = decoders.WordPiece(cleanup=not cased)
    specials = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
    trainer = trainers.WordPieceTrainer(vocab_size=420, special_tokens=specials, show_progress=False, min_frequency=2)
    tokenizer.train_from_iterator([CORPUS], trainer)
    if not cased:
        around = [("[SEP]", 3), ("[CLS]", 2)]
        tokenizer.post_processor = processors.TemplateProcessing("[CLS] $A [SEP]", "[CLS] $A [SEP] $B:1 [SEP]:1", around)
    return tokenizer


def clip():
    tokenizer = Tokenizer(models.BPE(unk_token=END, end_of_word_suffix="</w>"))
    tokenizer.normalizer = normalizers.Sequence([normalizers.NFC(), normalizers.Replace(Regex(r"\s+"), " "), normalizers.Lowercase()])
    words = pre_tokenizers.Split(Regex(r"'s|'t|'re|'ve|'m|'ll|'d|[\p{L}]+|[\p{N}]|[^\s\p{L}\p{N}]+"), "removed", True)
    tokenizer.pre_tokenizer = sequence(words, pre_tokenizers.ByteLevel(add_prefix_space=False))
    tokenizer.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trained = train(tokenizer, 530, alphabet, end_of_word_suffix="</w>")
    file = json.loads(trained.to_str())
    for char in sorted(alphabet):
        file["model"]["vocab"].setdefault(char + "</w>", len(file["model"]["vocab"]))
    return Tokenizer.from_str(json.dumps(file))


def stripped():
    tokenizer = byte_level()
    tokenizer.add_special_tokens([AddedToken("<mask>", lstrip=True, rstrip=True), AddedToken("<pad>", single_word=True)])
    tokenizer.add_tokens([AddedToken("crow", normalized=True), AddedToken("\r\n\r\n", rstrip=True), AddedToken("  ", normalized=False)])
    return tokenizer


def lowercase():
    tokenizer = byte_level(normalizer=normalizers.Lowercase())
    tokenizer.add_tokens([AddedToken("Hello", normalized=True), AddedToken("HELLO", normalized=False)])
    return tokenizer


def ignoring_merges():
    file = json.loads(byte_level(sequence(split(CL100K), BYTES)).to_str())
    file["model"]["ignore_merges"] = True
    # Tokens that no merge makes: only a whole word can be one.
    for token in ["\u0120World", "def"]:
        file["model"]["vocab"][token] = len(file["model"]["vocab"])
    tokenizer = Tokenizer.from_str(json.dumps(file))
    template = processors.TemplateProcessing(single=f"{END} $A", special_tokens=[(END, 0)])
    tokenizer.post_processor = processors.Sequence([processors.ByteLevel(trim_offsets=False), template])
    return tokenizer


def roberta():
    tokenizer = byte_level(pre_tokenizers.ByteLevel(add_prefix_space=True), unk_token=END)
    tokenizer.post_processor = processors.RobertaProcessing(("!", tokenizer.token_to_id("!")), (END, 0))
    return tokenizer


def variants():
    normal = normalizers
    pre = pre_tokenizers
    return {
        "gpt2": byte_level(),
        "prefix_space": byte_level(pre.ByteLevel(add_prefix_space=True, trim_offsets=False)),
        "roberta": roberta(),
        "nfc": byte_level(normalizer=normal.NFC()),
        "nfkd": byte_level(normalizer=normal.Sequence([normal.NFKD(), normal.StripAccents(), normal.Strip()])),
        "lowercase": lowercase(),
        "replace": byte_level(normalizer=normal.Sequence([normal.Replace("fox", "cat"), normal.Replace(Regex(r"\s+"), " "), normal.Prepend("_")])),
        "empty_sequence": byte_level(normalizer=normal.Sequence([])),
        "gpt4": byte_level(sequence(split(CL100K), BYTES)),
        "nanochat": byte_level(sequence(split(NANOCHAT), BYTES)),
        "gpt4o": byte_level(sequence(split(O200K), BYTES)),
        "llama3": ignoring_merges(),
        "qwen2": byte_level(sequence(split(QWEN2), BYTES), normal.NFC()),
        "smollm2": byte_level(sequence(pre.Digits(individual_digits=True), pre.ByteLevel(add_prefix_space=False, use_regex=True))),
        "falcon": byte_level(sequence(pre.Punctuation("contiguous"), pre.ByteLevel(add_prefix_space=False), pre.Digits(False), split("[0-9][0-9][0-9]"))),
        "deepseek": byte_level(
            sequence(
                split("[\r\n]"), split(r"\s?\p{L}+"), split(r"\s?\p{P}+"), split("[一-龥ࠀ-一가-퟿]+"), pre.Digits(individual_digits=True), BYTES
            )
        ),
        "merged": byte_level(
            sequence(split(",", "merged_with_previous"), split(r"\n", "merged_with_next"), pre.Split(" ", "removed"), pre.Split(Regex(r"\w+"), "contiguous", True), BYTES)
        ),
        "words": byte_level(sequence(pre.WhitespaceSplit(), pre.Whitespace(), pre.CharDelimiterSplit("x"), BYTES)),
        "stripped": stripped(),
        "llama2": llama(True),
        "mistral": llama(False),
        "gpt1": gpt1(),
        "clip": clip(),
        "bert": bert(False),
        "bert_cased": bert(True),
    }


def case(tokenizer, text):
    encode = lambda plain: (setattr(tokenizer, "encode_special_tokens", plain), tokenizer.encode(text, add_special_tokens=False).ids)[1]
    plain, ids = encode(True), encode(False)
    decoded = tokenizer.decode(ids, skip_special_tokens=False)
    if getattr(tokenizer.model, "end_of_word_suffix", None) and isinstance(tokenizer.decoder, decoders.ByteLevel):
        # As `transformers` does for CLIP: the decoder does not know the ends of words.
        decoded = decoded.replace("</w>", " ").removesuffix(" ")
    return [text, ids, plain, decoded, tokenizer.encode(text).ids]


if __name__ == "__main__":
    for name, tokenizer in variants().items():
        cases = [case(tokenizer, text) for text in TEXTS]
        tokenizer.encode_special_tokens = False
        value = {"versions": {"tokenizers": tokenizers.__version__}, "tokenizer": json.loads(tokenizer.to_str()), "cases": cases}
        (HERE / "variants").mkdir(exist_ok=True)
        (HERE / "variants" / f"{name}.json").write_text(json.dumps(value, ensure_ascii=False, separators=(",", ":")) + "\n")
