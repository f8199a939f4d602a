"""The distribution on which accuracy and robustness exclude each other (Tsipras et al. 2019, arXiv:1805.12152).

y is −1 or +1. The first feature is y with probability p and −y otherwise; it cannot be attacked within ε < 1. The d
others are drawn from N(η·y, 1): each says little, their mean says nearly all, and an adversary in Linf with ε ≥ 2η
makes it say the opposite.

Among linear models that treat the d features alike, sign(a·x₁ + c·mean(x₂ … x_{d+1})) with c ≥ 0, both accuracies
have closed forms: the mean is N(η·y, 1/d), and Linf moves the score by ε(a + c).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.optimize import minimize, minimize_scalar
from scipy.stats import norm

from robustkit.params import UsageError


@dataclass(frozen=True)
class Distribution:
    """Args: p in [0.5, 1), d features that can be attacked, their mean η; 3/√d lets them give 99.87 %."""

    p: float = 0.95
    d: int = 100
    eta: float = 0.3

    def __post_init__(self) -> None:
        if not (0.5 <= self.p < 1 and self.d >= 1 and self.eta > 0):
            raise UsageError(f"{self}: give 0.5 ≤ p < 1, d ≥ 1 and eta > 0")

    def draw(self, count: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
        """x (N, d + 1) and y (N,) of −1 and +1."""
        rng = np.random.default_rng(seed)
        y = rng.choice([-1.0, 1.0], count)
        first = np.where(rng.random(count) < self.p, y, -y)
        others = rng.normal(size=(count, self.d)) + self.eta * y[:, None]
        return np.concatenate([first[:, None], others], axis=1), y

    def accuracy(self, w: np.ndarray, eps: float) -> float:
        """P(y·w·x − ε‖w‖₁ > 0) of any linear model through the origin, in closed form.

        y·w·x is ± w₁ + a normal variable of mean η·Σw and variance ‖w₂…‖₂². At ε = 0 the standard accuracy.
        """
        spread = float(np.linalg.norm(w[1:]))
        shift = self.eta * float(w[1:].sum()) - eps * float(np.abs(w).sum())
        right, wrong = shift + w[0], shift - w[0]
        if spread == 0:
            return float(self.p * (right > 0) + (1 - self.p) * (wrong > 0))
        return float(self.p * norm.cdf(right / spread) + (1 - self.p) * norm.cdf(wrong / spread))

    def alike(self, share: float) -> np.ndarray:
        """(d + 1,) weights with ‖w‖₁ = 1: `share` on the first feature, the rest spread evenly."""
        return np.concatenate([[share], np.full(self.d, (1 - share) / self.d)])

    def best(self, eps: float) -> tuple[float, float]:
        """The share of the first feature with the highest accuracy at ε among `alike` models, and that accuracy."""
        grid = np.linspace(0, 1, 201)
        values = [self.accuracy(self.alike(share), eps) for share in grid]
        top = int(np.argmax(values))
        low, high = grid[max(top - 1, 0)], grid[min(top + 1, 200)]
        found = minimize_scalar(
            lambda share: -self.accuracy(self.alike(share), eps), bounds=(low, high), method="bounded"
        )
        if -found.fun > values[top]:
            return float(found.x), float(-found.fun)
        return float(grid[top]), float(values[top])


def trained(x: np.ndarray, y: np.ndarray, eps: float, penalty: float = 1e-3) -> np.ndarray:
    """(D,) weights of a linear model through the origin, trained on logistic loss at the worst points in Linf.

    The inner maximum is in closed form, y·w·x − ε‖w‖₁, and w = q − r with q, r ≥ 0 makes it smooth (L-BFGS-B).
    """
    n, d = x.shape
    signed = y[:, None] * x

    def objective(v: np.ndarray) -> tuple[float, np.ndarray]:
        w = v[:d] - v[d:]
        margins = signed @ w - eps * v.sum()
        share = np.exp(-np.logaddexp(0.0, margins))
        slope = -(signed.T @ share) / n + penalty * w
        value = np.logaddexp(0.0, -margins).mean() + penalty / 2 * float(w @ w)
        return float(value), np.concatenate([slope, -slope]) + eps * share.mean()

    found = minimize(
        objective, np.full(2 * d, 0.01), jac=True, method="L-BFGS-B", bounds=[(0, None)] * (2 * d),
        options={"maxiter": 2000},
    )  # fmt: skip
    if not found.success:
        raise UsageError(f"training at eps={eps:g} did not converge: {found.message}; try more samples")
    weights: np.ndarray = found.x[:d] - found.x[d:]
    return weights
