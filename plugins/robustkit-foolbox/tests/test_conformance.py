"""What RobustKit's kit asks of every entry, at budgets that keep it quick."""

from __future__ import annotations

from collections.abc import Callable

import robustkit_foolbox

from robustkit import testing


@testing.parametrize(
    robustkit_foolbox,
    settings={
        "cw": {"steps": 200, "binary_search_steps": 6},
        "ead": {"steps": 200, "binary_search_steps": 6},
        "gen_attack": {"steps": 20},
        "boundary": {"steps": 400},
        "hop_skip_jump": {"steps": 6, "initial_gradient_eval_steps": 30},
        "salt_and_pepper": {"steps": 100},
        "contrast_linear": {"steps": 50},
        "gaussian_blur": {"steps": 50},
        "blended_noise": {"directions": 100, "steps": 50},
        "brendel_bethge": {"steps": 30, "lr_num_decay": 5},
    },
    slow=("brendel_bethge-*",),
)
def test_conformance(check: Callable[[], None]) -> None:
    check()
