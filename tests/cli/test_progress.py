from __future__ import annotations

import pytest

from robustkit.cli.progress import Progress
from robustkit.pipeline.events import Fleet


@pytest.mark.parametrize(
    ("lost", "failed", "left", "words"),
    [
        (0, 0, None, ""),
        (2, 1, 75.2, ", cells failed: 1, workers lost: 2, 75 s left"),
        (0, 0, 400.0, ", 7 min left"),
        (0, 1, 30_000.0, ", cells failed: 1, 8.3 h left"),
    ],
)
def test_all_workers_share_one_line(
    lost: int, failed: int, left: float | None, words: str, capsys: pytest.CaptureFixture[str]
) -> None:
    event = Fleet(
        workers=3,
        cells_done=1,
        cells=4,
        blocks_done=3000,
        blocks=6000,
        images_per_second=1234.5,
        lost=lost,
        failed=failed,
        seconds_left=left,
    )
    with Progress() as progress:
        progress(event)
    assert capsys.readouterr().err == f"3 workers: 50 %, cells 1/4, blocks 3,000/6,000, 1,234 images/s{words}\n"
