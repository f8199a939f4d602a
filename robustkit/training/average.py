"""Exponential moving average of the weights."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

import torch
from torch import Tensor, nn


class Average:
    """a ← d · a + (1 − d) · w after each update, with d = min(decay, (1 + t) / (10 + t)) at update t.

    The smaller decay of the first updates keeps the untrained weights out of the average of a short training.
    Floating-point buffers (BatchNorm's statistics) are averaged alike, counters are copied.
    """

    def __init__(self, model: nn.Module, decay: float) -> None:
        self.state: dict[str, Tensor] = {name: value.detach().clone() for name, value in model.state_dict().items()}
        self._decay = decay
        self._live = model.state_dict()  # shares memory with the weights, which are only ever changed in place

    @torch.no_grad()
    def update(self, step: int) -> None:
        """Take in the weights after update `step` (0-based)."""
        keep = min(self._decay, (1 + step) / (10 + step))
        for name, mean in self.state.items():
            if mean.is_floating_point():
                mean.lerp_(self._live[name], 1 - keep)
            else:
                mean.copy_(self._live[name])

    @contextlib.contextmanager
    def applied(self, model: nn.Module) -> Iterator[None]:
        """The model with the averaged weights, for as long as the block lasts."""
        kept = {name: value.clone() for name, value in self._live.items()}
        model.load_state_dict(self.state)
        try:
            yield
        finally:
            model.load_state_dict(kept)
