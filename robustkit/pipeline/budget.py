"""Where the next second of attacks buys most: pure functions of what was measured so far.

A trial is one attack on one block of one model's samples, on those that still stand there. Of a trial to come two
things are estimated from the trials before it, of this attack on this model:

- its share of successes by the posterior mean (fallen + 1) / (attacked + 2), of a uniform prior. Counted are trials
  after the same attacks; where there are none, those after some of them; else all. An attack that was never measured
  on a model gets 1/10: a choice, high enough that it is tried once before weak ones are run to their end, and low
  enough that a dear one does not come before a cheap one has done its work;
- its seconds by a line, fixed + each · samples, through the measured ones (least squares). While they were all of one
  size, a block is taken to cost as much as its samples and 20 more; before any, so much by a guess from the passes
  that the attack says it takes.

The trial with the largest expected number of falls a second comes first, of those that fit into the time left.
"""

from __future__ import annotations

import heapq
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

_OVERHEAD = 20.0
"""Samples that a call costs beside those that it is given, until it is measured."""
_UNTRIED = 0.1
"""Share of successes that is expected of an attack before it was measured."""
_INSTANT = 1e-9
"""Seconds below which a duration says nothing."""

Place = tuple[str, int]
"""A model, and the number of a block of its samples."""


@dataclass(frozen=True, kw_only=True)
class Trial:
    """One attack on one block, as it was measured.

    Args:
        model, attack: keys.
        block: number of the block.
        before: attacks that this block of this model had seen before.
        attacked: samples that stood, and were attacked.
        fell: of these.
        seconds: it took.
    """

    model: str
    attack: str
    block: int
    before: frozenset[str]
    attacked: int
    fell: int
    seconds: float


@dataclass(frozen=True, kw_only=True)
class Step:
    """A trial to come: which, and what is expected of it (samples that fall, seconds)."""

    model: str
    attack: str
    block: int
    falls: float
    seconds: float


@dataclass(frozen=True, kw_only=True)
class Forecast:
    """What more time would probably buy.

    Args:
        seconds: of attacks.
        falls: expected number of samples that fall, by model.
        attacks: that would be run, by model, in their order.
        untried: attacks by model that were never measured on it, have samples left to try, and count for nothing.
        open: trials not made yet, on samples that stand.
    """

    seconds: float
    falls: Mapping[str, float]
    attacks: Mapping[str, tuple[str, ...]]
    untried: Mapping[str, tuple[str, ...]]
    open: int


@dataclass(frozen=True)
class Field:
    """What is to be spent on.

    Args:
        standing: samples that still stand, by model and block.
        guesses: seconds a sample by model and attack, in the order of preference where nothing else decides; the
            pairs that may be run at all. Only their ratios count once something was measured on a model.
        trials: made so far.
    """

    standing: Mapping[Place, float]
    guesses: Mapping[tuple[str, str], float]
    trials: Sequence[Trial]

    @cached_property
    def by_pair(self) -> dict[tuple[str, str], list[Trial]]:
        """Trials by model and attack."""
        found: dict[tuple[str, str], list[Trial]] = {pair: [] for pair in self.guesses}
        for trial in self.trials:
            found.setdefault((trial.model, trial.attack), []).append(trial)
        return found

    @cached_property
    def done(self) -> frozenset[tuple[str, str, int]]:
        """Model, attack and block of every trial."""
        return frozenset((trial.model, trial.attack, trial.block) for trial in self.trials)

    @cached_property
    def before(self) -> dict[Place, frozenset[str]]:
        """Attacks that a block has seen."""
        found: dict[Place, set[str]] = {}
        for trial in self.trials:
            found.setdefault((trial.model, trial.block), set()).add(trial.attack)
        return {place: frozenset(attacks) for place, attacks in found.items()}

    @cached_property
    def _shares(self) -> dict[tuple[str, str, frozenset[str]], float]:
        return {}

    def share(self, model: str, attack: str, before: frozenset[str]) -> float:
        """The expected share of successes of an attack after others."""
        key = (model, attack, before)
        if key not in self._shares:
            mine = [trial for trial in self.by_pair.get((model, attack), []) if trial.attacked]
            same = [trial for trial in mine if trial.before == before]
            part = same or [trial for trial in mine if trial.before < before] or mine
            if not part:
                self._shares[key] = _UNTRIED
                return _UNTRIED
            fell, attacked = sum(trial.fell for trial in part), sum(trial.attacked for trial in part)
            self._shares[key] = (fell + 1) / (attacked + 2)
        return self._shares[key]

    @cached_property
    def _lines(self) -> dict[tuple[str, str], tuple[float, float]]:
        """Fixed seconds and seconds a sample, by model and attack."""
        found = {pair: _line(self.by_pair[pair]) for pair in self.guesses}
        lines: dict[tuple[str, str], tuple[float, float]] = {}
        scale = {model: self._scale(model) for model, _ in self.guesses}
        for pair, line in found.items():
            if line is None:
                each = scale[pair[0]] * self.guesses[pair]
                lines[pair] = _OVERHEAD * each, each
            else:
                lines[pair] = line
        return lines

    def _scale(self, model: str) -> float:
        """How much longer things took on this model than was guessed."""
        mine = [trial for trial in self.trials if trial.model == model and (model, trial.attack) in self.guesses]
        guessed = sum((trial.attacked + _OVERHEAD) * self.guesses[model, trial.attack] for trial in mine)
        return sum(trial.seconds for trial in mine) / guessed if guessed > _INSTANT else 1.0

    def seconds(self, model: str, attack: str, samples: float) -> float:
        """The expected seconds of an attack on so many samples of a block."""
        fixed, each = self._lines[model, attack]
        return max(fixed + each * samples, _INSTANT)

    def steps(self) -> Iterator[Step]:
        """Every trial that can be made: not made yet, and on samples that stand."""
        for model, attack in self.guesses:
            for (owner, block), samples in self.standing.items():
                if owner == model and samples > 0 and (model, attack, block) not in self.done:
                    before = self.before.get((model, block), frozenset())
                    yield self.step(model, attack, block, samples, before)

    def step(self, model: str, attack: str, block: int, samples: float, before: frozenset[str]) -> Step:
        """What is expected of one trial."""
        return Step(
            model=model,
            attack=attack,
            block=block,
            falls=samples * self.share(model, attack, before),
            seconds=self.seconds(model, attack, samples),
        )


def choose(field: Field, left: float) -> Step | None:
    """The trial to make next: most falls a second, of those expected to take at most `left` seconds.

    Ties go to the pair that `guesses` names first, then to the first block. None: nothing is left, or nothing fits.
    """
    fitting = (step for step in field.steps() if step.seconds <= left)
    return max(fitting, key=lambda step: step.falls / step.seconds, default=None)


def forecast(field: Field, seconds: float) -> Forecast:
    """What `seconds` more would probably buy, if they were spent in the order of `choose`.

    Only attacks measured on a model count for it. Expected falls are taken off what stands before the next trial is
    chosen; of the last trial counts the share that there is time for.
    """
    measured = {pair for pair, trials in field.by_pair.items() if any(trial.attacked for trial in trials)}
    every = list(field.steps())
    standing, before = dict(field.standing), dict(field.before)
    falls: dict[str, float] = {model: 0.0 for model, _ in field.guesses}
    attacks: dict[str, dict[str, None]] = {model: {} for model in falls}
    waiting = {(s.model, s.attack, s.block): s for s in every if (s.model, s.attack) in measured}
    order = {pair: number for number, pair in enumerate(field.guesses)}
    queue = [_rank(step, order) for step in waiting.values()]
    heapq.heapify(queue)
    left = seconds
    while queue and left > 0:
        *_, step = heapq.heappop(queue)
        if waiting.get((step.model, step.attack, step.block)) is not step:
            continue  # of before something else fell upon its block
        del waiting[step.model, step.attack, step.block]
        place, part = (step.model, step.block), min(1.0, left / step.seconds)
        falls[step.model] += part * step.falls
        attacks[step.model][step.attack] = None
        left -= step.seconds
        standing[place] -= part * step.falls
        before[place] = before.get(place, frozenset()) | {step.attack}
        for model, attack in measured:
            if (model, attack, step.block) in waiting and model == step.model:
                fresh = field.step(model, attack, step.block, standing[place], before[place])
                waiting[model, attack, step.block] = fresh
                heapq.heappush(queue, _rank(fresh, order))
    untried = {
        model: tuple(dict.fromkeys(s.attack for s in every if s.model == model and (model, s.attack) not in measured))
        for model in falls
    }
    return Forecast(
        seconds=seconds,
        falls=falls,
        attacks={model: tuple(names) for model, names in attacks.items()},
        untried={model: names for model, names in untried.items() if names},
        open=len(every),
    )


def _rank(step: Step, order: Mapping[tuple[str, str], int]) -> tuple[float, int, int, float, Step]:
    """What sorts steps as `choose` does; the fourth tells apart what was expected of a step at different times."""
    return -step.falls / step.seconds, order[step.model, step.attack], step.block, step.falls, step


def _line(trials: Sequence[Trial]) -> tuple[float, float] | None:
    """Fixed seconds and seconds a sample, neither negative; None without a measurement."""
    known = [trial for trial in trials if trial.attacked]
    if not known:
        return None
    samples, seconds = sum(trial.attacked for trial in known), sum(trial.seconds for trial in known)
    alone = seconds / (samples + _OVERHEAD * len(known))
    middle, mean = samples / len(known), seconds / len(known)
    spread = sum((trial.attacked - middle) ** 2 for trial in known)
    if spread == 0:
        return _OVERHEAD * alone, alone
    each = sum((trial.attacked - middle) * (trial.seconds - mean) for trial in known) / spread
    fixed = mean - each * middle
    if each < 0:
        return mean, 0.0
    return (fixed, each) if fixed > 0 else (_OVERHEAD * alone, alone)
