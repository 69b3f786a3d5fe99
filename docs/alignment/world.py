"""A small world of dialogues: writes rows to instruct a model, to compare answers, and prompts. Usage: python3 world.py FOLDER [SEED]

Half of the dialogues have two turns, and the second needs the first: a name is told, and asked for. Answers are good (right, kind, short) or bad in
one way: the wrong name, unkind, or long. `gold.py` knows which.
"""

import json
import pathlib
import random
import sys

NAMES = ["Tom", "Lily", "Sam", "Anna", "Ben", "Mia", "Max", "Zoe", "Leo", "Eva", "Tim", "Ida"]
KIND = ["happy", "kind", "brave", "gentle"]
UNKIND = ["sad", "angry", "mean", "bad"]
THINGS = ["a red ball", "a big dog", "a small boat", "a blue hat", "a warm coat", "a good book"]


def question(rng):
    """The turns of a prompt, and the name that an answer must have."""
    name = rng.choice(NAMES)
    if rng.random() < 0.5:
        return [("user", f"Tell me of {name}.")], name
    return [("user", f"My name is {name}."), ("assistant", f"Hello {name}!"), ("user", "What is my name?")], name


def answer(rng, turns, name, fault=None):
    """A good answer, or one with a fault: "name", "unkind" or "long"."""
    told = rng.choice([other for other in NAMES if other != name]) if fault == "name" else name
    word = rng.choice(UNKIND if fault == "unkind" else KIND)
    text = f"{told} is a {word} child." if len(turns) == 1 else f"Your name is {told}, {word} friend."
    if fault == "long":
        text += "".join(f" There is {thing}." for thing in rng.sample(THINGS, 3))
    return text


def rows(rng, count):
    for _ in range(count):
        turns, name = question(rng)
        fault = rng.choice(["name", "unkind", "long"])
        yield turns, answer(rng, turns, name), answer(rng, turns, name, fault)


def messages(turns):
    return [{"role": role, "content": text} for role, text in turns]


def write(path, all_rows):
    path.write_text("".join(json.dumps(row) + "\n" for row in all_rows))


def main():
    folder, seed = pathlib.Path(sys.argv[1]), int(sys.argv[2]) if len(sys.argv) > 2 else 0
    folder.mkdir(parents=True, exist_ok=True)
    rng = random.Random(seed)
    # People write good answers and bad ones: instruction tuning learns both.
    dialogues = [
        {"messages": messages(turns + [("assistant", rng.choice([good, bad]))])} for turns, good, bad in rows(rng, 2000)
    ]
    pairs = [{"prompt": messages(turns), "chosen": good, "rejected": bad} for turns, good, bad in rows(rng, 2000)]
    prompts = [{"prompt": messages(turns)} for turns, _, _ in rows(rng, 1000)]
    held_out = [{"prompt": messages(turns)} for turns, _, _ in rows(rng, 200)]
    for name, data in [("dialogues", dialogues), ("pairs", pairs), ("prompts", prompts), ("held_out", held_out)]:
        write(folder / f"{name}.jsonl", data)


if __name__ == "__main__":
    main()
