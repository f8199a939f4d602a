from __future__ import annotations

import pytest
import torch
from torch import nn

from robustkit.training.average import Average


def set_to(model: nn.Module, value: float) -> None:
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.fill_(value)


def test_it_is_the_weighted_sum_of_the_weights_written_out() -> None:
    model = nn.Linear(2, 1)
    set_to(model, 0.0)
    average = Average(model, 0.5)
    values = [4.0, -1.0, 3.0, 0.5, 2.0, 7.0, -3.0, 1.0, 1.5, 6.0, 2.5, 9.0]
    expected = 0.0
    for step, value in enumerate(values):
        set_to(model, value)
        average.update(step)
        decay = min(0.5, (1 + step) / (10 + step))
        expected = decay * expected + (1 - decay) * value
    assert float(average.state["weight"][0, 0]) == pytest.approx(expected, rel=1e-5)
    assert float(model.weight.detach().min()) == 9.0


def test_a_short_training_keeps_little_of_the_untrained_weights() -> None:
    model = nn.Linear(2, 1)
    set_to(model, 0.0)
    average = Average(model, 0.9999)
    for step in range(50):
        set_to(model, 1.0)
        average.update(step)
    assert float(average.state["weight"].min()) > 0.99


def test_statistics_are_averaged_and_counters_copied() -> None:
    model = nn.BatchNorm1d(2)
    average = Average(model, 0.0)
    model(torch.randn(8, 2))
    average.update(0)
    assert torch.equal(average.state["running_mean"], model.running_mean)
    assert int(average.state["num_batches_tracked"]) == 1


def test_applied_for_a_while_only() -> None:
    model = nn.Linear(2, 1)
    set_to(model, 0.0)
    average = Average(model, 0.5)
    set_to(model, 3.0)

    def look() -> None:
        with average.applied(model):
            assert float(model.weight.detach().max()) == 0.0
            raise KeyError

    with pytest.raises(KeyError):
        look()
    assert float(model.weight.detach().min()) == 3.0
    average.update(0)
    assert float(average.state["weight"].min()) > 0  # still sees the live weights
