"""Makes a model folder of a checkpoint of ALBEF's authors: model.safetensors, config.json and vocab.txt. Needs torch, numpy and safetensors.

Usage: python3 albef_to_folder.py ALBEF.pth VOCAB.txt FOLDER [key=value …]

VOCAB.txt is that of bert-base-uncased. Sizes are those of the tensors; what no tensor tells, the number of heads, is width / 64 unless a key says otherwise
(num_attention_heads=12 vision_num_attention_heads=12). Momentum encoders and queues are left out.
"""

import json
import shutil
import sys
from pathlib import Path

import safetensors.torch
import torch


def count(weights, start):
    """The number of blocks whose names begin with `start`."""
    return 1 + max(int(name[len(start) :].split(".")[0]) for name in weights if name.startswith(start))


def describe(weights):
    """The config.json of these tensors."""
    bert, vit = "text_encoder.bert.", "visual_encoder."
    width, channels, patch, _ = weights[vit + "patch_embed.proj.weight"].shape
    places, side = weights[vit + "pos_embed"].shape[1] - 1, 1
    while side * side < places:
        side += 1
    vocab, hidden = weights[bert + "embeddings.word_embeddings.weight"].shape
    layers = count(weights, bert + "encoder.layer.")
    return {
        "model_type": "albef",
        "image_size": side * patch,
        "patch_size": patch,
        "num_channels": channels,
        "vision_hidden_size": width,
        "vision_num_hidden_layers": count(weights, vit + "blocks."),
        "vision_num_attention_heads": max(width // 64, 1),
        "vision_intermediate_size": weights[vit + "blocks.0.mlp.fc1.weight"].shape[0],
        "vocab_size": vocab,
        "max_position_embeddings": weights[bert + "embeddings.position_embeddings.weight"].shape[0],
        "type_vocab_size": weights[bert + "embeddings.token_type_embeddings.weight"].shape[0],
        "hidden_size": hidden,
        "num_hidden_layers": layers,
        "fusion_layer": next(n for n in range(layers) if f"{bert}encoder.layer.{n}.crossattention.self.query.weight" in weights),
        "num_attention_heads": max(hidden // 64, 1),
        "intermediate_size": weights[bert + "encoder.layer.0.intermediate.dense.weight"].shape[0],
        "hidden_act": "gelu",
        "layer_norm_eps": 1e-12,
        "embed_dim": weights["text_proj.weight"].shape[0],
        "temp": round(float(weights["temp"]), 6),
    }


def main():
    if len(sys.argv) < 4:
        sys.exit(__doc__)
    checkpoint, vocab, folder = map(Path, sys.argv[1:4])
    state = torch.load(checkpoint, map_location="cpu", weights_only=True)
    state = state.get("model", state)
    kept = {name: t for name, t in state.items() if "_m." not in name and not name.endswith(("_queue", "queue_ptr"))}
    if "visual_encoder.pos_embed" not in kept or "itm_head.weight" not in kept:
        sys.exit(f"{checkpoint}: expected a pre-trained ALBEF, found {', '.join(sorted(kept)[:3])}, …")
    folder.mkdir(parents=True, exist_ok=True)
    config = describe(kept)
    for key, value in (setting.split("=", 1) for setting in sys.argv[4:]):
        if key not in config:
            sys.exit(f"{key}: expected one of {', '.join(config)}")
        config[key] = type(config[key])(value)
    # Tied tensors of the state share their memory, those of a file cannot.
    safetensors.torch.save_file({name: t.contiguous().clone() for name, t in kept.items()}, folder / "model.safetensors")
    (folder / "config.json").write_text(json.dumps(config, indent=2) + "\n")
    shutil.copyfile(vocab, folder / "vocab.txt")
    print(f"{len(kept)} tensors -> {folder}")


if __name__ == "__main__":
    main()
