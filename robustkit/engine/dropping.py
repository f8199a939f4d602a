"""What has fallen is computed no more, in attacks that go on with the whole batch to their last step."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from robustkit.contracts import Threat
from robustkit.norms import distance, flat, per_sample

_COMPACT_BELOW = 7 / 8
"""Share of the rows computed that must still stand; each new batch shape costs the convolutions a new plan."""
_SURE = 1e-4
"""Lead of the wrong class, relative to the largest logit, above which rounding is no explanation."""
_SLOPE = 1e-6
_BOX = 1e-6


class AllFallen(BaseException):
    """Raised through an attack when nothing is left to search. No `Exception`: libraries catch these."""


class Fallen:
    """The first point in the ball at which each sample was seen to fall.

    Args:
        x: (N, ...) the block.
        goal: (N,) labels to leave, or targets to reach.
        threat: ball.
        targeted: what goal is.

    Fields:
        points: (N, ...) x, and in its place what has fallen.
        mask: (N,) bool, what has fallen.
        logits: (N, K) of the points; None before the first pass over the whole block.
    """

    def __init__(self, x: Tensor, goal: Tensor, threat: Threat, *, targeted: bool) -> None:
        self.x, self._goal, self._threat, self._targeted = x, goal, threat, targeted
        self.points = x.clone()
        self.mask = torch.zeros(len(x), dtype=torch.bool, device=x.device)
        self.logits: Tensor | None = None
        self._computed: Tensor | None = None  # rows of the last pass; None is all

    def __deepcopy__(self, memo: dict[int, Any]) -> Fallen:
        return self

    def rows(self) -> Tensor | None:
        """The rows to compute; None is all of them.

        Raises:
            AllFallen: there is none left.
        """
        standing = ~self.mask
        count = int(standing.sum())
        if not count:
            raise AllFallen
        before = len(self.x) if self._computed is None else len(self._computed)
        if count <= _COMPACT_BELOW * before:
            self._computed = standing.nonzero().squeeze(1)
        return self._computed

    def note(self, x: Tensor, logits: Tensor, rows: Tensor | None) -> None:
        """Keep what fell: x (n, ...) and its logits (n, K), of these rows of the block."""
        if self.logits is None:
            self.logits = torch.zeros(len(self.x), logits.shape[1], device=logits.device)
        rows = torch.arange(len(self.x), device=x.device) if rows is None else rows
        scores = logits.detach().float()
        sure = self._lead(scores, self._goal[rows]) > _SURE * scores.abs().amax(dim=1)
        new = sure & ~self.mask[rows]
        if not bool(new.any()):
            return
        points = x.detach()[new].to(self.x.dtype)
        values = flat(points)
        inside = ((values >= -_BOX) & (values <= 1 + _BOX)).all(dim=1)  # false for NaN
        points = points.clamp(0, 1)
        inside &= distance(points, self.x[rows[new]], self._threat.norm) <= self._threat.allowance
        where = rows[new][inside]
        self.points[where], self.logits[where], self.mask[where] = points[inside], scores[new][inside], True

    def _lead(self, logits: Tensor, goal: Tensor) -> Tensor:
        own = logits.gather(1, goal[:, None]).squeeze(1)
        others = logits.scatter(1, goal[:, None], -torch.inf).amax(dim=1)
        return own - others if self._targeted else others - own


class Dropping(nn.Module):
    """A network that stops computing the samples that have fallen, for attacks with a budget.

    Libraries go on with the whole batch to the last step. A pass over as many samples as the block has is taken to be
    over the block, row by row. What is seen to fall inside of ball and box is kept in `fallen`; its rows get their old
    logits from then on, with a slight slope, since attacks divide by the length of the gradient. If rows were not in
    the block's order after all, a row is kept only where it lies in the ball of the sample it stands for, so that
    nothing is taken for adversarial that isn't. For networks that answer the same each time, sample by sample.
    """

    def __init__(self, network: nn.Module, fallen: Fallen) -> None:
        super().__init__()
        self.network = network
        self.fallen = fallen

    def forward(self, x: Tensor) -> Tensor:
        if x.shape != self.fallen.x.shape:
            answer: Tensor = self.network(x)
            return answer
        rows = self.fallen.rows()
        part: Tensor = self.network(x if rows is None else x[rows])
        self.fallen.note(x if rows is None else x[rows], part, rows)
        if rows is None or self.fallen.logits is None:
            return part
        logits = self.fallen.logits.to(part.dtype)
        if x.requires_grad and torch.is_grad_enabled():
            slope = torch.linspace(-_SLOPE, _SLOPE, logits.shape[1], device=x.device, dtype=part.dtype)
            logits = logits + flat(x - x.detach()).nan_to_num().sum(dim=1, keepdim=True).to(part.dtype) * slope
        return logits.index_copy(0, rows, part)

    def __getattr__(self, name: str) -> Any:
        try:
            return super().__getattr__(name)
        except AttributeError:
            if name.startswith("_") or name == "network":
                raise
            return getattr(self.network, name)


def merged(found: object, fallen: Fallen) -> object:
    """What an attack returned, (N, ...), and in its place what had fallen on the way."""
    if not isinstance(found, Tensor) or found.shape != fallen.points.shape or found.dtype != fallen.points.dtype:
        return found  # to be refused
    return torch.where(per_sample(fallen.mask, found).to(found.device), fallen.points.to(found.device), found)
