"""Times PPO in samara and in a plain loop of PyTorch and transformers, in turns on this machine.

    python ppo.py SAMARA [--rounds 5] [--threads 2] [--steps 6] [--cpu] [--least 1.8]

A GPT-2 of 4 layers, 128 wide, vocabulary 1024; 16 prompts of 16 tokens, 48 tokens after each, at temperature 1; a value function of the same size; 4 epochs
of one minibatch of 16. In every round both run, and the one that begins changes. A rollout is 16 completions; an update is an epoch: forward, backward and
optimizer of policy and value function; an iteration is a whole step, with the log-probs of policy and reference, values and advantages in it.
Of samara an update is a ninth of what twelve epochs take less what three take; a rollout is `samara rollout` with 160 prompts less that with 16, by nine;
an iteration is what six steps take less what one takes, by five. Seconds are those of the clock, or with --cpu of processors, which other work on the
machine lengthens less.
Memory is the highest resident set of a process, less that of one that does nothing (samara --version; Python with torch and transformers imported).
"""

import argparse
import json
import os
import pathlib
import shutil
import statistics
import subprocess
import sys
import tempfile
import time

LAYERS, WIDTH, VOCABULARY, BATCH, PROMPT, NEW, EPOCHS = 4, 128, 1024, 16, 16, 48, 4


def finished(command, on_cpu=False):
    """Runs a command: its output, its seconds, and the most memory it had resident, in MiB."""
    with tempfile.TemporaryFile() as output:
        begun = time.monotonic()
        process = subprocess.Popen(command, stdout=output, stderr=subprocess.STDOUT)
        _, status, usage = os.wait4(process.pid, 0)
        seconds = usage.ru_utime + usage.ru_stime if on_cpu else time.monotonic() - begun
        output.seek(0)
        text = output.read().decode(errors="replace")
        if status != 0:
            sys.exit(f"{' '.join(map(str, command))}\n{text}")
        return text, seconds, usage.ru_maxrss / 1024


def prepare(samara, folder, threads):
    """A base model and prompts of 16 tokens."""
    settings = {
        "model.n_layer": LAYERS, "model.n_embd": WIDTH, "model.n_head": 4, "model.n_positions": PROMPT + NEW, "train.block_size": 64,
        "data.tokenizer_vocab_size": VOCABULARY, "data.corpus_bytes": 300_000, "train.steps": 20, "train.batch_size": 8, "train.eval_every": 0,
    }
    base = folder / "base"
    finished([samara, "train", "--quiet", "--threads", str(threads), "--out", base, *sets(settings)])
    from tokenizers import Tokenizer

    tokenizer = Tokenizer.from_file(str(base / "tokenizer.json"))
    words, text = "the cat said that it was a nice day and then the dog went home with his friend to the old house by sea".split(), "The"
    for word in words:
        if len(tokenizer.encode(text + " " + word).ids) > PROMPT:
            break
        text += " " + word
    ids = tokenizer.encode(text).ids
    for count in (BATCH, 10 * BATCH):
        (folder / f"{count}.jsonl").write_text((json.dumps({"prompt": text}) + "\n") * count)
    (folder / "ids.json").write_text(json.dumps(ids))
    return base, len(ids)


def sets(settings):
    return [word for key, value in settings.items() for word in ("--set", f"{key}={value}")]


def ours(samara, folder, steps, threads, on_cpu):
    rollout = {"rollout.max_new_tokens": NEW, "rollout.rows": BATCH}
    taken, memory = {}, 0
    for epochs, of_steps in ((3, steps), (EPOCHS, 1), (EPOCHS, steps), (12, steps)):
        out = folder / "run"
        settings = {
            **rollout, "rollout.episodes": BATCH, "train.batch_size": BATCH, "train.steps": of_steps, "train.eval_every": 0,
            "train.checkpoint_every": 0, "ppo.preset": "lm-human-preferences", "ppo.epochs": epochs, "rewards.length_weight": 1,
        }
        command = [samara, "ppo", "--quiet", "--init", folder / "base", "--data", folder / f"{10 * BATCH}.jsonl", "--out", out]
        _, taken[epochs, of_steps], peak = finished([*command, "--threads", str(threads), *sets(settings)], on_cpu)
        memory = max(memory, peak)
        shutil.rmtree(out)
    for count in (BATCH, 10 * BATCH):
        command = [samara, "rollout", "--quiet", "--model", folder / "base", "--data", folder / f"{count}.jsonl", "--out", folder / "rolled.jsonl"]
        taken[count] = finished([*command, "--threads", str(threads), *sets(rollout)], on_cpu)[1]
    return {
        "rollout": (taken[10 * BATCH] - taken[BATCH]) / 9,
        "update": (taken[12, steps] - taken[3, steps]) / (9 * steps),
        "iteration": (taken[EPOCHS, steps] - taken[EPOCHS, 1]) / (steps - 1),
        "memory": memory - finished([samara, "--version"])[2],
    }


def loop(base, ids, steps, threads, clock):
    """The plain loop: what a careful user writes first. Prints seconds of the phases of every step but the first."""
    import resource

    import torch
    from transformers import GPT2LMHeadModel, GPT2Model

    idle = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    torch.set_num_threads(threads)
    policy, reference = GPT2LMHeadModel.from_pretrained(base), GPT2LMHeadModel.from_pretrained(base).eval()
    trunk = GPT2Model.from_pretrained(base)
    head = torch.nn.Linear(WIDTH, 1)
    optimizers = [torch.optim.AdamW(policy.parameters(), lr=1e-5), torch.optim.AdamW([*trunk.parameters(), *head.parameters()], lr=1e-5)]
    prompts = torch.tensor([ids] * BATCH)
    start = prompts.shape[1]

    def logprobs(model, tokens):
        logits = model(tokens).logits[:, start - 1 : -1]
        return torch.log_softmax(logits, -1).gather(2, tokens[:, start:, None]).squeeze(2)

    def values_of(tokens):
        return head(trunk(tokens).last_hidden_state[:, start - 1 : -1]).squeeze(2)

    for step in range(steps):
        begun = clock()
        with torch.no_grad():
            tokens = policy.generate(
                prompts, attention_mask=torch.ones_like(prompts), do_sample=True, top_k=0, max_new_tokens=NEW, min_new_tokens=NEW, pad_token_id=0,
            )
            rolled = clock()
            old, ref, old_values = logprobs(policy, tokens), logprobs(reference, tokens), values_of(tokens)
            rewards = -0.15 * (old - ref)
            rewards[:, -1] += float(NEW)
            advantages, last = torch.zeros_like(rewards), 0.0
            for t in reversed(range(NEW)):
                delta = rewards[:, t] + (old_values[:, t + 1] if t + 1 < NEW else 0.0) - old_values[:, t]
                last = delta + 0.95 * last
                advantages[:, t] = last
            returns = advantages + old_values
            advantages = (advantages - advantages.mean()) / (advantages.var() + 1e-8).sqrt()
        made = clock()
        for _ in range(EPOCHS):
            ratio = (logprobs(policy, tokens) - old).exp()
            loss = -torch.min(ratio * advantages, ratio.clamp(0.8, 1.2) * advantages).mean()
            values = values_of(tokens)
            near = old_values + (values - old_values).clamp(-0.2, 0.2)
            value_loss = 0.5 * torch.max((values - returns) ** 2, (near - returns) ** 2).mean()
            for optimizer in optimizers:
                optimizer.zero_grad()
            (loss + 0.1 * value_loss).backward()
            for optimizer in optimizers:
                optimizer.step()
        ended = clock()
        if step > 0:
            print(json.dumps({"rollout": rolled - begun, "update": (ended - made) / EPOCHS, "iteration": ended - begun}))
    print(json.dumps({"memory": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024 - idle}))


def theirs(folder, steps, threads, on_cpu):
    command = [sys.executable, __file__, "--loop", folder, "--steps", str(steps), "--threads", str(threads), *(["--cpu"] if on_cpu else [])]
    text, _, _ = finished(command)
    rows = [json.loads(row) for row in text.splitlines() if row.startswith("{")]
    found = {phase: statistics.mean(row[phase] for row in rows if phase in row) for phase in ("rollout", "update", "iteration")}
    return {**found, "memory": rows[-1]["memory"]}


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("samara", nargs="?")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--steps", type=int, default=6)
    parser.add_argument("--cpu", action="store_true", help="seconds of processors, not of the clock")
    parser.add_argument("--least", type=float, default=0.0, help="the least median ratio of a whole iteration that passes")
    parser.add_argument("--loop", type=pathlib.Path, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.loop:
        clock = time.process_time if arguments.cpu else time.monotonic
        loop(arguments.loop / "base", json.loads((arguments.loop / "ids.json").read_text()), arguments.steps, arguments.threads, clock)
        return
    samara = pathlib.Path(arguments.samara).resolve()
    with tempfile.TemporaryDirectory() as folder:
        folder = pathlib.Path(folder)
        _, length = prepare(samara, folder, arguments.threads)
        print(f"prompts of {length} tokens")
        how = (arguments.steps, arguments.threads, arguments.cpu)
        both = [lambda: ours(samara, folder, *how), lambda: theirs(folder, *how)]
        ratios = {}
        for number in range(arguments.rounds):
            found = {i: both[i]() for i in ((0, 1) if number % 2 == 0 else (1, 0))}
            for phase in found[0]:
                ratio = found[0][phase] / found[1][phase] if phase == "memory" else found[1][phase] / found[0][phase]
                ratios.setdefault(phase, []).append(ratio)
            print(json.dumps(found), flush=True)
    for phase, of in ratios.items():
        print(f"{phase}: {statistics.median(of):.2f} ({min(of):.2f} to {max(of):.2f})")
    sys.exit(statistics.median(ratios["iteration"]) < arguments.least)


if __name__ == "__main__":
    main()
