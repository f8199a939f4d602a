"""Linear models sign(w·x + b) with labels −1 and +1: worst cases in closed form, and training against them."""

from __future__ import annotations

from typing import Literal

import numpy as np
from scipy.optimize import minimize

from robustkit.params import UsageError

Loss = Literal["hinge", "logistic"]
Ball = Literal["l2", "linf"]


def dual_norm(w: np.ndarray, norm: Ball) -> float:
    """‖w‖₂ for l2, ‖w‖₁ for linf: how much a perturbation of size 1 can change w·x."""
    return float(np.linalg.norm(w, 2 if norm == "l2" else 1))


def margins(w: np.ndarray, b: float, x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """(N,) y·(w·x + b), positive where the prediction is right. x (N, D), y (N,) of −1 and +1."""
    found: np.ndarray = y * (x @ w + b)
    return found


def worst_margins(w: np.ndarray, b: float, x: np.ndarray, y: np.ndarray, norm: Ball, eps: float) -> np.ndarray:
    """(N,) the smallest margin within ε, by Hölder's inequality y·(w·x + b) − ε‖w‖*; the box is not regarded."""
    return margins(w, b, x, y) - eps * dual_norm(w, norm)


def worst_points(w: np.ndarray, x: np.ndarray, y: np.ndarray, norm: Ball, eps: float) -> np.ndarray:
    """(N, D) where that margin is reached: x − y·ε·sign(w) in linf, x − y·ε·w/‖w‖₂ in l2."""
    direction = np.sign(w) if norm == "linf" else w / max(float(np.linalg.norm(w)), 1e-12)
    points: np.ndarray = x - eps * y[:, None] * direction
    return points


def losses(found: np.ndarray, loss: Loss) -> np.ndarray:
    """Of margins: hinge max(0, 1 − m), logistic log(1 + exp(−m)). Both fall with m: worst margins, worst losses."""
    values: np.ndarray = np.maximum(0.0, 1 - found) if loss == "hinge" else np.logaddexp(0.0, -found)
    return values


def objective(
    w: np.ndarray, b: float, x: np.ndarray, y: np.ndarray, *, loss: Loss, norm: Ball, eps: float, penalty: float
) -> float:
    """Mean worst-case loss + penalty/2·‖w‖₂²: at eps=0 with hinge loss the soft-margin SVM of C = 1/(N·penalty)."""
    return float(losses(worst_margins(w, b, x, y, norm, eps), loss).mean() + penalty / 2 * (w @ w))


def fit(
    x: np.ndarray, y: np.ndarray, *, loss: Loss, norm: Ball = "l2", eps: float = 0.0, penalty: float = 1e-3
) -> tuple[np.ndarray, float]:
    """The minimum of `objective`, a convex problem, so that nothing is left to a learning rate.

    The inner maximum is in closed form. In linf w = p − q with p, q ≥ 0 makes ‖w‖₁ linear; the hinge loss becomes
    slack variables (SLSQP), the logistic loss is minimised as it is (L-BFGS-B).

    Args:
        x: (N, D); y: (N,) of −1 and +1.
        loss, norm, eps, penalty: of the objective; penalty > 0 keeps w finite where the classes can be separated.

    Returns:
        w (D,) and b.

    Raises:
        UsageError: the solver did not converge.
    """
    n, d = x.shape
    start = x[y > 0].mean(axis=0) - x[y < 0].mean(axis=0)
    start = start / max(float(start @ start), 1e-12)
    split = norm == "linf"

    def weights(v: np.ndarray) -> np.ndarray:
        return v[:d] - v[d : 2 * d] if split else v[:d]

    def size(v: np.ndarray) -> tuple[float, np.ndarray]:
        """‖w‖* and its gradient with respect to the first variables."""
        if split:
            return float(v[: 2 * d].sum()), np.ones(2 * d)
        length = float(np.linalg.norm(v[:d])) + 1e-12
        return length, v[:d] / length

    def lifted(gradient: np.ndarray) -> np.ndarray:
        return np.concatenate([gradient, -gradient], axis=-1) if split else gradient

    k = 2 * d if split else d
    first = np.concatenate([np.maximum(start, 0), np.maximum(-start, 0)]) if split else start
    first = np.concatenate([first, [-float(start @ x.mean(axis=0))]])
    low = [(0, None)] * k if split else [(None, None)] * k

    def margin(v: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """(N,) worst margins and their (N, k + 1) gradient."""
        length, slope = size(v)
        values = y * (x @ weights(v) + v[k]) - eps * length
        return values, np.concatenate([lifted(y[:, None] * x) - eps * slope, y[:, None]], axis=1)

    def smooth(v: np.ndarray) -> tuple[float, np.ndarray]:
        values, slopes = margin(v)
        w = weights(v)
        share = -np.exp(-np.logaddexp(0.0, values))  # derivative of the logistic loss
        gradient = slopes.T @ share / n
        gradient[:k] += penalty * lifted(w)
        return float(np.logaddexp(0.0, -values).mean() + penalty / 2 * (w @ w)), gradient

    if loss == "logistic":
        found = minimize(
            smooth, first, jac=True, method="L-BFGS-B", bounds=[*low, (None, None)],
            options={"maxiter": 5000, "ftol": 1e-14, "gtol": 1e-9},
        )  # fmt: skip
    else:
        slack = np.maximum(0.0, 1 - margin(first)[0])
        gradient = np.concatenate([np.zeros(k + 1), np.full(n, 1 / n)])
        found = minimize(
            lambda v: float(v[k + 1 :].mean() + penalty / 2 * (weights(v) @ weights(v))),
            np.concatenate([first, slack]),
            jac=lambda v: gradient + np.concatenate([penalty * lifted(weights(v)), np.zeros(n + 1)]),
            method="SLSQP",
            bounds=[*low, (None, None), *[(0, None)] * n],
            constraints={
                "type": "ineq",
                "fun": lambda v: v[k + 1 :] - 1 + margin(v)[0],
                "jac": lambda v: np.concatenate([margin(v)[1], np.eye(n)], axis=1),
            },
            options={"maxiter": 500, "ftol": 1e-10},
        )
    if not found.success:
        raise UsageError(f"{loss} loss in {norm} at eps={eps:g}: {found.message}; try another penalty or seed")
    return weights(found.x), float(found.x[k])
