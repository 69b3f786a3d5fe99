"""Write tiny random image classifiers of transformers and timm's names with recorded inputs, outputs and gradients for `samara parity`.

Run from any place: python make_classifiers.py [OUT_DIR]  (default: the folder of this script).
Every folder is a real model folder (`save_pretrained`), beside it:
  io.safetensors     in.pixel_values, in.labels and out.NAME as `samara parity --io` takes them
  grads.safetensors  the gradient of the loss for every parameter, by its name in memory
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

BATCH, CLASSES = 3, 5


def randomize(model, seed):
    gen = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, p in model.named_parameters():
            noise = torch.randn(p.shape, generator=gen)
            if "norm" in name and name.endswith("weight"):
                p.copy_(1.0 + 0.25 * noise)
            elif name.endswith("bias"):
                p.copy_(0.2 * noise)
            elif "embeddings." in name:
                p.copy_(0.35 * noise)
            else:
                p.copy_(1.1 / (p[0].numel()) ** 0.5 * noise)
        for name, b in model.named_buffers():
            if name.endswith("running_mean"):
                b.copy_(0.3 * torch.randn(b.shape, generator=gen))
            elif name.endswith("running_var"):
                b.copy_(0.5 + torch.rand(b.shape, generator=gen))


def record(folder, model, about, seed):
    config = model.config
    gen = torch.Generator().manual_seed(seed + 1)
    size = getattr(config, "image_size", 32)
    pixels = torch.randn((BATCH, config.num_channels, size, size), generator=gen)
    labels = torch.tensor([4, 0, 2])
    model.zero_grad()
    out = model(pixel_values=pixels, labels=labels, output_hidden_states=True)
    out.loss.backward()
    io = {"in.pixel_values": pixels, "in.labels": labels, "out.logits": out.logits.detach()}
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
    torch.manual_seed(seed)
    model = cls(config).eval()
    randomize(model, seed)
    folder = out / name
    shutil.rmtree(folder, ignore_errors=True)
    model.save_pretrained(folder)
    record(folder, model, about, seed)


def vit(**changes):
    keys = dict(
        image_size=12, patch_size=4, hidden_size=16, num_hidden_layers=2, num_attention_heads=4, intermediate_size=24,
        layer_norm_eps=1e-6, num_labels=CLASSES, attn_implementation="eager",
    )  # fmt: skip
    return transformers.ViTConfig(**{**keys, **changes})


def timm_names(weights):
    """The tensors of a ViT under the names of timm's VisionTransformer: queries, keys and values are one matrix."""
    words = {
        "vit.embeddings.cls_token": "cls_token",
        "vit.embeddings.position_embeddings": "pos_embed",
        "vit.embeddings.patch_embeddings.projection": "patch_embed.proj",
        "vit.encoder.layer": "blocks",
        "attention.output.dense": "attn.proj",
        "intermediate.dense": "mlp.fc1",
        "output.dense": "mlp.fc2",
        "layernorm_before": "norm1",
        "layernorm_after": "norm2",
        "vit.layernorm": "norm",
        "classifier": "head",
    }
    named = {}
    for name, tensor in weights.items():
        if ".attention.attention." in name:
            if ".query." in name:
                parts = [weights[name.replace("query", part)] for part in ("query", "key", "value")]
                block = name.replace("vit.encoder.layer", "blocks").replace("attention.attention.query", "attn.qkv")
                named[block] = torch.cat(parts)
            continue
        for theirs, ours in words.items():
            name = name.replace(theirs, ours)
        named[name] = tensor.contiguous()
    return named


def write_timm(out, name, of):
    folder = out / name
    shutil.rmtree(folder, ignore_errors=True)
    shutil.copytree(out / of, folder)
    weights = timm_names(safetensors.torch.load_file(folder / "model.safetensors"))
    safetensors.torch.save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})


def main():
    torch.set_num_threads(1)
    out = pathlib.Path(sys.argv[1] if len(sys.argv) > 1 else pathlib.Path(__file__).parent)
    classifier = transformers.ViTForImageClassification
    write(out, "vit", classifier, vit(), "patches of 4 x 4, exact GELU", 1)
    write_timm(out, "vit-timm", "vit")
    changed = vit(qkv_bias=False, hidden_act="quick_gelu", num_channels=1, patch_size=3, layer_norm_eps=1e-12)
    write(out, "vit-grey", classifier, changed, "one channel, no biases of q, k, v, x sigmoid(1.702 x)", 2)


if __name__ == "__main__":
    main()
