"""Train five tiny models with PyTorch and transformers and write down where they began, what they saw, and every step.

Run from any place: python make_trajectory.py [OUT_DIR [CASE ...]]  (default: the folder of this script, which holds text.txt; every case).

For each case, written to OUT_DIR/CASE:
  config.json, model.safetensors   the initial weights, a Hugging Face folder
  batches.npy                      (steps, rows) i32: where each row of each step begins in the training tokens
  expected.json                    settings, versions; loss, gradient norm before clipping and learning rate of every step; the
                                   validation loss at the end; how far a run in float64 is from this one
  expected.safetensors             the final weights
Tokens are the characters of text.txt, numbered in sorted order; the first 90 % train, the rest validates in blocks that do
not overlap. AdamW as in nanoGPT: decay on matrices and embeddings only. Versions: benches/compare/requirements.txt.
"""

import json
import math
import pathlib
import sys

import numpy
import safetensors.torch
import torch
import torch.nn.functional as F
import transformers

STEPS, BATCH, BLOCK = 40, 4, 16
SETTINGS = {
    "steps": STEPS,
    "batch_size": BATCH,
    "block_size": BLOCK,
    "lr": 3e-3,
    "min_lr": 3e-4,
    "warmup_steps": 5,
    "weight_decay": 0.1,
    "beta1": 0.9,
    "beta2": 0.99,
    "eps": 1e-8,
    "grad_clip": 1.0,
}
CASES = {
    # name: family, seed, rows of all micro-batches of a step over BATCH, activation, biases
    "gpt2": ("gpt2", 1, 1, "gelu_new", True),
    "gpt2-accumulated-without-bias": ("gpt2", 2, 2, "gelu", False),
    "gpt1": ("openai-gpt", 3, 1, "gelu", True),
    "llama": ("llama", 4, 1, "silu", False),
    "qwen2": ("qwen2", 5, 2, "silu", True),
}


def build(case, vocab):
    family, seed, _, activation, bias = CASES[case]
    shape = {"vocab_size": vocab, "n_positions": BLOCK, "n_embd": 16, "n_layer": 2, "n_head": 2}
    dropout = {"resid_pdrop": 0.0, "embd_pdrop": 0.0, "attn_pdrop": 0.0}
    ids = {"bos_token_id": None, "eos_token_id": None}
    torch.manual_seed(seed)
    if family == "gpt2":
        # `bias` is samara's key: transformers passes over it and keeps biases, which stay 0 here.
        extra = {} if bias else {"bias": False}
        config = transformers.GPT2Config(activation_function=activation, **shape, **dropout, **ids, **extra)
        model = transformers.GPT2LMHeadModel(config)
    elif family in ("llama", "qwen2"):
        shape = {"vocab_size": vocab, "max_position_embeddings": BLOCK, "hidden_size": 16, "intermediate_size": 40}
        heads = {"num_hidden_layers": 2, "num_attention_heads": 4, "num_key_value_heads": 2}
        # Grouped queries; a head of its own in one, biases of queries, keys and values in the other.
        if family == "llama":
            config = transformers.LlamaConfig(**shape, **heads, **ids, tie_word_embeddings=False)
            model = transformers.LlamaForCausalLM(config)
        else:
            config = transformers.Qwen2Config(**shape, **heads, **ids, tie_word_embeddings=True)
            model = transformers.Qwen2ForCausalLM(config)
    else:
        config = transformers.OpenAIGPTConfig(afn=activation, **shape, **dropout, **ids)
        model = transformers.OpenAIGPTLMHeadModel(config)
    with torch.no_grad():
        for p in model.parameters():
            # Wider than usual, so that gradients are large enough for clipping in some steps.
            if p.dim() >= 2:
                p.normal_(std=0.2)
    if family == "gpt2" and not bias:
        for name, p in model.named_parameters():
            if name.endswith("bias"):
                p.requires_grad_(False)
    return model


def learning_rate(step):
    lr, low, warmup = SETTINGS["lr"], SETTINGS["min_lr"], SETTINGS["warmup_steps"]
    if step < warmup:
        return lr * (step + 1) / (warmup + 1)
    done = (step - warmup) / (STEPS - warmup)
    return low + 0.5 * (1.0 + math.cos(math.pi * done)) * (lr - low)


def rows(data, starts):
    at = torch.as_tensor(starts, dtype=torch.int64)[:, None] + torch.arange(BLOCK)
    return data[at], data[at + 1]


def loss_of(model, x, y):
    logits = model(input_ids=x).logits
    return F.cross_entropy(logits.reshape(-1, logits.shape[-1]), y.reshape(-1))


def optimizer(model):
    params = [p for p in model.parameters() if p.requires_grad]
    groups = [
        {"params": [p for p in params if p.dim() >= 2], "weight_decay": SETTINGS["weight_decay"]},
        {"params": [p for p in params if p.dim() < 2], "weight_decay": 0.0},
    ]
    betas = (SETTINGS["beta1"], SETTINGS["beta2"])
    return torch.optim.AdamW(groups, lr=SETTINGS["lr"], betas=betas, eps=SETTINGS["eps"])


def train(model, data, batches, accumulation):
    adamw, record = optimizer(model), {"losses": [], "grad_norms": [], "learning_rates": []}
    for step, starts in enumerate(batches):
        adamw.zero_grad()
        total = 0.0
        for micro in range(accumulation):
            loss = loss_of(model, *rows(data, starts[micro * BATCH : (micro + 1) * BATCH])) / accumulation
            loss.backward()
            total += loss.item()
        norm = torch.nn.utils.clip_grad_norm_(adamw.param_groups[0]["params"] + adamw.param_groups[1]["params"], SETTINGS["grad_clip"])
        for group in adamw.param_groups:
            group["lr"] = learning_rate(step)
        adamw.step()
        record["losses"].append(total)
        record["grad_norms"].append(norm.item())
        record["learning_rates"].append(learning_rate(step))
    return record


@torch.no_grad()
def validate(model, data):
    total, count = 0.0, len(data) - 1
    for start in range(0, count, BLOCK):
        end = min(start + BLOCK, count)
        x, y = data[None, start:end], data[None, start + 1 : end + 1]
        total += loss_of(model, x, y).item() * (end - start)
    return total / count


def max_abs(a, b):
    return max(abs(x - y) for x, y in zip(a, b, strict=True))


def weights_apart(model, wide):
    """The largest difference; without the biases of keys, whose gradient is 0 but for rounding."""
    apart = 0.0
    for (name, a), b in zip(model.named_parameters(), wide.parameters(), strict=True):
        difference = (a.detach().double() - b.detach()).abs()
        if name.endswith("c_attn.bias"):
            width = difference.shape[0] // 3
            difference[width : 2 * width] = 0.0
        apart = max(apart, difference.max().item())
    return apart


def write_case(case, folder, text):
    ids = {c: i for i, c in enumerate(sorted(set(text)))}
    tokens = torch.tensor([ids[c] for c in text])
    cut = int(0.9 * len(tokens))
    data, held_out = tokens[:cut], tokens[cut:]
    _, seed, accumulation, _, _ = CASES[case]
    model, wide = build(case, len(ids)), build(case, len(ids)).double()
    model.save_pretrained(folder)
    batches = numpy.random.default_rng(seed).integers(0, len(data) - BLOCK, (STEPS, BATCH * accumulation), dtype=numpy.int32)
    numpy.save(folder / "batches.npy", batches)
    record = train(model, data, batches, accumulation)
    record["val_loss"] = validate(model, held_out)
    in_f64 = train(wide, data, batches, accumulation)
    clipped = sum(norm > SETTINGS["grad_clip"] for norm in record["grad_norms"])
    assert 0 < clipped < STEPS, f"{case}: clipped in {clipped} of {STEPS} steps"
    note = {
        "versions": {
            "python": sys.version.split()[0],
            "torch": torch.__version__,
            "transformers": transformers.__version__,
            "numpy": numpy.__version__,
        },
        "settings": {**SETTINGS, "grad_accumulation": accumulation},
        "steps_with_clipping": clipped,
        "float32_against_float64": {
            "losses": max_abs(record["losses"], in_f64["losses"]),
            "grad_norms": max_abs(record["grad_norms"], in_f64["grad_norms"]),
            "weights": weights_apart(model, wide),
        },
        **record,
    }
    (folder / "expected.json").write_text(json.dumps(note, indent=1) + "\n")
    final = {name: p.detach().contiguous() for name, p in model.named_parameters()}
    safetensors.torch.save_file(final, folder / "expected.safetensors")
    print(case, note["float32_against_float64"], "clipped", clipped, "loss", record["losses"][0], "->", record["losses"][-1])


def main():
    here = pathlib.Path(__file__).parent
    out = pathlib.Path(sys.argv[1]) if len(sys.argv) > 1 else here
    text = (here / "text.txt").read_text(encoding="utf-8")
    torch.set_num_threads(1)
    for case in sys.argv[2:] or CASES:
        folder = out / case
        folder.mkdir(parents=True, exist_ok=True)
        write_case(case, folder, text)


if __name__ == "__main__":
    main()
