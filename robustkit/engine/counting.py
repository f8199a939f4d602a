"""Forward and backward passes of foreign code, counted in samples."""

from __future__ import annotations

from torch import Tensor, nn


class Counter(nn.Module):
    """A network that counts. `forwards` and `backwards` are in samples: a batch of 32 counts as 32."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network
        self.forwards = 0
        self.backwards = 0

    def forward(self, x: Tensor) -> Tensor:
        logits: Tensor = self.network(x)
        count = len(x)
        self.forwards += count
        if logits.requires_grad:
            logits.register_hook(lambda _: self._count_backward(count))  # type: ignore[no-untyped-call]
        return logits

    def _count_backward(self, count: int) -> None:
        self.backwards += count
