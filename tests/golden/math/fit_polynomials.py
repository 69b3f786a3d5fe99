"""Coefficients of core/src/math/fast.rs and std-runtime/src/kernels/vector.rs: polynomials that minimise the largest relative error (Lawson's reweighted least squares).

Made with Python 3.11, numpy 2.4, mpmath 1.3. Run it to see the coefficients, lowest power first, and the error of the exact polynomial.
"""

import mpmath as mp
import numpy as np

mp.mp.dps = 40


def fit(basis, target, scale, steps=400):
    """Least max |basis @ c - target| * scale over c."""
    weight = np.ones(len(target))
    best, best_error = None, np.inf
    for _ in range(steps):
        w = np.sqrt(weight) * scale
        c, *_ = np.linalg.lstsq(basis * w[:, None], target * w, rcond=None)
        error = np.abs(basis @ c - target) * scale
        if error.max() < best_error:
            best, best_error = c, error.max()
        weight *= error / error.max() + 1e-9
        weight /= weight.sum()
    return best, best_error


def nodes(low, high, count=2000):
    return (low + high) / 2 + (high - low) / 2 * np.cos(np.pi * (np.arange(count) + 0.5) / count)


def show(name, coefficients, error):
    print(name, f"relative error {error:.2e} = 2^{np.log2(error):.1f}")
    for c in np.float32(coefficients):
        print(f"    {c:.9e}")


# e^r = 1 + r + r^2 q(r), |r| <= ln(2) / 2.
r = nodes(-np.log(2) / 2 * 1.001, np.log(2) / 2 * 1.001)
q = np.array([float((mp.exp(mp.mpf(x)) - 1 - mp.mpf(x)) / mp.mpf(x) ** 2) for x in r])
show("EXP", *fit(np.vander(r, 5, increasing=True), q, r**2 / np.exp(r)))

# erf(x) = x + x p(x^2), |x| <= 0.92.
x = nodes(0.0005, 0.92)
p = np.array([float(mp.erf(mp.mpf(v)) / mp.mpf(v)) - 1 for v in x])
show("ERF", *fit(np.vander(x**2, 7, increasing=True), p, 1 / (1 + p)))

# erfc(a) e^(a^2) = t (1 + (t - 1) p(t)), t = 1 / (1 + a / 2), 0 <= a <= 10.5: exactly 1 at 0.
t = nodes(1 / (1 + 0.5 * 10.5), 1.0)
a = 2 * (1 / t - 1)
whole = np.array([float(mp.erfc(mp.mpf(v)) * mp.exp(mp.mpf(v) ** 2)) for v in a]) / t
p = (whole - 1) / (t - 1)
show("ERFC", *fit(np.vander(t, 8, increasing=True), p, (1 - t) / whole))

# 2^r = 1 + r p(r), |r| <= 1 / 2.
r = nodes(-0.5 * 1.001, 0.5 * 1.001)
p = np.array([float((mp.mpf(2) ** mp.mpf(x) - 1) / mp.mpf(x)) for x in r])
show("EXP2", *fit(np.vander(r, 6, increasing=True), p, np.abs(r) / 2**r))
