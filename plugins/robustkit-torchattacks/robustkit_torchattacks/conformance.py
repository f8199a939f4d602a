"""What the conformance kit has to know: quick budgets, and what is expected to fail, with the reason."""

from __future__ import annotations

SETTINGS = {
    "square": {"queries": 100},
    "apgd_fab_square_10": {"queries": 20},
    "spsa": {"steps": 10},
}
"""Budgets that keep the checks quick, and one that lets SPSA get further than one step of 0.01."""

_NOT_EXACT = {
    "cw-l2-linear_optimum": "one fixed c and 50 steps, no binary search",
    "difgsm-linf-linear_*": "resizing mixes pixels that are independent here",
    "tifgsm-linf-linear_*": "its kernel mixes pixels that are independent here",
    "pifgsmpp-linf-linear_*": "its kernel mixes pixels that are independent here",
    "eaden-l2-linear_optimum": "minimises a mix of l2 and l1",
    "ffgsm-linf-linear_*": "from a random point, one step leaves three pixels in eight inside the ball",
    "jitter-linf-linear_optimum": "noise on the outputs may turn the gradient round",
    "pgdrsl2-l2-linear_*": "attacks the smoothed model, whose gradient has noise of sd 0.5",
    "tpgd-linf-linear_optimum": "moves away from the clean prediction, which need not be the shortest way",
    "jsma-l0-linear_optimum": "raises two values at a time, where lowering one is shorter",
    "sparsefool-l*-linear_optimum": "aims three times beyond the boundary (lam)",
}
"""Heuristics that no bench should take for the exact optimum of a linear model."""

EXPECTED_FAILURES = {
    **_NOT_EXACT,
    "vanila-*-linear_reach": "returns the input, by design",
    "ead*-split_independence": "the early abort looks at the loss summed over the batch",
}
