"""One attack on one block of samples, checked: the verdict is the host's, never the attack's."""

from __future__ import annotations

import time
from dataclasses import dataclass
from functools import cached_property
from typing import Literal

import torch
from torch import Tensor, nn

from robustkit.contracts import Threat
from robustkit.engine.batching import Chunked
from robustkit.engine.guard import judging
from robustkit.engine.search import Search
from robustkit.engine.verdict import CellError, check_logits, check_samples, distances
from robustkit.host import Component
from robustkit.precision import Chosen, search_model

__all__ = ["Arena", "BlockResult", "CellError", "Targets", "attack_block", "choose_targets", "predict"]

Targets = Literal["least_likely", "random", "next"]


@dataclass(frozen=True, kw_only=True)
class BlockResult:
    """What came of one attack on one block; every tensor has one value a sample, in the block's order.

    Samples that were wrong on the clean input, or not asked for, were not attacked and keep it.
    """

    clean_pred: Tensor  # (N,) int64
    adv_pred: Tensor  # (N,) int64, float32 verdict on x_adv
    success: Tensor  # (N,) bool: attacked, in the ball, and misclassified
    attacked: Tensor  # (N,) bool
    target: Tensor  # (N,) int64, -1 where the attack had none; it was hit where adv_pred == target
    dist_linf: Tensor  # (N,) float32, and so on
    dist_l2: Tensor
    dist_l1: Tensor
    dist_l0: Tensor
    violation: Tensor  # (N,) bool: came back outside ball or box, was projected before scoring
    queries: Tensor | None  # (N,) int64, until it fell or altogether; None of attacks that don't count them by sample
    x_adv: Tensor  # (N, C, H, W)
    forwards: int  # passes of the search, in samples
    backwards: int
    precision: Chosen  # of the search; the verdict is float32
    restored: tuple[str, ...]
    seconds: float


class Arena:
    """A model ready to be attacked again and again: the private copies for the search are made once.

    Args:
        model: float32 (N, C, H, W) in [0, 1] → logits; comes back as it was.
        precision: of the search.
        batch_size: samples a forward pass at most; None: as many as an attack asks for, until memory runs out.
        example: a few inputs, on which the copies are compared with the model.
        eot: draws over which attacks that follow gradients average the logits, of a model that draws random numbers.
    """

    def __init__(
        self, model: nn.Module, precision: Chosen, batch_size: int | None, example: Tensor, *, eot: int = 1
    ) -> None:
        self.model = model
        self.precision = precision
        self._batch_size = batch_size
        self._eot = eot
        self._example = example[:2]
        self._networks: dict[Chosen, Chunked] = {}
        self._judge = Chunked(model, batch_size)

    def logits(self, x: Tensor, seed: int = 0) -> Tensor:
        """Float32 logits of the model itself, (N, K). `seed`: for a model that draws random numbers.

        Raises:
            CellError: the model returned something else, or NaN.
        """
        with judging(self.model, seed):
            return check_logits(self._judge(x), len(x))

    def attack(
        self,
        attack: Component,
        x: Tensor,
        y: Tensor,
        threat: Threat,
        *,
        seed: int,
        targets: Targets = "least_likely",
        active: Tensor | None = None,
        clean_pred: Tensor | None = None,
    ) -> BlockResult:
        """Attack what is right on the clean input, and judge what comes back.

        Args:
            attack: the component.
            x, y: (N, C, H, W) float32 in [0, 1] and (N,) int64 labels, on the model's device.
            threat: ball.
            seed: of all generators during the search.
            targets: how targets are chosen where the attack is targeted.
            active: (N,) bool, samples to attack; None is all.
            clean_pred: (N,) predictions on x where they are known already.

        Raises:
            UsageError: x or y are not as said.
            CellError: the attack returned another shape or dtype, or values that are not finite.
        """
        began = time.perf_counter()
        check_samples(x, y)
        with torch.inference_mode(False), torch.no_grad():
            x, y = (x.clone(), y.clone()) if x.is_inference() or y.is_inference() else (x, y)
            targeted = bool(getattr(attack.value, "targeted", False))
            logits = self.logits(x) if len(x) and (clean_pred is None or targeted) else None
            if clean_pred is None:
                clean_pred = y.clone() if logits is None else logits.argmax(dim=1)
            attacked = clean_pred == y if active is None else (clean_pred == y) & active
            rows = attacked.nonzero().squeeze(1)
            target = torch.full_like(y, -1)
            if targeted and logits is not None:
                target[rows] = choose_targets(logits, y, targets, seed)[rows]
            x_adv, violation, adv_pred = x.clone(), torch.zeros_like(attacked), clean_pred.clone()
            search = Search(attack, threat, seed, self._network, self.logits, steady=self._steady, eot=self._eot)
            precision = search.precision(self.precision)
            queries = torch.zeros_like(y) if search.counts else None
            if len(rows):
                goal = target if targeted else y
                found, violation[rows] = search(x[rows], y[rows], goal[rows], precision)
                x_adv[rows], adv_pred[rows] = found, self.logits(found).argmax(dim=1)
                if queries is not None and search.queries is not None:
                    queries[rows] = search.queries
            far = distances(x_adv, x)
            inside = far[threat.norm] <= threat.allowance
        return BlockResult(
            clean_pred=clean_pred,
            adv_pred=adv_pred,
            success=attacked & (adv_pred != y) & inside,
            attacked=attacked,
            target=target,
            dist_linf=far["linf"],
            dist_l2=far["l2"],
            dist_l1=far["l1"],
            dist_l0=far["l0"],
            violation=violation,
            queries=queries,
            x_adv=x_adv,
            forwards=search.tally.forwards,
            backwards=search.tally.backwards,
            precision=precision,
            restored=tuple(sorted(search.restored)),
            seconds=time.perf_counter() - began,
        )

    @cached_property
    def _steady(self) -> bool:
        """Whether the model draws no random numbers."""
        return torch.equal(self.logits(self._example, seed=0), self.logits(self._example, seed=1))

    def _network(self, precision: Chosen) -> Chunked:
        """The private copy for searching in this precision."""
        if precision not in self._networks:
            copy = search_model(self.model, precision, self._example)
            self._networks[precision] = Chunked(copy, self._batch_size)
        return self._networks[precision]


def choose_targets(logits: Tensor, y: Tensor, how: Targets, seed: int) -> Tensor:
    """(N,) classes to reach, never y: the least likely one, a random one, or the next one."""
    classes = logits.shape[1]
    if how == "least_likely":
        return logits.scatter(1, y[:, None], torch.inf).argmin(dim=1)
    if how == "next":
        return (y + 1) % classes
    generator = torch.Generator().manual_seed(seed)
    return (y + torch.randint(1, classes, (len(y),), generator=generator).to(y.device)) % classes


def attack_block(
    model: nn.Module,
    attack: Component,
    x: Tensor,
    y: Tensor,
    threat: Threat,
    *,
    seed: int = 0,
    precision: Chosen = "fp32",
    batch_size: int | None = None,
    targets: Targets = "least_likely",
    active: Tensor | None = None,
) -> BlockResult:
    """`Arena.attack` for a single block; see there."""
    arena = Arena(model, precision, batch_size, x)
    return arena.attack(attack, x, y, threat, seed=seed, targets=targets, active=active)


def predict(model: nn.Module, x: Tensor, *, batch_size: int | None = None) -> Tensor:
    """The float32 verdict of a model, (N,) int64."""
    return Arena(model, "fp32", batch_size, x).logits(x).argmax(dim=1)
