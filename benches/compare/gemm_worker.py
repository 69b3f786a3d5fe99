"""Time matrix products in PyTorch for `benches/gemm.rs`, in turns with it.

    python gemm_worker.py THREADS

Each line of standard input is "LAYOUT m n k calls", as in "BTransposed 256 768 768 10"; the answer is the mean seconds of a call.
"""

import sys
import time

import torch

torch.set_num_threads(int(sys.argv[1]))
torch.set_grad_enabled(False)
operands = {}
for line in sys.stdin:
    layout, *numbers = line.split()
    m, n, k, calls = map(int, numbers)
    if (layout, m, n, k) not in operands:
        a = torch.randn(k, m).T if layout == "ATransposed" else torch.randn(m, k)
        b = torch.randn(n, k).T if layout == "BTransposed" else torch.randn(k, n)
        operands = {(layout, m, n, k): (a, b, torch.empty(m, n))}
    a, b, out = operands[layout, m, n, k]
    begun = time.perf_counter()
    for _ in range(calls):
        torch.mm(a, b, out=out)
    print((time.perf_counter() - begun) / calls, flush=True)
