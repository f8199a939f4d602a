"""What every torchattacks call needs: a network that can't be harmed, own random streams, a checked result.

torchattacks 3.5.1 reads the device from the first parameter and prints where there is none; it calls
`eval()` and `train()` on the caller's model; several attacks leave gradients in the parameters, expect int64
labels, float32 and contiguous gradients, and call `torch.manual_seed` globally. All of that ends here.
"""

from __future__ import annotations

import contextlib
import random
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import nn

from robustkit.params import UsageError

if TYPE_CHECKING:
    from torch import Tensor

_SEEDS = 2**31 - 1


class Network(nn.Module):
    """The caller's model as torchattacks may have it: float32 in, float32 logits out.

    The model is held outside of the module tree, so that `eval()` and `train()` don't reach it; `anchor` is the
    parameter whose device torchattacks reads.
    """

    def __init__(self, model: nn.Module, x: Tensor) -> None:
        super().__init__()
        self._held = (model, x.dtype)
        self.anchor = nn.Parameter(torch.zeros((), device=x.device), requires_grad=False)
        self.eval()

    def forward(self, x: Tensor) -> Tensor:
        model, dtype = self._held
        if x.requires_grad:
            x = x.view_as(x)
            x.register_hook(torch.Tensor.contiguous)  # it calls view on gradients, which channels-last refuses
        logits: Tensor = model(x.to(dtype))
        return logits.float()


def run(
    build: Callable[[Network, int], Any],
    model: nn.Module,
    x: Tensor,
    y: Tensor,
    *,
    targeted: bool = False,
) -> Tensor:
    """Build an attack and run it on a batch.

    Args:
        build: network and a seed drawn from torch's generator → a torchattacks attack.
        model: float (N, C, H, W) → logits (N, K).
        x: (N, C, H, W) in [0, 1], any float type.
        y: (N,) labels, or targets where `targeted`.

    Returns:
        (N, C, H, W) in [0, 1], of the type of x.
    """
    if len(x) == 0:
        return x.clone()
    with frozen(model), own_streams(x.device) as seed, torch.enable_grad():
        attack = build(Network(model, x), seed)
        if targeted:
            attack.set_mode_targeted_by_label(quiet=True)
        x_adv: Tensor = attack(x.detach().float(), y.detach().long())
    return x_adv.detach().to(x.dtype).clamp(0, 1)


def classes(model: nn.Module, x: Tensor) -> int:
    """K, from one forward pass of one sample."""
    with torch.no_grad():
        return int(model(x[:1]).shape[1])


def require_classes(found: int, needed: int, what: str) -> None:
    if found < needed:
        raise UsageError(f"{what} needs at least {needed} classes and the model has {found}; use pgd or apgd")


def refuse_negative_logits(model: nn.Module, x: Tensor, what: str) -> None:
    """CW's loss, as the library has it, takes a masked 0 for the best other class: all below 0 is no attack."""
    with torch.no_grad():
        blind = int((model(x) < 0).all(dim=1).sum()) if len(x) else 0
    if blind:
        raise UsageError(
            f"torchattacks' {what} does nothing where all logits are negative, and they are for {blind} of "
            f"{len(x)} samples: its loss takes a masked 0 for the best other class; give it a model without a "
            "final log_softmax, or use another attack"
        )


def require_channels(x: Tensor, what: str) -> None:
    if x.shape[1] != 3:
        raise UsageError(
            f"torchattacks' {what} smooths the gradient with a kernel made for 3 channels and the images have "
            f"{x.shape[1]}; use torchattacks.difgsm or torchattacks.mifgsm"
        )


@contextlib.contextmanager
def frozen(model: nn.Module) -> Iterator[None]:
    """No gradient is computed for, or left in, the parameters of the model."""
    learning = [p for p in model.parameters() if p.requires_grad]
    for parameter in learning:
        parameter.requires_grad_(False)
    try:
        yield
    finally:
        for parameter in learning:
            parameter.requires_grad_(True)


@contextlib.contextmanager
def own_streams(device: torch.device) -> Iterator[int]:
    """Random streams of the attack's own, from one number of torch's generator; the caller's go on untouched."""
    seed = int(torch.randint(_SEEDS, ()))
    numpy_state, python_state = np.random.get_state(), random.getstate()  # noqa: NPY002 - torchattacks draws there
    with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
        torch.manual_seed(seed)
        np.random.seed(seed)  # noqa: NPY002
        random.seed(seed)
        try:
            yield seed
        finally:
            np.random.set_state(numpy_state)  # noqa: NPY002
            random.setstate(python_state)
