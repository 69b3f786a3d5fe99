"""Write tiny random Hugging Face models with recorded inputs, outputs and gradients for `samara parity`.

Run from any place: python make_parity.py [OUT_DIR]  (default: the folder of this script).
Every folder is a real model folder (`save_pretrained`), beside it:
  io.safetensors     in.NAME and out.NAME as `samara parity --io` takes them
  grads.safetensors  the gradient of the loss for every parameter, by its name on disk
  meta.json          the loss, what the case is, the versions that made it
All values are computed in float32 on one thread. Parameters are random, biases and gains too, so that a forgotten one shows.
"""

import json
import pathlib
import shutil
import sys

import safetensors.torch
import torch
import transformers

VOCAB, POSITIONS = 61, 24
BATCH, TOKENS = 3, 11
LENGTHS = [11, 7, 4]  # live tokens of each row; the rest is padding on the right
IGNORE = -100


def randomize(model, seed):
    gen = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, p in model.named_parameters():
            noise = torch.randn(p.shape, generator=gen)
            if "norm" in name or (".ln_" in name and name.endswith("weight")):
                p.copy_(1.0 + 0.25 * noise)
            elif name.endswith("bias"):
                p.copy_(0.2 * noise)
            elif "embed" in name or "wte" in name or "wpe" in name:
                p.copy_(0.35 * noise)
            else:
                p.copy_(1.1 / min(p.shape) ** 0.5 * noise)


def batch(seed):
    gen = torch.Generator().manual_seed(seed)
    ids = torch.randint(1, VOCAB, (BATCH, TOKENS), generator=gen)
    mask = torch.zeros_like(ids)
    for row, length in enumerate(LENGTHS):
        mask[row, :length] = 1
    ids = ids * mask
    labels = ids.masked_fill(mask == 0, IGNORE)
    labels[0, :4] = IGNORE  # a prompt without loss
    labels[1, 3] = IGNORE  # a hole
    return ids, mask, labels


def record(folder, model, about, seed):
    ids, mask, labels = batch(seed + 1)
    model.zero_grad()
    out = model(input_ids=ids, attention_mask=mask, labels=labels, output_hidden_states=True)
    out.loss.backward()
    io = {"in.input_ids": ids, "in.attention_mask": mask, "in.labels": labels, "out.logits": out.logits.detach()}
    for number, hidden in enumerate(out.hidden_states):
        io[f"out.hidden_states.{number}"] = hidden.detach()
    safetensors.torch.save_file({name: t.contiguous().clone() for name, t in io.items()}, folder / "io.safetensors")
    grads = {name: p.grad.detach().contiguous().clone() for name, p in model.named_parameters()}
    safetensors.torch.save_file(grads, folder / "grads.safetensors")
    meta = {
        "loss": out.loss.item(),
        "about": about,
        "seed": seed,
        "versions": {"torch": torch.__version__, "transformers": transformers.__version__},
    }
    (folder / "meta.json").write_text(json.dumps(meta, indent=1) + "\n")


def write(out, name, cls, config, about, seed):
    config._attn_implementation = "eager"
    torch.manual_seed(seed)
    model = cls(config).eval()
    randomize(model, seed)
    folder = out / name
    shutil.rmtree(folder, ignore_errors=True)
    model.save_pretrained(folder)
    record(folder, model, about, seed)


def llama(cls=transformers.LlamaConfig, **changes):
    keys = dict(
        vocab_size=VOCAB, hidden_size=16, intermediate_size=24, num_hidden_layers=2, num_attention_heads=4,
        num_key_value_heads=4, max_position_embeddings=POSITIONS, rms_norm_eps=1e-5, bos_token_id=1, eos_token_id=[60, 2],
    )  # fmt: skip
    return cls(**{**keys, **changes})


def main():
    out = pathlib.Path(sys.argv[1]) if len(sys.argv) > 1 else pathlib.Path(__file__).resolve().parent
    torch.set_num_threads(1)
    model = transformers.LlamaForCausalLM
    about = "Llama: as many key and value heads as heads, all biases, a head of its own"
    write(out, "parity-llama-mha", model, llama(attention_bias=True, mlp_bias=True), about, 101)
    config = llama(num_key_value_heads=2, head_dim=6, tie_word_embeddings=True, rope_theta=500.0, rms_norm_eps=1e-6)
    about = "Llama: two heads share keys and values, heads wider than hidden_size / heads, a tied head"
    write(out, "parity-llama-gqa-tied", model, config, about, 111)
    config = llama(transformers.Qwen2Config, num_key_value_heads=1)
    about = "Qwen2: biases of queries, keys and values, one key and value head"
    write(out, "parity-qwen2", transformers.Qwen2ForCausalLM, config, about, 121)
    config = llama(transformers.MistralConfig, num_key_value_heads=2, sliding_window=5)
    about = "Mistral: a query sees 5 keys, its own among them"
    write(out, "parity-mistral", transformers.MistralForCausalLM, config, about, 141)
    config = transformers.GPT2Config(
        vocab_size=VOCAB, n_positions=POSITIONS, n_layer=2, n_head=4, n_embd=16, bos_token_id=60, eos_token_id=60,
        resid_pdrop=0.0, embd_pdrop=0.0, attn_pdrop=0.0,
    )  # fmt: skip
    write(out, "parity-gpt2", transformers.GPT2LMHeadModel, config, "GPT-2", 131)


if __name__ == "__main__":
    main()
