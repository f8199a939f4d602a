"""The controller of Neural Cleanse: when the weight of the mask's size grows, when it shrinks, when to stop.

One entry a class in every tensor; the classes never mix.
"""

from __future__ import annotations

from dataclasses import dataclass, fields

import torch
from torch import Tensor


@dataclass(frozen=True, kw_only=True)
class Rules:
    """The settings of the published example (Wang et al. 2019, https://doi.org/10.1109/SP.2019.00031).

    Args:
        threshold: success rate that a trigger must reach.
        patience: steps in a row before the weight changes; five times as many without a smaller mask end it.
        cost: first weight of the mask's size, after a phase without.
        multiplier: growth of the weight; it shrinks by its power of 1.5.
    """

    threshold: float = 0.99
    patience: int = 5
    cost: float = 1e-3
    multiplier: float = 2.0

    @property
    def early_stop(self) -> int:
        return 5 * self.patience


@dataclass
class Controller:
    """The state of K classes; every field is (K,)."""

    cost: Tensor
    waiting: Tensor  # steps in a row that a class without a cost has been feasible
    up: Tensor
    down: Tensor
    went_up: Tensor
    went_down: Tensor
    best: Tensor  # smallest mask that was feasible; infinite before the first
    best_before: Tensor
    stalled: Tensor

    @classmethod
    def start(cls, count: int, device: torch.device, dtype: torch.dtype) -> Controller:
        zero = torch.zeros(count, dtype=torch.int64, device=device)
        infinite = torch.full((count,), torch.inf, dtype=dtype, device=device)
        return cls(
            cost=torch.zeros(count, dtype=dtype, device=device),
            waiting=zero.clone(),
            up=zero.clone(),
            down=zero.clone(),
            went_up=zero.bool(),
            went_down=zero.bool(),
            best=infinite.clone(),
            best_before=infinite.clone(),
            stalled=zero.clone(),
        )

    def better(self, success: Tensor, size: Tensor, rules: Rules) -> Tensor:
        """(K,) bool: where this step's trigger works and is the smallest so far."""
        return (success >= rules.threshold) & (size < self.best)

    def step(self, success: Tensor, size: Tensor, better: Tensor, rules: Rules) -> Tensor:
        """Take note of one step.

        Args:
            success: (K,) success rate over the step's batches.
            size: (K,) L1 norm of the mask over them.
            better: (K,) bool from `better`, less what was refused.
            rules: of the controller.

        Returns:
            (K,) bool: which classes are finished.
        """
        self.best = torch.where(better, size, self.best)
        known = torch.isfinite(self.best)
        same = self.best >= self.best_before
        self.stalled = torch.where(known, torch.where(same, self.stalled + 1, 0), self.stalled)
        self.best_before = torch.minimum(self.best, self.best_before)
        finished = self.went_up & self.went_down & (self.stalled >= rules.early_stop)

        feasible = success >= rules.threshold
        self.waiting = torch.where((self.cost == 0) & feasible, self.waiting + 1, 0)
        begins = self.waiting >= rules.patience
        self.cost = torch.where(begins, torch.full_like(self.cost, rules.cost), self.cost)
        self.up = torch.where(begins, 0, self.up)
        self.down = torch.where(begins, 0, self.down)
        self.went_up &= ~begins
        self.went_down &= ~begins

        self.up = torch.where(feasible, self.up + 1, 0)
        self.down = torch.where(feasible, 0, self.down + 1)
        raised, lowered = self.up >= rules.patience, self.down >= rules.patience
        self.cost = torch.where(raised, self.cost * rules.multiplier, self.cost)
        self.cost = torch.where(lowered, self.cost / rules.multiplier**1.5, self.cost)
        self.up, self.down = torch.where(raised, 0, self.up), torch.where(lowered, 0, self.down)
        self.went_up, self.went_down = self.went_up | raised, self.went_down | lowered
        return finished

    def keep(self, rows: Tensor) -> Controller:
        """The state of the classes `rows` (k,) int64 alone."""
        return Controller(**{field.name: getattr(self, field.name)[rows] for field in fields(self)})
