"""Write one step of a tiny random ALBEF, as its authors' own code computes it, for the test of ALBEF's losses.

    git clone https://github.com/salesforce/ALBEF  (commit b9727e43c3040491774d1b22cc27718aa7772fac)
    pip install torch==2.15.0 safetensors
    python make_albef.py ALBEF_DIR [OUT_DIR]  (default: the folder of this script)

The authors' code needs old versions of transformers and timm: the few names that it reads of them are written below. Its classes are otherwise as they
are, but for the sizes of the image encoder and for the draws, which are given: the masked tokens and the mismatches. Its folder is `albef`:
  config.json             the model
  model.safetensors       the state before the step, under the authors' names, with queues, without the momentum encoders but for their projections
  momentum.safetensors    the momentum encoders under the names of the others
  averaged.safetensors    the same after their update, which the authors make before the momentum encoders run
  grads.safetensors       the gradient of the sum of the losses for every parameter
  io.safetensors          in.pixels (B, N, 3·P·P), each patch in the order (channel, y, x); token ids (B, T), attention mask (B, T), ids of which some are
                          masked, labels (B, T), -100 for none; the drawn mismatches (B); the queues (Q, E) before and after
  meta.json               losses, alpha, momentum, and the pointer before and after
All values are computed in float32 on one thread, without dropout.
"""

import functools
import json
import pathlib
import shutil
import sys
import types

import safetensors.torch
import torch
from make_models import randomize
from torch import nn

WIDTH, PATCH, SIDE, VOCAB, EMBED, QUEUE, BATCH, LAYERS, FUSION, BLOCKS, HEADS, HIDDEN = 16, 8, 16, 40, 8, 6, 3, 4, 2, 2, 2, 24
PAD, CLS, SEP, MASK = 0, 1, 2, 3
ALPHA, MOMENTUM, TEMPERATURE = 0.4, 0.9, 0.125
LENGTHS = [9, 5, 7]
# The texts' images and the images' texts that do not match.
IMAGES, TEXTS = [2, 0, 1], [1, 2, 0]


class Config(types.SimpleNamespace):
    @classmethod
    def from_json_file(cls, _):
        return cls(
            vocab_size=VOCAB, hidden_size=WIDTH, num_hidden_layers=LAYERS, num_attention_heads=HEADS, intermediate_size=HIDDEN,
            hidden_act="gelu", hidden_dropout_prob=0.0, attention_probs_dropout_prob=0.0, max_position_embeddings=12, type_vocab_size=2,
            layer_norm_eps=1e-12, pad_token_id=PAD, initializer_range=0.02, fusion_layer=FUSION, encoder_width=WIDTH,
            chunk_size_feed_forward=0, add_cross_attention=False, output_attentions=False, output_hidden_states=False,
            use_return_dict=True, use_cache=False, is_decoder=False,
        )  # fmt: skip


class PreTrained(nn.Module):
    """What the authors' BERT takes from transformers 4.8's PreTrainedModel."""

    dtype, device = torch.float32, torch.device("cpu")

    def __init__(self, config):
        super().__init__()
        self.config = config

    @classmethod
    def from_pretrained(cls, _, config):
        return cls(config)

    def init_weights(self):
        if hasattr(self, "get_output_embeddings"):
            self.get_output_embeddings().weight = self.bert.embeddings.word_embeddings.weight

    def invert_attention_mask(self, mask):
        return (1.0 - mask[:, None, None, :].float()) * -10000.0

    def get_head_mask(self, mask, layers):
        return [None] * layers


class PatchEmbed(nn.Module):
    def __init__(self, img_size, patch_size, in_chans, embed_dim):
        super().__init__()
        self.num_patches = (img_size // patch_size) ** 2
        self.proj = nn.Conv2d(in_chans, embed_dim, patch_size, patch_size)

    def forward(self, x):
        return self.proj(x).flatten(2).transpose(1, 2)


def module(name, **names):
    """A module that has these names, and for any other a class or a decorator without effect."""
    made = types.ModuleType(name)
    made.__path__ = []
    made.__getattr__ = lambda _: lambda *a, **k: lambda of: of
    vars(made).update(names)
    sys.modules[name] = made


def authors(checkout):
    """The authors' module with the class of the pre-trained model."""
    logging = types.SimpleNamespace(get_logger=lambda _: None, set_verbosity_error=lambda: None)
    output = type("ModelOutput", (types.SimpleNamespace,), {"__getitem__": lambda self, _: self.last_hidden_state})
    outputs = [
        "BaseModelOutputWithPastAndCrossAttentions", "BaseModelOutputWithPoolingAndCrossAttentions", "CausalLMOutputWithCrossAttentions",
        "MaskedLMOutput", "MultipleChoiceModelOutput", "NextSentencePredictorOutput", "QuestionAnsweringModelOutput",
        "SequenceClassifierOutput", "TokenClassifierOutput",
    ]  # fmt: skip
    module("transformers", logging=logging)
    module("transformers.activations", ACT2FN={"gelu": nn.functional.gelu})
    module("transformers.file_utils", ModelOutput=output)
    module("transformers.modeling_outputs", **{name: output for name in outputs})
    module("transformers.modeling_utils", PreTrainedModel=PreTrained, apply_chunking_to_forward=lambda f, chunk, dim, x: f(x))
    module("transformers.utils", logging=logging)
    module("transformers.models")
    module("transformers.models.bert")
    module("transformers.models.bert.configuration_bert", BertConfig=Config)
    module("timm")
    module("timm.models")
    module("timm.models.vision_transformer", PatchEmbed=PatchEmbed)
    module("timm.models.registry")
    module("timm.models.layers", trunc_normal_=nn.init.trunc_normal_)
    sys.path.insert(0, str(checkout))
    import models.model_pretrain as found

    sizes = {"patch_size": PATCH, "embed_dim": WIDTH, "depth": BLOCKS, "num_heads": HEADS, "mlp_ratio": HIDDEN / WIDTH}
    whole = found.VisionTransformer
    found.VisionTransformer = lambda **given: whole(**{**given, **sizes})
    found.concat_all_gather = lambda rows: rows
    return found


def build(found):
    tokenizer = types.SimpleNamespace(pad_token_id=PAD, cls_token_id=CLS, mask_token_id=MASK)
    config = {
        "mlm_probability": 0.15, "embed_dim": EMBED, "image_res": SIDE, "vision_width": WIDTH, "bert_config": None, "temp": TEMPERATURE,
        "queue_size": QUEUE, "momentum": MOMENTUM,
    }  # fmt: skip
    model = found.ALBEF(None, tokenizer, config, init_deit=False).eval()
    for seed, part in enumerate(model.children()):
        randomize(part, seed)
    with torch.no_grad():
        # They are written in half of the bytes.
        for p in model.parameters():
            p.copy_(p.bfloat16())
        model.temp.fill_(TEMPERATURE)
        model.queue_ptr[0] = BATCH
    return model


def batch(model):
    """Inputs, and what is drawn."""
    gen = torch.Generator().manual_seed(9)
    images = torch.randn((BATCH, 3, SIDE, SIDE), generator=gen)
    longest = max(LENGTHS)
    mask = (torch.arange(longest) < torch.tensor(LENGTHS)[:, None]).long()
    ids = torch.randint(4, VOCAB, (BATCH, longest), generator=gen) * mask
    ids[:, 0] = CLS
    for row, length in enumerate(LENGTHS):
        ids[row, length - 1] = SEP
    hidden = torch.zeros_like(ids)
    for row, place in [(0, 2), (0, 6), (1, 3), (2, 1), (2, 2), (2, 5)]:
        hidden[row, place] = 1
    labels = torch.where(hidden == 1, ids, -100)
    masked = torch.where(hidden == 1, MASK, ids)
    # One of them is another word, one is as it was.
    masked[2, 1], masked[2, 5] = 17, ids[2, 5]
    model.mask = lambda *_, **__: (masked.clone(), labels.clone())
    return images, types.SimpleNamespace(input_ids=ids, attention_mask=mask), masked, labels


def of_momentum(model):
    """The momentum encoders under the names of the others; those without one are as they are."""
    state = model.state_dict()
    part = {name: name.replace(".", "_m.", 1) for name in state if "_m." not in name and "queue" not in name}
    return {name: state.get(other, state[name]) for name, other in part.items()}


def save(tensors, path):
    safetensors.torch.save_file({name: t.detach().contiguous().clone() for name, t in tensors.items()}, path)


def step(model, folder):
    images, text, masked, labels = batch(model)
    draws, weights = iter(IMAGES + TEXTS), []
    torch.multinomial = lambda of, _: (weights.append(of.clone()), torch.tensor([next(draws)]))[1]
    patches = nn.functional.unfold(images, PATCH, stride=PATCH).transpose(1, 2)
    io = {"in.pixels": patches, "in.input_ids": text.input_ids, "in.attention_mask": text.attention_mask}
    io |= {"in.masked_ids": masked, "in.labels": labels, "in.images": torch.tensor(IMAGES), "in.texts": torch.tensor(TEXTS)}
    queues = lambda: {name: getattr(model, f"{name}_queue").t() for name in ("image", "text")}
    io |= {f"in.{name}_queue": rows.clone() for name, rows in queues().items()}
    online = {name: t for name, t in model.state_dict().items() if "encoder_m." not in name}
    save({name: t.bfloat16() if t.is_floating_point() else t for name, t in online.items()}, folder / "model.safetensors")
    save({name: t.bfloat16() if t.is_floating_point() else t for name, t in of_momentum(model).items()}, folder / "momentum.safetensors")
    pointer = int(model.queue_ptr)
    losses = model(images, text, alpha=ALPHA)
    sum(losses).backward()
    save({name: p.grad for name, p in model.named_parameters() if p.grad is not None}, folder / "grads.safetensors")
    save(of_momentum(model), folder / "averaged.safetensors")
    io |= {f"out.{name}_queue": rows for name, rows in queues().items()}
    io |= {"out.weights_of_images": torch.stack(weights[:BATCH]), "out.weights_of_texts": torch.stack(weights[BATCH:])}
    save(io, folder / "io.safetensors")
    meta = {f"loss_{name}": loss.item() for name, loss in zip(("mlm", "ita", "itm"), losses, strict=True)}
    meta |= {"alpha": ALPHA, "momentum": MOMENTUM, "pointer": [pointer, int(model.queue_ptr)], "versions": {"torch": torch.__version__}}
    (folder / "meta.json").write_text(json.dumps(meta, indent=1) + "\n")


def main():
    torch.set_num_threads(1)
    torch.manual_seed(7)
    out = pathlib.Path(sys.argv[2] if len(sys.argv) > 2 else pathlib.Path(__file__).parent)
    folder = out / "albef"
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    config = {
        "model_type": "albef", "image_size": SIDE, "patch_size": PATCH, "num_channels": 3, "vision_hidden_size": WIDTH,
        "vision_num_hidden_layers": BLOCKS, "vision_num_attention_heads": HEADS, "vision_intermediate_size": HIDDEN, "vocab_size": VOCAB,
        "max_position_embeddings": 12, "type_vocab_size": 2, "hidden_size": WIDTH, "num_hidden_layers": LAYERS, "fusion_layer": FUSION,
        "num_attention_heads": HEADS, "intermediate_size": HIDDEN, "hidden_act": "gelu", "layer_norm_eps": 1e-12, "embed_dim": EMBED,
        "temp": TEMPERATURE,
    }  # fmt: skip
    (folder / "config.json").write_text(json.dumps(config, indent=1) + "\n")
    step(build(authors(pathlib.Path(sys.argv[1]).resolve())), folder)


if __name__ == "__main__":
    main()
