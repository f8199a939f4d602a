"""Smoothing on networks whose smoothed probability is known in closed form."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Literal

import numpy as np
import pytest
import torch
from scipy.stats import binomtest
from torch import Tensor, nn

from robustkit import testing
from robustkit.certifiers.smoothing import Smoothing, predicted, sampler
from robustkit.certifiers.smoothing_noise import Gaussian, Uniform
from robustkit.contracts import ABSTAIN
from robustkit.params import ParamError

SHAPE = (1, 3, 3)


class HalfSpace(nn.Module):
    """Class 1 where ⟨w, x⟩ > 0."""

    def __init__(self, weight: Tensor) -> None:
        super().__init__()
        self.register_buffer("weight", weight)
        self.sizes: set[int] = set()

    def forward(self, x: Tensor) -> Tensor:
        self.sizes.add(len(x))
        score = x.flatten(1) @ self.weight
        return torch.stack([-score, score], dim=1)


@pytest.fixture
def half_space() -> HalfSpace:
    return HalfSpace(torch.tensor([1.0, -2.0, 0.5, 0.0, 3.0, -1.0, 0.25, 1.0, 2.0]))


def at_distance(model: HalfSpace, *distances: float) -> Tensor:
    unit = model.weight / model.weight.norm()
    return torch.stack([d * unit for d in distances]).reshape(-1, *SHAPE)


@pytest.mark.parametrize(
    ("mode", "reached"),
    # Adaptive mode stops at the last of its radii, multiples of 0.0625, that can be reached.
    [("fixed", (0.08, 0.2, 0.4)), ("adaptive", (0.0625, 0.1875, 0.4375))],
)
def test_gaussian_radius_approaches_the_exact_one(half_space: HalfSpace, mode: str, reached: tuple[float, ...]) -> None:
    """Φ(margin / σ‖w‖) is the probability, so the exact radius is the distance to the plane."""
    torch.manual_seed(0)
    distances = (0.1, 0.25, 0.5)
    x, y = at_distance(half_space, *distances), torch.ones(3, dtype=torch.int64)
    certifier = Smoothing(sigma=0.25, n=20_000, mode=mode, batch_size=1000)  # type: ignore[arg-type]
    found = certifier(half_space, x, y)
    assert found.prediction.tolist() == [1, 1, 1]
    exact = torch.tensor(distances, dtype=torch.float64)
    assert bool((found.radius <= exact + 1e-6).all())
    assert bool((found.radius >= torch.tensor(reached, dtype=torch.float64)).all())


def test_linf_is_l2_over_root_d(half_space: HalfSpace) -> None:
    x, y = at_distance(half_space, 0.3), torch.ones(1, dtype=torch.int64)
    euclidean = Smoothing(sigma=0.25, n=2000, mode="fixed")
    torch.manual_seed(0)
    first = euclidean(half_space, x, y)
    torch.manual_seed(0)
    second = replace(euclidean, norm="linf")(half_space, x, y)
    assert second.norm == "linf"
    assert float(second.radius) == pytest.approx(float(first.radius) / 3)


def test_l1_radius_on_one_coordinate() -> None:
    """f looks at one coordinate at d from its threshold: p = 1/2 + d / 2λ, and the exact l1 radius is d."""
    model = HalfSpace(torch.tensor([1.0] + [0.0] * 8))
    torch.manual_seed(0)
    x = at_distance(model, 0.2)
    found = Smoothing(sigma=0.5, norm="l1", n=20_000, mode="fixed")(model, x, torch.ones(1, dtype=torch.int64))
    assert found.norm == "l1"
    assert 0.17 < float(found.radius) <= 0.2


@pytest.mark.parametrize("noise", [Gaussian(0.5, "l2", 9), Gaussian(0.5, "linf", 9), Uniform(0.5)])
def test_share_and_radius_are_inverse(noise: Gaussian | Uniform) -> None:
    for share in (0.5, 0.7, 0.999):
        radius = float(noise.radius(np.array(share)))
        assert noise.share(radius) == pytest.approx(share)
    assert float(noise.radius(np.array(0.3))) == 0


def test_noise_has_its_scale() -> None:
    torch.manual_seed(0)
    x = torch.zeros(200, 1, 20, 20)
    assert float(Gaussian(0.5, "l2", 400).draw(x).std()) == pytest.approx(0.5, rel=0.01)
    drawn = Uniform(0.5).draw(x)
    assert float(drawn.abs().max()) <= 0.5
    assert float(drawn.std()) == pytest.approx(0.5 / math.sqrt(3), rel=0.01)


def test_counts_are_whole_and_belong_to_their_input(half_space: HalfSpace) -> None:
    x = at_distance(half_space, 9.0, -9.0, 9.0)
    draw = sampler(half_space, x, Gaussian(0.1, "l2", 9), batch_size=7)
    assert draw(np.array([0, 1, 2]), 5).tolist() == [[0, 5], [5, 0], [0, 5]]
    assert draw(np.array([1]), 15).tolist() == [[15, 0]]
    assert half_space.sizes == {7}


def test_wrong_label_abstains_early_and_selection_finds_the_class(half_space: HalfSpace) -> None:
    torch.manual_seed(0)
    x, y = at_distance(half_space, 0.3), torch.zeros(1, dtype=torch.int64)
    found = Smoothing(n=5000)(half_space, x, y)
    assert found.prediction.tolist() == [ABSTAIN]
    assert int(found.counts["passes"]) < 100
    found = Smoothing(n=5000, known_label=False)(half_space, x, y)
    assert found.prediction.tolist() == [1]


@pytest.mark.parametrize("evidence", ["looks", "mixture"])
def test_one_radius_is_promised_with_few_passes(half_space: HalfSpace, evidence: Literal["looks", "mixture"]) -> None:
    torch.manual_seed(0)
    x, y = at_distance(half_space, 0.5), torch.ones(1, dtype=torch.int64)
    found = Smoothing(radii=(0.25,), evidence=evidence)(half_space, x, y)
    assert 0.25 <= float(found.radius) <= 0.5
    assert int(found.counts["passes"]) < 1000


def test_bonferroni_lowers_the_radius(half_space: HalfSpace) -> None:
    x, y = at_distance(half_space, 9.0), torch.ones(1, dtype=torch.int64)
    alone = Smoothing(mode="fixed", n=1000)
    assert float(replace(alone, inputs=100)(half_space, x, y).radius) < float(alone(half_space, x, y).radius)


def test_predict_uses_the_two_sided_test(half_space: HalfSpace) -> None:
    torch.manual_seed(0)
    x = at_distance(half_space, 0.5, -0.5, 0.0)
    assert Smoothing(n=500).predict(half_space, x).tolist() == [1, 0, ABSTAIN]
    edge = next(hits for hits in range(50, 101) if binomtest(hits, 100).pvalue <= 0.001)
    assert predicted(np.array([[edge, 100 - edge], [edge - 1, 101 - edge]]), 0.001) == [0, ABSTAIN]


@pytest.mark.parametrize("radii", [(), (0.25, 0.5)])
def test_a_mixture_of_several_radii_is_refused(radii: tuple[float, ...]) -> None:
    with pytest.raises(ParamError, match="a single radius"):
        Smoothing(evidence="mixture", radii=radii)


def test_no_inputs(half_space: HalfSpace) -> None:
    found = Smoothing()(half_space, torch.zeros(0, *SHAPE), torch.zeros(0, dtype=torch.int64))
    assert found.prediction.shape == (0,)


def test_unreachable_radius_in_l1_is_refused() -> None:
    with pytest.raises(ParamError, match="below sigma"):
        Smoothing(norm="l1", sigma=0.5, radii=(0.5,))


REFUSED = {
    f"linear-{check}": "refuses networks that are not affine, as those checks use"
    for check in ("certificate", "inputs_untouched", "same_seed", "silent")
}
FEW = {"smoothing": {"n": 500, "n0": 50}}


@testing.parametrize("robustkit", kinds=["certifier"], settings=FEW, expected_failures=REFUSED)
def test_conformance(check: testing.Check) -> None:
    check()
