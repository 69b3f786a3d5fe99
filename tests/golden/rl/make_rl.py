"""Losses and advantages of TRL, OpenRLHF and verl on random tensors, with gradients by autograd: peers.json.

Single functions are taken out of the published sources by their names, so that nothing but torch has to be installed (and choix for rankings).

    python make_rl.py --trl DIR --trl-ppo DIR --openrlhf DIR --verl DIR [--cases 3] [--out peers.json]

--trl: an unpacked wheel of TRL 1.16.0; --trl-ppo: of TRL 1.10.0, which still has PPO; --openrlhf, --verl: checkouts (versions in README.md).
With --cases 1000 --out FILE the same test reads FILE: SAMARA_RL_PEERS=FILE cargo test -p samara-tests --test rl peers
"""

import argparse
import ast
import json
import types
from collections import defaultdict
from pathlib import Path

import choix
import numpy as np
import torch
import torch.nn as nn
import torch.nn.functional as F

torch.set_default_dtype(torch.float64)
ROWS, TOKENS = 4, 5


def parts(path, names, space):
    """Defines functions and classes of a file, without its imports, decorators and annotations."""
    for node in ast.walk(ast.parse(Path(path).read_text())):
        if isinstance(node, (ast.FunctionDef, ast.ClassDef)) and node.name in names:
            node.decorator_list = []
            for inner in ast.walk(node):
                if isinstance(inner, ast.FunctionDef):
                    inner.returns = None
                    for argument in inner.args.args + inner.args.kwonlyargs:
                        argument.annotation = None
            exec(compile(ast.Module([node], []), str(path), "exec"), space)
    missing = [name for name in names if name not in space]
    assert not missing, (path, missing)
    return types.SimpleNamespace(**space)


def chain(path, method, first, last):
    """The statements of a method's body from the one whose source begins with `first` up to that which begins with `last`, as a function of a dict."""
    source = Path(path).read_text()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.FunctionDef) and node.name == method:
            texts = [ast.get_source_segment(source, statement) for statement in node.body]
            start = next(i for i, text in enumerate(texts) if text.startswith(first))
            end = next(i for i, text in enumerate(texts) if i > start and text.startswith(last))
            code = compile(ast.Module(node.body[start : end + 1], []), str(path), "exec")
            return lambda values: exec(code, values) or values
    raise AssertionError((path, method))


class Draw:
    """Random tensors of one case; those with a gradient are remembered."""

    def __init__(self, seed):
        self.generator = torch.Generator().manual_seed(seed)

    def normal(self, *shape, scale=1.0):
        return torch.randn(*shape, generator=self.generator) * scale

    def logprobs(self, *shape):
        return -torch.rand(*shape, generator=self.generator) * 3 - 0.05

    def mask(self):
        """Completions of random length."""
        lengths = torch.randint(2, TOKENS + 1, (ROWS,), generator=self.generator)
        mask = (torch.arange(TOKENS) < lengths[:, None]).double()
        return mask

    def lengths(self, n):
        return torch.randint(1, 9, (n,), generator=self.generator)


def plain(x):
    if isinstance(x, torch.Tensor):
        return x.detach().reshape(-1).tolist()
    if isinstance(x, (list, tuple)):
        return [float(y) for y in x]
    return [float(x)]


def case(function, inputs, outputs, **settings):
    return {
        "function": function,
        "settings": settings,
        "inputs": {name: plain(x) for name, x in inputs.items()},
        "outputs": {name: plain(x) for name, x in outputs.items()},
    }


def leaf(x):
    return x.clone().requires_grad_(True)


def pair_cases(seed, peers):
    draw, n, beta, smoothing = Draw(seed), 3, 0.3, 0.1
    names = ["policy_chosen", "policy_rejected", "reference_chosen", "reference_rejected"]
    lengths = {"chosen_lengths": draw.lengths(n), "rejected_lengths": draw.lengths(n)}
    sums = {name: draw.logprobs(n) * lengths[name.split("_")[1] + "_lengths"] for name in names}
    inputs = {**sums, **lengths}

    def with_gradient(name, of, **settings):
        chosen, rejected = leaf(sums["policy_chosen"]), leaf(sums["policy_rejected"])
        loss = of(chosen, rejected)
        loss.backward()
        outputs = {"loss": loss, "by_chosen": chosen.grad, "by_rejected": rejected.grad}
        return case(name, inputs, outputs, beta=beta, **settings)

    def trl_dpo(kind):
        def of(chosen, rejected):
            width = int(torch.cat(list(lengths.values())).max())
            mask = (torch.arange(width) < torch.cat([lengths["chosen_lengths"], lengths["rejected_lengths"]])[:, None]).double()
            of_loop = types.SimpleNamespace(
                beta=beta, label_smoothing=smoothing, loss_types=[kind], loss_weights=[1.0], f_divergence_type="reverse_kl",
                use_weighting=False,
            )
            ratios = (chosen - sums["reference_chosen"], rejected - sums["reference_rejected"])
            values = {
                "self": of_loop, "torch": torch, "F": F, "chosen_scores": ratios[0], "rejected_scores": ratios[1],
                "chosen_logratios": ratios[0], "rejected_logratios": ratios[1], "completion_mask": mask, "loss": 0.0,
                "delta_score": ratios[0] - ratios[1],
            }
            return peers.trl_dpo_losses(values)["loss"]

        return of

    out = [
        with_gradient("dpo", trl_dpo("sigmoid")),
        with_gradient("hinge", trl_dpo("hinge")),
        with_gradient("ipo_mean", trl_dpo("ipo")),
        with_gradient("sigmoid_norm", trl_dpo("sigmoid_norm")),
        with_gradient("robust_dpo", trl_dpo("robust"), label_smoothing=smoothing),
    ]
    for name, options in [("cdpo", {"label_smoothing": smoothing}), ("ipo_sum", {"ipo": True})]:
        dpo = peers.openrlhf.DPOLoss(beta, **options)
        reference = (sums["reference_chosen"], sums["reference_rejected"])
        out.append(with_gradient(name, lambda c, r: dpo(c, r, *reference)[0], label_smoothing=smoothing))
    cpu = types.SimpleNamespace(device="cpu")
    for kind, name in [("sigmoid", "cpo"), ("simpo", "simpo")]:
        me = types.SimpleNamespace(
            alpha=0.0, beta=beta, label_smoothing=smoothing, loss_type=kind, simpo_gamma=0.4, accelerator=cpu
        )

        def of(chosen, rejected):
            # TRL passes means over tokens for simpo, sums otherwise.
            scale = (lengths["chosen_lengths"], lengths["rejected_lengths"]) if kind == "simpo" else (1, 1)
            return peers.trl_cpo.cpo_loss(me, chosen / scale[0], rejected / scale[1])[0].mean()

        out.append(with_gradient(name, of, label_smoothing=smoothing, gamma=0.4))
    me = types.SimpleNamespace(beta=beta, accelerator=cpu)
    out.append(
        with_gradient(
            "orpo",
            lambda c, r: -peers.trl_orpo.odds_ratio_loss(
                me, c / lengths["chosen_lengths"], r / lengths["rejected_lengths"]
            )[0].double().mean(),
        )
    )
    scores = (draw.normal(n), draw.normal(n), draw.normal(n, scale=0.3))
    chosen, rejected = leaf(scores[0]), leaf(scores[1])
    loss = peers.openrlhf.PairWiseLoss()(chosen, rejected, scores[2])
    loss.backward()
    outputs = {"loss": loss, "by_chosen": chosen.grad, "by_rejected": rejected.grad}
    out.append(case("reward_pairs", {"chosen": scores[0], "rejected": scores[1], "margins": scores[2]}, outputs))
    ranked = draw.normal(5).tolist()
    order = [int(i) for i in np.argsort(ranked)[::-1]]
    likelihood = choix.log_likelihood_rankings([order], np.array(ranked))
    out.append(case("plackett_luce", {"scores": [ranked[i] for i in order]}, {"loss": -likelihood}))
    return out


def advantage_cases(seed, peers):
    draw = Draw(seed + 10_000)
    mask, out = draw.mask(), []
    rewards, values = draw.normal(ROWS, TOKENS) * mask, draw.normal(ROWS, TOKENS)
    inputs = {"rewards": rewards, "values": values, "mask": mask}
    verl = peers.verl
    for name, whiten in [("verl", verl.verl_F.masked_whiten), ("trl", peers.trl_ppo.masked_whiten)]:
        for shift_mean in [True, False]:
            whitened = whiten(values, mask, shift_mean) * mask
            out.append(case("whiten", {"values": values, "mask": mask}, {"values": whitened}, shift_mean=shift_mean, peer=name))
    gamma, lam = 0.98, 0.9
    advantages, returns = verl.compute_gae_advantage_return(rewards, values, mask, gamma, lam)
    outputs = {"advantages": advantages * mask, "returns": returns * mask}
    out.append(case("gae", inputs, outputs, gamma=gamma, **{"lambda": lam}))
    index = np.array([0, 1, 0, 1])
    with_groups = {"rewards": rewards.sum(-1), "group": index.tolist(), "mask": mask}
    for name, scaled in [("grpo", True), ("dr_grpo", False)]:
        found = verl.compute_grpo_outcome_advantage(rewards.clone(), mask, index, norm_adv_by_std_in_grpo=scaled)[0]
        out.append(case(name, with_groups, {"advantages": found}, std_epsilon=1e-6))
    found = verl.compute_rloo_outcome_advantage(rewards.clone(), mask, index)[0]
    out.append(case("rloo", with_groups, {"advantages": found}))
    found = verl.compute_reinforce_plus_plus_baseline_outcome_advantage(rewards.clone(), mask, index)[0]
    out.append(case("reinforce++-baseline", with_groups, {"advantages": found}))
    config = types.SimpleNamespace(gamma=gamma)
    found = verl.compute_reinforce_plus_plus_outcome_advantage(rewards, mask, config=config)[0]
    out.append(case("reinforce++", inputs, {"advantages": found}, gamma=gamma))
    greedy = draw.normal(ROWS)
    found = verl.compute_remax_outcome_advantage(rewards, greedy, mask)[0]
    out.append(case("remax", {**inputs, "greedy": greedy}, {"advantages": found * mask}))
    with_gaps = {**inputs, "rewards": draw.normal(8), "group": [0, 0, 1, 1, 0, 1, 0, 1]}
    scores = with_gaps["rewards"].clone()
    scores[3] = float("nan")
    grouped = [torch.tensor([scores[i] for i in range(8) if with_gaps["group"][i] == g]) for g in with_gaps["group"]]
    std = torch.stack([peers.trl_utils.nanstd(group, dim=0) for group in grouped])
    mean = torch.stack([torch.nanmean(group) for group in grouped])
    found = torch.nan_to_num((scores - mean) / (std + 1e-4))
    unscorable = [3]
    out.append(
        case(
            "grpo_unscorable", {"rewards": with_gaps["rewards"], "group": with_gaps["group"], "unscorable": unscorable},
            {"advantages": found}, std_epsilon=1e-4,
        )
    )
    scores, kl = draw.normal(ROWS, scale=9.0), draw.normal(ROWS, TOKENS) * mask
    found = peers.openrlhf_utils.compute_reward(scores, 0.1, kl, mask, (-10.0, 10.0))
    out.append(case("token_rewards", {"scores": scores, "kl": kl, "lengths": mask.sum(-1)}, {"rewards": found}, beta=0.1))
    return out


def policy_cases(seed, peers):
    draw = Draw(seed + 20_000)
    mask, verl, out = draw.mask(), peers.verl, []
    old = draw.logprobs(ROWS, TOKENS)
    new, advantages = old + draw.normal(ROWS, TOKENS, scale=0.3), draw.normal(ROWS, TOKENS)
    inputs = {"logprobs": new, "old_logprobs": old, "advantages": advantages, "mask": mask}

    def with_gradient(name, of, aggregation, inputs=inputs, **settings):
        x = leaf(new)
        found = of(x)
        loss, others = found if isinstance(found, tuple) else (found, {})
        loss.backward()
        outputs = {"loss": loss, "gradients": x.grad, **others}
        return case(name, inputs, outputs, aggregation=aggregation, **settings)

    means = {
        "token-mean": "token_mean", "seq-mean-token-mean": "seq_mean_token_mean", "seq-mean-token-sum": "seq_mean_token_sum",
    }
    for mode, aggregation in means.items():

        def ppo(x):
            found = verl.compute_policy_loss(old, x, advantages, mask, 0.2, 0.2, 0.28, 1.5, mode)
            return found[0], {}

        out.append(with_gradient("ppo", ppo, aggregation, clip=0.2, clip_high=0.28, dual_clip=1.5, log_ratio_limit=20.0))
    config = types.SimpleNamespace(clip_ratio=0.05, clip_ratio_low=0.05, clip_ratio_high=0.1, global_batch_info={})
    of_rows = advantages[:, :1].expand(ROWS, TOKENS).contiguous()
    with_rows = {**inputs, "advantages": of_rows}
    out.append(
        with_gradient(
            "gspo", lambda x: verl.compute_policy_loss_gspo(old, x, of_rows, mask, config=config)[0],
            "seq_mean_token_mean", with_rows, clip=0.05, clip_high=0.1,
        )
    )
    out.append(
        with_gradient(
            "cispo", lambda x: verl.compute_policy_loss_cispo(old, x, advantages, mask, config=config)[0], "token_mean",
            clip=0.05, clip_high=0.1,
        )
    )
    for token_level, aggregation in [(True, "token_mean"), (False, "seq_mean_token_mean")]:
        loss = peers.openrlhf.PolicyLoss(0.2, 0.28, 1.5, token_level)
        out.append(
            with_gradient(
                "ppo", lambda x: loss(x, old, advantages, mask)[0], aggregation, clip=0.2, clip_high=0.28, dual_clip=1.5,
                log_ratio_limit=20.0,
            )
        )
    reference = draw.logprobs(ROWS, TOKENS)
    for kind, level, aggregation, beta in [
        ("grpo", "token", "seq_mean_token_mean", 0.1), ("bnpo", "token", "token_mean", 0.0), ("dr_grpo", "token", "constant", 0.1),
        ("dapo", "token", "token_mean", 0.0), ("cispo", "token", "token_mean", 0.0), ("grpo", "sequence", "seq_mean_token_mean", 0.0),
    ]:

        def trl(x):
            me = types.SimpleNamespace(
                importance_sampling_level=level, beta=beta, loss_type=kind, epsilon_low=0.2, epsilon_high=0.28, use_vllm=False,
                off_policy_mask_threshold=None, top_entropy_quantile=1.0, max_completion_length=TOKENS + 2,
                current_gradient_accumulation_steps=1,
                args=types.SimpleNamespace(use_bias_correction_kl=False, delta=None, steps_per_generation=1),
                model=types.SimpleNamespace(training=True), accelerator=types.SimpleNamespace(num_processes=1),
            )
            values = {
                "self": me, "torch": torch, "per_token_logps": x, "old_per_token_logps": old, "mask": mask, "entropy_mask": None,
                "advantages": advantages[:, :1], "completion_mask": mask,
                "inputs": {"ref_per_token_logps": reference, "num_items_in_batch": mask.sum()},
            }
            return peers.trl_grpo_loss(values)["loss"]

        name = {"cispo": "cispo_cap", "grpo": "gspo" if level == "sequence" else "ppo"}.get(kind, "ppo")
        out.append(
            with_gradient(
                name, trl, aggregation, {**with_rows, "reference": reference}, clip=0.2, clip_high=0.28, beta=beta,
                length=TOKENS + 2,
            )
        )
    for name in ["kl", "abs", "k2", "k3"]:
        x = leaf(new)
        found = verl.kl_penalty(x, reference, name)
        found.sum().backward()
        out.append(case("kl", {"logprobs": new, "reference": reference}, {"values": found, "gradients": x.grad}, estimator=name))
    values, old_values, returns = (draw.normal(ROWS, TOKENS) for _ in range(3))
    of_value = {"values": values, "old_values": old_values, "returns": returns, "mask": mask}
    x = leaf(values)
    loss, clipfrac = verl.compute_value_loss(x, returns, old_values, mask, 0.5)
    loss.backward()
    out.append(case("value", of_value, {"loss": loss, "gradients": x.grad, "clipfrac": clipfrac}, clip=0.5))
    x = leaf(values)
    loss = peers.openrlhf.ValueLoss(0.5)(x, old_values, returns, mask)
    loss.backward()
    out.append(case("value", of_value, {"loss": loss, "gradients": x.grad}, clip=0.5))
    return out


def open_peers(arguments):
    trl, openrlhf = Path(arguments.trl) / "trl", Path(arguments.openrlhf) / "openrlhf/models"
    verl = Path(arguments.verl) / "verl"
    masked = ["masked_sum", "masked_mean", "masked_var", "masked_whiten", "clip_by_value"]
    verl_f = parts(verl / "utils/torch_functional.py", masked, {"torch": torch})
    of_verl = [
        "compute_gae_advantage_return", "compute_grpo_outcome_advantage", "compute_rloo_outcome_advantage",
        "compute_reinforce_plus_plus_baseline_outcome_advantage", "compute_reinforce_plus_plus_outcome_advantage",
        "compute_remax_outcome_advantage", "agg_loss", "compute_policy_loss", "compute_policy_loss_gspo",
        "compute_policy_loss_cispo", "compute_value_loss", "kl_penalty", "kl_penalty_forward",
    ]
    space = {
        "torch": torch, "np": np, "defaultdict": defaultdict, "verl_F": verl_f, "ActorConfig": types.SimpleNamespace,
        "Optional": None,
    }
    utils = parts(openrlhf / "utils.py", ["compute_reward", "masked_mean"], {"torch": torch})
    losses = ["aggregate_loss", "PolicyLoss", "ValueLoss", "PairWiseLoss", "DPOLoss"]
    ppo = Path(arguments.trl_ppo) / "trl/experimental/ppo/ppo_trainer.py"
    return types.SimpleNamespace(
        verl=parts(verl / "trainer/ppo/core_algos.py", of_verl, space),
        openrlhf=parts(openrlhf / "loss.py", losses, {"torch": torch, "nn": nn, "F": F, "masked_mean": utils.masked_mean}),
        openrlhf_utils=utils,
        trl_ppo=parts(ppo, ["masked_mean", "masked_var", "masked_whiten"], {"torch": torch}),
        trl_cpo=parts(trl / "experimental/cpo/cpo_trainer.py", ["cpo_loss"], {"torch": torch, "F": F}),
        trl_orpo=parts(trl / "experimental/orpo/orpo_trainer.py", ["odds_ratio_loss", "log1mexp"], {"torch": torch, "F": F}),
        trl_utils=parts(trl / "trainer/utils.py", ["nanstd"], {"torch": torch}),
        trl_dpo_losses=chain(trl / "trainer/dpo_trainer.py", "_compute_loss", "loss = 0.0", "for loss_type"),
        trl_grpo_loss=chain(
            trl / "trainer/grpo_trainer.py", "_compute_loss", "log_ratio = ", 'if self.loss_type in ["grpo", "sapo"]'
        ),
    )


def main():
    parser = argparse.ArgumentParser()
    for name in ["--trl", "--trl-ppo", "--openrlhf", "--verl"]:
        parser.add_argument(name, required=True)
    parser.add_argument("--cases", type=int, default=3)
    parser.add_argument("--out", default=str(Path(__file__).with_name("peers.json")))
    arguments = parser.parse_args()
    peers = open_peers(arguments)
    cases = []
    for seed in range(arguments.cases):
        cases += pair_cases(seed, peers) + advantage_cases(seed, peers) + policy_cases(seed, peers)
    text = ",\n".join(json.dumps(case, separators=(",", ":")) for case in cases)
    Path(arguments.out).write_text(f'{{"rows":{ROWS},"tokens":{TOKENS},"cases":[\n{text}\n]}}\n')
    print(len(cases), "cases,", Path(arguments.out).stat().st_size, "bytes, torch", torch.__version__)


main()
