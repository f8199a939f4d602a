from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from robustkit.attacks.climb import climb
from robustkit.attacks.losses import cross_entropy, margin
from robustkit.contracts import Threat
from robustkit.norms import project

Make = Callable[..., Any]
BALL = Threat("linf", 0.05)


class Counted(nn.Module):
    """Notes the size of each batch and whether a gradient was wanted."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network
        self.calls: list[tuple[int, bool]] = []

    def forward(self, x: Tensor) -> Tensor:
        self.calls.append((len(x), torch.is_grad_enabled()))
        return torch.as_tensor(self.network(x))


def test_no_pass_is_made_twice(trained: Any) -> None:
    """Of n steps: n passes with gradient and one forward, all of the whole batch where nothing falls."""
    model = Counted(trained.model)
    x, y = trained.x[:20], trained.y[:20]
    climb(model, x, y, Threat("linf", 1e-4), x, steps=5, step_size=1e-5, loss=cross_entropy)
    assert model.calls == [(20, True)] * 5 + [(20, False)]


def test_what_has_fallen_leaves_the_batch_at_once(trained: Any) -> None:
    model = Counted(trained.model)
    x, y = trained.x[:32], trained.y[:32].clone()
    y[:12] = (y[:12] + 1) % 10  # fallen before the search
    climb(model, x, y, Threat("linf", 1e-4), x, steps=4, step_size=1e-5, loss=cross_entropy)
    assert [count for count, _ in model.calls] == [32, 20, 20, 20, 20]


def test_a_search_that_is_done_stops(trained: Any) -> None:
    model = Counted(trained.model)
    x, y = trained.x[:8], (trained.y[:8] + 1) % 10
    found, values = climb(model, x, y, BALL, x, steps=50, step_size=0.01, loss=cross_entropy)
    assert model.calls == [(8, True)]
    assert torch.equal(found, x)
    assert bool(values.isposinf().all())


def test_the_best_iterate_is_kept_not_the_last(trained: Any) -> None:
    """Steps of the ball's whole width overshoot, so that the last iterate is often worse than an earlier one."""
    x, y = trained.x[:60], trained.y[:60]
    iterates: list[Tensor] = []

    class Seen(Counted):
        def forward(self, z: Tensor) -> Tensor:
            iterates.append(z.detach().clone())
            return super().forward(z)

    found, values = climb(Seen(trained.model), x, y, BALL, x, steps=6, step_size=0.1, loss=margin)
    standing = values < 0
    assert bool(standing.any())
    at_found = margin(trained.model(found), y)
    assert torch.allclose(at_found[standing], values[standing], atol=1e-5)
    whole = [margin(trained.model(z), y) for z in iterates if len(z) == len(x)]
    best = torch.stack(whole).amax(dim=0)
    if len(whole) == len(iterates):
        assert torch.allclose(at_found[standing], best[standing], atol=1e-5)
    else:
        assert bool((at_found[standing] >= best[standing] - 1e-5).all())


def test_against_a_plain_loop(untrained: Make) -> None:
    """With labels that never fall, the loop is x ← Π(x + step · sign(gradient)), written down plainly."""
    model, x, y = untrained((6, 3, 7, 7), dtype=torch.float64)
    threat, step = Threat("linf", 1e-4), 2e-5
    found, values = climb(model, x, y, threat, x, steps=5, step_size=step, loss=cross_entropy)
    point, seen = x, []
    for _ in range(6):
        point = point.detach().requires_grad_()
        loss = cross_entropy(model(point), y)
        seen.append(loss.detach())
        (gradient,) = torch.autograd.grad(loss.sum(), point)
        point = project(point.detach() + step * gradient.sign(), x, threat)
    assert torch.allclose(values, torch.stack(seen).amax(dim=0))
    assert torch.allclose(cross_entropy(model(found), y), values)


@pytest.mark.parametrize("decay", [0.0, 1.0])
def test_low_precision_inside_leaves_x_and_delta_in_float32(trained: Any, decay: float) -> None:
    class Cast(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            assert x.dtype == torch.float32
            with torch.autocast("cpu", dtype=torch.bfloat16):
                return torch.as_tensor(trained.model(x))  # logits stay bf16

    x, y = trained.x[:20], trained.y[:20]
    found, values = climb(Cast(), x, y, BALL, x, steps=3, step_size=0.02, loss=cross_entropy, decay=decay)
    assert found.dtype == values.dtype == torch.float32
    steps = (found - x)[(x > 0.1) & (x < 0.9)]  # where no clip to the box comes between
    assert bool(((steps / 0.01).round() * 0.01 - steps).abs().max() <= 1e-6)  # on a grid that bf16 does not know


def test_a_loss_that_is_not_a_number_does_not_replace_a_point(trained: Any) -> None:
    class Broken(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return torch.as_tensor(trained.model(x)) * torch.tensor(float("nan"))

    x, y = trained.x[:4], torch.zeros(4, dtype=torch.int64)  # argmax of NaN is class 0
    found, _ = climb(Broken(), x, y, BALL, x, steps=3, step_size=0.02, loss=cross_entropy)
    assert torch.equal(found, x)
