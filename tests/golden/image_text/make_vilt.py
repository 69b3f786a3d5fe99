"""Write tiny random ViLTs of transformers, with recorded inputs, outputs and gradients for `samara parity`, as make_models.py does for other families.

    pip install torch==2.15.0 transformers==5.24.0 safetensors
    python make_vilt.py [OUT_DIR]  (default: the folder of this script)

ViltModel shuffles the patches of the largest images of a batch. Attention does not depend on their order, recorded hidden states do: here they keep it.
The loss of a model that scores pairs is not that of transformers, which has none, but that of its authors' retrieval: the cross-entropy of the pair that
belongs together among all pairs of the batch.
"""

import json
import pathlib
import shutil
import sys

import safetensors.torch
import torch
import transformers
from make_models import randomize

BATCH, SIDE, PATCH = 3, 12, 4


def in_order(weights, count, replacement=False):
    return torch.zeros(count, dtype=torch.long) if replacement else torch.arange(count)


def images(gen, sizes):
    """Images in the upper left corners of equal frames, with the mask of their pixels."""
    height, width = (max(size[side] for size in sizes) for side in (0, 1))
    pixels, mask = torch.zeros(len(sizes), 3, height, width), torch.zeros(len(sizes), height, width, dtype=torch.long)
    for image, (h, w) in enumerate(sizes):
        pixels[image, :, :h, :w] = torch.randn((3, h, w), generator=gen)
        mask[image, :h, :w] = 1
    return pixels, mask


def write(out, name, model, sizes, lengths, labels, about, seed):
    gen = torch.Generator().manual_seed(seed)
    pixels, pixel_mask = images(gen, sizes)
    tokens = torch.randint(0, 23, (BATCH, max(lengths)), generator=gen)
    mask = (torch.arange(max(lengths)) < torch.tensor(lengths)[:, None]).long()
    types = (torch.arange(max(lengths)) > 4).long().expand(BATCH, -1).contiguous()
    inputs = {"pixel_values": pixels, "pixel_mask": pixel_mask, "input_ids": tokens, "attention_mask": mask, "token_type_ids": types}
    randomize(model.eval(), seed)
    folder = out / name
    shutil.rmtree(folder, ignore_errors=True)
    model.save_pretrained(folder)
    found = model(**inputs, output_hidden_states=True)
    states = model.vilt(**inputs)
    if labels is None:
        chosen = torch.rand(tokens.shape, generator=gen) < 0.4
        labels = torch.where(chosen & (mask == 1), tokens, -100)
        loss = torch.nn.functional.cross_entropy(found.logits.flatten(0, 1), labels.flatten())
    else:
        loss = torch.nn.functional.cross_entropy(found.logits.view(1, -1), labels)
    loss.backward()
    outputs = {f"hidden_states.{number}": hidden for number, hidden in enumerate(found.hidden_states)}
    outputs |= {"last_hidden_state": states.last_hidden_state, "pooler_output": states.pooler_output, "logits": found.logits}
    io = {f"in.{key}": value for key, value in {**inputs, "labels": labels}.items()}
    io |= {f"out.{key}": value.detach() for key, value in outputs.items()}
    safetensors.torch.save_file({key: t.contiguous().clone() for key, t in io.items()}, folder / "io.safetensors")
    grads = {key: p.grad.detach().contiguous().clone() for key, p in model.named_parameters() if p.grad is not None}
    safetensors.torch.save_file(grads, folder / "grads.safetensors")
    versions = {"torch": torch.__version__, "transformers": transformers.__version__}
    meta = {"loss": loss.item(), "about": about, "seed": seed, "versions": versions}
    (folder / "meta.json").write_text(json.dumps(meta, indent=1) + "\n")


def config(**more):
    return transformers.ViltConfig(
        vocab_size=23, hidden_size=16, num_hidden_layers=2, num_attention_heads=4, intermediate_size=24, max_position_embeddings=12,
        image_size=SIDE, patch_size=PATCH, hidden_dropout_prob=0.0, attention_probs_dropout_prob=0.0, attn_implementation="eager", **more,
    )  # fmt: skip


def authors_names(weights):
    """The tensors of a ViLT under its authors' names: fused projections, parts as in timm's VisionTransformer."""
    words = {
        "vilt.embeddings.text_embeddings": "text_embeddings", "vilt.embeddings.token_type_embeddings": "token_type_embeddings",
        "vilt.embeddings.cls_token": "transformer.cls_token", "vilt.embeddings.position_embeddings": "transformer.pos_embed",
        "vilt.embeddings.patch_embeddings.projection": "transformer.patch_embed.proj", "vilt.encoder.layer": "transformer.blocks",
        "layernorm_before": "norm1", "layernorm_after": "norm2", "attention.output.dense": "attn.proj", "intermediate.dense": "mlp.fc1",
        "output.dense": "mlp.fc2", "vilt.layernorm": "transformer.norm", "vilt.pooler": "pooler", "mlm_score.decoder.bias": "mlm_score.bias",
    }  # fmt: skip
    named = {"mlm_score.decoder.weight": weights["vilt.embeddings.text_embeddings.word_embeddings.weight"]}
    for name, tensor in weights.items():
        if ".key." in name or ".value." in name:
            continue
        if ".query." in name:
            tensor = torch.cat([weights[name.replace("query", part)] for part in ("query", "key", "value")])
            name = name.replace("attention.attention.query", "attn.qkv")
        for theirs, other in words.items():
            name = name.replace(theirs, other)
        named[name] = tensor
    named["text_embeddings.position_ids"] = torch.arange(12)[None]
    named["itm_score.fc.weight"], named["itm_score.fc.bias"] = torch.ones(2, 16), torch.ones(2)
    return {name: tensor.contiguous().clone() for name, tensor in named.items()}


def authors(out, name, of):
    folder = out / name
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    shutil.copy(out / of / "config.json", folder)
    safetensors.torch.save_file(authors_names(safetensors.torch.load_file(out / of / "model.safetensors")), folder / "model.safetensors")


def main():
    torch.set_num_threads(1)
    torch.multinomial = in_order
    out = pathlib.Path(sys.argv[1] if len(sys.argv) > 1 else pathlib.Path(__file__).parent)
    torch.manual_seed(5)
    mixed, lengths = [(12, 12), (12, 20), (8, 16)], [9, 6, 8]
    about = "masked tokens, padded texts, images of three grids"
    write(out, "vilt", transformers.ViltForMaskedLM(config()), mixed, lengths, None, about, 5)
    authors(out, "vilt-authors", "vilt")
    rank = transformers.ViltForImageAndTextRetrieval(config(qkv_bias=False))
    about = "scores of pairs, images of three grids, no biases of queries, keys and values"
    write(out, "vilt-rank", rank, [(20, 12), (4, 8), (12, 12)], lengths, torch.tensor([1]), about, 6)
    square = transformers.ViltForImageAndTextRetrieval(config())
    write(out, "vilt-square", square, [(12, 12)] * BATCH, [7] * BATCH, torch.tensor([2]), "scores of pairs without padding", 7)


if __name__ == "__main__":
    main()
