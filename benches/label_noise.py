"""What noisy labels alone cost DPO on the enumerated world: the best table that fits them, against the optimum. Usage: python3 benches/label_noise.py

Completions and rewards as in tests/src/world.rs, a reference that is even. Labels are drawn with probability σ(r − r′) for pairs whose completions are
even or, at a share, from the optimum; scores that fit them best (maximum likelihood, with a spread of 10 before) are a policy in closed form, π ∝ π_ref
exp(score/β). So optimiser, network and number of steps play no part: no training on these labels gets below this in expectation.
"""

import itertools

import numpy as np
from scipy.optimize import minimize

VOCABULARY, LENGTH, END, SEEDS = 5, 4, 3, 5


def completions():
    for length in range(1, LENGTH + 1):
        for text in itertools.product(range(VOCABULARY), repeat=length):
            if END not in text[:-1] and (text[-1] == END or length == LENGTH):
                yield text


def gold(text):
    single = [0.3, -0.2, 0.5, 0.1, 0.0]
    return sum(single[a] for a in text) + sum((a * 7 + b * 3 + 1) % 5 * 0.25 - 0.5 for a, b in zip(text, text[1:]))


def fitted(wins):
    """Scores of most likelihood; wins[i, j]: how often i was preferred to j."""

    def loss(scores):
        difference = scores[:, None] - scores[None, :]
        slopes = wins / (1 + np.exp(difference))
        return (wins * np.logaddexp(0, -difference)).sum() + (scores**2).sum() / 200, slopes.sum(0) - slopes.sum(1) + scores / 100

    return minimize(loss, np.zeros(len(wins)), jac=True, method="L-BFGS-B", options={"maxiter": 2000}).x


def main():
    texts = list(completions())
    rewards = np.array([gold(text) for text in texts])
    reference = np.array([0.2 ** len(text) for text in texts])
    for beta, labels, share in [
        (0.5, 100_000, 0), (0.5, 153_600, 0), (0.1, 100_000, 0), (0.1, 409_600, 0), (0.1, 409_600, 0.5), (0.1, 819_200, 0.5), (0.1, 1_638_400, 0.5),
    ]:
        policy = lambda scores: (p := reference * np.exp((scores - scores.max()) / beta)) / p.sum()
        optimum, found = policy(rewards), []
        objective = lambda p: (p * (rewards - beta * np.log(p / reference))).sum()
        for seed in range(SEEDS):
            rng = np.random.default_rng(seed)
            even = rng.integers(len(texts), size=(2, labels))
            a, b = np.where(rng.random((2, labels)) < share, rng.choice(len(texts), size=(2, labels), p=optimum), even)
            first = rng.random(labels) < 1 / (1 + np.exp(rewards[b] - rewards[a]))
            wins = np.zeros((len(texts), len(texts)))
            np.add.at(wins, (np.where(first, a, b), np.where(first, b, a)), 1)
            learnt = policy(fitted(wins))
            gap = (objective(optimum) - objective(learnt)) / (objective(optimum) - objective(reference))
            found.append((100 * gap, (learnt * np.log(learnt / optimum)).sum()))
        (gap, kl), (of_gap, of_kl) = np.mean(found, 0), np.std(found, 0, ddof=1)
        print(f"| {beta} | {labels:,} | {share} | {gap:.2f} ± {of_gap:.2f} % | {kl:.4f} ± {of_kl:.4f} |", flush=True)


if __name__ == "__main__":
    main()
