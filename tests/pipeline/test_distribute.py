"""A bench on worker processes: the same numbers, and faults that cost neither a number nor the run. All real."""

from __future__ import annotations

from pathlib import Path

from robustkit.executors.local import LocalExecutor
from robustkit.pipeline.events import BlockDone
from tests.pipeline.fleet import assert_same, bench, installed, marks

__all__ = ["installed", "marks"]  # fixtures


def test_numbers_do_not_depend_on_workers(tiny: str, tmp_path: Path, marks: Path) -> None:
    more = {
        "defenses": ("fgsm_at", "quantise"),
        "certifiers": ("smoothing:sigma=0.25:n=200:n0=20",),
        "norm": "l2",
        "eps": (0.5,),
    }
    attacks = ("fgsm", "pgd:steps=5")
    whole = bench(tiny, tmp_path / "whole", None, attacks, **more)
    assert len(whole[0]) == 12
    for workers in (1, 2):
        assert_same(whole, bench(tiny, tmp_path / f"by {workers}", LocalExecutor(workers), attacks, **more))


def test_a_lost_worker_costs_nothing_but_time(tiny: str, tmp_path: Path, marks: Path) -> None:
    attacks = ("fleet.kills:times=1", "fleet.noise")
    events: list[object] = []
    found = bench(tiny, tmp_path / "torn", LocalExecutor(2), attacks, events.append)
    assert len((marks / "kills").read_text().splitlines()) == 2  # the one that killed, and the one that did the work
    blocks = [event.done for event in events if isinstance(event, BlockDone) and event.cell.label.startswith("fleet.k")]
    assert sorted(blocks) == [1, 2, 3]
    assert_same(bench(tiny, tmp_path / "whole", None, attacks), found)  # by now it kills no more
