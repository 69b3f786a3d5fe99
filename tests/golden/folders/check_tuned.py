"""Fine-tunes every folder here by one step with the real binary and opens the result with `transformers`, beside the folder that it came from.

    pip install torch==2.15.0 transformers==5.24.0 tokenizers==0.23.3
    cargo build --release && python check_tuned.py ../../../target/release/samara

Compared are, as transformers sees them: every key of the configuration and of the generation settings, special tokens, chat template and the ids of some
texts, which one step has no reason to change; and the logits of the trained weights with those that `samara score` gives. The largest difference of a
logit is printed for each folder, and the exit code is 1 if anything differs.
"""

import json
import pathlib
import subprocess
import sys
import tempfile

import numpy
import torch
import transformers
from make_folders import HERE, SHAPES, TEXTS
from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer, GenerationConfig

TOLERANCE = 1e-4
# Weights are f32 after training, and a model without a head has one; the rest are names of files and of versions.
KNOWN = {"dtype", "torch_dtype", "architectures", "_name_or_path", "transformers_version", "_from_model_config"}
KEYS = {
    "train.steps": 1, "train.lr": 1e-3, "train.warmup_steps": 0, "train.eval_every": 0, "train.batch_size": 2, "train.block_size": 16,
    "generate.max_new_tokens": 0,
}


def samara(binary, *args):
    done = subprocess.run([binary, *map(str, args)], capture_output=True, text=True)
    if done.returncode != 0:
        sys.exit(f"{args} ended with {done.returncode}: {done.stderr}")
    return done.stdout


def tuned(binary, name, work):
    """One step on text, or on ids where there is no tokenizer."""
    has_text = any((HERE / name / file).exists() for file in ("tokenizer.json", "vocab.json"))
    data, more = (work / "text.txt", ["--set", "data.val_fraction=0"]) if has_text else (work / "ids.bin", [])
    sets = [word for key, value in KEYS.items() for word in ("--set", f"{key}={value}")]
    samara(binary, "train", "--init", HERE / name, "--data", data, "--out", work / name, "-q", *sets, *more)
    return work / name


def differences(before, after):
    return [f"{key}: {value!r} is {after.get(key)!r}" for key, value in before.items() if key not in KNOWN and after.get(key) != value]


def tokenizer_of(folder):
    tokenizer = AutoTokenizer.from_pretrained(folder)
    tokens = {"special": tokenizer.special_tokens_map, "chat": tokenizer.chat_template, "size": len(tokenizer), "class": type(tokenizer).__name__}
    return tokens | {text: tokenizer(text)["input_ids"] for text in TEXTS}


def generation_of(folder):
    return GenerationConfig.from_pretrained(folder).to_dict() if (folder / "generation_config.json").exists() else {}


def check(binary, name, work):
    before, after = HERE / name, tuned(binary, name, work)
    found = differences(AutoConfig.from_pretrained(before).to_dict(), AutoConfig.from_pretrained(after).to_dict())
    found += differences(generation_of(before), generation_of(after))
    if any((before / file).exists() for file in ("tokenizer.json", "vocab.json")):
        found += differences(tokenizer_of(before), tokenizer_of(after))
    prompt = json.loads((before / "expected.json").read_text())["prompt"]
    model, info = AutoModelForCausalLM.from_pretrained(after, dtype=torch.float32, output_loading_info=True)
    found += [f"{what}: {info[what]}" for what in ("missing_keys", "unexpected_keys", "mismatched_keys") if info[what]]
    theirs = model.eval()(torch.tensor([prompt])).logits[0].detach().numpy()
    samara(binary, "score", "--model", after, "--tokens", ",".join(map(str, prompt)), "--logits", work / "logits.npy", "-q")
    difference = float(numpy.abs(theirs - numpy.load(work / "logits.npy")).max())
    moved = float(numpy.abs(theirs - AutoModelForCausalLM.from_pretrained(before, dtype=torch.float32)(torch.tensor([prompt])).logits[0].detach().numpy()).max())
    found += [f"logits differ by {difference}"] if not difference <= TOLERANCE else []
    found += ["the step moved nothing"] if moved == 0 else []
    print(f"{name}: logits differ by {difference:.2e} from samara's, by {moved:.2e} from those before the step; {found or 'all keys as they were'}", flush=True)
    return found


def main():
    binary = str(pathlib.Path(sys.argv[1]).resolve())
    transformers.logging.set_verbosity_error()
    transformers.logging.disable_progress_bar()
    print("torch", torch.__version__, "transformers", transformers.__version__)
    with tempfile.TemporaryDirectory() as folder:
        work = pathlib.Path(folder)
        (work / "text.txt").write_text("the crow and the fox " * 60)
        numpy.array([i * 7 % 61 for i in range(400)], "<u2").tofile(work / "ids.bin")
        wrong = [name for name in SHAPES if check(binary, name, work)]
    sys.exit(f"differences in {', '.join(wrong)}" if wrong else 0)


if __name__ == "__main__":
    main()
