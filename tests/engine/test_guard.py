from __future__ import annotations

import random
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from robustkit.engine.guard import generators_kept, guarded, judging

Changed = Callable[..., list[str]]


def _in_train_mode(model: nn.Module) -> None:
    model.train()
    model[1].eval()  # type: ignore[index]  # a frozen BatchNorm, as in fine-tuning


def _free(model: nn.Module) -> None:
    for parameter in model.parameters():
        parameter.requires_grad_(True)


def _gradients(model: nn.Module) -> None:
    torch.autograd.backward(model(torch.rand(4, 3, 8, 8)).sum())


def _weights(model: nn.Module) -> None:
    with torch.no_grad():
        model[0].weight += 1  # type: ignore[index, operator]


def _weights_unseen(model: nn.Module) -> None:
    model[0].weight.data.mul_(2)  # type: ignore[index, union-attr, operator]  # leaves no trace in the version


def _not_a_number(model: nn.Module) -> None:
    model[1].running_mean.fill_(torch.nan)  # type: ignore[index, union-attr, operator]


def _reshaped(model: nn.Module) -> None:
    model[5].bias.data = torch.zeros(7)  # type: ignore[index, union-attr]


def _layer(model: nn.Module) -> None:
    model[2] = nn.Sigmoid()  # type: ignore[index, operator]


def _parameter(model: nn.Module) -> None:
    model[5].bias = nn.Parameter(torch.zeros(5))  # type: ignore[index, union-attr]


def _hook(model: nn.Module) -> None:
    model[2].register_forward_hook(lambda *_: None)  # type: ignore[index, union-attr, operator]


def _statistics(model: nn.Module) -> None:
    model.train()
    model(torch.rand(4, 3, 8, 8))
    model.eval()


OFFENCES: list[tuple[str, Callable[[nn.Module], object]]] = [
    ("training flags", lambda model: model.train()),
    ("requires_grad", _free),
    ("parameter gradients", _gradients),
    ("weights", _weights),
    ("weights", _weights_unseen),
    ("weights", _not_a_number),
    ("weights", _reshaped),
    ("weights", _statistics),
    ("modules and hooks", _layer),
    ("modules and hooks", _parameter),
    ("modules and hooks", _hook),
    ("settings of torch", lambda _: torch.set_default_dtype(torch.float64)),
    ("settings of torch", lambda _: torch.set_num_threads(torch.get_num_threads() + 1)),
]


@pytest.mark.parametrize(("words", "offence"), OFFENCES)
def test_what_foreign_code_changes_is_put_back_and_named(
    network: nn.Module, changed: Changed, words: str, offence: Callable[[nn.Module], object]
) -> None:
    _in_train_mode(network)
    for number, parameter in enumerate(network.parameters()):
        parameter.requires_grad_(number != 0)
    found: list[tuple[str, ...]] = []

    def call() -> None:
        with guarded(network, 0) as state:
            offence(network)
        found.append(state.restored)

    assert changed(network, call) == []
    assert found == [(words,)]


def test_nothing_is_restored_where_nothing_was_changed(network: nn.Module) -> None:
    with guarded(network, 0) as state:
        network(torch.rand(2, 3, 8, 8))
    assert state.restored == ()


def test_everything_is_put_back_after_an_error(network: nn.Module, changed: Changed) -> None:
    network.train()
    states: list[Any] = []

    def call() -> None:
        with guarded(network, 0) as state:
            states.append(state)
            _weights(network)
            raise ZeroDivisionError

    def caught() -> None:
        with pytest.raises(ZeroDivisionError):
            call()

    assert changed(network, caught) == []
    assert states[0].restored == ("weights",)


def test_gradients_of_the_caller_are_not_added_to(network: nn.Module) -> None:
    weight = network[0].weight  # type: ignore[index]
    weight.grad = torch.ones_like(weight)
    kept = weight.grad
    with guarded(network, 0) as state:
        _gradients(network)
    assert weight.grad is kept
    assert bool((kept == 1).all())
    assert state.restored == ("parameter gradients",)


@pytest.mark.parametrize("mode", [torch.no_grad, torch.inference_mode])
def test_gradients_work_inside_whatever_the_caller_is_in(network: nn.Module, mode: Callable[[], Any]) -> None:
    with mode():
        with guarded(network, 0):
            x = torch.rand(2, 3, 8, 8, requires_grad=True)
            (gradient,) = torch.autograd.grad(network(x).sum(), x)
        assert not torch.is_grad_enabled()
    assert float(gradient.abs().sum()) > 0


def _draws() -> tuple[float, float, float]:
    return float(torch.rand(())), float(np.random.rand()), random.random()  # noqa: NPY002


def test_draws_depend_on_the_seed_alone_and_the_callers_stream_goes_on() -> None:
    torch.manual_seed(7)
    np.random.seed(7)  # noqa: NPY002
    random.seed(7)
    undisturbed = [_draws() for _ in range(3)]
    torch.manual_seed(7)
    np.random.seed(7)  # noqa: NPY002
    random.seed(7)
    seen = [_draws()]
    with generators_kept(5):
        first = _draws()
        torch.manual_seed(0)  # as torchattacks' APGD does
    seen.append(_draws())
    with generators_kept(5):
        again = _draws()
    with generators_kept(6):
        other = _draws()
    seen.append(_draws())
    assert seen == undisturbed
    assert first == again
    assert not set(first) & set(other)


def test_a_seed_of_any_size_is_taken() -> None:
    with generators_kept(2**63 - 1):
        assert all(0 <= value < 1 for value in _draws())


def test_the_hosts_own_passes_are_in_eval_mode_and_leave_the_flags(network: nn.Module, changed: Changed) -> None:
    _in_train_mode(network)
    x = torch.rand(4, 3, 8, 8)
    seen: list[torch.Tensor] = []

    def call() -> None:
        for _ in range(2):
            with judging(network):
                seen.append(network(x))

    assert changed(network, call) == []
    assert torch.equal(seen[0], seen[1])  # dropout was off
    assert not seen[0].requires_grad


class _Merges(nn.Module):
    """Folds a correction into its weight for inference, as adapters of large networks do."""

    def __init__(self) -> None:
        super().__init__()
        self.linear, self.correction = nn.Linear(4, 3), nn.Parameter(torch.rand(3, 4))
        self.merged = False

    def train(self, mode: bool = True) -> nn.Module:
        if mode == self.merged:
            self.linear.weight.data += -self.correction.data if mode else self.correction.data
            self.merged = not mode
        return super().train(mode)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        assert self.merged is not self.training
        weight = self.linear.weight + (0 if self.merged else self.correction)
        return nn.functional.linear(x, weight, self.linear.bias)


@pytest.mark.parametrize("context", [judging, guarded], ids=["judging", "guarded"])
def test_a_models_own_eval_and_train_are_used(context: Callable[..., Any]) -> None:
    model, x = _Merges().train(), torch.rand(2, 4)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    expected = model(x)
    with context(model, 0) as state:
        inside = model(x)
    torch.testing.assert_close(inside, expected)
    assert model.training
    assert not model.merged
    torch.testing.assert_close(dict(model.state_dict()), before)
    assert state is None or state.restored == ()


def test_autocast_of_the_caller_does_not_reach_a_verdict(network: nn.Module) -> None:
    x = torch.rand(4, 3, 8, 8)
    with judging(network):
        exact = network(x)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert network(x).dtype == torch.bfloat16
        with judging(network):
            inside = network(x)
        with guarded(network, 0):
            assert network(x).dtype == torch.float32
        assert torch.is_autocast_enabled("cpu")
    assert inside.dtype == torch.float32
    assert torch.equal(inside, exact)
