"""Write small adapters of golden models with PEFT, and what the adapted models compute.

    python make_lora.py [OUT_DIR]   (default: the folder of this script)

Each folder is what `save_pretrained` writes, and beside it expected.safetensors: input_ids (T), logits (T, V), and the gradient of
the mean loss by every tensor of the adapter, as grad.NAME. A and B are random, so that both have gradients. Float32, one thread.
"""

import json
import pathlib
import sys

import peft
import safetensors.torch
import torch
import transformers

HERE = pathlib.Path(__file__).parent
CASES = {
    "gpt2": ("gpt2-2layer", dict(r=3, lora_alpha=6, target_modules=["c_attn", "c_fc", "mlp.c_proj"], modules_to_save=["ln_f"])),
    "llama": ("parity-llama-gqa-tied", dict(r=2, lora_alpha=5, target_modules=["q_proj", "v_proj", "down_proj"], use_rslora=True)),
}
TOKENS = 13


def write(out, base, settings, seed):
    model = transformers.AutoModelForCausalLM.from_pretrained(HERE.parent / "models" / base, dtype=torch.float32)
    is_gpt = model.config.model_type == "gpt2"
    model = peft.get_peft_model(model, peft.LoraConfig(task_type="CAUSAL_LM", fan_in_fan_out=is_gpt, **settings))
    generator = torch.Generator().manual_seed(seed)
    trained = {name: p for name, p in model.named_parameters() if p.requires_grad}
    with torch.no_grad():
        for p in trained.values():
            p += 0.1 * torch.randn(p.shape, generator=generator)
    ids = torch.randint(0, model.config.vocab_size, (1, TOKENS), generator=generator)
    result = model(input_ids=ids, labels=ids)
    result.loss.backward()
    model.save_pretrained(out)
    (out / "README.md").unlink(missing_ok=True)
    # The base is found by --base: a path of this machine says nothing elsewhere.
    config = json.loads((out / "adapter_config.json").read_text())
    config["base_model_name_or_path"] = base
    (out / "adapter_config.json").write_text(json.dumps(config, indent=2) + "\n")
    on_disk = lambda name: name.replace(".default", "").replace(".modules_to_save", "")
    tensors = {f"grad.{on_disk(name)}": p.grad.contiguous() for name, p in trained.items()}
    tensors |= {"input_ids": ids[0].to(torch.int32), "logits": result.logits[0].detach().contiguous()}
    safetensors.torch.save_file(tensors, out / "expected.safetensors")


def main():
    torch.set_num_threads(1)
    torch.use_deterministic_algorithms(True)
    out = pathlib.Path(sys.argv[1]) if len(sys.argv) > 1 else HERE
    for seed, (name, (base, settings)) in enumerate(CASES.items()):
        torch.manual_seed(seed)
        write(out / name, base, settings, seed)
    print(f"peft {peft.__version__}, transformers {transformers.__version__}, torch {torch.__version__}")


main()
