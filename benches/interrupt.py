"""Runs of samara that are ended at any moment, and two processes at one run folder.

    python3 interrupt.py SAMARA [signals] [pairs] [answers] [--runs 100] [--pairs 50] [--seed 0] [--json FILE]

`signals`: each of `--runs` runs gets one of KILL, TERM, INT, HUP, USR1 at a random moment of one of five phases (preparation, sampling, validation, step,
checkpoint), goes on with --resume, and is compared with a run that nobody ended. Checked: exit code; nothing is lost but the step in hand (after KILL:
but what came since the last checkpoint); the end is reached with the same metrics (without clocks), samples, weights, moments and best model, to the
bit; model.safetensors of the finished run equals its checkpoint; the time from the signal to the answer (the exit, or USR1's checkpoint) is reported.
`pairs`: a second process begins at a random moment of a run of a first one: it must be refused with the PID of the first, which ends as if it had been
alone; then a first one is killed with KILL, and the next must begin although its lock file is there.
`answers`: the default preset (`samara train`, no other settings) gets TERM, INT or HUP at a random moment of its first `--within` seconds.
The exit code is 1 when a check fails. Standard library only; `cargo build --release` makes SAMARA, target/release/samara.
"""

import argparse
import array
import json
import pathlib
import random
import shutil
import signal
import statistics
import struct
import subprocess
import sys
import tempfile
import time

ENDS = {"TERM": 143, "INT": 130, "HUP": 129}
SIGNALS = ["KILL", *ENDS, "USR1"]
# Steps of some 40 ms; validation after every 4th, a sample after every 5th, a checkpoint after every 3rd.
EVAL, SAMPLE, CHECKPOINT, STEPS = 4, 5, 3, 13
KEYS = {
    "model.n_embd": 64, "model.n_layer": 2, "model.n_head": 2, "model.n_positions": 64, "data.tokenizer": "bpe", "data.tokenizer_vocab_size": 400,
    "data.corpus_bytes": 2_000_000, "train.steps": STEPS, "train.batch_size": 8, "train.grad_accumulation": 4, "train.block_size": 64,
    "train.eval_every": EVAL, "train.eval_batches": 30, "train.sample_every": SAMPLE, "train.checkpoint_every": CHECKPOINT, "train.ema_decay": 0.9,
    "train.lr": 1e-3, "train.threads": 1, "generate.max_new_tokens": 700,
}
PHASES = ["preparation", "sampling", "validation", "step", "checkpoint"]
CLOCKS = {"tokens_per_s", "wall_s"}


def command(samara, out, *more):
    return [samara, "train", "--preset", "tales", "--out", str(out), *(word for key, value in KEYS.items() for word in ("--set", f"{key}={value}")), *more]


def hear_hangups():
    # Under nohup a process ignores SIGHUP, and so would its children.
    signal.signal(signal.SIGHUP, signal.SIG_DFL)


def start(args):
    return subprocess.Popen(args, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True, preexec_fn=hear_hangups)


def ended(process):
    """Exit code and what was said."""
    said = process.communicate(timeout=300)[1]
    return process.returncode, said


def finished(args):
    code, said = ended(start(args))
    assert code == 0, f"exit code {code}: {said}"
    return said


def records(out):
    """The records of a run, the last of which may be half written."""
    try:
        lines = (out / "metrics.jsonl").read_text().splitlines(keepends=True)
    except FileNotFoundError:
        return []
    return [json.loads(line) for line in lines if line.endswith("\n")]


def steps_saved(out):
    folder = out / "checkpoints"
    return sorted(int(path.name[5:]) for path in folder.glob("step-*") if path.suffix != ".tmp") if folder.is_dir() else []


def left(out):
    """What a finished run leaves, without what clocks say."""
    last = out / "checkpoints" / f"step-{STEPS:07}" / "training.safetensors"
    files = [last, out / "model.safetensors", out / "best" / "model.safetensors", out / "samples.txt", out / "tokenizer.json"]
    values = [{key: value for key, value in record.items() if key not in CLOCKS} for record in records(out)]
    return values, {str(path.relative_to(out)): path.read_bytes() for path in files}


def tensors(path):
    data = path.read_bytes()
    size = struct.unpack("<Q", data[:8])[0]
    header = json.loads(data[8 : 8 + size])
    header.pop("__metadata__", None)
    part = lambda info: array.array("f", data[8 + size + info["data_offsets"][0] : 8 + size + info["data_offsets"][1]])
    return {name: (info["shape"], part(info)) for name, info in header.items()}


def check_model(out):
    """model.safetensors is what the newest checkpoint holds; GPT-2's folders have matrices of linear layers transposed."""
    saved, model = tensors(out / "checkpoints" / f"step-{steps_saved(out)[-1]:07}" / "training.safetensors"), tensors(out / "model.safetensors")
    weights = {name.removesuffix("/weight"): value for name, value in saved.items() if name.endswith("/weight")}
    assert {f"transformer.{name}" for name in weights} == set(model), "other names in the model than in its checkpoint"
    for name, (shape, values) in weights.items():
        found_shape, found = model[f"transformer.{name}"]
        rows, columns = (*shape, 1)[:2]
        turned = array.array("f", (values[r * columns + c] for c in range(columns) for r in range(rows)))
        assert (found_shape, found) in [(shape, values), (shape[::-1], turned)], f"{name} is not what the checkpoint holds"


def compare(out, whole, what):
    found = left(out)
    assert found[0] == whole[0], f"{what}: other metrics"
    for name, content in whole[1].items():
        assert found[1][name] == content, f"{what}: {name} differs"
    check_model(out)


def until(done, process, seconds=120):
    begun = time.monotonic()
    while not done():
        if process.poll() is not None or time.monotonic() - begun > seconds:
            return False
        time.sleep(0.0005)
    return True


def recorded(out, step):
    """Whether the record of a step is there; without reading the file again and again."""
    found = records(out)
    return bool(found) and found[-1]["step"] >= step


# What is waited for in each phase: the record before which it begins. The delay after it is random up to the phase's length.
def moment(phase, rng):
    if phase == "preparation":
        return None
    if phase == "sampling":
        return SAMPLE * rng.choice([1, 2])
    if phase == "validation":
        return EVAL * rng.choice([1, 2, 3]) - 1
    if phase == "checkpoint":
        return CHECKPOINT * rng.choice([1, 2, 3])
    return rng.choice([1, 2, 6, 10, 12])


def lengths(samara, out):
    """Seconds of each phase, watched in a run from outside; the whole run is what others are compared with."""
    begun = time.monotonic()
    process, times = start(command(samara, out, "-q")), {}
    while process.poll() is None:
        now = time.monotonic() - begun
        found = records(out)
        for record in found:
            times.setdefault(record["step"], now)
        samples = (out / "samples.txt").read_text() if (out / "samples.txt").is_file() else ""
        for step in (0, SAMPLE, 2 * SAMPLE):
            if f"at step {step} " in samples:
                times.setdefault(f"sample {step}", now)
        for step in steps_saved(out):
            times.setdefault(f"checkpoint {step}", now)
        time.sleep(0.0005)
    assert process.returncode == 0, process.stderr.read()
    step = times[2] - times[1]
    return {
        "preparation": times["sample 0"],
        "sampling": times[f"sample {SAMPLE}"] - times[SAMPLE],
        "validation": times[EVAL] - times[EVAL - 1],
        "step": step,
        "checkpoint": max(times[f"checkpoint {CHECKPOINT}"] - times[CHECKPOINT], 0.002) * 1.5,
    }


def answered(process, out, name):
    """Sends a signal; seconds until its answer, and what was recorded and saved when it came."""
    before = (records(out), steps_saved(out))
    begun = time.monotonic()
    process.send_signal(getattr(signal, f"SIG{name}"))
    if name == "USR1":
        last = before[1][-1] if before[1] else -1
        # A checkpoint of the loop's own counts where the two fall together.
        until(lambda: (steps_saved(out) or [-1])[-1] > last, process)
        return time.monotonic() - begun, before
    process.wait(timeout=300)
    return time.monotonic() - begun, before


def check_end(out, name, code, said, before):
    """After a signal that ends a run."""
    was, saved = before
    if code == -getattr(signal, f"SIG{name}") and name != "KILL":
        assert not was, f"{name} ended a process that was training already"
        return
    if code == 0 and (steps_saved(out) or [0])[-1] == STEPS:
        # It was done before it heard anything.
        return
    expected = -signal.SIGKILL if name == "KILL" else ENDS[name]
    assert code == expected, f"exit code {code} after {name}: {said}"
    steps = steps_saved(out)
    assert not saved or steps[-1] >= saved[-1], "a checkpoint is gone"
    if name == "KILL":
        return
    found = records(out)
    if not found and not steps:
        return
    # The step of the last record, and not a step less.
    last = found[-1]["step"] if found else 0
    assert steps and steps[-1] == last >= (was[-1]["step"] if was else 0), f"saved {steps}, recorded {last}"
    check_model(out)


def interrupted(samara, out, phase, name, seconds, rng):
    """One run with one signal; seconds to the answer, none when it came too late."""
    shutil.rmtree(out, ignore_errors=True)
    process = start(command(samara, out))
    step = moment(phase, rng)
    if step is not None and not until(lambda: recorded(out, step), process):
        raise AssertionError(f"the run ended before step {step}: {ended(process)}")
    time.sleep(rng.uniform(0, seconds))
    if process.poll() is not None:
        ended(process)
        return None
    took, before = answered(process, out, name)
    code, said = ended(process)
    if name == "USR1":
        assert code == 0 or code == -signal.SIGUSR1 and not before[0], f"exit code {code} after USR1: {said}"
    else:
        check_end(out, name, code, said, before)
    return took


def signals(args, work, rng):
    whole_out = work / "whole"
    seconds = lengths(args.samara, whole_out)
    print("phases:", ", ".join(f"{name} {value:.3f} s" for name, value in seconds.items()), flush=True)
    whole, took = left(whole_out), {name: [] for name in SIGNALS}
    check_model(whole_out)
    turns = [(phase, name) for phase in PHASES for name in SIGNALS]
    rng.shuffle(turns)
    for number in range(args.runs):
        phase, name = turns[number % len(turns)]
        out, what = work / "run", f"run {number}, {name} in {phase}"
        try:
            answer = interrupted(args.samara, out, phase, name, seconds[phase], rng)
            finished(command(args.samara, out, "--resume", "-q"))
            compare(out, whole, what)
        except AssertionError as error:
            raise AssertionError(f"{what}: {error}") from error
        took[name] += [answer] if answer is not None else []
    for name, values in took.items():
        print(f"{name}: {len(values)} answered, median {statistics.median(values):.3f} s, slowest {max(values):.3f} s")
    return {"runs": args.runs, "phases_s": seconds, "slowest_answer_s": {name: max(values) for name, values in took.items()}}


def pairs(args, work, rng):
    out = work / "alone"
    begun = time.monotonic()
    finished(command(args.samara, out, "-q"))
    seconds, whole, out = time.monotonic() - begun, left(out), work / "shared"
    refused = 0
    for number in range(args.pairs):
        shutil.rmtree(out, ignore_errors=True)
        first = start(command(args.samara, out, "-q"))
        lock = out / "run.lock"
        # From the moment on at which the folder is the first one's.
        assert until(lambda: lock.is_file() and lock.read_text() == str(first.pid), first), ended(first)
        time.sleep(rng.uniform(0, 0.85 * seconds))
        if first.poll() is None:
            second = command(args.samara, out, "-q", *(["--resume"] if number % 2 else []))
            code, said = ended(start(second))
            if first.poll() is None or code == 2:
                assert code == 2 and f"another process (pid {first.pid}) writes into this run" in said, f"pair {number}: {code}: {said}"
                refused += 1
        code, said = ended(first)
        assert code == 0, f"pair {number}: the first ended with {code}: {said}"
        compare(out, whole, f"pair {number}")
    print(f"{args.pairs} pairs: {refused} seconds refused with the PID, {args.pairs - refused} came when the first was done")
    for number in range(10):
        shutil.rmtree(out, ignore_errors=True)
        first = start(command(args.samara, out, "-q"))
        until(lambda: recorded(out, 1), first)
        time.sleep(rng.uniform(0, 0.3 * seconds))
        first.kill()
        ended(first)
        assert (out / "run.lock").is_file(), "no lock was left"
        finished(command(args.samara, out, "--resume", "-q"))
        compare(out, whole, f"after kill {number}")
    print("10 locks left by KILL: none in the way")
    return {"pairs": args.pairs, "refused": refused, "locks_left": 10}


def answers(args, work, rng):
    took, steps = [], []
    for number in range(args.answers):
        out, name = work / "default", list(ENDS)[number % 3]
        shutil.rmtree(out, ignore_errors=True)
        process = start([args.samara, "train", "--out", str(out)])
        time.sleep(rng.uniform(0.2, args.within))
        answer, before = answered(process, out, name)
        check_end(out, name, *ended(process), before)
        took.append(answer)
        steps.append(before[0][-1]["step"] if before[0] else None)
    print(f"default preset: {len(took)} signals, median {statistics.median(took):.3f} s, slowest {max(took):.3f} s; at steps {steps}")
    assert max(took) <= args.limit, f"an answer took {max(took):.2f} s, allowed {args.limit} s"
    return {"signals": len(took), "median_s": statistics.median(took), "slowest_s": max(took)}


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("samara")
    parser.add_argument("parts", nargs="*", choices=["signals", "pairs", "answers"], default=["signals", "pairs", "answers"])
    parser.add_argument("--runs", type=int, default=100, help="runs that get a signal")
    parser.add_argument("--pairs", type=int, default=50, help="starts of a second process")
    parser.add_argument("--answers", type=int, default=20, help="signals to the default preset")
    parser.add_argument("--within", type=float, default=20, help="seconds of a run of the default preset in which its signal comes")
    parser.add_argument("--limit", type=float, default=2, help="seconds that the default preset may take to answer")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--json", type=pathlib.Path, help="write the figures here")
    args = parser.parse_args()
    args.samara = str(pathlib.Path(args.samara).resolve())
    results = {"seed": args.seed}
    with tempfile.TemporaryDirectory() as work:
        for name in args.parts:
            begun = time.monotonic()
            try:
                results[name] = globals()[name](args, pathlib.Path(work), random.Random(args.seed))
            except AssertionError as error:
                sys.exit(f"{name}: {error}")
            print(f"{name}: all checks passed, {time.monotonic() - begun:.0f} s", flush=True)
    if args.json:
        args.json.write_text(json.dumps(results, indent=1) + "\n")


if __name__ == "__main__":
    main()
