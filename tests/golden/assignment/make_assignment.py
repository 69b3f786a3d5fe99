"""Write what scipy's linear_sum_assignment chooses among equal optima, and totals of larger problems.

Run: python make_assignment.py [OUT_DIR]  (default: the folder of this script). Format in README.md.
"""

import json
import pathlib
import sys

import numpy
import scipy
from scipy.optimize import linear_sum_assignment

SHAPES = [(1, 1), (2, 2), (3, 5), (5, 3), (6, 6), (7, 12), (12, 7), (13, 13), (20, 20), (9, 33), (33, 9), (32, 32), (34, 34), (24, 40)]


def kinds(rng, rows, columns):
    """Matrices with many ties; a null stands for infinity."""
    yield rng.integers(0, 2, (rows, columns)).astype(float)
    yield rng.integers(0, 5, (rows, columns)).astype(float)
    # Sums of tenths round: which of them are equal depends on the order of additions.
    yield rng.integers(0, 6, (rows, columns)) * 0.1
    sparse = rng.integers(-3, 4, (rows, columns)).astype(float)
    sparse[rng.random((rows, columns)) < 0.25] = numpy.inf
    yield sparse


def answer(costs, maximize):
    try:
        rows, columns = linear_sum_assignment(costs, maximize)
        return {"rows": rows.tolist(), "columns": columns.tolist()}
    except ValueError as error:
        return {"error": str(error)}


def case(costs, maximize):
    cells = [None if numpy.isinf(c) else c for c in costs.ravel().tolist()]
    return {"shape": list(costs.shape), "maximize": maximize, "costs": cells, **answer(-costs if maximize else costs, maximize)}


def hashed(n):
    """Integers 1 to 100 that any language makes alike."""
    i, j = numpy.meshgrid(numpy.arange(n, dtype=numpy.uint32), numpy.arange(n, dtype=numpy.uint32), indexing="ij")
    h = i * numpy.uint32(2654435761) ^ j * numpy.uint32(2246822519)
    h = (h ^ h >> numpy.uint32(15)) * numpy.uint32(3266489917)
    h ^= h >> numpy.uint32(13)
    return (1 + h % numpy.uint32(100)).astype(float)


def main():
    out = pathlib.Path(sys.argv[1]) if len(sys.argv) > 1 else pathlib.Path(__file__).parent
    rng = numpy.random.default_rng(5)
    cases = [case(costs, k % 2 == 1) for n, m in SHAPES for k, costs in enumerate(kinds(rng, n, m))]
    totals = {}
    for n in range(100, 900, 100):
        costs = hashed(n)
        totals[str(n)] = costs[linear_sum_assignment(costs)].sum()
    versions = {"python": sys.version.split()[0], "scipy": scipy.__version__, "numpy": numpy.__version__}
    golden = {"versions": versions, "totals": totals, "ties": cases}
    (out / "assignment.json").write_text(json.dumps(golden, separators=(",", ":")) + "\n")


if __name__ == "__main__":
    main()
