"""Words of token rows as transformers' collator for whole-word masking groups them.

    pip install transformers==5.24.0 tokenizers==0.23.3
    python make_word_groups.py          # writes word_groups.json beside this file, from corpus.txt and variants/bert.json

The collator joins tokens between which a text has no space, so that it would also join a word with its punctuation, which BERT's rule ("##") does not.
Texts are therefore written with spaces around punctuation, and lines in scripts of which BERT takes every character for a word are left out. `words` holds the number of a token's word, -1 for
tokens that are never masked.
"""

import json
import pathlib
import re

import tokenizers
import transformers
from transformers import DataCollatorForLanguageModeling, PreTrainedTokenizerFast

HERE = pathlib.Path(__file__).parent
file = json.loads((HERE / "variants/bert.json").read_text())["tokenizer"]
tokenizer = PreTrainedTokenizerFast(
    tokenizer_object=tokenizers.Tokenizer.from_str(json.dumps(file)),
    pad_token="[PAD]", unk_token="[UNK]", cls_token="[CLS]", sep_token="[SEP]", mask_token="[MASK]",
)
collator = DataCollatorForLanguageModeling(tokenizer, whole_word_mask=True, mask_replace_prob=1, random_replace_prob=0)

text = re.sub(r"([^\w\s]|_)", r" \1 ", (HERE / "corpus.txt").read_bytes().decode())
lines = [" ".join(line.split()) for line in text.splitlines() if len(line.split()) > 4 and max(line) < "\u2100"]
rows = tokenizer(lines, padding=True, truncation=True, max_length=64, return_offsets_mapping=True, return_special_tokens_mask=True)
words, _ = collator._calc_word_ids_and_prob_mask(
    transformers.data.data_collator.to_numpy(rows["offset_mapping"]), transformers.data.data_collator.to_numpy(rows["special_tokens_mask"])
)
versions = {"tokenizers": tokenizers.__version__, "transformers": transformers.__version__}
cases = [{"ids": ids, "words": row.tolist()} for ids, row in zip(rows["input_ids"], words)]
(HERE / "word_groups.json").write_text(json.dumps({"versions": versions, "cases": cases}, separators=(",", ":")) + "\n")
