"""Write what transformers makes of repetition penalties, stop tokens, stop strings and generation_config.json.

Run from any place: python make_sampling.py  (writes sampling.json and tokenizer.json beside this script; the model is ../models/gpt2-2layer).
"""

import json
import pathlib
import string
import sys

import tokenizers
import torch
import transformers
from tokenizers import Tokenizer, decoders, models
from transformers import AutoModelForCausalLM, GenerationConfig, PreTrainedTokenizerFast, RepetitionPenaltyLogitsProcessor
from transformers.generation import StopStringCriteria

HERE = pathlib.Path(__file__).resolve().parent
LETTERS = (string.ascii_letters + string.digits)[:61]
# The best logit, after all processors, leads by so much at least.
MARGIN = 0.005


def tokenizer_of(pieces):
    model = models.BPE(vocab={piece: i for i, piece in enumerate(pieces)}, merges=[])
    own = Tokenizer(model)
    own.decoder = decoders.Fuse()
    return own


def penalties():
    """Random logits, some of them 0 and -0, and the tokens that are there already."""
    gen = torch.Generator().manual_seed(3)
    cases = []
    for penalty in [1.3, 0.7, 2.0]:
        logits = torch.randn(12, generator=gen) * 3
        logits[4], logits[5] = 0.0, -0.0
        tokens = torch.tensor([[3, 4, 5, 3, 9, 11, 0, 9]])
        found = RepetitionPenaltyLogitsProcessor(penalty)(tokens, logits[None].clone())[0]
        cases.append({"penalty": penalty, "tokens": tokens[0].tolist(), "logits": logits.tolist(), "expected": found.tolist()})
    return cases


def texts(model, tokenizer):
    """Continuations under a generation_config.json, with the log-probabilities of the model's own logits."""
    cases = []
    for prompt, settings in [
        ("Hello", {"do_sample": False, "max_new_tokens": 15}),
        ("Hello", {"do_sample": False, "max_new_tokens": 15, "repetition_penalty": 4.0}),
        ("abcabc", {"do_sample": False, "max_new_tokens": 12, "repetition_penalty": 1.8, "temperature": 0.5, "top_k": 3}),
        ("zz", {"do_sample": False, "max_new_tokens": 20, "repetition_penalty": 9.0}),
    ]:
        cases.append(text(model, tokenizer, prompt, settings))
    plain = cases[1]
    ids, letters = plain["ids"], tokenizer.decode(plain["ids"])
    # Ends at the second of two stop tokens, and at a string that goes over a border of tokens.
    eos = dict(plain["generation_config"], eos_token_id=[57, ids[6]])
    cases.append(text(model, tokenizer, plain["prompt"], eos))
    for strings in [[letters[5:8], "???"], letters[3:5]]:
        cases.append(text(model, tokenizer, plain["prompt"], dict(plain["generation_config"], stop_strings=strings)))
    return cases


def text(model, tokenizer, prompt, settings):
    inputs = torch.tensor([tokenizer.encode(prompt)])
    config = GenerationConfig(**settings, pad_token_id=0, output_logits=True, output_scores=True, return_dict_in_generate=True)
    # Without a mask the letter whose id is that of padding would be left out.
    out = model.generate(inputs, attention_mask=torch.ones_like(inputs), generation_config=config, tokenizer=tokenizer)
    ids = out.sequences[0, inputs.shape[1] :].tolist()
    for scores in out.scores:
        best = scores[0].topk(2).values
        assert best[0] - best[1] > MARGIN, (prompt, settings, best)
    logprobs = [torch.log_softmax(logits[0].double(), 0) for logits in out.logits]
    return {
        "prompt": prompt,
        "generation_config": settings,
        "ids": ids,
        "finish": "length" if len(ids) == settings["max_new_tokens"] else "stop_string" if "stop_strings" in settings else "stop",
        "logprobs": [float(row[i]) for row, i in zip(logprobs, ids)],
        "top": [row.topk(3).indices.tolist() for row in logprobs],
        "top_logprobs": [row.topk(3).values.tolist() for row in logprobs],
    }


def stop_strings():
    """Pieces of several letters, strings, and the number of tokens after which a text ends; null: never."""
    cases = []
    for pieces, strings in [
        (["a", "bc", "de", "f"], ["cd"]),
        (["a", "bc", "de", "f"], ["bcde"]),
        (["a", "bc", "de", "f"], ["x", "ef"]),
        (["ab", "ab", "ab", "ac"], ["abac"]),
        (["ab", "a", "bx", "b"], ["abb", "bxb"]),
        (["hello", "END", "of"], ["ND"]),
        (["hello", "EN", "of"], ["END"]),
    ]:
        vocabulary = list(dict.fromkeys([*string.ascii_letters, *pieces]))
        tokenizer = PreTrainedTokenizerFast(tokenizer_object=tokenizer_of(vocabulary))
        criteria = StopStringCriteria(tokenizer, strings)
        ids = [vocabulary.index(piece) for piece in pieces]
        ends = [n for n in range(1, len(ids) + 1) if criteria(torch.tensor([ids[:n]]), None)[0]]
        cases.append({"pieces": pieces, "strings": strings, "tokens": ends[0] if ends else None})
    return cases


def main():
    torch.set_num_threads(1)
    own = tokenizer_of(LETTERS)
    own.save(str(HERE / "tokenizer.json"))
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=own)
    model = AutoModelForCausalLM.from_pretrained(HERE / "../models/gpt2-2layer", dtype=torch.float32).eval()
    model.generation_config = GenerationConfig()
    versions = {
        "python": sys.version.split()[0],
        "torch": torch.__version__,
        "transformers": transformers.__version__,
        "tokenizers": tokenizers.__version__,
    }
    found = {"versions": versions, "penalties": penalties(), "texts": texts(model, tokenizer), "stop_strings": stop_strings()}
    (HERE / "sampling.json").write_text(json.dumps(found, indent=1) + "\n")


main()
