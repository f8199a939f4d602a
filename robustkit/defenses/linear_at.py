"""Adversarial training of linear classifiers against their exact worst case."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from robustkit.contracts import Data, Norm, Threat, Training
from robustkit.norms import flat
from robustkit.params import UsageError, check, param
from robustkit.training.loop import train
from robustkit.training.method import Memory
from robustkit.training.modes import in_eval
from robustkit.training.perturbation import WATCH, Perturbation
from robustkit.training.radii import share_of

_DUAL: dict[Norm, float] = {"linf": 1.0, "l2": 2.0, "l1": float("inf")}
_TOLERANCE = 1e-3
"""How far rounding takes the logits from the affine map, relative to the largest."""


@dataclass(frozen=True, kw_only=True)
class LinearAT:
    """Adversarial training of a linear classifier, its inner maximum in closed form (Xu, Caramanis & Mannor 2009,
    https://jmlr.org/papers/v10/xu09b.html; Goodfellow et al. 2015, https://arxiv.org/abs/1412.6572).

    In a ball of radius eps the difference of two logits grows by at most eps · ‖w_c − w_y‖*, with the dual norm: l1
    for linf, l2 for l2, linf for l1. With m_c = z_c − z_y + eps · ‖w_c − w_y‖* for each wrong class c,

        hinge = max(0, max_c 1 + m_c),    logistic = log(1 + Σ_c exp(m_c)).

    The hinge loss is the exact maximum for any number of classes, and so is the logistic loss of two, where both are
    ℓ(y·f(x) − eps · ‖w‖*) with f = z_1 − z_0. With more classes the logistic loss is an upper bound, as one
    perturbation cannot move against all classes at once. The ball is not cut by the box [0, 1], which makes the
    adversary a little stronger than the one that is judged. The objective is convex; `weight_decay` of the
    recipe adds its L2 penalty on weights and biases, which makes the hinge loss at eps = 0 a soft-margin SVM.

    Runs in float32 whatever the precision: a linear layer gains nothing from less.

    Fields:
        loss: "logistic" or "hinge".

    Errors: UsageError for a network that is not affine in its input, or a threat in l0.
    Cost: one forward and one backward pass a sample and epoch, and C·H·W + 1 more for each batch.
    """

    loss: Literal["logistic", "hinge"] = param("logistic", "loss whose worst case is minimised")

    def __post_init__(self) -> None:
        check(self)

    def __call__(self, model: nn.Module, data: Data, training: Training) -> nn.Module:
        if training.threat.norm not in _DUAL:
            raise UsageError(f"norm={training.threat.norm}: linear_at has a closed form in {', '.join(_DUAL)}")
        _require_affine(model.to(training.device), data, training.device)
        return train(model, data, dataclasses.replace(training, precision="fp32"), _Worst(self.loss), repr(self))


@dataclass
class _Worst:
    kind: Literal["logistic", "hinge"]
    replays: int = 1
    watch: Perturbation = WATCH

    def examples(self, model: nn.Module, x: Tensor, y: Tensor, threat: Threat, memory: Memory) -> Tensor:
        self.threat = threat  # of this update, for the loss
        return x

    def loss(self, model: nn.Module, examples: Tensor, x: Tensor, y: Tensor) -> Tensor:
        return worst_loss(model, x, y, self.threat, self.kind)

    def observe(self, examples: Tensor, x: Tensor, threat: Threat, memory: Memory) -> None:
        return None


def worst_loss(model: nn.Module, x: Tensor, y: Tensor, threat: Threat, kind: Literal["logistic", "hinge"]) -> Tensor:
    """The mean over the batch of the largest loss in each ball, differentiable in the weights; `model` is affine."""
    logits, weight = _affine(model, x)  # (B, K), (K, D)
    lengths = torch.cdist(weight, weight, p=_DUAL[threat.norm], compute_mode="donot_use_mm_for_euclid_dist")  # (K, K)
    margins = logits - logits.gather(1, y[:, None]) + threat.eps * share_of(threat, logits) * lengths[y]  # (B, K)
    if kind == "logistic":
        return margins.logsumexp(dim=1).mean()
    wrong = torch.ones_like(margins).scatter(1, y[:, None], 0.0)
    return (margins + wrong).amax(dim=1).clamp_min(0).mean()


def _affine(model: nn.Module, x: Tensor) -> tuple[Tensor, Tensor]:
    """The logits at x, and W (K, D) of logits = W x + b: an affine map is known from 0 and the unit vectors."""
    size = flat(x).shape[1]
    probes = torch.cat([x.new_zeros(1, size), torch.eye(size, dtype=x.dtype, device=x.device)])
    out = model(torch.cat([x, probes.reshape(-1, *x.shape[1:])]))
    logits, bias, columns = out.split([len(x), 1, size])
    return logits, (columns - bias).T


def _require_affine(model: nn.Module, data: Data, device: str) -> None:
    x = data.train.batch(torch.arange(min(16, len(data.train))))[0].to(device)
    with in_eval(model), torch.no_grad():
        logits, weight = _affine(model, x)
        affine = F.linear(flat(x), weight, model(torch.zeros_like(x[:1]))[0])
    error = float((logits - affine).abs().amax() / logits.abs().amax().clamp_min(1.0))
    if not error <= _TOLERANCE:
        raise UsageError(
            f"linear_at trains networks that are affine in their input; this one departs from its linearisation by "
            f"{error:.3g} of its logits. Take model=linear, or train with pgd_at"
        )
