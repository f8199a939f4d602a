"""Loss and accuracy of a training, taken from the passes it makes anyway."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from robustkit.training.team import Team


class Tally:
    """Loss and accuracy of an epoch so far, added up on the device, which nothing has to wait for."""

    def __init__(self, device: torch.device) -> None:
        self._loss = torch.zeros((), device=device)
        self._right = torch.zeros((), device=device)
        self._seen = 0

    def add(self, loss: Tensor, logits: Tensor, y: Tensor) -> None:
        self._loss += loss.detach() * len(y)
        self._right += (logits.argmax(dim=1) == y).sum()
        self._seen += len(y)

    def metrics(self, crew: Team | None = None) -> dict[str, float]:
        """Of what this process has seen; with a team, of what all of its processes have."""
        sums = torch.stack([self._loss, self._right, torch.full_like(self._loss, self._seen)]).double()
        loss, right, seen = (sums if crew is None else crew.total(sums)).tolist()
        return {"loss": loss / seen, "train accuracy": right / seen}


class Last:
    """Keeps the logits of the last forward pass, so that training accuracy costs no pass of its own."""

    def __init__(self, network: nn.Module) -> None:
        self.logits = torch.empty(0)
        self._handle = network.register_forward_hook(self._keep)

    def _keep(self, module: nn.Module, inputs: object, output: Tensor) -> None:
        self.logits = output.detach()

    def __enter__(self) -> Last:
        return self

    def __exit__(self, *_: object) -> None:
        self._handle.remove()
