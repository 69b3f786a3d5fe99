"""Write tiny random Hugging Face language models with their logits, losses and gradients.

Run from any place: python make_models.py [OUT_DIR]  (default: the folder of this script).
Every model is a real model folder (`save_pretrained`), beside it:
  expected.safetensors      inputs, logits, losses, gradients of the mean loss, all computed in float32
  expected_f64.safetensors  the same in float64 (only where the model itself computes in float64)
  case.json                 what the case is, the versions that made it, the accuracy of the float32 values
"""

import copy
import json
import pathlib
import shutil
import sys

import numpy
import safetensors
import safetensors.torch
import torch
import transformers

VOCAB = 61
POSITIONS = 24
BATCH, TOKENS = 2, 17
IGNORE = -100


def versions():
    return {
        "python": sys.version.split()[0],
        "torch": torch.__version__,
        "transformers": transformers.__version__,
        "safetensors": safetensors.__version__,
        "numpy": numpy.__version__,
    }


def randomize(model, seed):
    """Random values for every parameter, biases and layer-norm gains included, so that no mistake hides in a 0 or 1."""
    gen = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, p in model.named_parameters():
            noise = torch.randn(p.shape, generator=gen)
            if ".ln_" in name and name.endswith("weight"):
                p.copy_(1.0 + 0.25 * noise)
            elif name.endswith("bias"):
                p.copy_(0.2 * noise)
            elif "wte" in name or "tokens_embed" in name:
                p.copy_(0.35 * noise)
            elif "wpe" in name or "positions_embed" in name:
                p.copy_(0.3 * noise)
            else:
                p.copy_(1.1 / min(p.shape) ** 0.5 * noise)


def inputs(seed):
    gen = torch.Generator().manual_seed(seed)
    ids = torch.randint(0, VOCAB, (BATCH, TOKENS), generator=gen)
    labels = ids.clone()
    labels[0, :4] = IGNORE  # a prompt without loss
    labels[0, 9] = IGNORE  # a hole
    labels[1, 13:] = IGNORE  # padding at the end
    return ids, labels


def shift(labels):
    """targets[t] = labels[t + 1]: what position t must predict (transformers does this shift inside)."""
    return torch.nn.functional.pad(labels, (0, 1), value=IGNORE)[:, 1:].contiguous()


def evaluate(model, ids, labels):
    """Logits, losses and gradients in the dtype of the model."""
    model.zero_grad()
    out = model(input_ids=ids, labels=labels)
    targets = shift(labels)
    logits = out.logits
    row = torch.nn.functional.cross_entropy(
        logits.reshape(-1, VOCAB), targets.reshape(-1), ignore_index=IGNORE, reduction="none"
    ).reshape(ids.shape)
    loss = row.sum() / (targets != IGNORE).sum()
    assert abs(loss.item() - out.loss.item()) < 1e-5, "our shift of the labels is not the one of transformers"
    loss.backward()
    every = torch.log_softmax(logits, -1)[:, :-1].gather(-1, ids[:, 1:, None])[..., 0]
    result = {
        "logits": logits.detach(),
        "row_losses": row.detach(),
        "token_logprobs": every.detach(),
        "loss": loss.detach().reshape(1),
    }
    for name, p in model.named_parameters():
        result["grad." + name] = p.grad.detach().clone()
    return result


def store(path, tensors):
    fixed = {}
    for name, t in tensors.items():
        t = t.to(torch.int32) if t.dtype in (torch.int64, torch.bool) else t
        fixed[name] = t.contiguous().clone()
    safetensors.torch.save_file(fixed, path)


def write_case(folder, model, about, seed, extra=None, f64_file=False, f64=True):
    ids, labels = inputs(seed + 1)
    values = evaluate(model, ids, labels)
    accuracy = None
    if f64:
        wide = evaluate(copy.deepcopy(model).double(), ids, labels)
        accuracy = {
            "max_abs_logit": max_abs(values["logits"], wide["logits"]),
            "loss": max_abs(values["loss"], wide["loss"]),
            "max_relative_grad_norm": max(
                ((values[k] - wide[k]).norm() / wide[k].norm()).item() for k in wide if k.startswith("grad.")
            ),
        }
        if f64_file:
            store(folder / "expected_f64.safetensors", wide)
    store(
        folder / "expected.safetensors",
        {"input_ids": ids, "labels": labels, "targets": shift(labels), **values, **(extra or {})},
    )
    write_note(folder, about, seed, {"loss": values["loss"].item(), "float32_against_float64": accuracy})


def write_note(folder, about, seed, more):
    note = {"about": about, "seed": seed, "versions": versions(), **more}
    (folder / "case.json").write_text(json.dumps(note, indent=1) + "\n")


def max_abs(a, b):
    return (a.double() - b.double()).abs().max().item()


def save(model, folder):
    shutil.rmtree(folder, ignore_errors=True)
    model.save_pretrained(folder)


def fresh(cls, config, seed):
    config._attn_implementation = "eager"
    torch.manual_seed(seed)
    model = cls(config).eval()
    randomize(model, seed)
    return model


def gpt2_config(**kwargs):
    return transformers.GPT2Config(
        vocab_size=VOCAB,
        n_positions=POSITIONS,
        bos_token_id=60,
        eos_token_id=60,
        resid_pdrop=0.0,
        embd_pdrop=0.0,
        attn_pdrop=0.0,
        **kwargs,
    )


def left_padded(model, seed):
    """Three prompts of 11, 6 and 1 tokens, padded on the left with id 0; rows of padding are set to 0."""
    gen = torch.Generator().manual_seed(seed)
    lengths, width = [11, 6, 1], 11
    ids = torch.zeros(len(lengths), width, dtype=torch.long)
    mask = torch.zeros_like(ids)
    for i, n in enumerate(lengths):
        ids[i, width - n :] = torch.randint(1, VOCAB, (n,), generator=gen)
        mask[i, width - n :] = 1
    positions = (mask.cumsum(-1) - 1).clamp(min=0)
    with torch.no_grad():
        logits = model(input_ids=ids, attention_mask=mask, position_ids=positions).logits
        for i, n in enumerate(lengths):
            alone = model(input_ids=ids[i : i + 1, width - n :]).logits
            assert max_abs(alone[0], logits[i, width - n :]) < 2e-5, "padding changed a row"
    return {
        "padded.input_ids": ids,
        "padded.attention_mask": mask,
        "padded.position_ids": positions,
        "padded.logits": logits * mask[..., None],
    }


def greedy(model, seed, count=10):
    """Greedy continuation with the KV cache; the logits are those that chose each id."""
    for prompt_seed in range(seed, seed + 1000):
        gen = torch.Generator().manual_seed(prompt_seed)
        prompt = torch.randint(1, VOCAB, (1, 7), generator=gen)
        chosen, rows, margin = cached_argmax(model, prompt, count)
        if len(set(chosen)) >= 6 and margin > 0.02:
            break
    else:
        raise AssertionError("no prompt with a varied and clear continuation")
    with torch.no_grad():
        whole = model(input_ids=torch.cat([prompt, torch.tensor([chosen])], 1)).logits[0, 6 : 6 + count]
    assert max_abs(whole, torch.stack(rows)) < 2e-5, "the cache changed the logits"
    config = transformers.GenerationConfig(max_new_tokens=count, do_sample=False, eos_token_id=None, pad_token_id=0)
    own = model.generate(prompt, attention_mask=torch.ones_like(prompt), generation_config=config)[0, 7:].tolist()
    assert own and own == chosen[: len(own)], "generate() disagrees"
    return {
        "greedy.prompt": prompt[0],
        "greedy.ids": torch.tensor(chosen),
        "greedy.logits": torch.stack(rows),
    }


def cached_argmax(model, prompt, count):
    """Ids, the logits that chose them, and the smallest lead of a chosen id over the next best."""
    chosen, rows, margin = [], [], float("inf")
    with torch.no_grad():
        out = model(input_ids=prompt, use_cache=True)
        for _ in range(count):
            row = out.logits[0, -1]
            top = row.topk(2).values
            margin = min(margin, (top[0] - top[1]).item())
            chosen.append(row.argmax().item())
            rows.append(row)
            out = model(input_ids=torch.tensor([[chosen[-1]]]), past_key_values=out.past_key_values, use_cache=True)
    return chosen, rows, margin


def sharded_half(model, folder, seed):
    """The model in bfloat16, in several safetensors files with an index."""
    half = copy.deepcopy(model).to(torch.bfloat16)
    shutil.rmtree(folder, ignore_errors=True)
    half.save_pretrained(folder, max_shard_size="12KB")
    ids, labels = inputs(seed + 1)
    values = evaluate(copy.deepcopy(half).float(), ids, labels)
    keep = {k: v for k, v in values.items() if not k.startswith("grad.")}
    store(folder / "expected.safetensors", {"input_ids": ids, "labels": labels, "targets": shift(labels), **keep})
    about = "gpt2-2layer-erf rounded to bfloat16, sharded; expected values: these weights widened to float32"
    write_note(folder, about, seed, {"loss": values["loss"].item()})


def main():
    out = pathlib.Path(sys.argv[1]) if len(sys.argv) > 1 else pathlib.Path(__file__).resolve().parent
    torch.set_num_threads(1)
    gpt2 = transformers.GPT2LMHeadModel

    folder, model = out / "gpt2-2layer", fresh(gpt2, gpt2_config(n_layer=2, n_head=4, n_embd=32), 11)
    save(model, folder)
    extra = {**left_padded(model, 12), **greedy(model, 13)}
    write_case(folder, model, "GPT-2, tanh GELU; also a left-padded batch and a greedy continuation", 11, extra)

    config = gpt2_config(n_layer=2, n_head=2, n_embd=16, activation_function="gelu")
    folder, model = out / "gpt2-2layer-erf", fresh(gpt2, config, 21)
    save(model, folder)
    write_case(folder, model, "GPT-2 with erf GELU; also all values in float64", 21, f64_file=True)
    sharded_half(model, out / "gpt2-2layer-bf16-sharded", 21)

    folder, model = out / "gpt2-12layer", fresh(gpt2, gpt2_config(n_layer=12, n_head=3, n_embd=24), 31)
    save(model, folder)
    write_case(folder, model, "GPT-2, 12 layers, tanh GELU", 31)

    config = transformers.OpenAIGPTConfig(
        vocab_size=VOCAB, n_positions=POSITIONS, n_layer=2, n_head=3, n_embd=24, afn="gelu",
        resid_pdrop=0.0, embd_pdrop=0.0, attn_pdrop=0.0,
    )  # fmt: skip
    folder, model = out / "gpt1-2layer", fresh(transformers.OpenAIGPTLMHeadModel, config, 41)
    save(model, folder)
    write_case(folder, model, "GPT-1: post-layer-norm, no final norm; afn gelu means the tanh form", 41)

    config = transformers.GPTNeoConfig(
        vocab_size=VOCAB, max_position_embeddings=POSITIONS, hidden_size=16, num_layers=4, num_heads=2,
        attention_types=[[["global", "local"], 2]], window_size=5,
        resid_dropout=0.0, embed_dropout=0.0, attention_dropout=0.0, bos_token_id=60, eos_token_id=60,
    )  # fmt: skip
    folder, model = out / "gptneo-banded", fresh(transformers.GPTNeoForCausalLM, config, 51)
    save(model, folder)
    about = "GPT-Neo: alternating global and local (window 5) layers, unscaled attention; computes in float32 only"
    write_case(folder, model, about, 51, f64=False)


if __name__ == "__main__":
    main()
