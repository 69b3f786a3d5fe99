"""Write values and gradients of single operations from torch and transformers, in float64.

Run: python make_ops.py [OUT_DIR]  (default: the folder of this script). One safetensors file and one JSON index; see README.md.
"""

import json
import pathlib
import sys

import numpy
import safetensors
import safetensors.torch
import torch
import torch.nn.functional as F
import transformers
from transformers import LlamaConfig
from transformers.activations import QuickGELUActivation
from transformers.models.gptj import modeling_gptj as gptj
from transformers.models.llama import modeling_llama as llama
from transformers.models.llama.modeling_llama import LlamaRotaryEmbedding

GEN = torch.Generator().manual_seed(3)
TENSORS = {}
CASES = {}


def rand(*shape):
    return torch.randn(*shape, generator=GEN, dtype=torch.float64)


def record(case, settings, **tensors):
    CASES[case] = {**settings, "tensors": {}}
    for name, t in tensors.items():
        t = t.detach().contiguous().clone()
        t = t.to(torch.int32) if t.dtype == torch.int64 else t
        TENSORS[f"{case}.{name}"] = t
        CASES[case]["tensors"][name] = list(t.shape)


def grads(y, dy, *xs):
    return torch.autograd.grad(y, xs, dy)


def layer_norm():
    for case, bias, offset in [("layer_norm", True, 0.0), ("layer_norm_no_bias", False, 0.0), ("layer_norm_offset", True, 100.0)]:
        eps, x = 1e-5, (rand(5, 7) * 1.5 + 0.3 + offset).requires_grad_()
        w, b = (1 + 0.3 * rand(7)).requires_grad_(), (0.4 * rand(7)).requires_grad_() if bias else None
        y, dy = F.layer_norm(x, (7,), w, b, eps), rand(5, 7)
        named = dict(zip(["dx", "dw", "db"], grads(y, dy, *[t for t in (x, w, b) if t is not None])))
        mean = x.mean(-1)
        rstd = (x.var(-1, unbiased=False) + eps).rsqrt()
        given = {"x": x, "w": w, **({"b": b} if bias else {})}
        record(case, {"eps": eps}, **given, y=y, mean=mean, rstd=rstd, dy=dy, **named)


def gelu():
    x = torch.cat([torch.linspace(-12, 12, 49, dtype=torch.float64), rand(15) * 2])
    for case, form in [("gelu_tanh", "tanh"), ("gelu_erf", "none")]:
        z = x.clone().requires_grad_()
        y, dy = F.gelu(z, approximate=form), rand(64)
        record(case, {}, x=z, y=y, dy=dy, dx=grads(y, dy, z)[0])


def cross_entropy():
    rows, width, vocab = 6, 5, 11
    targets = torch.tensor([3, -100, 0, 10, -100, 7])
    for case, smoothing in [("cross_entropy", 0.0), ("cross_entropy_smoothed", 0.1)]:
        x, w = rand(rows, width).requires_grad_(), rand(vocab, width).requires_grad_()
        logits = (x @ w.T).detach().requires_grad_()
        options = {"ignore_index": -100, "label_smoothing": smoothing}
        row_losses = F.cross_entropy(logits, targets, reduction="none", **options)
        loss = F.cross_entropy(logits, targets, **options)
        (dlogits,) = grads(loss, None, logits)
        dx, dw = grads(F.cross_entropy(x @ w.T, targets, **options), None, x, w)
        given = {"x": x, "w": w, "targets": targets}
        answer = {"logits": logits, "row_losses": row_losses, "loss": loss.reshape(1), "dlogits": dlogits, "dx": dx, "dw": dw}
        record(case, options, **given, **answer)


def attention(case, queries=7, keys=7, heads=2, kv_heads=2, causal=True, window=0, q_segments=None, k_segments=None):
    """Masked attention; tensors are (B, T, heads * d), the layout of a linear layer's output."""
    batch, d = 2, 4
    q = rand(batch, queries, heads * d).requires_grad_()
    k = (1.5 * rand(batch, keys, kv_heads * d)).requires_grad_()
    v = rand(batch, keys, kv_heads * d).requires_grad_()
    i = torch.arange(queries)[:, None] + (keys - queries if causal else 0)  # query rows are the last positions
    j = torch.arange(keys)[None, :]
    mask = torch.ones(batch, queries, keys, dtype=torch.bool)
    if causal:
        mask &= j <= i
    if window:
        mask &= j > i - window
    if q_segments is not None:
        qs, ks = torch.tensor(q_segments), torch.tensor(k_segments if k_segments is not None else q_segments)
        mask &= (qs[:, :, None] == ks[:, None, :]) & (qs[:, :, None] >= 0)

    def split(t, count):
        return t.reshape(batch, -1, count, d).transpose(1, 2)  # (B, heads, T, d)

    repeats = heads // kv_heads
    qh, kh, vh = split(q, heads), split(k, kv_heads), split(v, kv_heads)
    kh, vh = kh.repeat_interleave(repeats, 1), vh.repeat_interleave(repeats, 1)
    y = F.scaled_dot_product_attention(qh, kh, vh, attn_mask=mask[:, None])
    has_key = mask.any(-1)[:, None, :, None]
    assert (y.masked_select(~has_key) == 0).all(), "torch gives rows without keys something else than 0"
    scores = (qh @ kh.transpose(-1, -2) / d**0.5).masked_fill(~mask[:, None], float("-inf"))
    lse = torch.logsumexp(scores, -1).masked_fill(~has_key[..., 0], 0.0)  # (B, heads, T)
    y = y.transpose(1, 2).reshape(batch, queries, heads * d)
    dy = rand(batch, queries, heads * d)
    dq, dk, dv = grads(y, dy, q, k, v)
    assert all(torch.isfinite(t).all() for t in (y, lse, dq, dk, dv))
    settings = {"heads": heads, "kv_heads": kv_heads, "head_dim": d, "causal": causal, "window": window, "scale": d**-0.5}
    segments = {}
    if q_segments is not None:
        segments = {"q_segments": qs, "k_segments": ks}
    given = {"q": q, "k": k, "v": v, **segments, "mask": mask.to(torch.int32)}
    record(case, settings, **given, y=y, lse=lse, dy=dy, dq=dq, dk=dk, dv=dv)


def attentions():
    attention("attention_full", causal=False)
    attention("attention_causal")
    attention("attention_window", window=3)
    attention("attention_window_one", window=1)
    attention("attention_grouped", heads=4, kv_heads=2)
    attention("attention_cross", queries=5, keys=8, causal=False)
    attention("attention_tail", queries=3, keys=7)
    attention("attention_tail_window", queries=3, keys=7, window=2)
    packed = [[0, 0, 0, 1, 1, 2, 2], [5, 5, 5, 5, 5, 5, 3]]
    attention("attention_packed", q_segments=packed)
    left_right = [[-1, -1, 0, 0, 0, 0, 0], [0, 0, 0, 0, -1, -1, -1]]
    attention("attention_padded", q_segments=left_right)
    attention("attention_padded_window", q_segments=left_right, window=2)
    attention("attention_padded_full", q_segments=left_right, causal=False)
    q_seg, k_seg = [[0, 0, 1, 1, 9], [0, 0, 0, 0, -1]], [[0, 0, 0, 1, 1, -1, -1, -1], [0, 0, 0, 0, 0, 0, 0, -1]]
    attention("attention_cross_segments", queries=5, keys=8, causal=False, q_segments=q_seg, k_segments=k_seg)


def rms_norm():
    for case, scale in [("rms_norm", 1.5), ("rms_norm_small", 1e-3)]:
        eps, x = 1e-5, (rand(5, 7) * scale + 0.2 * scale).requires_grad_()
        w = (1 + 0.3 * rand(7)).requires_grad_()
        y, dy = F.rms_norm(x, (7,), w, eps), rand(5, 7)
        record(case, {"eps": eps}, x=x, w=w, y=y, dy=dy, **dict(zip(["dx", "dw"], grads(y, dy, x, w))))


def swish():
    x = torch.cat([torch.linspace(-12, 12, 49, dtype=torch.float64), rand(15) * 2])
    for case, f in [("silu", F.silu), ("quick_gelu", QuickGELUActivation())]:
        z = x.clone().requires_grad_()
        y, dy = f(z), rand(64)
        record(case, {}, x=z, y=y, dy=dy, dx=grads(y, dy, z)[0])


def rotary(case, base, head_dim, rotated, first, adjacent=False):
    """transformers' rotary embeddings: angles, cosines and sines in float32 as in its models, what is turned in float64."""
    batch, tokens, heads = 2, 5, 3
    settings = {"heads": heads, "head_dim": head_dim, "rotated": rotated, "base": base}
    positions = torch.tensor([[0, 1, 2, 3, 4], [first, first + 1, first + 700, 17, first]])
    config = LlamaConfig(
        hidden_size=heads * rotated, num_attention_heads=heads, rope_parameters={"rope_type": "default", "rope_theta": base}
    )
    x = rand(batch, tokens, heads * head_dim).requires_grad_()
    cos, sin = LlamaRotaryEmbedding(config)(torch.zeros(1, dtype=torch.float32), positions)  # (B, T, rotated)
    cos, sin = cos.double(), sin.double()
    split = x.reshape(batch, tokens, heads, head_dim)
    part, rest = split[..., :rotated], split[..., rotated:]
    if adjacent:
        turned = gptj.apply_rotary_pos_emb(part, sin[..., : rotated // 2], cos[..., : rotated // 2])
    else:
        turned = llama.apply_rotary_pos_emb(part.transpose(1, 2), part.transpose(1, 2), cos, sin)[0].transpose(1, 2)
    y = torch.cat([turned, rest], -1).reshape(batch, tokens, heads * head_dim)
    dy = rand(batch, tokens, heads * head_dim)
    record(case, settings, x=x, positions=positions, y=y, dy=dy, dx=grads(y, dy, x)[0])


def rotaries():
    rotary("rotary_halves", 10000.0, 8, 8, 4000)
    rotary("rotary_halves_long", 500000.0, 64, 64, 8000)
    rotary("rotary_halves_partial", 10000.0, 10, 6, 100)
    rotary("rotary_adjacent", 10000.0, 8, 8, 2000, adjacent=True)
    rotary("rotary_adjacent_partial", 100000.0, 12, 10, 5000, adjacent=True)


def main():
    out = pathlib.Path(sys.argv[1]) if len(sys.argv) > 1 else pathlib.Path(__file__).resolve().parent
    torch.set_num_threads(1)
    layer_norm()
    gelu()
    cross_entropy()
    attentions()
    rms_norm()
    swish()
    rotaries()
    attention("attention_one_key_head", heads=4, kv_heads=1)
    attention("attention_grouped_tail", queries=2, keys=7, heads=6, kv_heads=2)
    safetensors.torch.save_file(TENSORS, out / "ops.safetensors")
    versions = {
        "python": sys.version.split()[0],
        "torch": torch.__version__,
        "transformers": transformers.__version__,
        "safetensors": safetensors.__version__,
        "numpy": numpy.__version__,
    }
    (out / "ops.json").write_text(json.dumps({"versions": versions, "cases": CASES}, indent=1) + "\n")


if __name__ == "__main__":
    main()
