"""One attack on one block of samples, checked: the verdict is the host's, never the attack's."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Literal, cast

import torch
from torch import Tensor, nn

from robustkit.contracts import Threat
from robustkit.engine.batching import Chunked, out_of_memory
from robustkit.engine.counting import Counter
from robustkit.engine.guard import evaluating, generators_kept, guarded
from robustkit.hookspecs import AttackEntry
from robustkit.host import Component
from robustkit.norms import distance, flat, per_sample, project
from robustkit.precision import Chosen, search_model

Targets = Literal["least_likely", "random", "next"]
_BOX = 1e-6


class CellError(Exception):
    """What an attack returned cannot be scored. The cell is an error, never "robust"."""


@dataclass(frozen=True, kw_only=True)
class BlockResult:
    """What came of one attack on one block; every tensor has one value a sample, in the block's order.

    Samples that were wrong on the clean input, or not asked for, were not attacked and keep it.
    """

    clean_pred: Tensor  # (N,) int64
    adv_pred: Tensor  # (N,) int64, float32 verdict on x_adv
    success: Tensor  # (N,) bool: attacked, in the ball, and misclassified
    attacked: Tensor  # (N,) bool
    target: Tensor  # (N,) int64, -1 where the attack had none
    dist_linf: Tensor  # (N,) float32, and so on
    dist_l2: Tensor
    dist_l1: Tensor
    dist_l0: Tensor
    violation: Tensor  # (N,) bool: came back outside ball or box, was projected before scoring
    x_adv: Tensor  # (N, C, H, W)
    forwards: int  # passes of the search, in samples
    backwards: int
    restored: tuple[str, ...]
    seconds: float


class Arena:
    """A model ready to be attacked again and again: the private copies for the search are made once.

    Args:
        model: float32 (N, C, H, W) in [0, 1] → logits; comes back as it was.
        precision: of the search.
        batch_size: samples a forward pass at most; None: as many as an attack asks for.
        example: a few inputs, for checking the fused copy.
    """

    def __init__(self, model: nn.Module, precision: Chosen, batch_size: int | None, example: Tensor) -> None:
        self.model = model
        self.precision = precision
        self.batch_size = batch_size
        self._example = example[:2]
        self._copies: dict[Chosen, nn.Module] = {}
        self._judge = Chunked(model, batch_size)

    def logits(self, x: Tensor, seed: int = 0) -> Tensor:
        """Float32 logits of the model itself, (N, K). `seed`: for a model that draws random numbers."""
        with evaluating(self.model), generators_kept(seed):
            return cast(Tensor, self._judge(x)).detach()

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
            CellError: the attack returned another shape or dtype, or values that are not finite.
        """
        began = time.perf_counter()
        targeted = bool(getattr(attack.value, "targeted", False))
        logits = self.logits(x) if clean_pred is None or targeted else None
        pred = logits.argmax(dim=1) if logits is not None else clean_pred
        assert pred is not None
        attacked = pred == y
        if active is not None:
            attacked &= active
        target = torch.full_like(y, -1)
        if targeted and logits is not None:
            target = torch.where(attacked, choose_targets(logits, y, targets, seed), target)
        search = _Search(self, attack, threat, seed)
        x_adv, violation = x.clone(), torch.zeros_like(attacked)
        if attacked.any():
            goal = target if targeted else y
            found, broke = search(x[attacked], y[attacked], goal[attacked])
            x_adv[attacked], violation[attacked] = found, broke
        adv_pred = pred.clone()
        if attacked.any():
            adv_pred[attacked] = self.logits(x_adv[attacked]).argmax(dim=1)
        distances = {
            norm: distance(x_adv.double(), x.double(), norm).float() for norm in ("linf", "l2", "l1", "l0")
        }
        inside = distances[threat.norm] <= threat.allowance
        return BlockResult(
            clean_pred=pred,
            adv_pred=adv_pred,
            success=attacked & (adv_pred != y) & inside,
            attacked=attacked,
            target=target,
            dist_linf=distances["linf"],
            dist_l2=distances["l2"],
            dist_l1=distances["l1"],
            dist_l0=distances["l0"],
            violation=violation,
            x_adv=x_adv,
            forwards=search.forwards,
            backwards=search.backwards,
            restored=tuple(sorted(search.restored)),
            seconds=time.perf_counter() - began,
        )

    def copy(self, precision: Chosen) -> nn.Module:
        """The private copy for searching in this precision."""
        if precision not in self._copies:
            self._copies[precision] = search_model(self.model, precision, self._example)
        return self._copies[precision]


class _Search:
    """The search of one cell on one block, in low precision with the last word in float32."""

    def __init__(self, arena: Arena, attack: Component, threat: Threat, seed: int) -> None:
        assert isinstance(attack.entry, AttackEntry)
        self._arena = arena
        self._attack = attack
        self._entry = attack.entry
        self._threat = threat
        self._seed = seed
        self.forwards = 0
        self.backwards = 0
        self.restored: set[str] = set()

    def __call__(self, x: Tensor, y: Tensor, goal: Tensor) -> tuple[Tensor, Tensor]:
        """`goal`: targets, or the labels y. Returns x_adv inside the ball, and what had to be projected."""
        precision = self._precision()
        found, broke = self._once(precision, x, goal)
        if precision == "fp32":
            return found, broke
        standing = self._arena.logits(found).argmax(dim=1) == y
        if not standing.any():
            return found, broke
        polish = getattr(self._attack.value, "polish", None)
        again = standing.clone()
        if polish is not None:
            with self._passes(precision) as network, torch.no_grad():
                fell_there = network(found[standing]).argmax(dim=1) != y[standing]
            again[standing.clone()] = fell_there  # fell in low precision alone: the attack gave up too early
            last = standing & ~again
            if last.any():
                self._polish(found, x, goal, last)
        if again.any():
            second, second_broke = self._once("fp32", x[again], goal[again])
            better = self._arena.logits(second).argmax(dim=1) != y[again]
            rows = again.nonzero().squeeze(1)[better]
            found[rows], broke[rows] = second[better], second_broke[better]
        return found, broke

    def _precision(self) -> Chosen:
        """Low precision is for gradient searches inside the ball. A minimal distance ends on the decision
        boundary, where rounding decides; and scores rounded to 8 bits hide the small gains of black boxes.
        """
        fits = self._entry.goal == "budget" and self._entry.knowledge == "white-box"
        return self._arena.precision if fits else "fp32"

    def _once(self, precision: Chosen, x: Tensor, goal: Tensor) -> tuple[Tensor, Tensor]:
        """One call of the attack, again with smaller chunks where memory runs out."""
        while True:
            with self._passes(precision) as network, guarded(network, self._seed) as state:
                chunked = cast(Chunked, network.network)
                try:
                    returned = self._attack.value(network, x.clone(), goal.clone(), self._threat)
                except (RuntimeError, MemoryError) as error:
                    if not (out_of_memory(error) and chunked.halve(len(x))):
                        raise
                    self._arena.batch_size = chunked.size
                    continue
            self.restored.update(state.restored)
            return self._settle(returned, x)

    def _polish(self, found: Tensor, x: Tensor, goal: Tensor, rows: Tensor) -> None:
        with self._passes("fp32") as network, guarded(network, self._seed):
            better = self._attack.value.polish(network, x[rows], found[rows], goal[rows], self._threat)
        found[rows], _ = self._settle(better, x[rows])

    def _settle(self, returned: object, x: Tensor) -> tuple[Tensor, Tensor]:
        """Check what came back, and bring it into box and ball; returns it and a mask of violations."""
        name = self._attack.label
        if not isinstance(returned, Tensor):
            raise CellError(f"{name} returned a {type(returned).__name__}, not a tensor")
        if returned.shape != x.shape or returned.dtype != x.dtype:
            raise CellError(
                f"{name} returned {tuple(returned.shape)} {returned.dtype}, not {tuple(x.shape)} {x.dtype}"
            )
        returned = returned.detach().to(x.device).clone()
        if not bool(torch.isfinite(returned).all()):
            bad = int((~torch.isfinite(flat(returned))).any(dim=1).sum())
            raise CellError(f"{name} returned values that are not finite in {bad} of {len(x)} samples")
        outside = (flat(returned) < -_BOX).any(dim=1) | (flat(returned) > 1 + _BOX).any(dim=1)
        settled = returned.clamp(0, 1)
        if self._entry.goal == "budget":
            too_far = distance(settled.double(), x.double(), self._threat.norm) > self._threat.allowance
            outside |= too_far
            settled = torch.where(per_sample(too_far, settled), project(settled, x, self._threat), settled)
        return settled, outside

    @contextmanager
    def _passes(self, precision: Chosen) -> Iterator[Counter]:
        counter = Counter(Chunked(self._arena.copy(precision), self._arena.batch_size))
        try:
            yield counter
        finally:
            self.forwards += counter.forwards
            self.backwards += counter.backwards


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
