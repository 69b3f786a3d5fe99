"""Write five steps of AdamW, Adam with TensorFlow's epsilon, and SGD with momentum, all in float64.

Run: python make_optim.py [OUT_DIR]  (default: the folder of this script). One JSON file per optimizer, format in README.md.
"""

import json
import pathlib
import sys

import numpy
import torch

STEPS = 5
LEARNING_RATES = [0.01, 0.02, 0.03, 0.025, 0.005]
SIZES = {"decayed": 5, "plain": 3}
WEIGHT_DECAY = {"decayed": 0.1, "plain": 0.0}
# Scales of the gradients: with max_norm 1 some steps are clipped and some are not.
GRAD_SCALES = [2.0, 0.1, 1.0, 0.01, 5.0]


def versions():
    return {"python": sys.version.split()[0], "torch": torch.__version__, "numpy": numpy.__version__}


def start():
    gen = torch.Generator().manual_seed(7)
    weights = {k: torch.randn(n, generator=gen, dtype=torch.float64) for k, n in SIZES.items()}
    grads = [
        {k: scale * torch.randn(n, generator=gen, dtype=torch.float64) for k, n in SIZES.items()}
        for scale in GRAD_SCALES
    ]
    return weights, grads


def lists(tensors):
    return {k: v.detach().tolist() for k, v in tensors.items()}


def run_torch(make, max_norm, state_names):
    """Steps of a torch optimizer; `make(groups)` builds it."""
    weights, grads = start()
    params = {k: torch.nn.Parameter(v.clone()) for k, v in weights.items()}
    groups = [{"params": [p], "weight_decay": WEIGHT_DECAY[k]} for k, p in params.items()]
    optimizer = make(groups)
    steps = []
    for lr, grad in zip(LEARNING_RATES, grads):
        for k, p in params.items():
            p.grad = grad[k].clone()
        norm = None
        if max_norm is not None:
            norm = torch.nn.utils.clip_grad_norm_(params.values(), max_norm).item()
        clipped = {k: p.grad.clone() for k, p in params.items()}
        for group in optimizer.param_groups:
            group["lr"] = lr
        optimizer.step()
        step = {"lr": lr, "grads": lists(grad), "grad_norm": norm, "clipped": lists(clipped), "weights": lists(params)}
        for name in state_names:
            step[name] = lists({k: optimizer.state[p][name] for k, p in params.items()})
        steps.append(step)
    return {"max_norm": max_norm, "weight_decay": WEIGHT_DECAY, "start": lists(weights), "steps": steps}


def run_epsilon_hat(beta1, beta2, eps):
    """Adam as TensorFlow has it: epsilon beside the uncorrected root (Kingma & Ba, end of section 2)."""
    weights, grads = start()
    w = {k: v.numpy().copy() for k, v in weights.items()}
    m = {k: numpy.zeros_like(v) for k, v in w.items()}
    v = {k: numpy.zeros_like(x) for k, x in w.items()}
    steps = []
    for t, (lr, grad) in enumerate(zip(LEARNING_RATES, grads), start=1):
        lr_t = lr * numpy.sqrt(1.0 - beta2**t) / (1.0 - beta1**t)
        for k in w:
            g = grad[k].numpy()
            m[k] = beta1 * m[k] + (1.0 - beta1) * g
            v[k] = beta2 * v[k] + (1.0 - beta2) * g * g
            w[k] = w[k] - lr_t * m[k] / (numpy.sqrt(v[k]) + eps)
        step = {"lr": lr, "grads": lists(grad), "weights": w, "exp_avg": m, "exp_avg_sq": v}
        steps.append({n: {k: x.tolist() for k, x in s.items()} if n not in ("lr", "grads") else s for n, s in step.items()})
    return {"max_norm": None, "weight_decay": {k: 0.0 for k in SIZES}, "start": lists(weights), "steps": steps}


def main():
    out = pathlib.Path(sys.argv[1]) if len(sys.argv) > 1 else pathlib.Path(__file__).resolve().parent
    moments = ["exp_avg", "exp_avg_sq"]
    cases = {}
    for name, eps, max_norm in [("adamw", 1e-8, None), ("adamw_clip", 1e-8, 1.0), ("adamw_large_eps", 1e-2, 1.0)]:
        settings = {"beta1": 0.9, "beta2": 0.95, "eps": eps}
        run = run_torch(lambda groups: torch.optim.AdamW(groups, lr=1.0, betas=(0.9, 0.95), eps=eps), max_norm, moments)
        cases[name] = {"optimizer": "torch.optim.AdamW", **settings, **run}
    settings = {"beta1": 0.9, "beta2": 0.95, "eps": 1e-2}
    cases["adam_epsilon_hat"] = {"optimizer": "Adam, epsilon hat", **settings, **run_epsilon_hat(**settings)}
    for name, nesterov in [("sgd_momentum", False), ("sgd_nesterov", True)]:
        run = run_torch(
            lambda groups: torch.optim.SGD(groups, lr=1.0, momentum=0.9, nesterov=nesterov), None, ["momentum_buffer"]
        )
        cases[name] = {"optimizer": "torch.optim.SGD", "momentum": 0.9, "nesterov": nesterov, **run}
    for name, case in cases.items():
        (out / f"{name}.json").write_text(json.dumps({"versions": versions(), **case}, indent=1) + "\n")


if __name__ == "__main__":
    main()
