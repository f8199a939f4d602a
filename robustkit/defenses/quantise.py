"""Input quantisation."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor, nn

from robustkit.contracts import Data, Training
from robustkit.params import check, param


@dataclass(frozen=True, kw_only=True)
class Quantise:
    """Fewer grey levels, x ↦ round(x · (levels − 1)) / (levels − 1), in front of a trained network (bit-depth
    reduction; Xu et al. 2018, https://arxiv.org/abs/1704.01155).

    Rounding has no gradient, and a defense of hidden gradients is one that only looks strong: an attack that follows
    the gradient finds nothing, though small changes near a threshold still get through. So the backward pass takes
    rounding for the identity (BPDA; Athalye et al. 2018, https://arxiv.org/abs/1802.00420), and every gradient attack
    of any library goes through it. `bpda=false` leaves the gradient 0, to show what that hides.

    Fields:
        levels: grey levels that are left, 2 to 256.
        bpda: pass the gradient on as if nothing had been rounded.

    Cost: none.
    """

    levels: int = param(8, "grey levels that are left", low=2, high=256)
    bpda: bool = param(True, "pass the gradient on as if nothing had been rounded")

    def __post_init__(self) -> None:
        check(self)

    def __call__(self, model: nn.Module, data: Data, training: Training) -> nn.Module:
        return Quantised(model, self.levels, self.bpda)


class Quantised(nn.Module):
    """A network that sees `levels` grey levels: (N, C, H, W) in [0, 1] → logits (N, K)."""

    def __init__(self, network: nn.Module, levels: int, bpda: bool) -> None:
        super().__init__()
        self.network = network
        self._steps = levels - 1
        self._bpda = bpda

    def forward(self, x: Tensor) -> Tensor:
        rounded = (x * self._steps).round() / self._steps
        if self._bpda:
            rounded = rounded.detach() + (x - x.detach())  # the same value, with the gradient of x
        logits: Tensor = self.network(rounded)
        return logits
