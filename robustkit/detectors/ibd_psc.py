"""IBD-PSC: a triggered input keeps its prediction when the last layers of the network are amplified."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.func import functional_call
from torch.nn.modules.batchnorm import _BatchNorm

from robustkit.contracts import Data, Split, Verdict
from robustkit.detectors.features import device_of, passed, threshold
from robustkit.params import UsageError, check, param

_AT_ONCE = 500
_SATURATED = 1e-9


@dataclass(frozen=True, kw_only=True)
class IBDPSC:
    """Parameter-oriented scaling consistency (Hou et al. 2024, ICML, https://arxiv.org/abs/2405.09786).

    Scale and shift of the last i BatchNorm layers are multiplied by `omega`, for i = k, …, k + models - 1; k is the
    smallest number of layers for which the share of clean images that are then misclassified exceeds `error`. The
    score of an input is the mean softmax share, over these networks, of the class that the unchanged network
    predicts: it stays high where a trigger holds the prediction.

    "Last" is by the order in which the layers are passed, not in which they were written down. Departures: the
    threshold is a quantile over clean images, where the paper takes 0.9 for every network; in a network without
    k + models - 1 such layers fewer models are averaged, and where no k reaches `error` it is the largest.

    Fields:
        omega: factor of scale and shift.
        models: amplified networks.
        error: share of clean images that must be misclassified from k layers on.
        fpr: share of clean images above the threshold.

    Scope: input; `data.test` holds what is judged. Cost: `models` + 1 forward passes an input and a clean image, and
    k a clean image.

    Raises:
        UsageError: no BatchNorm layer with scale and shift, or no clean images or inputs.
    """

    omega: float = param(1.5, "factor of scale and shift", low=1.0)
    models: int = param(5, "amplified networks", low=1)
    error: float = param(0.6, "share of clean images misclassified from the first of them on", low=0.0, high=1.0)
    fpr: float = param(0.05, "share of clean images above the threshold", low=0.0, high=1.0)

    def __post_init__(self) -> None:
        check(self)

    def __call__(self, model: nn.Module, data: Data) -> Verdict:
        if not len(data.val) or not len(data.test):
            raise UsageError(
                f"ibd_psc needs clean images and inputs; {data.name} has {len(data.val)} and {len(data.test)}"
            )
        layers = passed_layers(model, data.val.batch(torch.arange(1))[0])
        if not layers:
            raise UsageError(
                "ibd_psc amplifies BatchNorm layers with scale and shift, and the network has none; strip judges "
                "inputs of any network"
            )
        first, reached = self._first(model, data.val, layers)
        counts = range(first, min(first + self.models, len(layers) + 1))
        clean = self._consistency(model, data.val, layers, counts)
        score = self._consistency(model, data.test, layers, counts)
        limit = threshold(clean, self.fpr)
        passes = (len(counts) + 1) * (len(clean) + len(score)) + first * len(clean)
        return Verdict(
            score=score,
            flagged=score > limit,
            limit=limit,
            cost={"forwards": float(passes)},
            note=self._note(reached, len(layers), limit),
        )

    def _first(self, model: nn.Module, clean: Split, layers: list[str]) -> tuple[int, float]:
        """The number of layers to begin with, and the error on clean images that it reaches."""
        reached = 0.0
        for count in range(1, len(layers) + 1):
            said = logits_amplified(model, clean, layers[-count:], self.omega).argmax(dim=1)
            reached = float((said != clean.labels).double().mean())
            if reached > self.error:
                return count, reached
        return max(1, len(layers) + 1 - self.models), reached

    def _note(self, reached: float, layers: int, limit: float) -> str:
        if limit > 1 - _SATURATED:
            return f"more than {self.fpr:g} of the clean images keep their prediction fully, so no input can be flagged"
        if reached <= self.error:
            return (
                f"with omega={self.omega:g} on all {layers} BatchNorm layers {reached:.2f} of the clean images are "
                f"misclassified, not above {self.error:g}; a larger omega may separate better"
            )
        return ""

    def _consistency(self, model: nn.Module, inputs: Split, layers: list[str], counts: range) -> Tensor:
        """(N,) float64: the mean share of the class that the unchanged network predicts."""
        own = passed(model, inputs).logits.argmax(dim=1, keepdim=True)
        shares = [
            logits_amplified(model, inputs, layers[-count:], self.omega).softmax(dim=1).gather(1, own)[:, 0]
            for count in counts
        ]
        return torch.stack(shares).mean(dim=0)


@torch.no_grad()
def passed_layers(model: nn.Module, x: Tensor) -> list[str]:
    """Names of the BatchNorm layers with scale and shift, in the order in which images (N, C, H, W) pass them."""
    passed: list[str] = []
    hooks = [
        module.register_forward_pre_hook(lambda module, given, name=name: passed.append(name))
        for name, module in model.named_modules()
        if isinstance(module, _BatchNorm) and module.affine
    ]
    try:
        model(x.to(device_of(model)))
    finally:
        for hook in hooks:
            hook.remove()
    return list(dict.fromkeys(passed))


@torch.no_grad()
def logits_amplified(model: nn.Module, inputs: Split, layers: list[str], omega: float) -> Tensor:
    """Logits (N, K) float64 on the CPU, with scale and shift of `layers` times `omega`; the model stays as it is."""
    known = dict(model.named_parameters())
    changed = {name: known[name] * omega for layer in layers for name in _parameters(layer)}
    device = device_of(model)
    found = []
    for index in torch.split(torch.arange(len(inputs)), _AT_ONCE):
        x = inputs.batch(index)[0].to(device)
        found.append(functional_call(model, changed, (x,)).double().cpu())
    return torch.cat(found)


def _parameters(layer: str) -> tuple[str, str]:
    prefix = f"{layer}." if layer else ""
    return f"{prefix}weight", f"{prefix}bias"
