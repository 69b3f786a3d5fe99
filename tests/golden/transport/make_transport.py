"""Write what ViLT's word-patch alignment makes of fixed draws: plans, distances and their gradients, in float32 and padded as its authors compute them.

    pip install torch==2.15.0
    python make_transport.py VILT_OBJECTIVES > ipot.json

VILT_OBJECTIVES: vilt/modules/objectives.py of github.com/dandelin/ViLT at 71f671d. Its functions `cost_matrix_cosine`, `trace` and `ipot` are used as they are; all
else of the file, and its imports, are left out.
"""

import ast
import json
import pathlib
import sys

import torch

BETA, OUTER = 0.5, 50


def functions_of(path):
    """The three functions of the file."""
    names = {"cost_matrix_cosine", "trace", "ipot"}
    tree = ast.parse(pathlib.Path(path).read_text())
    tree.body = [node for node in tree.body if isinstance(node, ast.FunctionDef) and node.name in names]
    found = {"torch": torch, "F": torch.nn.functional}
    exec(compile(tree, str(path), "exec"), found)
    return [found[name] for name in ("cost_matrix_cosine", "trace", "ipot")]


def main():
    cost_matrix_cosine, trace, ipot = functions_of(sys.argv[1])
    cases = []
    for seed, (batch, m, n, d, scale) in enumerate([(3, 6, 9, 5, 1.0), (2, 1, 4, 3, 1.0), (2, 7, 3, 8, 30.0)]):
        gen = torch.Generator().manual_seed(seed)
        x, y = (scale * torch.randn((batch, count, d), generator=gen) for count in (m, n))
        x_pad, y_pad = (torch.rand((batch, count), generator=gen) < 0.3 for count in (m, n))
        x_pad[:, 0], y_pad[:, -1] = False, False
        x.requires_grad_(), y.requires_grad_()
        joint = x_pad[:, :, None] | y_pad[:, None]
        cost = cost_matrix_cosine(x, y).masked_fill(joint, 0)
        lengths = [(~pad).sum(1).to(cost.dtype) for pad in (x_pad, y_pad)]
        plan = ipot(cost.detach(), lengths[0], x_pad, lengths[1], y_pad, joint, BETA, OUTER, 1)
        distances = trace(cost.matmul(plan))
        distances.sum().backward()
        values = {"x": x, "y": y, "cost": cost, "plan": plan.transpose(1, 2), "distance": distances, "by_x": x.grad, "by_y": y.grad}
        case = {name: value.detach().flatten().tolist() for name, value in values.items()}
        live = {"live_x": (~x_pad).flatten().tolist(), "live_y": (~y_pad).flatten().tolist()}
        cases.append({"shape": [batch, m, n, d], **live, **case})
    json.dump({"torch": torch.__version__, "beta": BETA, "outer": OUTER, "cases": cases}, sys.stdout, indent=None)
    print()


if __name__ == "__main__":
    main()
