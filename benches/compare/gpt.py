"""GPT-2 in plain PyTorch, the peer of the timing scripts beside this file: tied head, pre-layer-norm, fused attention."""

import math
import re
import resource
import statistics

import torch
import torch.nn.functional as F
from torch import nn


class Block(nn.Module):
    def __init__(self, width, heads, layers, bias, gelu):
        super().__init__()
        self.heads, self.gelu = heads, gelu
        self.ln_1 = nn.LayerNorm(width, bias=bias)
        self.qkv = nn.Linear(width, 3 * width, bias=bias)
        self.out = nn.Linear(width, width, bias=bias)
        self.ln_2 = nn.LayerNorm(width, bias=bias)
        self.up = nn.Linear(width, 4 * width, bias=bias)
        self.down = nn.Linear(4 * width, width, bias=bias)
        for layer, std in [
            (self.qkv, 0.02),
            (self.up, 0.02),
            (self.out, 0.02 / math.sqrt(2 * layers)),
            (self.down, 0.02 / math.sqrt(2 * layers)),
        ]:
            nn.init.normal_(layer.weight, std=std)
            if bias:
                nn.init.zeros_(layer.bias)

    def forward(self, x):
        b, t, c = x.shape
        q, k, v = (z.view(b, t, self.heads, -1).transpose(1, 2) for z in self.qkv(self.ln_1(x)).split(c, dim=2))
        y = F.scaled_dot_product_attention(q, k, v, is_causal=True)
        x = x + self.out(y.transpose(1, 2).reshape(b, t, c))
        return x + self.down(F.gelu(self.up(self.ln_2(x)), approximate=self.gelu))


class Gpt(nn.Module):
    """`gelu`: "none" (erf, as nanoGPT) or "tanh" (as GPT-2)."""

    def __init__(self, layers, heads, width, vocab, positions, bias=True, gelu="tanh"):
        super().__init__()
        self.wte = nn.Embedding(vocab, width)
        self.wpe = nn.Embedding(positions, width)
        self.blocks = nn.ModuleList(Block(width, heads, layers, bias, gelu) for _ in range(layers))
        self.ln_f = nn.LayerNorm(width, bias=bias)
        nn.init.normal_(self.wte.weight, std=0.02)
        nn.init.normal_(self.wpe.weight, std=0.02)

    def forward(self, tokens, targets):
        """Mean cross-entropy; tokens and targets are (B, T)."""
        x = self.wte(tokens) + self.wpe.weight[: tokens.shape[1]]
        for block in self.blocks:
            x = block(x)
        logits = F.linear(self.ln_f(x), self.wte.weight)
        return F.cross_entropy(logits.view(-1, logits.shape[-1]), targets.reshape(-1))

    def load_folder(self, path):
        """Weights of a Hugging Face GPT-2 folder; its linear weights are (inputs, outputs). Biases this model lacks must be 0."""
        from safetensors.torch import load_file

        given = load_file(f"{path}/model.safetensors")
        names = {"attn.c_attn": "qkv", "attn.c_proj": "out", "mlp.c_fc": "up", "mlp.c_proj": "down"}
        mine = self.state_dict()
        for name, value in given.items():
            key = re.sub("^h[.]", "blocks.", name.removeprefix("transformer."))
            for theirs, ours in names.items():
                if f".{theirs}." in key:
                    key = key.replace(theirs, ours)
                    value = value.T if value.dim() == 2 else value
            if key in mine:
                mine[key].copy_(value)
            elif value.any():
                raise SystemExit(f"{path}: {name} has no place in this model")


def adamw(model, lr, beta2, weight_decay, fused):
    """AdamW with decay on matrices and embeddings only."""
    params = list(model.parameters())
    groups = [
        {"params": [p for p in params if p.dim() >= 2], "weight_decay": weight_decay},
        {"params": [p for p in params if p.dim() < 2], "weight_decay": 0.0},
    ]
    return torch.optim.AdamW(groups, lr=lr, betas=(0.9, beta2), fused=fused or None)


def spread(seconds):
    """Milliseconds: median, least, 10th and 90th percentile."""
    ms = sorted(1e3 * s for s in seconds)
    at = lambda q: ms[min(len(ms) - 1, int(q * len(ms)))]
    return {"median": round(statistics.median(ms), 3), "min": round(ms[0], 3), "p10": round(at(0.1), 3), "p90": round(at(0.9), 3)}


def environment():
    return {
        "torch": torch.__version__,
        "threads": torch.get_num_threads(),
        "peak_rss_mib": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024,
    }
