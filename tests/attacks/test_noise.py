from __future__ import annotations

from collections.abc import Callable
from typing import Any, Literal

import pytest
import torch
from torch import Tensor, nn

from robustkit.attacks.losses import margin
from robustkit.attacks.noise import Noise
from robustkit.contracts import Norm, Threat
from robustkit.norms import distance

Make = Callable[..., Any]


class Constant(nn.Module):
    """Says class 0 whatever it sees, so that every draw is made and the first is as good as any."""

    def forward(self, x: Tensor) -> Tensor:
        return torch.tensor([[1.0, 0.0, 0.0]], dtype=x.dtype).expand(len(x), 3)


def one_draw(distribution: Literal["uniform", "gaussian"], threat: Threat) -> Tensor:
    x = torch.full((4000, 1, 3, 3), 0.5, dtype=torch.float64)
    torch.manual_seed(0)
    return Noise(draws=1, distribution=distribution)(Constant(), x, torch.zeros(4000, dtype=torch.int64), threat) - x


def test_uniform_noise_fills_the_cube() -> None:
    delta = one_draw("uniform", Threat("linf", 0.2)).flatten()
    expected = torch.linspace(-0.2, 0.2, len(delta), dtype=delta.dtype)
    assert float((delta.sort().values - expected).abs().max()) <= 0.4 * 2 / len(delta) ** 0.5  # Kolmogorov–Smirnov


def test_gaussian_noise_is_half_as_wide_as_the_cube_and_clipped_to_it() -> None:
    delta = one_draw("gaussian", Threat("linf", 0.2)).flatten()
    inner = delta.abs() < 0.2 - 1e-9
    assert float((~inner).double().mean()) == pytest.approx(0.0455, abs=0.005)  # beyond two deviations
    assert float((delta.abs() < 0.1).double().mean()) == pytest.approx(0.6827, abs=0.01)
    assert float(delta.abs().max()) <= 0.2 + 1e-9


@pytest.mark.parametrize("norm", ["l2", "l1"])
def test_gaussian_noise_has_length_eps(norm: Norm) -> None:
    delta = one_draw("gaussian", Threat(norm, 0.3))
    length = distance(delta, torch.zeros_like(delta), norm)
    assert torch.allclose(length, torch.full_like(length, 0.3))
    assert float(delta.mean(dim=0).abs().max()) <= 0.01


@pytest.mark.parametrize("distribution", ["uniform", "gaussian"])
def test_the_best_of_the_draws_is_kept(trained: Any, distribution: Literal["uniform", "gaussian"]) -> None:
    x, y = trained.x[:60], trained.y[:60]
    threat = Threat("linf", 0.2)
    values = []
    for draws in (1, 8):
        torch.manual_seed(0)
        found = Noise(draws=draws, distribution=distribution)(trained.model, x, y, threat)
        values.append(margin(trained.model(found), y))
    stands = values[0] <= 0
    assert bool((values[1] >= values[0] - 1e-5)[stands].all())
    assert float((values[1] > values[0]).double().mean()) >= 0.5


def test_what_has_fallen_is_not_drawn_again(trained: Any) -> None:
    counts: list[int] = []
    handle = trained.model.register_forward_pre_hook(lambda module, args: counts.append(len(args[0])))
    try:
        Noise(draws=5)(trained.model, trained.x[:10], (trained.y[:10] + 1) % 10, Threat("linf", 1e-3))
        assert counts == [10]
        counts.clear()
        Noise(draws=5)(trained.model, trained.x[:10], trained.y[:10], Threat("linf", 1e-3))
        assert counts == [10] * 5
    finally:
        handle.remove()


def test_noise_is_weaker_than_a_gradient(trained: Any) -> None:
    """A floor: digits that fall to a tenth of the pixel range along the gradient stand in noise of that size."""
    torch.manual_seed(0)
    x_adv = Noise()(trained.model, trained.x, trained.y, Threat("linf", 0.1))
    assert float((trained.model(x_adv).argmax(dim=1) == trained.y).double().mean()) >= 0.9
