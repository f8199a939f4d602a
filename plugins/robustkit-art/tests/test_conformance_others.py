"""What RobustKit's kit asks of ART's defenses, certifier, detectors and poison, and of the plugin as a whole."""

from __future__ import annotations

from collections.abc import Callable

import robustkit_art

from robustkit import testing


@testing.parametrize(
    robustkit_art,
    kinds=("defense", "certifier", "detector", "poison"),
    settings={
        "adversarial_training": {"steps": 1, "step_size": 1.0},
        "madry_pgd": {"steps": 1, "step_size": 1.0},
        "trades": {"steps": 1, "step_size": 1.0},
        "awp": {"steps": 1, "step_size": 1.0},
        "cutout": {"length": 2},
        "total_variation": {"max_iter": 2},
        "randomized_smoothing": {"n": 500},
        "roni": {"suspects": 3},
    },
)
def test_others(check: Callable[[], None]) -> None:
    check()


def test_plugin() -> None:
    """Listing imports nothing, importing changes nothing and says nothing."""
    whole = [check for check in testing.checks(robustkit_art) if not check.entry]
    assert whole
    for check in whole:
        check()
