"""What a table must say where not all test images were judged: how many, and why no more."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from robustkit.pipeline.looks import Verdict
from robustkit.tables import Record


def sampling(records: Sequence[Record], environment: Mapping[str, Any]) -> list[str]:
    """Lines below the table; none where all images were asked for."""
    told = environment.get("sampling")
    if told is None or not any("sampled" in record for record in records):
        return []
    found = [Verdict(**verdict) for verdict in told["verdicts"]]
    used, of = told["used"], told["of"]
    lines = [f"Test images in random order, {used:,} of {of:,} judged: {_why(found, used, of, told['points'])}"]
    if found:
        together = f"for all {len(found)} pairs together " if len(found) > 1 else ""
        lines.append(
            f"Difference of worst cases in points: {'; '.join(map(verdict_words, found))}. Its limits hold at every "
            f"look, after each block of images, {together}in 95 % of benches (betting, Waudby-Smith & Ramdas 2024); "
            "intervals of single columns are of a number of images fixed beforehand, and know nothing of the stopping."
        )
    return lines


def verdict_words(verdict: Verdict) -> str:
    """A pair in words: "pgd_at − fgsm_at 3.1 [1.0, 5.2]: told apart"."""
    words = f"{verdict.second} − {verdict.first} {_points(verdict.difference)}"
    limits = f"[{_points(verdict.low)}, {_points(verdict.high)}]"
    said = ": told apart" if verdict.apart else ": narrow enough" if verdict.narrow else ""
    return f"{words} {limits}{said}"


def _why(found: Sequence[Verdict], used: int, of: int, points: float) -> str:
    if not found:
        return "all there are; no two models were left to be compared."
    leading = [verdict for verdict in found if verdict.leading]
    done = all(verdict.apart or verdict.narrow for verdict in leading)
    if not done:
        return "all there are; not every difference to the leading model was settled."
    if all(verdict.apart for verdict in leading):
        how = "the leading model is told apart from every other"
    elif all(verdict.narrow for verdict in leading):
        how = f"every difference to the leading model is known to {points:g} points"
    else:
        how = f"the leading model is told apart from every other, or the difference is known to {points:g} points"
    return f"{how}{', with the last of them' if used == of else ', so no more were needed'}."


def _points(share: float) -> str:
    return f"{100 * share:.1f}"
