"""The adaptive parts: a loss of one's own, expectations over draws, gradients past what has none."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from types import ModuleType

import pytest
import torch
from torch import Tensor, nn

from robustkit.attacks.adaptive import Adaptive, Averaged, StraightThrough
from robustkit.attacks.losses import margin
from robustkit.contracts import Threat
from robustkit.host import Host
from robustkit.params import ParamError, UsageError
from robustkit.testing import small

THREAT = Threat("linf", 0.3)


@pytest.fixture(scope="module")
def case() -> tuple[nn.Module, Tensor, Tensor]:
    model = small.trained().requires_grad_(False)
    x, y = small.whole(small.data().test)
    right = model(x).argmax(dim=1) == y
    return model, x[right][:20], y[right][:20]


@pytest.fixture
def losses() -> Iterator[ModuleType]:
    module = ModuleType("own_losses")
    module.mine = margin  # type: ignore[attr-defined]
    module.total = lambda logits, y: margin(logits, y).sum()  # type: ignore[attr-defined]
    sys.modules["own_losses"] = module
    yield module
    del sys.modules["own_losses"]


def fallen(model: nn.Module, x: Tensor, y: Tensor, attack: Adaptive) -> Tensor:
    torch.manual_seed(0)
    return torch.as_tensor(model(attack(model, x, y, THREAT)).argmax(dim=1) != y)


def test_a_loss_of_one_s_own_is_followed(case: tuple[nn.Module, Tensor, Tensor], losses: ModuleType) -> None:
    model, x, y = case
    threat = Threat("l2", 0.1)
    given = Host(discover=False).build("attack", "adaptive:loss=own_losses:mine:steps=5").value
    found = []
    for attack in (given, Adaptive(steps=5, loss="margin"), Adaptive(steps=5, loss="cross_entropy")):
        torch.manual_seed(0)
        found.append(attack(model, x, y, threat))
    assert torch.equal(found[0], found[1])
    assert not torch.equal(found[0], found[2])


def test_a_bad_loss_is_refused(case: tuple[nn.Module, Tensor, Tensor], losses: ModuleType) -> None:
    model, x, y = case
    with pytest.raises(ParamError, match="loss='marign' is not one of"):
        Adaptive(loss="marign")
    with pytest.raises(UsageError, match="cannot be imported"):
        Adaptive(loss="no_such_module:loss")(model, x, y, THREAT)
    with pytest.raises(UsageError, match="return one loss a sample"):
        Adaptive(loss="own_losses:total")(model, x, y, THREAT)


def test_the_mean_over_draws_tends_to_the_expectation() -> None:
    class Noisy(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return torch.as_tensor(x + torch.randn_like(x))

    torch.manual_seed(0)
    x = torch.rand(50, 10)
    alone, many = ((Averaged(Noisy(), draws)(x) - x).std() for draws in (1, 100))
    assert float(many) == pytest.approx(float(alone) / 10, rel=0.2)


def test_draws_cost_what_they_say(case: tuple[nn.Module, Tensor, Tensor]) -> None:
    model, x, y = case
    passes: list[int] = []
    handle = model.register_forward_pre_hook(lambda module, given: passes.append(len(given[0])))
    try:
        Adaptive(steps=3, draws=4)(model, x, y, Threat("linf", 0.001))
    finally:
        handle.remove()
    assert sum(passes) <= 4 * (3 + 1) * len(x)
    assert len(passes) == 4 * (3 + 1)


def test_a_straight_through_layer_lets_the_attack_past(case: tuple[nn.Module, Tensor, Tensor]) -> None:
    network, x, y = case

    def rounded(z: Tensor) -> Tensor:
        return (7 * z).round() / 7

    class Rounding(nn.Module):
        def forward(self, z: Tensor) -> Tensor:
            return rounded(z)

    attack = Adaptive(steps=20)
    hidden = nn.Sequential(Rounding(), network)
    shown = nn.Sequential(StraightThrough(rounded), network)
    assert torch.equal(hidden(x), shown(x))
    assert int(fallen(shown, x, y, attack).sum()) >= int(fallen(hidden, x, y, attack).sum()) + 5


def test_a_stand_in_gives_its_own_gradient() -> None:
    x = torch.rand(3, 4, requires_grad=True)
    layer = StraightThrough(torch.sign, lambda z: 3 * z)
    out = layer(x)
    assert torch.equal(out, torch.ones(3, 4))
    (gradient,) = torch.autograd.grad(out.sum(), x)
    assert torch.equal(gradient, torch.full((3, 4), 3.0))
