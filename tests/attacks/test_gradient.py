from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from robustkit.attacks.gradient import input_gradient
from robustkit.attacks.losses import LOSSES, LossName, cross_entropy, named
from robustkit.params import UsageError

Make = Callable[..., Any]


@pytest.mark.parametrize("name", LOSSES)
@pytest.mark.parametrize("targeted", [False, True])
def test_against_finite_differences(untrained: Make, name: LossName, targeted: bool) -> None:
    model, x, y = untrained((2, 2, 4, 4), dtype=torch.float64)
    model[2] = nn.Softplus()  # smooth, so that differences converge
    loss = named(name, targeted)
    gradient, values, logits = input_gradient(model, x, y, loss)
    with torch.no_grad():
        assert torch.allclose(logits, model(x))
        assert torch.allclose(values, loss(model(x), y))
        step = 1e-6
        for place in range(x[0].numel()):
            nudge = torch.zeros_like(x).reshape(2, -1)
            nudge[:, place] = step
            nudge = nudge.reshape(x.shape)
            slope = (loss(model(x + nudge), y) - loss(model(x - nudge), y)) / (2 * step)
            assert torch.allclose(gradient.reshape(2, -1)[:, place], slope, atol=1e-6)


def test_gradcheck_of_the_whole_chain(untrained: Make) -> None:
    model, x, y = untrained((2, 1, 3, 3), dtype=torch.float64)
    model[2] = nn.Softplus()

    class Chain(torch.autograd.Function):
        """The loss forward, and backward what attacks get."""

        @staticmethod
        def forward(ctx: Any, z: Tensor) -> Tensor:
            gradient, values, _ = input_gradient(model, z, y, cross_entropy)
            ctx.save_for_backward(gradient)
            return values

        @staticmethod
        def backward(ctx: Any, *outer: Tensor) -> Tensor:
            return ctx.saved_tensors[0] * outer[0][:, None, None, None]

    assert torch.autograd.gradcheck(Chain.apply, x.clone().requires_grad_())


def test_weights_get_no_gradient_and_cost_none(untrained: Make) -> None:
    model, x, y = untrained((4, 3, 6, 6))
    wanted: list[str] = []
    for name, parameter in model.named_parameters():
        parameter.register_hook(lambda gradient, name=name: wanted.append(name))
    gradient, _, _ = input_gradient(model, x, y, cross_entropy)
    assert gradient.shape == x.shape
    assert wanted == []
    assert all(parameter.grad is None for parameter in model.parameters())
    assert not x.requires_grad


@pytest.mark.parametrize("frozen", [True, False])
def test_a_model_without_gradient_is_refused(frozen: bool) -> None:
    class Rounded(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layer = nn.Linear(4, 3)

        def forward(self, x: Tensor) -> Tensor:
            return torch.as_tensor(self.layer((x.detach() * 255).round().flatten(1)))

    model = Rounded().requires_grad_(not frozen)
    with pytest.raises(UsageError, match="no gradient with respect to its input"):
        input_gradient(model, torch.rand(2, 1, 2, 2), torch.tensor([0, 1]), cross_entropy)
