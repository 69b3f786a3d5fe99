"""Write tiny random encoders of text, and of images with texts, of transformers, with recorded inputs, outputs and gradients for `samara parity`.

    pip install torch==2.15.0 transformers==5.24.0 safetensors
    python make_models.py [OUT_DIR]  (default: the folder of this script)

Every folder is a real model folder (`save_pretrained`), beside it:
  io.safetensors     in.NAME and out.NAME as `samara parity --io` takes them
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

BATCH = 3


def randomize(model, seed):
    gen = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, p in model.named_parameters():
            noise = torch.randn(p.shape, generator=gen)
            if "norm" in name.lower() and name.endswith("weight"):
                p.copy_(1.0 + 0.25 * noise)
            elif name.startswith("logit_"):
                p.copy_(p + 0.3 * noise)
            elif name.endswith("bias"):
                p.copy_(0.2 * noise)
            elif "embedding" in name or name.endswith("probe"):
                p.copy_(0.35 * noise)
            else:
                p.copy_(1.1 / (p[0].numel()) ** 0.5 * noise)


def record(folder, model, inputs, outputs, about, seed):
    model.zero_grad()
    out = model(**inputs)
    out.loss.backward()
    io = {f"in.{name}": value for name, value in inputs.items() if isinstance(value, torch.Tensor)}
    io |= {f"out.{name}": value.detach() for name, value in outputs(out).items()}
    safetensors.torch.save_file({name: t.contiguous().clone() for name, t in io.items()}, folder / "io.safetensors")
    grads = {name: p.grad.detach().contiguous().clone() for name, p in model.named_parameters() if p.grad is not None}
    safetensors.torch.save_file(grads, folder / "grads.safetensors")
    versions = {"torch": torch.__version__, "transformers": transformers.__version__}
    meta = {"loss": out.loss.item(), "about": about, "seed": seed, "versions": versions}
    (folder / "meta.json").write_text(json.dumps(meta, indent=1) + "\n")


def write(out, name, model, inputs, outputs, about, seed):
    randomize(model.eval(), seed)
    folder = out / name
    shutil.rmtree(folder, ignore_errors=True)
    model.save_pretrained(folder)
    record(folder, model, inputs, outputs, about, seed)


def layers(out):
    found = {f"hidden_states.{number}": hidden for number, hidden in enumerate(out.hidden_states)}
    return {"logits": out.logits, **found}


def bert(out, seed=1):
    config = transformers.BertConfig(
        vocab_size=23, hidden_size=16, num_hidden_layers=2, num_attention_heads=4, intermediate_size=24, max_position_embeddings=12,
        hidden_dropout_prob=0.0, attention_probs_dropout_prob=0.0, attn_implementation="eager",
    )  # fmt: skip
    gen = torch.Generator().manual_seed(seed)
    tokens = torch.randint(0, 23, (BATCH, 9), generator=gen)
    mask = torch.ones_like(tokens)
    mask[1, 6:] = 0
    mask[2, 8:] = 0
    labels = torch.where(torch.rand(tokens.shape, generator=gen) < 0.3, tokens, -100)
    labels[mask == 0] = -100
    types = (torch.arange(9) > 4).long().expand(BATCH, 9).contiguous()
    inputs = {"input_ids": tokens, "attention_mask": mask, "token_type_ids": types, "labels": labels, "output_hidden_states": True}
    torch.manual_seed(seed)
    about = "post-norm, padding, two texts in a row, masked tokens"
    write(out, "bert", transformers.BertForMaskedLM(config), inputs, layers, about, seed)


def vectors(out):
    return {"image_embeds": out.image_embeds, "text_embeds": out.text_embeds}


def tower(**more):
    return dict(hidden_size=16, num_hidden_layers=2, num_attention_heads=4, intermediate_size=24, attn_implementation="eager", **more)


def clip(out, name, seed, eos, about, act="quick_gelu"):
    text = tower(vocab_size=23, max_position_embeddings=11, eos_token_id=eos, bos_token_id=1, pad_token_id=0, hidden_act=act)
    vision = tower(image_size=12, patch_size=4, hidden_act=act)
    config = transformers.CLIPConfig(text_config=text, vision_config=vision, projection_dim=10)
    gen = torch.Generator().manual_seed(seed)
    tokens = torch.randint(3, 20, (BATCH, 9), generator=gen)
    mask = torch.ones_like(tokens)
    for row, end in enumerate([8, 5, 3]):
        tokens[row, end] = 22
        tokens[row, end + 1 :] = 22 if eos == 22 else 0
        mask[row, end + 1 :] = 0
    pixels = torch.randn((BATCH, 3, 12, 12), generator=gen)
    inputs = {"pixel_values": pixels, "input_ids": tokens, "attention_mask": mask, "return_loss": True}
    torch.manual_seed(seed)
    write(out, name, transformers.CLIPModel(config), inputs, vectors, about, seed)


def openai_names(weights):
    """The tensors of a CLIP under OpenAI's names: fused projections, last projections transposed."""
    words = {
        "encoder.layers": "transformer.resblocks", "self_attn.out_proj": "attn.out_proj", "layer_norm1": "ln_1", "layer_norm2": "ln_2",
        "mlp.fc1": "mlp.c_fc", "mlp.fc2": "mlp.c_proj", "embeddings.class_embedding": "class_embedding",
        "embeddings.patch_embedding": "conv1", "pre_layrnorm": "ln_pre", "post_layernorm": "ln_post", "final_layer_norm": "ln_final",
        "embeddings.token_embedding": "token_embedding", "embeddings.position_embedding.weight": "positional_embedding",
    }  # fmt: skip
    named = {"visual.proj": weights["visual_projection.weight"].T, "text_projection": weights["text_projection.weight"].T}
    for name, tensor in weights.items():
        if name.endswith("projection.weight") or ".k_proj." in name or ".v_proj." in name:
            continue
        if ".q_proj." in name:
            tensor = torch.cat([weights[name.replace("q_proj", part)] for part in ("q_proj", "k_proj", "v_proj")])
            name = name.replace("self_attn.q_proj.", "attn.in_proj_")
        for theirs, other in words.items():
            name = name.replace(theirs, other)
        named[name.replace("vision_model.", "visual.").replace("text_model.", "")] = tensor
    return {name: tensor.contiguous() for name, tensor in named.items()}


def openai(out, name, of):
    folder = out / name
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    shutil.copy(out / of / "config.json", folder)
    safetensors.torch.save_file(openai_names(safetensors.torch.load_file(out / of / "model.safetensors")), folder / "model.safetensors")


def siglip(out, seed=4):
    text = tower(vocab_size=23, max_position_embeddings=9)
    config = transformers.SiglipConfig(text_config={**text, "projection_size": 16}, vision_config=tower(image_size=12, patch_size=4))
    gen = torch.Generator().manual_seed(seed)
    pixels, tokens = torch.randn((BATCH, 3, 12, 12), generator=gen), torch.randint(0, 23, (BATCH, 9), generator=gen)
    inputs = {"pixel_values": pixels, "input_ids": tokens, "return_loss": True}
    torch.manual_seed(seed)
    model = transformers.SiglipModel(config)
    with torch.no_grad():
        model.logit_scale.fill_(1.0)
        model.logit_bias.fill_(-1.0)
    write(out, "siglip", model, inputs, vectors, "sigmoid loss, a head with attention, the last place of a text", seed)


def main():
    torch.set_num_threads(1)
    out = pathlib.Path(sys.argv[1] if len(sys.argv) > 1 else pathlib.Path(__file__).parent)
    bert(out)
    clip(out, "clip", 2, 22, "class token, x sigmoid(1.702 x), the first end of a text")
    openai(out, "clip-openai", "clip")
    clip(out, "clip-old", 3, 2, "the largest id of a text, exact GELU", "gelu")
    siglip(out)


if __name__ == "__main__":
    main()
