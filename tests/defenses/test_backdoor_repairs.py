"""Repairs of backdoored networks: what is switched off, and that a known backdoor closes."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from robustkit.data.splits import ArraySplit
from robustkit.defenses.clp import CLP, convolutions, lipschitz, switch_off
from robustkit.defenses.fine_prune import FinePrune, activity
from robustkit.defenses.unlearn_trigger import UnlearnTrigger
from robustkit.engine.backdoor import backdoor_success
from robustkit.params import UsageError
from robustkit.poisons.badnets import BadNets
from robustkit.poisons.planting import goal
from robustkit.testing import small


def test_the_bound_of_a_channel_is_its_largest_singular_value_scaled_by_batch_norm() -> None:
    torch.manual_seed(0)
    convolution, norm = nn.Conv2d(3, 5, 3), nn.BatchNorm2d(5).eval()
    nn.init.normal_(norm.weight)
    norm.running_var.uniform_(0.1, 4)  # type: ignore[union-attr]
    expected = [
        np.linalg.norm(convolution.weight[k].detach().reshape(3, 9).numpy(), 2)
        * abs(float(norm.weight[k].detach()))
        / np.sqrt(float(norm.running_var[k]) + norm.eps)  # type: ignore[index]
        for k in range(5)
    ]
    np.testing.assert_allclose(lipschitz(convolution, norm).detach().numpy(), expected, rtol=1e-5)


@pytest.mark.parametrize("affine", [True, False])
def test_a_channel_that_is_off_gives_zero(affine: bool) -> None:
    torch.manual_seed(0)
    network = nn.Sequential(nn.Conv2d(3, 5, 3), nn.BatchNorm2d(5, affine=affine)).train()
    network(torch.rand(4, 3, 8, 8))  # statistics that are not 0 and 1
    network.eval()
    ((convolution, norm),) = convolutions(network)
    off = torch.tensor([False, True, False, False, True])
    with torch.no_grad():
        switch_off(convolution, norm, off)
        out = network(torch.rand(2, 3, 8, 8))
    assert bool((out[:, off] == 0).all())
    assert bool((out[:, ~off] != 0).any())


def test_a_channel_far_above_the_others_is_pruned_and_no_other() -> None:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Conv2d(3, 16, 3), nn.ReLU(), nn.Flatten(), nn.Linear(16 * 36, 10)).eval()
    with torch.no_grad():
        model[0].weight[7] *= 20
    pruned = CLP()(model, small.data(), small.training())
    zero = [k for k in range(16) if not bool(pruned[0].weight[k].any())]  # type: ignore[index]
    assert zero == [7]
    assert bool(model[0].weight[7].any())


def test_activity_is_the_mean_after_a_relu() -> None:
    model, x = small.trained(), torch.rand(7, 3, 8, 8)
    expected = model[1](model[0](x)).relu().mean(dim=(0, 2, 3))  # type: ignore[index]
    torch.testing.assert_close(activity(model, model[1], x), expected.detach(), rtol=1e-4, atol=1e-5)  # type: ignore[index]


def backdoored() -> tuple[nn.Module, BadNets]:
    """The kit's network, trained on a poisoned set until the trigger works."""
    poison = BadNets(target=2, rate=0.2)
    train = poison(small.data().train, torch.Generator().manual_seed(0))
    x, y = train.batch(torch.arange(len(train)))
    model = small.untrained()
    optimizer = torch.optim.Adam(model.parameters(), lr=0.01)
    for start in list(range(0, 400, 50)) * 8:
        optimizer.zero_grad()
        torch.autograd.backward(nn.functional.cross_entropy(model(x[start : start + 50]), y[start : start + 50]))
        optimizer.step()
    return model.eval(), poison


def asr(model: nn.Module, poison: BadNets) -> float:
    x, y = small.whole(small.data().test)
    with torch.no_grad():
        pred = model.eval()(poison.trigger(x)).argmax(dim=1)
    value = backdoor_success(pred, y, goal(poison, y, 10)[0]).asr.value
    assert value is not None
    return value


def test_unlearning_takes_the_trigger_its_power_and_keeps_the_accuracy() -> None:
    model, poison = backdoored()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    assert asr(model, poison) >= 0.8
    torch.manual_seed(0)
    mended = UnlearnTrigger(steps=60, epochs=20)(model, small.data(), small.training())
    assert asr(mended, poison) < asr(model, poison) - 0.3
    assert small.accuracy(mended, small.data().test) > small.accuracy(model, small.data().test) - 0.1
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())


def test_fine_pruning_costs_no_more_than_it_may() -> None:
    model, _ = backdoored()
    val = small.data().val
    pruned = FinePrune(epochs=0, drop=0.1)(model, small.data(), small.training())
    assert small.accuracy(pruned, val) >= small.accuracy(model, val) - 0.1 - 1e-6
    tuned = FinePrune(epochs=3, drop=1.0)(model, small.data(), small.training())
    alive = [k for k in range(8) if bool(tuned[0].weight[k].any())]  # type: ignore[index]
    assert len(alive) == 1  # pruned channels stay off while training goes on


@pytest.mark.parametrize("defense", [FinePrune(), UnlearnTrigger()], ids=["prune", "unlearn"])
def test_clean_images_are_needed(defense: Any) -> None:
    empty = ArraySplit(torch.zeros(0, 3, 8, 8), torch.zeros(0, dtype=torch.int64))
    data = dataclasses.replace(small.data(), val=empty)
    with pytest.raises(UsageError, match="needs clean images"):
        defense(small.trained(), data, small.training())
