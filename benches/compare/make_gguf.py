"""Write a Hugging Face GPT-2 folder as a GGUF file for llama.cpp.

    python make_gguf.py FOLDER OUT.gguf [f32|q8_0|q4_0]

All matrices but the position embedding are quantised, the tied embedding too, as `llama-quantize --pure` does. The tokenizer is a
stand-in: ids are given as they are.
"""

import json
import pathlib
import sys

import gguf
from safetensors.numpy import load_file

BLOCK = {
    "ln_1.weight": "attn_norm.weight",
    "ln_1.bias": "attn_norm.bias",
    "attn.c_attn.weight": "attn_qkv.weight",
    "attn.c_attn.bias": "attn_qkv.bias",
    "attn.c_proj.weight": "attn_output.weight",
    "attn.c_proj.bias": "attn_output.bias",
    "ln_2.weight": "ffn_norm.weight",
    "ln_2.bias": "ffn_norm.bias",
    "mlp.c_fc.weight": "ffn_up.weight",
    "mlp.c_fc.bias": "ffn_up.bias",
    "mlp.c_proj.weight": "ffn_down.weight",
    "mlp.c_proj.bias": "ffn_down.bias",
}
OUTSIDE = {
    "wte.weight": "token_embd.weight",
    "wpe.weight": "position_embd.weight",
    "ln_f.weight": "output_norm.weight",
    "ln_f.bias": "output_norm.bias",
}


def name_of(theirs):
    """GGUF's name, none for what is not a weight."""
    key = theirs.removeprefix("transformer.")
    if not key.startswith("h."):
        return OUTSIDE.get(key)
    _, block, rest = key.split(".", 2)
    return f"blk.{block}.{BLOCK[rest]}" if rest in BLOCK else None


def main():
    folder, out = map(pathlib.Path, sys.argv[1:3])
    kind = gguf.GGMLQuantizationType[sys.argv[3].upper() if len(sys.argv) > 3 else "F32"]
    config = json.loads((folder / "config.json").read_text())
    writer = gguf.GGUFWriter(out, "gpt2")
    writer.add_context_length(config["n_positions"])
    writer.add_embedding_length(config["n_embd"])
    writer.add_feed_forward_length(config.get("n_inner") or 4 * config["n_embd"])
    writer.add_block_count(config["n_layer"])
    writer.add_head_count(config["n_head"])
    writer.add_layer_norm_eps(config["layer_norm_epsilon"])
    vocabulary = config["vocab_size"]
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre("gpt-2")
    writer.add_token_list([f"<{i}>" for i in range(vocabulary)])
    writer.add_token_types([gguf.TokenType.NORMAL] * vocabulary)
    writer.add_token_merges(["a b"])
    writer.add_bos_token_id(vocabulary - 1)
    writer.add_eos_token_id(vocabulary - 1)
    for theirs, value in load_file(folder / "model.safetensors").items():
        name = name_of(theirs)
        if name is None:
            continue
        if name.startswith("blk.") and value.ndim == 2:
            value = value.T.copy()
        if value.ndim == 2 and name != "position_embd.weight" and kind != gguf.GGMLQuantizationType.F32:
            writer.add_tensor(name, gguf.quants.quantize(value, kind), raw_dtype=kind)
        else:
            writer.add_tensor(name, value)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


if __name__ == "__main__":
    main()
