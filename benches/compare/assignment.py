"""Times linear assignment and bipartite matching in scipy, lap, lapjv and laprust (those that are installed) in turns with samara, on the same data.

python -m venv assign && assign/bin/pip install numpy==2.4.6 scipy==1.17.1 lap==0.5.13 lapjv==1.3.29 laprust==1.0.0
cargo bench -p samara-benches --features peers --bench assignment --no-run      # prints the path of the binary
assign/bin/python benches/compare/assignment.py BINARY [--largest N] [--only TEXT]

Prints microseconds, the least of interleaved rounds, net of a call on a 1 x 1 matrix for everyone, and the ratios that matter. Small matrices come in
stacks of different ones that are solved in turn; --stack 1 solves one over and over, which processors learn by heart.
"""

import argparse
import subprocess
import tempfile
import time

import numpy as np
from scipy.optimize import linear_sum_assignment
from scipy.sparse import csr_array
from scipy.sparse.csgraph import maximum_bipartite_matching

parser = argparse.ArgumentParser()
parser.add_argument("binary")
parser.add_argument("--largest", type=int, default=1000)
parser.add_argument("--seconds", type=float, default=1.0, help="least time for each row")
parser.add_argument("--stack", type=int, default=200, help="different matrices of a small shape")
parser.add_argument("--only", default="", help="rows whose name contains this")
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


families = {
    "uniform": lambda n, m: rng.random((n, m)),
    "int100": lambda n, m: rng.integers(1, 101, (n, m)).astype(float),
    "int10": lambda n, m: rng.integers(0, 10, (n, m)).astype(float),
    "binary": lambda n, m: rng.integers(0, 2, (n, m)).astype(float),
    "euclidean": lambda n, m: points(n, m, 0.5),
    "squared": lambda n, m: points(n, m, 1.0),
    "machol-wien": lambda n, m: np.outer(np.arange(float(n)), np.arange(float(m))),
    "low-rank": lambda n, m: rng.random((n, 3)) @ rng.random((3, m)),
    "logarithmic": lambda n, m: 10 ** (20 * rng.random((n, m))),
    "sorted": lambda n, m: np.abs(np.sort(rng.random(n))[:, None] - np.sort(rng.random(m))[None]),
    "constant": lambda n, m: np.ones((n, m)),
}
squares = [("uniform", n, n) for n in (10, 30, 100, 400, 1000, 4000)]
others = [(name, 400, 400) for name in families if name != "uniform"]
large = [(name, n, n) for name, n in [("int100", 4000), ("euclidean", 1000), ("euclidean", 4000), ("machol-wien", 1000)]]
few = [(7, 100), (20, 100), (30, 100), (20, 300), (100, 7), (100, 20), (100, 30), (300, 20)]
long = [(100, 1000), (1000, 100), (1000, 4000), (4000, 1000)]
rows = squares + others + large + [("uniform", n, m) for n, m in few + long]


def seconds_of(f, stack, repeats):
    start = time.perf_counter()
    for _ in range(repeats):
        for matrix in stack:
            f(matrix)
    return (time.perf_counter() - start) / (repeats * len(stack))


ours = subprocess.Popen([options.binary, "--serve"], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)


def served(*words):
    ours.stdin.write(" ".join(map(str, words)) + "\n")
    ours.stdin.flush()
    return float(ours.stdout.readline())


def assignments(folder):
    one = list(np.ones((1, 1, 1)))
    np.save(f"{folder}/one.npy", np.ones((1, 1, 1)))
    names = [*peers, "samara", "samara=scipy"]
    empty = {name: min(seconds_of(f, one, 200) for _ in range(20)) for name, f in peers.items()}
    empty |= {name: min(served("solve", f"{folder}/one.npy", "any", 200) for _ in range(20)) for name in names[-2:]}
    print(f"{'least us':<24}" + "".join(f"{name:>13}" for name in names) + f"{'best peer':>12}{'scipy':>8}{'ties':>8}")
    for name, n, m in rows:
        title = f"{name} {n}x{m}"
        if max(n, m) > options.largest or options.only not in title:
            continue
        # A stack stays in the second-level cache.
        count = max(1, min(options.stack, 64_000 // (n * m)))
        stack = np.stack([families[name](n, m) for _ in range(count)])
        path = f"{folder}/{name}-{n}-{m}.npy"
        np.save(path, stack)
        stack, repeats = list(stack), max(1, 20_000 // (n * m * count))
        times, slow = {peer: [] for peer in names}, set()
        begun = time.perf_counter()
        while len(times["samara"]) < 3 or time.perf_counter() - begun < options.seconds:
            for peer, f in peers.items():
                if peer in slow or (peer == "lapjv" and n != m):
                    continue
                # Twice: the first time may find the matrices out of the cache.
                times[peer].append(min(seconds_of(f, stack, repeats) for _ in range(2)) - empty[peer])
                if times[peer][-1] * count > 2:
                    slow.add(peer)
            for peer, ties in (("samara", "any"), ("samara=scipy", "scipy")):
                times[peer].append(min(served("solve", path, ties, repeats) for _ in range(2)) - empty[peer])
        least = {peer: min(t) if t else float("inf") for peer, t in times.items()}
        best = min(least[peer] for peer in peers) / least["samara"]
        ratios = f"{best:>11.2f}x{least['scipy'] / least['samara']:>7.1f}x{least['scipy'] / least['samara=scipy']:>7.1f}x"
        print(f"{title:<24}" + "".join(f"{1e6 * t:>13.2f}" if t < 1e9 else f"{'-':>13}" for t in least.values()) + ratios, flush=True)


def ladder(levels):
    """Complete between levels of two, and one good chain: exponential for searches that do not mark dead ends (scipy gh-26147)."""
    n = 2 * levels
    edges = [(n, 0), (n, 1)] + [(row, row) for row in range(n)]
    edges += [(row, row - row % 2 + 2 + side) for row in range(n - 2) for side in (0, 1)]
    return csr_array((np.ones(len(edges)), tuple(np.array(edges).T)), shape=(n + 1, n))


def matchings(folder):
    def random(n, edges):
        return csr_array((np.ones(edges), (rng.integers(0, n, edges), rng.integers(0, n, edges))), shape=(n, n))

    graphs = {f"ladder, {6 * levels - 2} edges": ladder(levels) for levels in (16, 1667, 16_667)}
    graphs |= {"random 100000, 1e6 edges": random(100_000, 1_000_000), "random 20000, 1e5 edges": random(20_000, 100_000)}
    print(f"\n{'maximum matching, ms':<28}{'scipy':>12}{'samara':>12}{'ratio':>10}")
    for title, graph in graphs.items():
        if options.only not in title:
            continue
        graph.sort_indices()
        np.save(f"{folder}/starts.npy", graph.indptr.astype(float))
        np.save(f"{folder}/neighbours.npy", graph.indices.astype(float))
        mine, theirs = [], []
        for _ in range(5):
            mine.append(served("match", f"{folder}/starts.npy", f"{folder}/neighbours.npy"))
            # scipy would not return within a lifetime from larger ladders.
            if not title.startswith("ladder") or graph.nnz < 100:
                start = time.perf_counter()
                maximum_bipartite_matching(graph, perm_type="column")
                theirs.append(time.perf_counter() - start)
        peer = f"{1e3 * min(theirs):>12.3f}" if theirs else f"{'-':>12}"
        ratio = f"{min(theirs) / min(mine):>9.1f}x" if theirs else f"{'-':>10}"
        print(f"{title:<28}{peer}{1e3 * min(mine):>12.3f}{ratio}", flush=True)


with tempfile.TemporaryDirectory() as folder:
    assignments(folder)
    matchings(folder)
ours.stdin.close()
