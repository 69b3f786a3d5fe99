"""Ten small model folders, each with the files that one kind of published model has, and what `transformers` makes of them.

    pip install torch==2.15.0 transformers==5.24.0 tokenizers==0.23.3
    python make_folders.py            # writes a folder for each of SHAPES beside this file

Weights are random (fixed seeds); tokenizers are those of ../tokenizer/variants. `expected.json` in each folder holds the versions, and as AutoTokenizer
and AutoModelForCausalLM give them: `cases` (text, its ids, its ids with what is put around them, the decoded ids), `prompt` (ids), `logits` of the token
after it (16 of them, evenly spread) and `greedy`, what generate(do_sample=False) appends, which ends at a stop token of the folder if it meets one.
"""

import json
import pathlib
import shutil

import tokenizers
import torch
import transformers
from safetensors.torch import load_file, save_file
from transformers import AutoModelForCausalLM, AutoTokenizer

HERE = pathlib.Path(__file__).parent
VARIANTS = HERE.parent / "tokenizer" / "variants"
END = "<|endoftext|>"
TEXTS = ["The crow's tale, and the fox.", " we'll  see 1234\n\n\tx", "é 風が吹く \U0001f341", f"a{END}b", "<|user|>hi<|assistant|>", "<s>a</s> b", "HELLO world!!"]
CHAT = "{% for m in messages %}<|{{ m.role }}|>{{ m.content }}{% endfor %}"
NEW_TOKENS, SEED = 12, 3


def write(folder, name, value):
    (folder / name).write_text(value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, indent=1) + "\n")


def variant(name):
    return json.loads((VARIANTS / f"{name}.json").read_text())["tokenizer"]


def size_of(tokenizer):
    return max([*tokenizer["model"]["vocab"].values(), *(token["id"] for token in tokenizer["added_tokens"])]) + 1


def tokenizer_json(folder, tokenizer):
    (folder / "tokenizer.json").write_text(json.dumps(tokenizer, ensure_ascii=False, separators=(",", ":")) + "\n")


def pair(folder, tokenizer):
    model = tokenizer["model"]
    (folder / "vocab.json").write_text(json.dumps(model["vocab"], ensure_ascii=False, separators=(",", ":")) + "\n")
    (folder / "merges.txt").write_text("#version: 0.2\n" + "".join(" ".join(merge) + "\n" for merge in model["merges"]))


def fast(folder, **more):
    write(folder, "tokenizer_config.json", {"tokenizer_class": "PreTrainedTokenizerFast", "clean_up_tokenization_spaces": False, **more})


def gpt2(size, **more):
    sizes = {"vocab_size": size, "n_positions": 32, "n_embd": 16, "n_layer": 2, "n_head": 2}
    return transformers.GPT2Config(**sizes, **more)


def llama(kind, size, **more):
    sizes = {"vocab_size": size, "hidden_size": 16, "intermediate_size": 24, "num_hidden_layers": 2, "num_attention_heads": 4, "max_position_embeddings": 32}
    return kind(**sizes, **more)


def gpt2_tokenizer_json(folder):
    tokenizer = variant("gpt2")
    tokenizer_json(folder, tokenizer)
    fast(folder, bos_token=END, eos_token=END, unk_token=END, model_max_length=32)
    return gpt2(size_of(tokenizer), bos_token_id=0, eos_token_id=0, task_specific_params={"text-generation": {"do_sample": True}})


def gpt2_vocab_merges(folder):
    tokenizer = variant("gpt2")
    pair(folder, tokenizer)
    return gpt2(size_of(tokenizer), bos_token_id=0, eos_token_id=0, n_inner=40, activation_function="gelu_pytorch_tanh")


def gpt2_added_tokens(folder):
    tokenizer = variant("gpt2")
    pair(folder, tokenizer)
    size = size_of(tokenizer)
    write(folder, "added_tokens.json", {"<|user|>": size, "<|assistant|>": size + 1})
    names = {"bos_token": END, "eos_token": END, "unk_token": END, "pad_token": "<|user|>"}
    write(folder, "special_tokens_map.json", {**names, "additional_special_tokens": ["<|user|>", "<|assistant|>"]})
    config = {"tokenizer_class": "GPT2Tokenizer", "add_prefix_space": False, "chat_template": CHAT, "padding_side": "left"}
    write(folder, "tokenizer_config.json", {**config, **names, "additional_special_tokens": ["<|user|>", "<|assistant|>"]})
    return gpt2(size + 2, bos_token_id=0, eos_token_id=0, activation_function="relu")


def gpt1_vocab_merges(folder):
    tokenizer = variant("gpt1")
    pair(folder, tokenizer)
    sizes = {"vocab_size": size_of(tokenizer), "n_positions": 32, "n_embd": 16, "n_layer": 2, "n_head": 2}
    return transformers.OpenAIGPTConfig(**sizes)


def llama3_eos_list(folder):
    tokenizer = variant("llama3")
    tokenizer_json(folder, tokenizer)
    fast(folder, bos_token=END, eos_token=END, model_input_names=["input_ids", "attention_mask"])
    write(folder, "special_tokens_map.json", {"bos_token": END, "eos_token": {"content": END, "lstrip": False, "normalized": False, "rstrip": False, "single_word": False}})
    write(folder, "chat_template.jinja", CHAT)
    return llama(transformers.LlamaConfig, size_of(tokenizer), num_key_value_heads=2, bos_token_id=0, eos_token_id=[0, 5], rope_theta=500000.0, rms_norm_eps=1e-5)


def llama2_tied_f16(folder):
    tokenizer = variant("llama2")
    tokenizer_json(folder, tokenizer)
    fast(folder, bos_token="<s>", eos_token="</s>", unk_token="<unk>", add_bos_token=True, legacy=False)
    return llama(transformers.LlamaConfig, size_of(tokenizer), tie_word_embeddings=True, bos_token_id=1, eos_token_id=2, pad_token_id=0, dtype="float16")


def mistral_sharded_bf16(folder):
    tokenizer = variant("mistral")
    tokenizer_json(folder, tokenizer)
    fast(folder, bos_token="<s>", eos_token="</s>", unk_token="<unk>", chat_template=CHAT)
    return llama(transformers.MistralConfig, size_of(tokenizer), num_key_value_heads=2, sliding_window=8, bos_token_id=1, eos_token_id=2, dtype="bfloat16")


def qwen2_all_files(folder):
    tokenizer = variant("qwen2")
    size, added = size_of(tokenizer), ["<|user|>", "<|assistant|>"]
    token = {"lstrip": False, "normalized": False, "rstrip": False, "single_word": False, "special": True}
    tokenizer["added_tokens"] += [{"id": size + i, "content": text, **token} for i, text in enumerate(added)]
    tokenizer_json(folder, tokenizer)
    pair(folder, tokenizer)
    write(folder, "added_tokens.json", {END: 0, "<|user|>": size, "<|assistant|>": size + 1})
    decoder = {str(i["id"]): {k: v for k, v in i.items() if k != "id"} for i in tokenizer["added_tokens"]}
    names = {"additional_special_tokens": added, "bos_token": None, "eos_token": "<|assistant|>", "pad_token": END, "unk_token": None}
    config = {"add_prefix_space": False, "added_tokens_decoder": decoder, "chat_template": CHAT, "errors": "replace", "split_special_tokens": False}
    write(folder, "tokenizer_config.json", {**config, **names, "tokenizer_class": "Qwen2Tokenizer", "model_max_length": 32})
    # The model has more ids than its tokenizer, as published ones have.
    return llama(transformers.Qwen2Config, size + 6, num_key_value_heads=2, tie_word_embeddings=True, bos_token_id=0, eos_token_id=size + 1, max_window_layers=2)


def gpt2_bare_no_tokenizer(folder):
    return gpt2(61, bos_token_id=59, eos_token_id=59, scale_attn_weights=True)


def llama_json_only(folder):
    tokenizer = variant("smollm2")
    tokenizer_json(folder, tokenizer)
    return llama(transformers.LlamaConfig, size_of(tokenizer), num_key_value_heads=1, head_dim=8, attention_bias=True, mlp_bias=True, bos_token_id=None, eos_token_id=None)


# What generate() is told beside the model's own tokens: a list of stop tokens, whose last one is the fifth token of the continuation.
LISTS = {"gpt2-added-tokens", "llama3-eos-list", "qwen2-all-files", "llama-json-only"}
# No generation_config.json.
WITHOUT = {"gpt2-vocab-merges", "gpt1-vocab-merges", "gpt2-bare-no-tokenizer"}
SHAPES = {
    "gpt2-tokenizer-json": gpt2_tokenizer_json,
    "gpt2-vocab-merges": gpt2_vocab_merges,
    "gpt2-added-tokens": gpt2_added_tokens,
    "gpt1-vocab-merges": gpt1_vocab_merges,
    "llama3-eos-list": llama3_eos_list,
    "llama2-tied-f16": llama2_tied_f16,
    "mistral-sharded-bf16": mistral_sharded_bf16,
    "qwen2-all-files": qwen2_all_files,
    "gpt2-bare-no-tokenizer": gpt2_bare_no_tokenizer,
    "llama-json-only": llama_json_only,
}


def randomise(model, seed):
    """Random values for every parameter, so that no mistake hides in a 0 or 1; matrices large enough for logits that differ."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            noise = torch.randn(parameter.shape, generator=generator)
            is_norm = ("norm" in name or "ln_" in name) and name.endswith("weight")
            parameter.copy_(1.0 + 0.25 * noise if is_norm else 0.2 * noise if parameter.dim() == 1 else 0.4 * noise)


def save_model(folder, name, config, seed):
    dtype = config.dtype or torch.float32
    model = AutoModelForCausalLM.from_config(config, dtype=torch.float32).eval()
    randomise(model, seed)
    model = model.to(dtype)
    model.save_pretrained(folder, max_shard_size="16KB" if "sharded" in name else "1GB")
    if "bare" in name:
        path = folder / "model.safetensors"
        save_file({key.removeprefix("transformer."): value for key, value in load_file(path).items()}, path, {"format": "pt"})


def cases(folder):
    if not any((folder / name).exists() for name in ("tokenizer.json", "vocab.json")):
        return []
    tokenizer = AutoTokenizer.from_pretrained(folder)
    found = []
    for text in TEXTS:
        plain = tokenizer(text, add_special_tokens=False)["input_ids"]
        found.append([text, plain, tokenizer(text)["input_ids"], tokenizer.decode(plain, clean_up_tokenization_spaces=False)])
    return found


def answers(folder):
    """The prompt, logits after it, and what follows; a folder in LISTS gets its list of stop tokens first."""
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()
    generator = torch.Generator().manual_seed(SEED)
    prompt = torch.randint(6, 60, (1, 9), generator=generator)
    generate = lambda model: model.generate(prompt, attention_mask=torch.ones_like(prompt), max_new_tokens=NEW_TOKENS, do_sample=False)[0, prompt.shape[1] :].tolist()
    if folder.name in LISTS:
        settings = json.loads((folder / "generation_config.json").read_text())
        ends = model.config.eos_token_id
        ends = [] if ends is None else ends if isinstance(ends, list) else [ends]
        write(folder, "generation_config.json", {**settings, "eos_token_id": [*ends, generate(model)[4]], "temperature": 0.7, "top_p": 0.9, "do_sample": True})
        model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()
    logits = model(prompt).logits[0, -1]
    step = len(logits) // 16
    return {"prompt": prompt[0].tolist(), "logits": logits[: 16 * step : step].tolist(), "greedy": generate(model)}


def make(name, shape, seed):
    folder = HERE / name
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    save_model(folder, name, shape(folder), seed)
    if name in WITHOUT:
        (folder / "generation_config.json").unlink()
    versions = {"torch": torch.__version__, "transformers": transformers.__version__, "tokenizers": tokenizers.__version__}
    expected = {"versions": versions, "cases": cases(folder), **answers(folder)}
    (folder / "expected.json").write_text(json.dumps(expected, ensure_ascii=False, separators=(",", ":")) + "\n")
    print(name, expected["greedy"], sum(file.stat().st_size for file in folder.iterdir()), "bytes")


if __name__ == "__main__":
    torch.manual_seed(SEED)
    for seed, (name, shape) in enumerate(SHAPES.items()):
        make(name, shape, seed)
