"""The yardstick's margins against linear programming, brute force and the closed-form attack."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy.optimize import linprog

from robustkit.attacks.linear_exact import LinearExact
from robustkit.contracts import NORMS, Norm
from robustkit.norms import distance
from robustkit.testing.yardstick import CLASSES, Yardstick, images, labels, network, yardstick

SAMPLES = 12  # more than there are classes, so that one class meets two rivals


def _planes(ruler: Yardstick, index: int) -> list[tuple[np.ndarray, float]]:
    """(normal, gap) of every boundary of one sample: it is crossed where normal · delta >= gap."""
    weight = ruler.model[1].weight.detach().double().numpy()  # type: ignore[index]
    with torch.no_grad():
        logits = ruler.model(ruler.x[index : index + 1])[0].double().numpy()
    y = int(ruler.y[index])
    return [(weight[k] - weight[y], float(logits[y] - logits[k])) for k in range(CLASSES) if k != y]


@pytest.mark.parametrize("norm", ["linf", "l1"])
@pytest.mark.parametrize("index", [0, 7, 11])
def test_margin_is_the_optimum_of_a_linear_program(norm: Norm, index: int) -> None:
    ruler = yardstick(norm, samples=SAMPLES)
    x = ruler.x[index].flatten().double().numpy()
    d = len(x)
    best = np.inf
    for normal, gap in _planes(ruler, index):
        if norm == "linf":  # minimise t with -t <= delta <= t
            eye = np.eye(d)
            ones = np.ones((d, 1))
            above = np.vstack([np.hstack([eye, -ones]), np.hstack([-eye, -ones]), np.append(-normal, 0)[None]])
            bounds = [(-v, 1 - v) for v in x] + [(0, 1)]
            found = linprog(np.append(np.zeros(d), 1), above, [0] * (2 * d) + [-gap], bounds=bounds)
        else:  # delta = up - down
            bounds = [(0, 1 - v) for v in x] + [(0, v) for v in x]
            found = linprog(np.ones(2 * d), np.append(-normal, normal)[None], [-gap], bounds=bounds)
        best = min(best, found.fun)
    assert best == pytest.approx(ruler.margin, rel=1e-4)


def test_l2_margin_is_the_distance_to_the_nearest_plane() -> None:
    ruler = yardstick("l2", samples=SAMPLES)
    for index in range(SAMPLES):
        nearest = min(gap / np.linalg.norm(normal) for normal, gap in _planes(ruler, index))
        assert nearest == pytest.approx(ruler.margin, rel=1e-4)


def test_l0_margin_is_the_fewest_pixels() -> None:
    ruler = yardstick("l0", samples=SAMPLES)
    for index in range(SAMPLES):
        x = ruler.x[index].flatten().double().numpy()
        counts = []
        for normal, gap in _planes(ruler, index):
            gains = np.sort(np.maximum(normal * (1 - x), -normal * x))[::-1].cumsum()
            counts.append(int((gains <= gap).sum()) + 1)
        assert min(counts) == ruler.margin == 3


@pytest.mark.parametrize("norm", NORMS)
def test_closed_form_attack_succeeds_beyond_the_margin_and_not_below(norm: Norm) -> None:
    ruler = yardstick(norm, samples=SAMPLES)
    wide, narrow = (1.0, 2 / 3) if norm == "l0" else (1.001, 0.999)
    for factor, falls in ((wide, True), (narrow, False)):
        threat = ruler.threat(factor)
        x_adv = LinearExact()(ruler.model, ruler.x, ruler.y, threat)
        assert bool((distance(x_adv, ruler.x, norm) <= threat.allowance).all())
        assert bool(((labels(ruler.model, x_adv) != ruler.y) == falls).all())
        if falls:
            assert torch.equal(labels(ruler.model, x_adv), ruler.rival)


@pytest.mark.parametrize("norm", NORMS)
def test_samples_are_right_inside_the_box_and_repeatable(norm: Norm) -> None:
    ruler, again = yardstick(norm), yardstick(norm)
    assert torch.equal(labels(ruler.model, ruler.x), ruler.y)
    assert torch.equal(ruler.x, again.x)
    assert float(ruler.x.min()) > 0.2
    assert float(ruler.x.max()) < 0.8


def test_network_is_repeatable_and_leaves_the_random_state() -> None:
    before = torch.get_rng_state()
    first, again = network().state_dict(), network().state_dict()
    assert all(torch.equal(first[name], again[name]) for name in first)
    assert torch.equal(torch.get_rng_state(), before)
    x = images()
    assert bool((x == 0).any())
    assert bool((x == 1).any())
