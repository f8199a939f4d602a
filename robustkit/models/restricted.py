"""Networks of ImageNet's 1,000 classes on the nine of Restricted ImageNet."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from robustkit.contracts import Shape
from robustkit.imagenet import CLASSES, RESTRICTED


class Restricted(nn.Module):
    """Answers for groups of classes: a group's logit is log Σ exp over the logits of its classes.

    Softmax of that is the probability of the group, given that the image shows one of the nine.

    Args:
        network: (N, C, H, W) → logits (N, 1000).
    """

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, x: Tensor) -> Tensor:  # (N, C, H, W) → (N, 9)
        logits = self.network(x)  # (N, 1000)
        groups = [logits[:, first : last + 1].logsumexp(dim=1) for first, last in RESTRICTED.values()]
        return torch.stack(groups, dim=1)


def is_restricted(classes: tuple[str, ...]) -> bool:
    return classes == tuple(RESTRICTED)


def answering_for_groups(network: nn.Module, shape: Shape) -> nn.Module:
    """The network itself where it has another number of outputs than ImageNet's classes, else one of nine outputs."""
    network.eval()
    try:
        with torch.no_grad():
            found = network(torch.full((1, *shape), 0.5))  # (1, K)
    except (RuntimeError, ValueError, AssertionError, TypeError, IndexError):
        return network  # whoever tries it with the data's images tells what is wrong
    fits = isinstance(found, Tensor) and found.shape == (1, CLASSES)
    return Restricted(network) if fits else network
