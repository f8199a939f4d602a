"""Forward passes in chunks that fit the memory, without a change of what is computed."""

from __future__ import annotations

from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

_WORDS = ("out of memory", "not enough memory", "can't allocate memory", "ALLOC_FAILED")
"""What CUDA, the CPU's allocator on Windows and on Linux, and cuBLAS and cuDNN say."""


def out_of_memory(error: BaseException) -> bool:
    """Whether this is an allocator's word, of a GPU or of the CPU."""
    if isinstance(error, torch.OutOfMemoryError | MemoryError):
        return True
    return isinstance(error, RuntimeError) and any(word in str(error) for word in _WORDS)


class Chunked(nn.Module):
    """Runs a network on at most `size` samples at once; halves `size` when memory runs out, and goes on.

    An attack always gets the same block of samples, so its random draws don't depend on the memory there
    is. Where gradients are wanted, all chunks but the one at work are recomputed in the backward pass instead
    of kept (one forward pass more).
    """

    def __init__(self, network: nn.Module, size: int | None = None) -> None:
        super().__init__()
        self.network = network
        self.size = size

    def forward(self, x: Tensor) -> Tensor:
        while True:
            try:
                return self._run(x)
            except (RuntimeError, MemoryError) as error:
                if not out_of_memory(error) or not self.halve(len(x)):
                    raise

    def halve(self, count: int) -> bool:
        """Use half as many samples at once from now on; False where one is too many already."""
        used = min(count, self.size or count)
        if used <= 1:
            return False
        self.size = used // 2
        if torch.cuda.is_available():
            torch.cuda.empty_cache()
        return True

    def _run(self, x: Tensor) -> Tensor:
        if self.size is None or len(x) <= self.size:
            return cast(Tensor, self.network(x))
        parts = torch.split(x, self.size)
        if torch.is_grad_enabled() and x.requires_grad:
            return torch.cat([checkpoint(self.network, part, use_reentrant=False) for part in parts])
        return torch.cat([self.network(part) for part in parts])

    def __getattr__(self, name: str) -> Any:
        try:
            return super().__getattr__(name)
        except AttributeError:
            if name.startswith("_") or name == "network":
                raise
            return getattr(self.network, name)
