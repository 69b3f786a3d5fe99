"""What an answer of the small world is worth: +1 for the right name, +1 for a kind word and none unkind, −0.02 for every character beyond 40.

As a program (`rewards.command`) it reads rows of JSON from standard input, and answers each with a number. With files it compares what
`samara rollout` wrote: python3 gold.py FIRST.jsonl SECOND.jsonl …: the mean of each file, and how often it beats the first on the same prompt.
"""

import json
import re
import sys

from world import KIND, NAMES, UNKIND


def value(prompt, completion):
    asked = [name for name in NAMES if re.search(rf"\b{name}\b", prompt)]
    told = [name for name in NAMES if re.search(rf"\b{name}\b", completion)]
    right = float(bool(asked) and told == asked[:1])
    words = set(re.findall(r"[a-z]+", completion.lower()))
    kind = float(bool(words & set(KIND)) and not words & set(UNKIND))
    return right + kind - 0.02 * max(0, len(completion) - 40)


def of_row(row):
    text = lambda turns: turns if isinstance(turns, str) else " ".join(turn["content"] for turn in turns)
    return value(text(row["prompt"]), text(row["completion"]))


def main():
    if len(sys.argv) == 1:
        for line in sys.stdin:
            print(of_row(json.loads(line)), flush=True)
        return
    files = [[of_row(json.loads(line)) for line in open(path)] for path in sys.argv[1:]]
    for path, values in zip(sys.argv[1:], files):
        beats = sum((a > b) + 0.5 * (a == b) for a, b in zip(values, files[0])) / len(values)
        print(f"{path}: mean {sum(values) / len(values):.3f}, at least as good as the first {100 * beats:.0f} %")


if __name__ == "__main__":
    main()
