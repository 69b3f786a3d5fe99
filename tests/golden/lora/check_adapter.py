"""Open an adapter with PEFT as any user would and compare its logits, and those of a merged folder, with arrays written elsewhere.

    python check_adapter.py ADAPTER --tokens 1,2,3 --logits FILE.npy [--base DIR] [--merged DIR] [--tolerance 1e-4]

Exit code 1 if something differs by more than the tolerance.
"""

import argparse
import pathlib

import numpy
import peft
import torch
import transformers


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("adapter", type=pathlib.Path)
    parser.add_argument("--tokens", required=True, help="comma-separated ids")
    parser.add_argument("--logits", type=pathlib.Path, required=True, help="array (T, V) in .npy form")
    parser.add_argument("--base", help="default: the one that the adapter names")
    parser.add_argument("--merged", help="a folder of the merged model")
    parser.add_argument("--tolerance", type=float, default=1e-4)
    args = parser.parse_args()
    config = peft.PeftConfig.from_pretrained(args.adapter)
    base = transformers.AutoModelForCausalLM.from_pretrained(args.base or config.base_model_name_or_path, dtype=torch.float32)
    models = {"adapter": peft.PeftModel.from_pretrained(base, args.adapter)}
    if args.merged:
        models["merged"] = transformers.AutoModelForCausalLM.from_pretrained(args.merged, dtype=torch.float32)
    ids = torch.tensor([[int(id) for id in args.tokens.split(",")]])
    expected, worst = numpy.load(args.logits), 0.0
    for name, model in models.items():
        with torch.no_grad():
            difference = abs(model.eval()(input_ids=ids).logits[0].numpy() - expected).max()
        print(f"{name}: largest difference of logits {difference:.2e}")
        worst = max(worst, difference)
    print(f"peft {peft.__version__}, transformers {transformers.__version__}, torch {torch.__version__}")
    raise SystemExit(int(worst > args.tolerance))


main()
