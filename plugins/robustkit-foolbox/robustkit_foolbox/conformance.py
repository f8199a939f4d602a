"""What the conformance kit has to know: quick budgets, and what is expected to fail, with the reason."""

from __future__ import annotations

_L1 = "the l1-normalised gradient is not the steepest direction of the l1 ball"
_THRESHOLD = "serves networks that binarize their input alone, and says so"

SETTINGS = {
    "pgd": {"rel_stepsize": 0.1},  # the library's 40 steps of eps / 30 don't cross the ball
    "adam_pgd": {"rel_stepsize": 0.1},
    "cw": {"steps": 200, "binary_search_steps": 6},
    "ead": {"steps": 100, "binary_search_steps": 6},
    "gen_attack": {"steps": 20},
    "boundary": {"steps": 300},
    "hop_skip_jump": {"steps": 4, "initial_gradient_eval_steps": 30},
    "salt_and_pepper": {"steps": 100},
    "contrast_linear": {"steps": 50},
    "gaussian_blur": {"steps": 50},
    "blended_noise": {"directions": 100, "steps": 50},
    "brendel_bethge": {"steps": 50},
}
"""Budgets that keep the checks quick."""

EXPECTED_FAILURES = {
    **{f"{name}-l1-linear_optimum": _L1 for name in ("fgsm", "bim", "pgd", "mifgsm", "adam_bim", "adam_pgd")},
    **{f"{name}-l1-linear_target": _L1 for name in ("bim", "pgd", "mifgsm", "adam_bim", "adam_pgd")},
    "vat-l2-linear_optimum": "it follows the divergence of the prediction, not the margin",
    "ead-l1-linear_optimum": "the elastic net trades l1 for l2",
    "fmn-l2-linear_optimum": "the library's l2 projection divides a norm by itself and shrinks nothing",
    "fmn-l0-linear_optimum": "the library keeps one value more than its radius says",
    "brendel_bethge-*-linear_optimum": "needs more steps than a test has to come down from its start",
    **{
        f"binarization_refinement-{check}": _THRESHOLD
        for check in (
            "box",
            "shape_and_dtype",
            "batch_of_one",
            "float64",
            "inputs_untouched",
            "same_seed",
            "silent",
            "host_no_grad",
            "host_restores",
        )
    },
}
