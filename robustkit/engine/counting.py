"""Forward and backward passes of foreign code, counted in samples."""

from __future__ import annotations

import contextlib
from dataclasses import dataclass
from typing import Any

from torch import Tensor, nn


@dataclass
class Tally:
    """Passes so far, in samples: a batch of 32 counts as 32. Copies of a network count into the same tally."""

    forwards: int = 0
    backwards: int = 0

    def __deepcopy__(self, memo: dict[int, Any]) -> Tally:
        return self


class Counter(nn.Module):
    """A network that counts its passes into `tally`, and is otherwise like the network in it.

    Attributes it has not itself, such as a layer by its name, are those of the network.
    """

    def __init__(self, network: nn.Module, tally: Tally | None = None) -> None:
        super().__init__()
        self.network = network
        self.tally = Tally() if tally is None else tally

    def forward(self, x: Tensor) -> Tensor:
        logits: Tensor = self.network(x)
        count, tally = len(x), self.tally
        tally.forwards += count

        def counted(_: Tensor) -> None:
            tally.backwards += count

        if logits.requires_grad:
            with contextlib.suppress(RuntimeError):  # some transforms of torch.func refuse hooks
                logits.register_hook(counted)  # type: ignore[no-untyped-call]
        return logits

    def __getattr__(self, name: str) -> Any:
        try:
            return super().__getattr__(name)
        except AttributeError:
            if name.startswith("_") or name == "network":
                raise
            return getattr(self.network, name)
