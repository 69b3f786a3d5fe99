"""Opens the folders under saved/ with Hugging Face `transformers` and checks that they encode and decode as ours do.

    pip install transformers==5.23.0 tokenizers==0.23.3
    python open_saved.py
"""

import json
import pathlib
import shutil
import tempfile

import tokenizers
import transformers
from transformers import AutoTokenizer, PreTrainedTokenizerFast

HERE = pathlib.Path(__file__).parent
TEXT = (HERE / "corpus.txt").read_bytes().decode()
END = "<|endoftext|>"
print("transformers", transformers.__version__, "tokenizers", tokenizers.__version__)


def check(name, tokenizer):
    ids = tokenizer(TEXT + END + TEXT)["input_ids"]
    end = tokenizer.convert_tokens_to_ids(END)
    assert tokenizer.eos_token == END and tokenizer.eos_token_id == end and len(tokenizer) == end + 1
    assert tokenizer.model_max_length == 1024
    assert ids.count(end) == 1
    assert tokenizer.decode(ids) == TEXT + END + TEXT
    assert tokenizer.decode(ids, skip_special_tokens=True) == TEXT + TEXT
    part = ids[: ids.index(end)]
    if name == "byte":
        assert part == list(TEXT.encode())
    if name == "character":
        chars = sorted(set(TEXT))
        assert part == [chars.index(c) for c in TEXT]
        try:
            tokenizer("\u0416\u1234")
        except Exception as error:
            print("  unknown character:", error)
        else:
            raise AssertionError("an unknown character was accepted")
    print(" ", name, type(tokenizer).__name__, len(tokenizer), "ids,", len(part), "tokens")


for name in ("byte", "character", "bpe"):
    folder = HERE / "saved" / name
    check(name, PreTrainedTokenizerFast.from_pretrained(folder))
    check(name, AutoTokenizer.from_pretrained(folder))
    # As part of a model folder.
    with tempfile.TemporaryDirectory() as model:
        shutil.copytree(folder, model, dirs_exist_ok=True)
        config = {"model_type": "gpt2", "architectures": ["GPT2LMHeadModel"]}
        (pathlib.Path(model) / "config.json").write_text(json.dumps(config))
        check(name, AutoTokenizer.from_pretrained(model))
