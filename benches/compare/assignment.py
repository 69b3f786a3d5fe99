"""Times linear assignment in scipy, lap, lapjv and laprust (those that are installed) in turns with samara, on the same matrices.

cargo bench -p samara-benches --bench assignment --no-run      # prints the path of the binary
python benches/compare/assignment.py BINARY [--largest N]

Prints microseconds, the least of interleaved rounds. Python peers are net of a call on a 1 x 1 matrix; samara times the call alone.
"""

import argparse
import subprocess
import tempfile
import time

import numpy as np
from scipy.optimize import linear_sum_assignment

parser = argparse.ArgumentParser()
parser.add_argument("binary")
parser.add_argument("--largest", type=int, default=1000)
parser.add_argument("--seconds", type=float, default=1.0, help="least time for each row")
options = parser.parse_args()

rng = np.random.default_rng(1)
peers = {"scipy": linear_sum_assignment}
try:
    import lap

    peers["lap"] = lambda c: lap.lapjv(c, extend_cost=c.shape[0] != c.shape[1])
except ImportError:
    pass
try:
    import lapjv

    peers["lapjv"] = lambda c: lapjv.lapjv(c) if c.shape[0] == c.shape[1] else None
except ImportError:
    pass
try:
    import laprust

    peers["laprust"] = lambda c: laprust.lapjv(c, extend_cost=c.shape[0] != c.shape[1])
except ImportError:
    pass


def points(n, m, power):
    a, b = rng.random((n, 2)), rng.random((m, 2))
    return ((a[:, None] - b[None]) ** 2).sum(-1) ** power


def sorted_line(n, m):
    return np.abs(np.sort(rng.random(n))[:, None] - np.sort(rng.random(m))[None])


families = [
    *[("uniform", n, m, rng.random((n, m))) for n, m in [(10, 10), (30, 30), (100, 100), (400, 400), (1000, 1000)]],
    ("int100", 400, 400, rng.integers(0, 100, (400, 400)).astype(float)),
    ("int10", 400, 400, rng.integers(0, 10, (400, 400)).astype(float)),
    ("binary", 400, 400, rng.integers(0, 2, (400, 400)).astype(float)),
    ("euclidean", 400, 400, points(400, 400, 0.5)),
    ("squared", 400, 400, points(400, 400, 1.0)),
    ("machol-wien", 400, 400, np.outer(np.arange(400.0), np.arange(400.0))),
    ("low-rank", 400, 400, rng.random((400, 3)) @ rng.random((3, 400))),
    ("sorted", 400, 400, sorted_line(400, 400)),
    ("constant", 400, 400, np.ones((400, 400))),
    *[("uniform", n, m, rng.random((n, m))) for n, m in [(7, 100), (100, 7), (100, 20), (20, 100), (30, 100), (20, 300), (300, 20), (100, 1000), (1000, 100)]],
    *[("uniform", n, m, rng.random((n, m))) for n, m in [(1000, 4000), (4000, 1000), (4000, 4000)] if max(n, m) <= options.largest],
]


def call(f, matrix, repeats):
    start = time.perf_counter()
    for _ in range(repeats):
        f(matrix)
    return (time.perf_counter() - start) / repeats


one = np.ones((1, 1))
empty = {name: min(call(f, one, 200) for _ in range(20)) for name, f in peers.items()}
ours = subprocess.Popen([options.binary, "--serve"], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)


def served(path, mode):
    ours.stdin.write(f"{path} {mode}\n")
    ours.stdin.flush()
    return float(ours.stdout.readline())


print(f"{'least us':<24}" + "".join(f"{name:>12}" for name in [*peers, "samara", "samara=scipy"]))
with tempfile.TemporaryDirectory() as folder:
    for name, n, m, matrix in families:
        matrix = np.ascontiguousarray(matrix)
        path = f"{folder}/{name}-{n}-{m}.npy"
        np.save(path, matrix)
        times = {peer: [] for peer in [*peers, "samara", "samara=scipy"]}
        begun = time.perf_counter()
        repeats = max(1, 20_000 // matrix.size)
        slow = set()
        while len(times["scipy"]) < 3 or time.perf_counter() - begun < options.seconds:
            for peer, f in peers.items():
                if peer in slow or (peer == "lapjv" and n != m):
                    continue
                # Twice: the first call may find the matrix out of the cache.
                times[peer].append(min(call(f, matrix, repeats) for _ in range(2)) - empty[peer])
                if times[peer][-1] > 2:
                    slow.add(peer)
            times["samara"] += [min(served(path, "any") for _ in range(min(repeats + 1, 20)))]
            times["samara=scipy"] += [min(served(path, "scipy") for _ in range(min(repeats + 1, 20)))]
        print(f"{name + f' {n}x{m}':<24}" + "".join(f"{1e6 * min(t):>12.1f}" if t else f"{'-':>12}" for t in times.values()), flush=True)
ours.stdin.close()
