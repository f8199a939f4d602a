"""STRIP: a triggered input keeps its prediction whatever is laid over it."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from robustkit.contracts import Data, Verdict
from robustkit.detectors.features import device_of, threshold
from robustkit.params import UsageError, check, param


@dataclass(frozen=True, kw_only=True)
class Strip:
    """Gao et al. 2019 (ACSAC, https://arxiv.org/abs/1902.06531).

    Clean images are added to each input; the score is minus the mean entropy of the predictions, in nats, which is high
    where they don't change. The threshold comes from clean images alone.

    Fields:
        overlays: clean images laid over each input, drawn from the validation part.
        fpr: share of clean images above the threshold.

    Scope: input; `data.test` holds what is judged. Cost: `overlays` forward passes an input and a clean image.
    """

    overlays: int = param(64, "clean images laid over each input", low=1)
    fpr: float = param(0.05, "share of clean images above the threshold", low=0.0, high=1.0)

    def __post_init__(self) -> None:
        check(self)

    def __call__(self, model: nn.Module, data: Data) -> Verdict:
        if len(data.val) < 2 or not len(data.test):
            raise UsageError(
                f"strip needs clean images and inputs; {data.name} has {len(data.val)} and {len(data.test)}"
            )
        chosen = torch.randperm(len(data.val))[: self.overlays]
        overlays = data.val.batch(chosen)[0].to(device_of(model))
        rest = torch.randperm(len(data.val))[:200]
        clean = constancy(model, data.val.batch(rest)[0], overlays)
        score = constancy(model, data.test.batch(torch.arange(len(data.test)))[0], overlays)
        limit = threshold(clean, self.fpr)
        passes = len(overlays) * (len(clean) + len(score))
        return Verdict(score=score, flagged=score > limit, limit=limit, cost={"forwards": float(passes)})


@torch.no_grad()
def constancy(model: nn.Module, x: Tensor, overlays: Tensor) -> Tensor:
    """Minus the mean entropy of the predictions on x + overlay, (N,) float64."""
    scores = []
    for part in torch.split(x.to(overlays.device), max(1, 2000 // len(overlays))):
        mixed = (part[:, None] + overlays[None]).clamp(0, 1)  # (n, M, C, H, W)
        logits = model(mixed.flatten(0, 1)).double().reshape(len(part), len(overlays), -1)
        log = torch.log_softmax(logits, dim=-1)
        scores.append((log.exp() * log).sum(dim=-1).mean(dim=1).cpu())
    return torch.cat(scores)
