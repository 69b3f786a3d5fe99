"""Open a model folder with transformers as any user would and print, as JSON, what it computes.

    python check_folder.py FOLDER [--tokens 1,2,3] [--logits FILE.npy] [--against FOLDER2] [--tolerance 1e-4] [--text TEXT]

Checks that no parameter is missing, unexpected or of a wrong shape, that AutoTokenizer opens the folder and gives back
--text unchanged, and reports the mean loss over --tokens (default: 16 tokens of a fixed pattern). --logits compares with
an array (T, V) written elsewhere, --against with the parameters and logits of a second folder.
Exit code 1 if anything is wrong, 2 for bad arguments. Versions: benches/compare/requirements.txt.
"""

import argparse
import json
import pathlib
import sys

import numpy
import torch
import transformers


def arguments():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=pathlib.Path)
    parser.add_argument("--against", type=pathlib.Path, help="second model folder: parameters and logits must agree")
    parser.add_argument("--logits", type=pathlib.Path, help="array (T, V) in .npy form for --tokens")
    parser.add_argument("--tokens", help="comma-separated ids, e.g. 1,2,3")
    parser.add_argument("--text", default="The quick brown fox.", help="text for the tokenizer's round trip")
    parser.add_argument("--no-tokenizer", action="store_true", help="the folder has no tokenizer")
    parser.add_argument("--tolerance", type=float, default=1e-4, help="largest allowed difference of logits, loss, weights")
    args = parser.parse_args()
    if args.logits and not args.tokens:
        parser.error("--logits needs the --tokens that gave them")
    if not args.folder.is_dir():
        parser.error(f"{args.folder} is not a folder")
    return args


def open_model(folder, problems):
    """GPT2LMHeadModel for GPT-2 folders, else what config.json asks for; problems name every key that does not fit."""
    config = json.loads((folder / "config.json").read_text())
    kind = transformers.GPT2LMHeadModel if config.get("model_type") == "gpt2" else transformers.AutoModelForCausalLM
    model, info = kind.from_pretrained(
        str(folder), output_loading_info=True, dtype=torch.float32, ignore_mismatched_sizes=True, local_files_only=True
    )
    for what in ("missing_keys", "unexpected_keys", "mismatched_keys", "error_msgs"):
        found = info.get(what) or []
        if found:
            problems.append(f"{folder}: {what}: {[str(k) for k in found]}")
    return model.eval()


def parse_tokens(text, model):
    vocab, room = model.config.vocab_size, model.config.max_position_embeddings
    ids = [int(t) for t in text.split(",")] if text else [(i * i + 3 * i + 1) % vocab for i in range(min(16, room))]
    if len(ids) < 2 or len(ids) > room or min(ids) < 0 or max(ids) >= vocab:
        sys.exit(f"--tokens: need 2 to {room} ids in 0..{vocab}, got {ids}")
    return ids


def score(model, ids):
    """Logits (T, V) and the mean of -log p of the tokens after the first."""
    tokens = torch.tensor([ids])
    with torch.no_grad():
        out = model(input_ids=tokens, labels=tokens)
    return out.logits[0], out.loss.item()


def check_tokenizer(folder, text, vocab, problems):
    try:
        tokenizer = transformers.AutoTokenizer.from_pretrained(str(folder), local_files_only=True)
        ids = tokenizer(text, add_special_tokens=False)["input_ids"]
        back = tokenizer.decode(ids, clean_up_tokenization_spaces=False)
    except Exception as error:
        problems.append(f"{folder}: AutoTokenizer: {type(error).__name__}: {error}")
        return None
    if back != text:
        problems.append(f"{folder}: tokenizer: {text!r} came back as {back!r}")
    if len(tokenizer) > vocab:
        problems.append(f"{folder}: tokenizer has {len(tokenizer)} ids, the model {vocab}")
    return {"class": type(tokenizer).__name__, "size": len(tokenizer), "ids": ids, "round_trip": back == text}


def compare(name, ours, theirs, tolerance, problems):
    if tuple(ours.shape) != tuple(theirs.shape):
        problems.append(f"{name}: shape {tuple(ours.shape)}, expected {tuple(theirs.shape)}")
        return None
    difference = (ours.double() - theirs.double()).abs().max().item()
    if not difference <= tolerance:
        problems.append(f"{name}: differs by {difference:.3g}, allowed {tolerance:.3g}")
    return difference


def against(model, logits, loss, args, ids, problems):
    other = open_model(args.against, problems)
    other_logits, other_loss = score(other, ids)
    mine, its = model.state_dict(), other.state_dict()
    for name in sorted(set(mine) ^ set(its)):
        problems.append(f"parameter {name} is in one folder only")
    weights = [compare(n, mine[n], its[n], args.tolerance, problems) for n in mine if n in its]
    if not abs(loss - other_loss) <= args.tolerance:
        problems.append(f"loss {loss} against {other_loss}")
    return {
        "loss": other_loss,
        "max_abs_logit": compare("logits against the second folder", logits, other_logits, args.tolerance, problems),
        "max_abs_weight": max((w for w in weights if w is not None), default=None),
    }


def main():
    args, problems = arguments(), []
    transformers.logging.set_verbosity_error()
    transformers.logging.disable_progress_bar()
    report = {"folder": str(args.folder), "torch": torch.__version__, "transformers": transformers.__version__}
    try:
        model = open_model(args.folder, problems)
        ids = parse_tokens(args.tokens, model)
        logits, loss = score(model, ids)
        report |= {"class": type(model).__name__, "parameters": model.num_parameters(), "tokens": ids, "loss": loss}
        report["activation"] = getattr(model.config, "activation_function", getattr(model.config, "afn", None))
        if not args.no_tokenizer:
            report["tokenizer"] = check_tokenizer(args.folder, args.text, model.config.vocab_size, problems)
        if args.logits:
            given = torch.from_numpy(numpy.load(args.logits).astype(numpy.float32))
            report["max_abs_logit"] = compare(str(args.logits), given, logits, args.tolerance, problems)
        if args.against:
            report["against"] = against(model, logits, loss, args, ids, problems)
    except (OSError, ValueError, RuntimeError, KeyError) as error:
        problems.append(f"{type(error).__name__}: {error}")
    report["problems"] = problems
    print(json.dumps(report, indent=1))
    sys.exit(1 if problems else 0)


if __name__ == "__main__":
    main()
