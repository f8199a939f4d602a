"""A short training on clean images of the validation part, which repairs share."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn

from robustkit.contracts import Data
from robustkit.params import UsageError

Change = Callable[[Tensor, torch.Generator], Tensor]
_BATCH = 64


def clean_images(data: Data, name: str) -> tuple[Tensor, Tensor]:
    """All validation images; the training part may be poisoned.

    Raises:
        UsageError: there are fewer than two.
    """
    if len(data.val) < 2:
        raise UsageError(f"{name} needs clean images; the validation part of {data.name} has {len(data.val)}")
    return data.val.batch(torch.arange(len(data.val)))


def finetune(
    network: nn.Module,
    x: Tensor,
    y: Tensor,
    *,
    epochs: int,
    lr: float,
    seed: int,
    change: Change | None = None,
    after: Callable[[], None] | None = None,
) -> None:
    """Train in place by SGD with momentum 0.9, BatchNorm frozen; ends in eval mode.

    Args:
        network: on the device of x.
        x, y: (N, C, H, W) and (N,), on the device of the network.
        epochs, lr, seed: of the training.
        change: applied to each batch, labels stay.
        after: called after each step, e.g. to keep what was pruned at zero.
    """
    network.eval()  # BatchNorm keeps its statistics: a few clean images would estimate others
    generator = torch.Generator().manual_seed(seed)
    optimizer = torch.optim.SGD(network.parameters(), lr=lr, momentum=0.9)
    with torch.enable_grad():
        for _ in range(epochs):
            for index in torch.split(torch.randperm(len(x), generator=generator).to(x.device), _BATCH):
                batch = x[index] if change is None else change(x[index], generator)
                optimizer.zero_grad()
                torch.autograd.backward(nn.functional.cross_entropy(network(batch), y[index]))
                optimizer.step()
                if after is not None:
                    with torch.no_grad():
                        after()
    network.zero_grad(set_to_none=True)


@torch.no_grad()
def accuracy(network: nn.Module, x: Tensor, y: Tensor) -> float:
    return float(torch.cat([network(part).argmax(dim=1) for part in torch.split(x, 500)]).eq(y).float().mean())
