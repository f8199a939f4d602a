from __future__ import annotations

from typing import cast

import pytest
import torch
from torch import Tensor, nn

from robustkit.engine.batching import Chunked, out_of_memory


class Small(nn.Module):
    """A network whose memory ends at `limit` samples; really asks the allocator for too much."""

    def __init__(self, limit: int, error: Exception | None = None) -> None:
        super().__init__()
        self.linear = nn.Linear(6, 4)
        self.limit = limit
        self.error = error
        self.sizes: list[int] = []

    def forward(self, x: Tensor) -> Tensor:
        self.sizes.append(len(x))
        if len(x) > self.limit:
            if self.error is not None:
                raise self.error
            torch.empty(2**55)
        return cast(Tensor, self.linear(x.flatten(1)).tanh())


def _gradient(network: nn.Module, x: Tensor) -> tuple[Tensor, Tensor]:
    point = x.clone().requires_grad_()
    logits = network(point)
    (gradient,) = torch.autograd.grad(logits.square().sum(), point)
    return logits.detach(), gradient


@pytest.mark.parametrize("size", [1, 3, 8, 17, None])
def test_chunks_change_neither_logits_nor_gradients(size: int | None) -> None:
    network, x = Small(100), torch.rand(17, 6)
    logits, gradient = _gradient(Chunked(network, size), x)
    expected = _gradient(network, x)
    torch.testing.assert_close((logits, gradient), expected)
    assert size is None or max(network.sizes[:-1]) <= size


def test_chunks_allow_second_derivatives() -> None:
    network, x = Small(100), torch.rand(5, 6, requires_grad=True)
    results = []
    for chunked in (network, Chunked(network, 2)):
        (first,) = torch.autograd.grad(chunked(x).square().sum(), x, create_graph=True)
        results.append(torch.autograd.grad(first.square().sum(), x)[0])
    torch.testing.assert_close(results[1], results[0])


@pytest.mark.parametrize("error", [None, torch.OutOfMemoryError("CUDA out of memory"), MemoryError()])
def test_size_is_halved_until_it_fits(error: Exception | None) -> None:
    network = Small(5, error)
    chunked = Chunked(network)
    x = torch.rand(33, 6)
    logits = chunked(x)
    assert chunked.size == 4  # 33, 16, 8, 4
    assert network.sizes[:4] == [33, 16, 8, 4]
    torch.testing.assert_close(logits, network.linear(x).tanh())
    network.sizes.clear()
    chunked(x)
    assert max(network.sizes) == 4  # what was learnt is kept


def test_a_single_sample_too_large_is_an_error() -> None:
    chunked = Chunked(Small(0))
    with pytest.raises(RuntimeError, match="memory"):
        chunked(torch.rand(3, 6))


def test_other_errors_pass_through_at_once() -> None:
    network = Small(5, ValueError("shape"))
    with pytest.raises(ValueError, match="shape"):
        Chunked(network)(torch.rand(9, 6))
    assert network.sizes == [9]


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (RuntimeError("CUDA error: out of memory"), True),
        (RuntimeError("DefaultCPUAllocator: not enough memory: you tried to allocate 8 bytes."), True),
        (RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate 8 bytes."), True),
        (RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling cublasCreate"), True),
        (RuntimeError("mat1 and mat2 shapes cannot be multiplied"), False),
        (ValueError("out of memory"), False),
    ],
)
def test_what_counts_as_out_of_memory(error: Exception, expected: bool) -> None:
    assert out_of_memory(error) is expected
