from __future__ import annotations

import copy

import pytest
import torch
from torch import nn
from torch.func import jacrev, vmap

from robustkit.engine.batching import Chunked
from robustkit.engine.counting import Counter


def _counter() -> Counter:
    return Counter(Chunked(nn.Sequential(nn.Flatten(), nn.Linear(12, 3))))


def test_passes_are_counted_in_samples() -> None:
    counter, x = _counter(), torch.rand(7, 12, requires_grad=True)
    logits = counter(x)
    assert (counter.tally.forwards, counter.tally.backwards) == (7, 0)
    for label in range(3):  # a Jacobian, row by row
        torch.autograd.grad(logits[:, label].sum(), x, retain_graph=True)
    assert (counter.tally.forwards, counter.tally.backwards) == (7, 21)
    with torch.no_grad():
        counter(x[:2])
    assert (counter.tally.forwards, counter.tally.backwards) == (9, 21)


@pytest.mark.parametrize("size", [None, 1, 4])
def test_recomputed_chunks_are_not_counted(size: int | None) -> None:
    counter = _counter()
    counter.network.size = size  # type: ignore[assignment]
    x = torch.rand(7, 12, requires_grad=True)
    torch.autograd.grad(counter(x).sum(), x)
    assert (counter.tally.forwards, counter.tally.backwards) == (7, 7)


def test_a_copy_counts_into_the_same_tally() -> None:
    counter = _counter()
    twin = copy.deepcopy(counter)
    twin(torch.rand(5, 12))
    assert counter.tally.forwards == 5
    assert next(twin.parameters()) is not next(counter.parameters())


def test_attributes_are_those_of_the_network() -> None:
    network = nn.Sequential(nn.Flatten(), nn.Linear(12, 3))
    network.device = "cpu"  # type: ignore[assignment]
    counter = Counter(Chunked(network)).eval()
    assert counter.device == "cpu"
    assert not network.training
    assert sum(parameter.numel() for parameter in counter.parameters()) == 39
    with pytest.raises(AttributeError, match="nowhere"):
        _ = counter.nowhere
    assert not hasattr(counter, "__array__")


def test_transforms_of_torch_func_work() -> None:
    counter, x = _counter(), torch.rand(4, 12)
    jacobian = vmap(jacrev(lambda row: counter(row[None])[0]))(x)
    expected = next(counter.parameters())
    torch.testing.assert_close(jacobian, expected.expand(4, 3, 12).detach())
