"""Red flags that records show: attacks of one model on the same samples, compared with one another.

After Carlini et al. 2019 (https://arxiv.org/abs/1902.06705).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from functools import reduce

import numpy as np

from robustkit.contracts import Threat
from robustkit.flags.flag import Flag, FlagName, beats, more_than_a_few
from robustkit.tables import Record, Samples, radii_of, robust

_SINGLE = frozenset({"fgsm", "rfgsm", "ffgsm", "fgm", "fast_gradient", "fgsm_linf"})
_SEVERAL = 5
"""Steps from which an attack counts as one of several."""
_REACHES_ALL = frozenset({"ddn", "fmn", "fab"})
"""Native attacks whose distance is not bounded: with 50 steps they find an adversarial point wherever one is found."""
_ENOUGH = 50
_BOX = 0.5
"""Radius in linf from which any image can be made plain grey."""

Fell = dict[tuple[int, float], np.ndarray]
"""By the place of an attack among those of a model, and eps: (N,) bool, what it brought down."""


def flagged(records: Sequence[Record], samples: Samples) -> list[Record]:
    """The same records; the clean one of each model also holds, in "flags", what comparing its attacks shows.

    single-step-wins: an attack of one step brings down more than one of five or more. single-step-only: there is no
    other attack, and more than 5 % stand. black-box-wins, transfer-wins: one that needs no gradients brings down more
    than all together that follow them. stands-at-any-eps: more than 5 % stand where linf eps is 0.5 or more, or where a
    search for the nearest adversarial point found none. steps-dont-help: one attack is not better with about 10 steps
    than with 1, and is with ten times as many. "More" is a point of all samples or more, and p < 0.01 (exact sign
    test).

    In a cascade, and on a budget, attacks see different samples, so that nothing is compared.

    Args:
        records: of a bench.
        samples: per-sample columns by cell key.
    """
    radii = radii_of(records)
    found: list[Record] = []
    for record in records:
        if record["kind"] == "clean" and not record["cascade"]:
            subject = record["subject"]["label"], record["subject"]["seed"]
            attacks = [
                other
                for other in records
                if other["kind"] == "attack"
                and other["status"] == "ok"
                and not other["cascade"]
                and (other["subject"]["label"], other["subject"]["seed"]) == subject
            ]
            known = record.get("flags", [])
            more = [flag.to_plain() for flag in compared(attacks, radii, samples)]
            record = {**record, "flags": [*known, *(flag for flag in more if flag not in known)]}
        found.append(record)
    return found


def compared(attacks: Sequence[Record], radii: Sequence[float], samples: Samples) -> Iterator[Flag]:
    """The flags of one model's attacks, all of them without a cascade."""
    columns = [samples(record["key"]) for record in attacks]
    fell: Fell = {}
    for place, (record, mine) in enumerate(zip(attacks, columns, strict=True)):
        right = mine["clean_pred"] == mine["label"]
        for eps in radii if record["component"]["goal"] == "minimal" else [record["threat"]["eps"]]:
            fell[place, eps] = right & ~robust(record, mine, eps)
    for eps in dict.fromkeys(eps for _, eps in fell):
        here = [place for place, other in fell if other == eps]
        yield from _orders(attacks, here, fell, eps)
        yield from _steps(attacks, here, fell, eps)
        yield from _alone(attacks, columns, here, fell, eps)
    yield from _standing(attacks, columns, fell)


def _orders(attacks: Sequence[Record], here: Sequence[int], fell: Fell, eps: float) -> Iterator[Flag]:
    """What is weaker must not win."""
    following = [place for place in here if _multi_step(attacks[place])]
    for place in here:
        record = attacks[place]
        if _single_step(record):
            for other in following:
                name = _label(attacks[other])
                yield from _won("single-step-wins", record, fell[place, eps], name, fell[other, eps], eps)
        elif following and _knowledge(record) in ("score", "decision"):
            union = reduce(np.logical_or, [fell[other, eps] for other in following])
            names = " and ".join(_label(attacks[other]) for other in following)
            kind: FlagName = "transfer-wins" if _name(record) == "transfer" else "black-box-wins"
            yield from _won(kind, record, fell[place, eps], names, union, eps)


def _won(
    name: FlagName, record: Record, fell: np.ndarray, other_name: str, other: np.ndarray, eps: float
) -> Iterator[Flag]:
    ahead = beats(fell, other)
    if ahead:
        yield Flag(
            name=name,
            evidence=f"{_label(record)} brings down {ahead[0]} of {len(fell)} samples that {other_name} "
            f"left standing, and leaves {ahead[1]} that fell to the latter, at {_ball(record, eps)}",
        )


def _steps(attacks: Sequence[Record], here: Sequence[int], fell: Fell, eps: float) -> Iterator[Flag]:
    families: dict[str, dict[int, int]] = {}
    for place in here:
        steps = _number(attacks[place], "steps")
        if steps:
            rest = {name: value for name, value in _params(attacks[place]).items() if name not in _LENGTHS}
            families.setdefault(f"{_name(attacks[place])} {rest}", {})[steps] = place
    for family in families.values():
        few = [steps for steps in family if steps <= 2]
        some = [steps for steps in family if 5 <= steps <= 20]
        for middle in some[:1] if few else []:
            for many in [steps for steps in family if steps >= 10 * middle]:
                low, mid, high = (fell[family[steps], eps] for steps in (few[0], middle, many))
                ahead = beats(high, mid)
                if not beats(mid, low) and ahead:
                    yield Flag(
                        name="steps-dont-help",
                        evidence=f"{_name(attacks[family[middle]])} brings down {int(low.sum())} of {len(low)} samples "
                        f"with {few[0]} steps, {int(mid.sum())} with {middle} and {int(high.sum())} with {many}, at "
                        f"{_ball(attacks[family[middle]], eps)}",
                    )


def _alone(
    attacks: Sequence[Record], columns: Sequence[Mapping[str, np.ndarray]], here: Sequence[int], fell: Fell, eps: float
) -> Iterator[Flag]:
    """What stands under single steps has withstood little, however many of them there were."""
    if not all(_single_step(attacks[place]) for place in here):
        return
    right = columns[here[0]]["clean_pred"] == columns[here[0]]["label"]
    left = int((right & ~reduce(np.logical_or, [fell[place, eps] for place in here])).sum())
    names = " and ".join(_label(attacks[place]) for place in here)
    if more_than_a_few(left, int(right.sum())):
        yield Flag(
            name="single-step-only",
            evidence=f"{left} of {int(right.sum())} samples stand under {names} at {_ball(attacks[here[0]], eps)}, and "
            "no attack of more steps looked at them",
        )


_LENGTHS = frozenset({"steps", "step_size", "restarts"})


def _standing(attacks: Sequence[Record], columns: Sequence[Mapping[str, np.ndarray]], fell: Fell) -> Iterator[Flag]:
    for place, (record, mine) in enumerate(zip(attacks, columns, strict=True)):
        attacked = mine["attacked"]
        tried = int(attacked.sum())
        if record["component"]["goal"] == "minimal":
            if _name(record) in _REACHES_ALL and (_number(record, "steps") or 0) >= _ENOUGH:
                none = int((attacked & (mine["adv_pred"] == mine["label"])).sum())
                if more_than_a_few(none, tried):
                    yield Flag(
                        name="stands-at-any-eps",
                        evidence=f"{_label(record)} found no adversarial point at any distance for {none} of {tried} "
                        "samples",
                    )
        elif record["threat"]["norm"] == "linf" and record["threat"]["eps"] >= _BOX and _multi_step(record):
            left = tried - int(fell[place, record["threat"]["eps"]].sum())
            if more_than_a_few(left, tried):
                yield Flag(
                    name="stands-at-any-eps",
                    evidence=f"{_label(record)} leaves {left} of {tried} samples standing at "
                    f"{_ball(record, record['threat']['eps'])}, where any image can be made plain grey",
                )


def _single_step(record: Record) -> bool:
    return _white(record) and (_name(record) in _SINGLE or _number(record, "steps") == 1)


def _multi_step(record: Record) -> bool:
    """Follows gradients, and for some steps; a closed form does neither."""
    steps = _number(record, "steps")
    return _white(record) and _name(record) not in _SINGLE | {"linear_exact"} and (steps is None or steps >= _SEVERAL)


def _white(record: Record) -> bool:
    return _knowledge(record) == "white-box"


def _knowledge(record: Record) -> str:
    return str(record["component"].get("knowledge", ""))


def _name(record: Record) -> str:
    """Without the provider."""
    return str(record["component"].get("name", "")).rpartition(".")[2]


def _label(record: Record) -> str:
    return str(record["component"]["label"])


def _params(record: Record) -> dict[str, object]:
    return dict(record["component"].get("params", {}))


def _number(record: Record, name: str) -> int | None:
    value = _params(record).get(name)
    return value if isinstance(value, int) else None


def _ball(record: Record, eps: float) -> str:
    return str(Threat(record["threat"]["norm"], eps))
