"""What the tests of the engine share: components made of any callable, and small networks."""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from robustkit.discovery import Provider
from robustkit.hookspecs import AttackEntry
from robustkit.host import Component, Registered

Make = Callable[..., Component]


@pytest.fixture
def component() -> Make:
    """`component(value, **entry)`: any callable as an attack; every norm, a budget, white-box unless said."""

    def make(value: Any, **entry: Any) -> Component:
        given = {"norms": frozenset({"linf", "l2", "l1", "l0"})} | entry
        row = AttackEntry(name="tested", target="tests:Tested", summary="An attack under test.", **given)
        provider = Provider(name="tests", distribution="tests", version="0", module="tests")
        return Component(Registered(row, provider), value, {}, "tests.tested")

    return make


@pytest.fixture
def network() -> nn.Module:
    """Convolution, BatchNorm, dropout, linear, with weights of its own: (N, 3, 8, 8) → (N, 5)."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = nn.Sequential(
            nn.Conv2d(3, 8, 3, padding=1),
            nn.BatchNorm2d(8),
            nn.ReLU(),
            nn.Dropout(0.5),
            nn.Flatten(),
            nn.Linear(8 * 64, 5),
        )
        model(torch.rand(64, 3, 8, 8))  # moves BatchNorm's statistics
    return model.eval()


@pytest.fixture
def samples(network: nn.Module) -> tuple[torch.Tensor, torch.Tensor]:
    """24 inputs, each with the label that the network gives it."""
    x = torch.rand(24, 3, 8, 8, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        return x, network(x).argmax(dim=1)


def everything(model: nn.Module) -> dict[str, Any]:
    """All that a call of foreign code must leave as it was, by name."""
    state: dict[str, Any] = {f"{name}.training": module.training for name, module in model.named_modules()}
    for name, module in model.named_modules():
        state[f"{name}.hooks"] = len(module._forward_hooks)
        state[f"{name}.parts"] = list(module._modules), list(module._parameters), list(module._buffers)
    for name, parameter in model.named_parameters():
        state[f"{name}.id"] = id(parameter)
        state[f"{name}.requires_grad"] = parameter.requires_grad
        state[f"{name}.grad"] = None if parameter.grad is None else parameter.grad.tolist()
    for name, value in model.state_dict().items():
        state[name] = value.tolist()
    state["torch"] = torch.get_rng_state().tolist()
    state["numpy"] = np.random.get_state()[1].tolist()  # type: ignore[index]  # noqa: NPY002
    state["python"] = random.getstate()
    state["dtype"] = torch.get_default_dtype()
    state["threads"] = torch.get_num_threads()
    state["gradients"] = torch.is_grad_enabled()
    return state


@pytest.fixture
def changed() -> Callable[..., list[str]]:
    """`changed(model, call)`: what `call()` leaves otherwise than it was, by name."""

    def run(model: nn.Module, call: Callable[[], object]) -> list[str]:
        before = everything(model)
        call()
        after = everything(model)
        return sorted(name for name in before.keys() | after.keys() if before.get(name) != after.get(name))

    return run


class Uncopyable(nn.Module):
    """A network that refuses to be copied, so that the guard alone stands between it and an attack."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        logits: torch.Tensor = self.network(x)
        return logits

    def __deepcopy__(self, memo: object) -> nn.Module:
        raise RuntimeError("it holds what cannot be copied")


@pytest.fixture
def uncopyable() -> type[nn.Module]:
    return Uncopyable
