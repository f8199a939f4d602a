"""linear_at against solutions of the same convex problem by scipy and scikit-learn, and against theory's limits."""

from __future__ import annotations

from typing import Literal

import numpy as np
import pytest
import torch
from scipy.optimize import linprog, minimize
from sklearn.svm import SVC, LinearSVC
from torch import Tensor, nn

from robustkit.attacks.linear_exact import LinearExact
from robustkit.contracts import Data, Norm, Recipe, Threat, Training
from robustkit.data.splits import ArraySplit
from robustkit.defenses.linear_at import LinearAT, worst_loss
from robustkit.defenses.standard import Standard
from robustkit.params import UsageError
from robustkit.testing import small
from tests.made import data_of

Array = np.ndarray
Kind = Literal["logistic", "hinge"]
N, D = 60, 6
DUAL: dict[str, float] = {"linf": 1, "l2": 2, "l1": np.inf}


def two_clouds(distance: float) -> tuple[Array, Array]:
    """x (N, D) in [0, 1] and y in {−1, 1}, as many of each, around two centres."""
    rng = np.random.default_rng(5)
    y = np.repeat([-1.0, 1.0], N // 2)
    way = np.array([1.0, -0.6, 0.3, 0.1, 0.0, -0.2])
    x = 0.5 + distance / 2 * y[:, None] * way + rng.normal(0, 0.08, (N, D))
    return x.clip(0, 1).astype(np.float32), y


def as_data(x: Array, y: Array) -> Data:
    images, labels = torch.from_numpy(x).reshape(-1, 1, 2, 3), torch.from_numpy(y > 0).long()
    train = ArraySplit(images, labels)
    none = ArraySplit(images[:0], labels[:0])
    return data_of(train, "ab", val=none, threat=Threat("linf", 0.05))


def fitted(
    x: Array, y: Array, kind: Kind, norm: Norm, eps: float, *, decay: float = 0.0, epochs: int = 800
) -> tuple[Array, float]:
    """w and b of f = z₁ − z₀ after full-batch training to convergence."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = nn.Sequential(nn.Flatten(), nn.Linear(D, 2))
    recipe = Recipe(epochs=epochs, batch_size=N, optimizer="adam", lr=1.0, schedule="onecycle", weight_decay=decay)
    training = Training(threat=Threat(norm, eps), recipe=recipe, precision="fp32")
    layer = LinearAT(loss=kind)(model, as_data(x, y), training)[1]  # type: ignore[index]
    weight, bias = layer.weight.detach().double().numpy(), layer.bias.detach().double().numpy()
    return weight[1] - weight[0], float(bias[1] - bias[0])


def objective(w: Array, b: float, x: Array, y: Array, kind: Kind, norm: Norm, eps: float) -> float:
    worst = y * (x.astype(np.float64) @ w + b) - eps * np.linalg.norm(w, DUAL[norm])
    losses = np.logaddexp(0, -worst) if kind == "logistic" else np.maximum(0, 1 - worst)
    return float(losses.mean())


def optimum_of_logistic(x: Array, y: Array, norm: Norm, eps: float) -> float:
    """By L-BFGS; with w = p − n, p and n ≥ 0, the l1 norm is smooth."""
    if norm == "l2":
        start = np.full(D + 1, 0.1)
        found = minimize(lambda v: objective(v[:D], v[D], x, y, "logistic", norm, eps), start, method="BFGS")
        return float(found.fun)

    def split(v: Array) -> float:
        worst = y * (x.astype(np.float64) @ (v[:D] - v[D : 2 * D]) + v[-1]) - eps * v[: 2 * D].sum()
        return float(np.logaddexp(0, -worst).mean())

    bounds = [(0, None)] * (2 * D) + [(None, None)]
    return float(minimize(split, np.full(2 * D + 1, 0.1), method="L-BFGS-B", bounds=bounds).fun)


def optimum_of_hinge(x: Array, y: Array, norm: Norm, eps: float) -> float:
    """linf: a linear program in w, b, u ≥ |w| and the losses; l2: sequential quadratic programming."""
    x = x.astype(np.float64)
    if norm == "linf":
        cost = np.concatenate([np.zeros(2 * D + 1), np.full(N, 1 / N)])
        margins = np.hstack([-y[:, None] * x, np.full((N, D), eps), -y[:, None], -np.eye(N)])
        plus = np.hstack([np.eye(D), -np.eye(D), np.zeros((D, N + 1))])
        minus = np.hstack([-np.eye(D), -np.eye(D), np.zeros((D, N + 1))])
        limits = np.concatenate([-np.ones(N), np.zeros(2 * D)])
        bounds = [(None, None)] * D + [(0, None)] * D + [(None, None)] + [(0, None)] * N
        return float(linprog(cost, np.vstack([margins, plus, minus]), limits, bounds=bounds).fun)

    def room(v: Array) -> Array:
        return v[D + 1 :] - 1 + y * (x @ v[:D] + v[D]) - eps * np.linalg.norm(v[:D])

    start = np.concatenate([np.full(D, 0.1), [0.0], np.full(N, 2.0)])
    found = minimize(
        lambda v: v[D + 1 :].mean(),
        start,
        jac=lambda v: np.concatenate([np.zeros(D + 1), np.full(N, 1 / N)]),
        method="SLSQP",
        bounds=[(None, None)] * (D + 1) + [(0, None)] * N,
        constraints={"type": "ineq", "fun": room},
        options={"maxiter": 300},
    )
    assert found.success
    return float(found.fun)


@pytest.mark.parametrize("norm", ["linf", "l2"])
def test_logistic_training_ends_at_the_convex_optimum(norm: Norm) -> None:
    x, y = two_clouds(0.3)
    eps = 0.05 if norm == "linf" else 0.1
    w, b = fitted(x, y, "logistic", norm, eps)
    found, best = objective(w, b, x, y, "logistic", norm, eps), optimum_of_logistic(x, y, norm, eps)
    assert best - 1e-5 <= found <= best + 1e-4
    start = objective(np.zeros(D), 0.0, x, y, "logistic", norm, eps)
    assert best < start - 0.1


@pytest.mark.parametrize("norm", ["linf", "l2"])
def test_hinge_training_ends_at_the_convex_optimum(norm: Norm) -> None:
    x, y = two_clouds(0.3)
    eps = 0.05 if norm == "linf" else 0.1
    w, b = fitted(x, y, "hinge", norm, eps)
    found, best = objective(w, b, x, y, "hinge", norm, eps), optimum_of_hinge(x, y, norm, eps)
    assert best - 1e-5 <= found <= best + 1e-3
    assert best < 0.9


def test_without_an_adversary_the_hinge_loss_is_a_soft_margin_svm() -> None:
    """Both rows of W decay, and at the optimum w₁ = −w₀ = w / 2, so λ/2 ‖W‖² = λ/4 ‖w‖², which is C = 2 / (λ N)."""
    x, y = two_clouds(0.3)
    decay = 0.02
    w, b = fitted(x, y, "hinge", "l2", 0.0, decay=decay)
    svm = LinearSVC(loss="hinge", C=2 / (decay * N), tol=1e-8, max_iter=1_000_000).fit(x, y)
    known = np.append(svm.coef_[0], svm.intercept_)
    assert np.linalg.norm(np.append(w, b) - known) < 0.03 * np.linalg.norm(known)


def test_in_l2_the_largest_eps_without_loss_gives_the_maximum_margin() -> None:
    """No loss is left as long as eps is below the margin; just below it, only the hard-margin SVM's w is left."""
    x, y = two_clouds(1.0)
    svm = SVC(kernel="linear", C=1e8).fit(x, y)
    normal = svm.coef_[0] / np.linalg.norm(svm.coef_[0])
    margin = 1 / float(np.linalg.norm(svm.coef_[0]))

    def reached(eps: float) -> tuple[float, float]:
        w, b = fitted(x, y, "hinge", "l2", eps)
        length = float(np.linalg.norm(w))
        return float((y * (x @ w + b)).min()) / length, float(w @ normal) / length

    near, alike = reached(0.97 * margin)
    assert 0.95 * margin < near <= margin * (1 + 1e-6)
    assert alike > 0.99
    assert reached(0.0)[0] < 0.8 * margin


@pytest.mark.parametrize("norm", ["linf", "l2"])
def test_beyond_half_the_distance_of_the_means_there_is_nothing_to_learn(norm: Norm) -> None:
    """While all samples are within the margin, the loss is 1 − ⟨w, (μ₁ − μ₀) / 2⟩ + eps ‖w‖*: least at w = 0."""
    x, y = two_clouds(0.3)
    half = np.linalg.norm((x[y > 0].mean(axis=0) - x[y < 0].mean(axis=0)) / 2, {"linf": np.inf, "l2": 2}[norm])
    beyond, _ = fitted(x, y, "hinge", norm, 1.1 * float(half))
    before, _ = fitted(x, y, "hinge", norm, 0.8 * float(half))
    assert np.linalg.norm(beyond) < 0.02
    assert np.linalg.norm(before) > 1


@pytest.mark.parametrize("norm", ["linf", "l2", "l1"])
@pytest.mark.parametrize("classes", [2, 4])
@pytest.mark.parametrize("kind", ["logistic", "hinge"])
def test_the_closed_form_is_the_worst_case(kind: Kind, classes: int, norm: Norm) -> None:
    """Reached by a perturbation written down (logistic of many classes: not quite), and exceeded by none."""
    torch.manual_seed(0)
    layer, eps = nn.Linear(D, classes).double(), 0.3
    x, y = torch.rand(1, 1, 2, 3, dtype=torch.float64), torch.tensor([1])
    model = nn.Sequential(nn.Flatten(), layer)
    weight = layer.weight.detach()

    def loss(delta: Tensor) -> float:
        z = model(x + delta.reshape(x.shape))[0].detach()
        if kind == "logistic":
            return float(z.logsumexp(0) - z[1])
        return max(0.0, *(float(1 + z[k] - z[1]) for k in range(classes) if k != 1))

    def towards(w: Tensor) -> Tensor:
        if norm == "linf":
            return w.sign()
        if norm == "l2":
            return w / w.norm()
        return w.sign() * (w.abs() == w.abs().max())

    told = float(worst_loss(model, x, y, Threat(norm, eps), kind).detach())
    reached = max(loss(eps * towards(weight[k] - weight[1])) for k in range(classes) if k != 1)
    if kind == "hinge" or classes == 2:
        assert told == pytest.approx(reached, rel=1e-9)
    else:
        assert reached < told < reached + 0.5
    for _ in range(200):
        noise = torch.randn(D, dtype=torch.float64)
        assert loss(eps * noise / torch.linalg.vector_norm(noise, float(norm[1:]))) <= told + 1e-12
    assert told > loss(torch.zeros(D, dtype=torch.float64))


@pytest.mark.parametrize("kind", ["logistic", "hinge"])
@pytest.mark.parametrize(("norm", "eps"), [("linf", 0.1), ("l2", 1.0), ("l1", 7.0)])
def test_it_withstands_more_than_plain_training(kind: Kind, norm: Norm, eps: float) -> None:
    data, threat = small.data(), Threat(norm, eps)
    x, y = small.whole(data.test)
    recipe = Recipe(epochs=12, batch_size=50, optimizer="adam", lr=0.02, schedule="onecycle", weight_decay=0.0)
    shares = []
    for defense in (Standard(), LinearAT(loss=kind)):
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            model = nn.Sequential(nn.Flatten(), nn.Linear(192, 10))
        trained = defense(model, data, Training(threat=threat, recipe=recipe, precision="bf16"))
        x_adv = LinearExact()(trained, x, y, threat)
        shares.append(float((trained(x_adv).argmax(dim=1) == y).float().mean()))
    assert shares[1] >= shares[0] + 0.1


def test_what_is_not_linear_is_refused() -> None:
    training = Training(threat=Threat("l2", 0.5), recipe=Recipe(epochs=1))
    with pytest.raises(UsageError, match=r"affine.*model=linear"):
        LinearAT()(small.untrained(), small.data(), training)
    linear = nn.Sequential(nn.Flatten(), nn.Linear(192, 10))
    with pytest.raises(UsageError, match="norm=l0"):
        LinearAT()(linear, small.data(), Training(threat=Threat("l0", 5), recipe=Recipe(epochs=1)))
