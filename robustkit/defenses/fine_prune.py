"""Fine-pruning: channels that sleep on clean images are switched off, then a short training on clean images."""

from __future__ import annotations

import copy
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from robustkit.contracts import Data, Training
from robustkit.defenses.clp import convolutions, switch_off
from robustkit.defenses.repair import accuracy, clean_images, finetune
from robustkit.params import UsageError, check, param


@dataclass(frozen=True, kw_only=True)
class FinePrune:
    """Liu, Dolan-Gavitt, Garg 2018 (RAID, https://arxiv.org/abs/1805.12185).

    The channels of the last convolution are switched off in the order of their mean activation on clean images, the
    least active first, until the accuracy on them falls by more than `drop`; then the network is trained on.

    Fields:
        drop: of the accuracy on validation images that pruning may cost.
        epochs, lr: of the training after it, on the validation images.

    Cost: a forward pass a channel and validation image, and the training.

    Raises:
        UsageError: no convolution, or no validation images.
    """

    drop: float = param(0.04, "of the validation accuracy that pruning may cost", low=0.0, high=1.0)
    epochs: int = param(5, "of training after it", low=0)
    lr: float = param(0.01, "of that training", low=1e-9)

    def __post_init__(self) -> None:
        check(self)

    def __call__(self, model: nn.Module, data: Data, training: Training) -> nn.Module:
        network = copy.deepcopy(model).eval()
        found = convolutions(network)
        if not found:
            raise UsageError("fine_prune: the network has no convolution")
        x, y = (part.to(training.device) for part in clean_images(data, "fine_prune"))
        convolution, norm = found[-1]
        order = activity(network, norm or convolution, x).argsort()
        least = accuracy(network, x, y) - self.drop
        off = torch.zeros(convolution.out_channels, dtype=torch.bool, device=x.device)
        with torch.no_grad():
            for channel in order[:-1]:
                before = {name: value.clone() for name, value in network.state_dict().items()}
                off[channel] = True
                switch_off(convolution, norm, off)
                if accuracy(network, x, y) < least:
                    network.load_state_dict(before)
                    off[channel] = False
                    break
        finetune(
            network,
            x,
            y,
            epochs=self.epochs,
            lr=self.lr,
            seed=training.seed,
            after=lambda: switch_off(convolution, norm, off),
        )
        return network


@torch.no_grad()
def activity(network: nn.Module, layer: nn.Module, x: Tensor) -> Tensor:
    """(C,) mean of what the layer gives after a ReLU, over images and places."""
    means: list[Tensor] = []
    hook = layer.register_forward_hook(lambda module, given, out: means.append(out.relu().mean(dim=(2, 3)).sum(dim=0)))
    try:
        for part in torch.split(x, 500):
            network(part)
    finally:
        hook.remove()
    return torch.stack(means).sum(dim=0) / len(x)
