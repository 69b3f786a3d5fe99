"""Write tiny random DETRs of transformers with recorded inputs, outputs, losses and gradients for `samara parity`.

Run from any place: python make_detectors.py [OUT_DIR]  (default: the folder of this script).
Every folder is a real model folder (`save_pretrained`), or the same under other names and without recordings; beside it:
  io.safetensors     in.pixel_values, in.pixel_mask; in.objects (how many every image has), in.class_labels and in.boxes of all of them; out.NAME
  grads.safetensors  the gradient of the loss for every parameter but those of normalisations in the backbone, by its name in memory
  meta.json          the loss, what the case is, the versions that made it
transformers has no layers that normalise their inputs: those of detr-pre-norm compute the authors' formulas (`forward_pre` of models/transformer.py at
facebookresearch/detr) with its modules, and the losses of its decoder layers are the authors', whose last norm is read by the heads alone.
All values are computed in float32 on one thread. Parameters are random, biases and gains too, so that a forgotten one shows.
"""

import json
import pathlib
import shutil
import sys
import types

import safetensors.torch
import torch
import transformers

from make_classifiers import randomize, timm_resnet_names

CLASSES, OBJECTS = 4, [2, 0, 3]
# Height and width of the parts of the images that are no padding.
FRAMES = [(37, 29), (23, 29), (37, 18)]


def detr(backbone=None, **changes):
    keys = dict(embedding_size=4, hidden_sizes=[4, 8], depths=[1, 2], layer_type="basic", out_features=["stage2"])
    network = transformers.ResNetConfig(**{**keys, **(backbone or {})})
    keys = dict(
        backbone_config=network, use_timm_backbone=False, d_model=8, encoder_layers=2, decoder_layers=2, encoder_attention_heads=2,
        decoder_attention_heads=4, encoder_ffn_dim=12, decoder_ffn_dim=10, num_queries=5, num_labels=CLASSES, attn_implementation="eager",
    )  # fmt: skip
    return transformers.DetrConfig(**{**keys, **changes})


def batch(gen, channels):
    height, width = (max(sizes) for sizes in zip(*FRAMES))
    pixels, mask = torch.zeros((len(FRAMES), channels, height, width)), torch.zeros((len(FRAMES), height, width), dtype=torch.int64)
    for image, (h, w) in enumerate(FRAMES):
        pixels[image, :, :h, :w] = torch.randn((channels, h, w), generator=gen)
        mask[image, :h, :w] = 1
    labels = []
    for count in OBJECTS:
        boxes = 0.1 + 0.4 * torch.rand((count, 4), generator=gen)
        labels.append({"class_labels": torch.randint(0, CLASSES, (count,), generator=gen), "boxes": boxes})
    return pixels, mask, labels


def encoder_layer(self, x, mask, spatial_position_embeddings=None, **_):
    """x + attention of norm(x), positions on queries and keys; x + mlp of norm(x)."""
    y = self.self_attn_layer_norm(x)
    x = x + self.self_attn(hidden_states=y, attention_mask=mask, position_embeddings=spatial_position_embeddings)[0]
    return x + self.mlp(self.final_layer_norm(x))


def decoder_layer(self, x, mask, places, queries, memory, encoder_attention_mask=None, **_):
    x = x + self.self_attn(hidden_states=self.self_attn_layer_norm(x), position_embeddings=queries, attention_mask=mask)[0]
    y = self.encoder_attn_layer_norm(x)
    x = x + self.encoder_attn(
        hidden_states=y, key_value_states=memory, attention_mask=encoder_attention_mask, position_embeddings=queries, encoder_position_embeddings=places
    )[0]  # fmt: skip
    return x + self.mlp(self.final_layer_norm(x))


def normalise_inputs(model):
    """Gives the model the authors' layers with `--pre_norm`, and its encoder their last norm."""
    for layer in model.model.encoder.layers:
        layer.forward = types.MethodType(encoder_layer, layer)
    for layer in model.model.decoder.layers:
        layer.forward = types.MethodType(decoder_layer, layer)
    model.model.encoder.norm = torch.nn.LayerNorm(model.config.d_model)

    def last(module, _, out):
        out.last_hidden_state = module.norm(out.last_hidden_state)
        return out

    model.model.encoder.register_forward_hook(last)


def forward(model, pixels, mask, labels):
    if not getattr(model.config, "pre_norm", False):
        return model(pixel_values=pixels, pixel_mask=mask, labels=labels)
    layers, config = [], model.config
    hooks = [layer.register_forward_hook(lambda _, __, out: layers.append(out)) for layer in model.model.decoder.layers]
    out = model(pixel_values=pixels, pixel_mask=mask)
    [hook.remove() for hook in hooks]
    hidden = model.model.decoder.layernorm(torch.stack(layers))
    logits, boxes = model.class_labels_classifier(hidden), model.bbox_predictor(hidden).sigmoid()
    config.auxiliary_loss = True
    out.loss = model.loss_function(logits[-1], labels, model.device, boxes[-1], config, logits, boxes)[0]
    config.auxiliary_loss = False
    return out


def on_disk(name):
    """The encoder's last norm, which transformers does not have, keeps the authors' name."""
    return name.replace("model.encoder.norm.", "transformer.encoder.norm.")


def record(folder, model, about, seed):
    pixels, mask, labels = batch(torch.Generator().manual_seed(seed + 1), model.config.num_channels)
    # transformers trains the backbone only under timm's names; here every convolution has a gradient.
    for parameter in model.parameters():
        parameter.requires_grad_(True)
    model.zero_grad()
    out = forward(model, pixels, mask, labels)
    out.loss.backward()
    io = {
        "in.pixel_values": pixels,
        "in.pixel_mask": mask,
        "in.objects": torch.tensor(OBJECTS),
        "in.class_labels": torch.cat([label["class_labels"] for label in labels]),
        "in.boxes": torch.cat([label["boxes"] for label in labels]),
    }
    for name in ["logits", "pred_boxes", "last_hidden_state", "encoder_last_hidden_state"]:
        io[f"out.{name}"] = getattr(out, name).detach()
    safetensors.torch.save_file({name: t.contiguous().clone() for name, t in io.items()}, folder / "io.safetensors")
    grads = {on_disk(name): p.grad.detach().contiguous().clone() for name, p in model.named_parameters()}
    safetensors.torch.save_file(grads, folder / "grads.safetensors")
    meta = {
        "loss": out.loss.item(),
        "about": about,
        "seed": seed,
        "versions": {"torch": torch.__version__, "transformers": transformers.__version__},
    }
    (folder / "meta.json").write_text(json.dumps(meta, indent=1) + "\n")


def write(out, name, config, about, seed):
    torch.manual_seed(seed)
    model = transformers.DetrForObjectDetection(config).eval()
    if getattr(config, "pre_norm", False):
        normalise_inputs(model)
    randomize(model, seed)
    with torch.no_grad():
        for key, buffer in model.named_buffers():
            if "normalization" in key and key.endswith(".weight"):
                buffer.copy_(1.0 + 0.25 * torch.randn(buffer.shape))
            elif "normalization" in key and key.endswith(".bias"):
                buffer.copy_(0.2 * torch.randn(buffer.shape))
    folder = out / name
    shutil.rmtree(folder, ignore_errors=True)
    model.save_pretrained(folder)
    if getattr(config, "pre_norm", False):
        weights = safetensors.torch.load_file(folder / "model.safetensors")
        named = {on_disk(name): t for name, t in weights.items()}
        safetensors.torch.save_file(named, folder / "model.safetensors", metadata={"format": "pt"})
    record(folder, model, about, seed)


def timm_names(weights):
    """The tensors of a backbone under timm's names; the rest as it is."""
    prefix = "model.backbone.conv_encoder.model."
    body = {name.removeprefix(prefix): t for name, t in weights.items() if name.startswith(prefix)}
    named = {prefix + name: t for name, t in timm_resnet_names(body).items()}
    return {**{name: t.contiguous() for name, t in weights.items() if not name.startswith(prefix)}, **named}


def author_names(weights):
    """The names of the authors' code: one matrix for queries, keys and values."""
    words = {
        "model.backbone.conv_encoder.model": "backbone.0.body",
        "model.position_embedding.row_embeddings": "backbone.1.row_embed",
        "model.position_embedding.column_embeddings": "backbone.1.col_embed",
        "model.input_projection": "input_proj",
        "model.query_position_embeddings": "query_embed",
        "class_labels_classifier": "class_embed",
        "bbox_predictor": "bbox_embed",
        "model.decoder.layernorm": "transformer.decoder.norm",
        "model.encoder": "transformer.encoder",
        "model.decoder": "transformer.decoder",
        "self_attn_layer_norm": "norm1",
        "encoder_attn_layer_norm": "norm2",
        "encoder_attn": "multihead_attn",
        "fc1": "linear1",
        "fc2": "linear2",
    }
    named = {}
    for name, tensor in timm_names(weights).items():
        if "k_proj" in name or "v_proj" in name:
            continue
        if "q_proj" in name:
            tensor = torch.cat([weights[name.replace("q_proj", part)] for part in ("q_proj", "k_proj", "v_proj")])
            name = name.replace("q_proj.", "in_proj_")
        name = name.replace("final_layer_norm", "norm2" if ".encoder." in name else "norm3")
        for theirs, ours in words.items():
            name = name.replace(theirs, ours)
        named[name] = tensor.contiguous()
    return named


def rewrite(out, name, of, names):
    folder = out / name
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    shutil.copy(out / of / "config.json", folder)
    weights = names(safetensors.torch.load_file(out / of / "model.safetensors"))
    safetensors.torch.save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})


def main():
    torch.set_num_threads(1)
    out = pathlib.Path(sys.argv[1] if len(sys.argv) > 1 else pathlib.Path(__file__).parent)
    write(out, "detr", detr(), "sine positions, the last layer's loss alone, a padded batch", 1)
    changed = detr({"layer_type": "bottleneck", "hidden_sizes": [8, 8]}, auxiliary_loss=True)
    write(out, "detr-auxiliary", changed, "bottlenecks, losses of all decoder layers, a padded batch", 2)
    rewrite(out, "detr-timm", "detr-auxiliary", timm_names)
    changed = detr(auxiliary_loss=True, position_embedding_type="learned", encoder_layers=1, eos_coefficient=0.3)
    write(out, "detr-learned", changed, "learned positions", 3)
    rewrite(out, "detr-authors", "detr-learned", author_names)
    changed = detr(pre_norm=True, auxiliary_loss_in_training=True)
    write(out, "detr-pre-norm", changed, "layers that normalise their inputs, losses of all decoder layers", 4)


if __name__ == "__main__":
    main()
