"""The built-in attacks and defenses against the kit that plugin authors use."""

from __future__ import annotations

from robustkit import testing

_LINEAR_ALONE = "refuses networks that are not affine, as those checks use"
EXPECTED = {
    "rfgsm-*-linear_*": "half of the budget goes to a random step",
    "fmn-l0-linear_optimum": "one sample of ten needs four values, for three",
    **{
        f"linear_exact-{check}": _LINEAR_ALONE
        for check in (
            "*-ball_and_box",
            "shape_and_dtype",
            "batch_of_one",
            "float64",
            "inputs_untouched",
            "same_seed",
            "silent",
            "host_no_grad",
            "host_restores",
            "split_independence",
        )
    },
}


# searches that take thousands of passes; fewer suffice for small networks
SETTINGS = {
    "square": {"queries": 200},
    "hopskipjump": {"queries": 400},
    "nes": {"queries": 400, "directions": 10},
    "spsa": {"queries": 400, "directions": 10},
    "autoattack": {"steps": 20, "queries": 50},
    "cw": {"steps": 100, "binary_search_steps": 6, "initial_const": 0.1, "step_size": 0.05},
}


@testing.parametrize("robustkit", kinds=["attack"], settings=SETTINGS, expected_failures=EXPECTED)
def test_attack(check: testing.Check) -> None:
    check()


REFUSED = {
    f"linear_at-{check}": _LINEAR_ALONE
    for check in ("network", "classifies", "gradient", "same_seed", "data_untouched", "silent")
}
FEW = {name: {"steps": 2} for name in ("pgd_at", "mixed_at", "trades", "mart", "smooth_adv", "unlearn_trigger")} | {
    "union_at": {"steps": 2, "l2": 0.3}
}


@testing.parametrize("robustkit", kinds=["defense"], expected_failures=REFUSED, settings=FEW)
def test_defense(check: testing.Check) -> None:
    check()
