"""The search of one attack for one block of samples: guarded, counted, in low precision where that is sound."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from robustkit.attacks.adaptive import Averaged
from robustkit.contracts import Threat
from robustkit.engine.batching import Chunked, out_of_memory
from robustkit.engine.counting import Counter, Tally
from robustkit.engine.dropping import AllFallen, Dropping, Fallen, merged
from robustkit.engine.guard import State, guarded, judging
from robustkit.engine.verdict import CellError, settle
from robustkit.hookspecs import AttackEntry
from robustkit.host import Component
from robustkit.precision import Chosen
from robustkit.registration import BUILTIN

_NEAREST = 1 / 8
"""Share of what stands after the last word, those nearest to falling, that is attacked again in float32."""


class Search:
    """Calls an attack on one block, and keeps the books.

    Args:
        attack: the component.
        threat: ball.
        seed: of all generators at each call.
        network: the private copy of the model in a precision.
        logits: the host's own float32 pass through the model itself.
        steady: the model answers the same each time.
        eot: where it does not, and the attack follows gradients, it is shown the mean of the logits over so many draws
            (expectation over transformation; Athalye et al. 2018, https://arxiv.org/abs/1707.07397).

    Fields:
        tally: passes of the search, in samples.
        counts: whether the attack tells its queries by sample.
        queries: (n,) int64, of the last call, where it does.
        restored: what had to be put back after its calls.
    """

    def __init__(
        self,
        attack: Component,
        threat: Threat,
        seed: int,
        network: Callable[[Chosen], Chunked],
        logits: Callable[[Tensor], Tensor],
        *,
        steady: bool,
        eot: int = 1,
    ) -> None:
        assert isinstance(attack.entry, AttackEntry)
        self._attack: Any = attack.value
        self._name = attack.label
        self._entry = attack.entry
        self._bounded = attack.entry.goal == "budget" and bool(attack.entry.norms)
        self._draws = 1 if steady or attack.entry.knowledge != "white-box" else eot
        self.counts = attack.entry.knowledge != "white-box" and hasattr(attack.value, "counted")
        # native attacks, and those that count, drop what has fallen themselves
        self._drops = self._bounded and steady and not self.counts and attack.registered.provider.name != BUILTIN
        self._targeted = bool(getattr(attack.value, "targeted", False))
        self._threat = threat
        self._seed = seed
        self._network = network
        self._logits = logits
        self.tally = Tally()
        self.queries: Tensor | None = None
        self.restored: set[str] = set()

    def precision(self, fastest: Chosen) -> Chosen:
        """Low precision is for gradient searches inside the ball. A minimal distance ends on the decision
        boundary, where rounding decides; and scores rounded to 8 bits hide the small gains of black boxes.
        """
        return fastest if self._bounded and self._entry.knowledge == "white-box" else "fp32"

    def __call__(self, x: Tensor, y: Tensor, goal: Tensor, precision: Chosen) -> tuple[Tensor, Tensor]:
        """Search adversarial inputs for all of x, none of which has fallen yet.

        What falls in low precision is judged again in float32; what stands then after all is attacked again as a
        whole, the rest of what stands is polished, and of what still stands the nearest are attacked again. An
        attack that cannot polish is repeated on all that stand.

        Args:
            x, y: (N, ...) samples and (N,) labels.
            goal: (N,) targets where the attack is targeted, else the labels.
            precision: of the search.

        Returns:
            x_adv (N, ...) in the box, and (N,) bool: came back outside of ball or box.
        """
        found, broke = self._attacked(x, goal, precision, self._seed)
        if precision == "fp32":
            return found, broke
        standing = self._logits(found).argmax(dim=1) == y
        again = standing.clone()
        if standing.any() and hasattr(self._attack, "polish"):
            rows = standing.nonzero().squeeze(1)
            again[rows] = self._fallen(found[rows], y[rows], precision)
            rows = (standing & ~again).nonzero().squeeze(1)
            if len(rows):
                found[rows], broke[rows] = self._polished(x[rows], found[rows], goal[rows])
                margin = _margin(self._logits(found[rows]), y[rows])
                rows, margin = rows[margin > 0], margin[margin > 0]
                again[rows[margin.argsort()[: math.ceil(len(rows) * _NEAREST)]]] = True
        if again.any():
            rows = again.nonzero().squeeze(1)
            second, second_broke = self._attacked(x[rows], goal[rows], "fp32", self._seed + 1)
            better = _margin(self._logits(second), y[rows]) < _margin(self._logits(found[rows]), y[rows])
            found[rows[better]], broke[rows[better]] = second[better], second_broke[better]
        return found, broke

    def _attacked(self, x: Tensor, goal: Tensor, precision: Chosen, seed: int) -> tuple[Tensor, Tensor]:
        """The whole attack."""
        if not self._drops:
            return self._settled(lambda network: self._called(network, x.clone(), goal.clone()), x, precision, seed)

        def call(network: nn.Module) -> object:
            fallen = Fallen(x, goal, self._threat, targeted=self._targeted)
            try:
                returned = self._attack(Dropping(network, fallen).eval(), x.clone(), goal.clone(), self._threat)
            except AllFallen:
                return fallen.points
            return merged(returned, fallen)

        return self._settled(call, x, precision, seed)

    def _called(self, network: nn.Module, x: Tensor, goal: Tensor) -> object:
        """What the attack returns, its queries set aside."""
        if not self.counts:
            return self._attack(network, x, goal, self._threat)
        found, queries = self._attack.counted(network, x, goal, self._threat)
        if not isinstance(queries, Tensor) or queries.shape != goal.shape or queries.dtype != torch.int64:
            shown = f"{tuple(queries.shape)} {queries.dtype}" if isinstance(queries, Tensor) else type(queries).__name__
            raise CellError(f"{self._name} counted {shown} queries for {len(x)} samples, not int64 ({len(x)},)")
        self.queries = queries.to(goal.device)
        return found

    def _polished(self, x: Tensor, x_adv: Tensor, goal: Tensor) -> tuple[Tensor, Tensor]:
        """The attack's own short search from where it ended, in float32."""
        polish = self._attack.polish
        return self._settled(
            lambda network: polish(network, x.clone(), x_adv.clone(), goal.clone(), self._threat),
            x,
            "fp32",
            self._seed,
        )

    def _settled(
        self, call: Callable[[nn.Module], object], x: Tensor, precision: Chosen, seed: int
    ) -> tuple[Tensor, Tensor]:
        """What one call returns, inside of box and ball; with less at once where memory runs out."""
        network = self._network(precision)
        while True:
            counter = Counter(network)
            try:
                with self._guarded(counter, seed):
                    returned = call(counter if self._draws == 1 else Averaged(counter, self._draws).eval())
            except (RuntimeError, MemoryError) as error:
                if not (out_of_memory(error) and network.halve(len(x))):
                    raise
                continue  # with the same draws; the passes of the failed call are not counted
            except SystemExit as error:  # would end the whole bench
                raise CellError(f"{self._name} wanted to exit: {error}") from error
            self.tally.forwards += counter.tally.forwards
            self.tally.backwards += counter.tally.backwards
            return settle(returned, x, self._threat, bounded=self._bounded, name=self._name)

    @contextmanager
    def _guarded(self, network: Counter, seed: int) -> Iterator[None]:
        state = State()
        try:
            with guarded(network, seed) as state:
                yield
        finally:
            self.restored.update(state.restored)

    def _fallen(self, x: Tensor, y: Tensor, precision: Chosen) -> Tensor:
        """(N,) bool: what the attack must have taken for fallen."""
        network = Counter(self._network(precision), self.tally)
        with judging(network):
            wrong: Tensor = network(x).argmax(dim=1) != y
        return wrong


def _margin(logits: Tensor, y: Tensor) -> Tensor:
    """(N,) how far the prediction is from leaving y; positive while it stands."""
    own = logits.gather(1, y[:, None]).squeeze(1)
    return own - logits.scatter(1, y[:, None], -torch.inf).amax(dim=1)
