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
import re
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
    height, width = [config.image_size] * 2 if hasattr(config, "image_size") else (37, 29)
    pixels = torch.randn((BATCH, config.num_channels, height, width), generator=gen)
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


def resnet(**changes):
    keys = dict(embedding_size=6, hidden_sizes=[6, 12], depths=[2, 2], layer_type="basic", num_labels=CLASSES)
    return transformers.ResNetConfig(**{**keys, **changes})


def timm_resnet_names(weights):
    """The tensors of a ResNet under the names of timm and torchvision."""
    named = {}
    for name, tensor in weights.items():
        name = name.removeprefix("resnet.").replace("classifier.1", "fc")
        name = name.replace("embedder.embedder.convolution", "conv1").replace("embedder.embedder.normalization", "bn1")
        name = re.sub(r"encoder.stages.(\d).layers", lambda m: f"layer{int(m[1]) + 1}", name)
        name = re.sub(r"layer.(\d).convolution", lambda m: f"conv{int(m[1]) + 1}", name)
        name = re.sub(r"layer.(\d).normalization", lambda m: f"bn{int(m[1]) + 1}", name)
        name = name.replace("shortcut.convolution", "downsample.0").replace("shortcut.normalization", "downsample.1")
        named[name] = tensor.contiguous()
    return named


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


def write_timm(out, name, of, names):
    folder = out / name
    shutil.rmtree(folder, ignore_errors=True)
    shutil.copytree(out / of, folder)
    weights = names(safetensors.torch.load_file(folder / "model.safetensors"))
    safetensors.torch.save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})


def main():
    torch.set_num_threads(1)
    out = pathlib.Path(sys.argv[1] if len(sys.argv) > 1 else pathlib.Path(__file__).parent)
    classifier = transformers.ViTForImageClassification
    write(out, "vit", classifier, vit(), "patches of 4 x 4, exact GELU", 1)
    write_timm(out, "vit-timm", "vit", timm_names)
    changed = vit(qkv_bias=False, hidden_act="quick_gelu", num_channels=1, patch_size=3, layer_norm_eps=1e-12)
    write(out, "vit-grey", classifier, changed, "one channel, no biases of q, k, v, x sigmoid(1.702 x)", 2)
    network = transformers.ResNetForImageClassification
    write(out, "resnet-basic", network, resnet(), "two convolutions a block, images of 37 x 29", 3)
    changed = resnet(
        layer_type="bottleneck", hidden_sizes=[16, 24], depths=[1, 2], num_channels=2, downsample_in_first_stage=True,
        downsample_in_bottleneck=True,
    )  # fmt: skip
    write(out, "resnet-bottleneck", network, changed, "bottlenecks with the stride in the first convolution, two channels", 4)
    write_timm(out, "resnet-timm", "resnet-bottleneck", timm_resnet_names)
    changed = resnet(layer_type="bottleneck", hidden_sizes=[16, 24], depths=[2, 1], embedding_size=16)
    write(out, "resnet-v1.5", network, changed, "bottlenecks with the stride in the second convolution", 5)


if __name__ == "__main__":
    main()
