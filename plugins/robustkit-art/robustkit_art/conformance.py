"""What the conformance kit has to know: quick budgets, and what is expected to fail, with the reason."""

from __future__ import annotations

_UNIVERSAL = "one perturbation for samples whose margins point in different directions"
_SINKHORN = {"conjugate_sinkhorn_max_iter": 20, "projected_sinkhorn_max_iter": 20, "kernel_size": 3}

SETTINGS = {
    "fgsm_minimal": {"step_size": 0.001, "largest": 0.5},
    "bim": {"steps": 40},
    "pgd": {"steps": 40},
    "pgd_numpy": {"steps": 40},
    "mifgsm": {"steps": 40},
    "apgd": {"steps": 40, "restarts": 1},
    "acg": {"steps": 40, "restarts": 1},
    "racg": {"steps": 40, "restarts": 1},
    "apgd_deepfool_square": {"steps": 20, "restarts": 1, "queries": 30},
    "feature_adversaries_numpy": {"steps": 2},
    "frame_saliency": {"steps": 20},
    "universal_perturbation": {"steps": 2, "attacker": "fgsm"},
    "targeted_universal_perturbation": {"steps": 2},
    "cw": {"binary_search_steps": 5},
    "cw_linf": {"const_factor": 8.0},
    "ead": {"steps": 25, "binary_search_steps": 4},
    "low_pro_fool": {"steps": 50},
    "brendel_bethge": {"steps": 30},
    "square": {"queries": 200},
    "simba": {"steps": 100},
    "zoo": {"steps": 40, "step_size": 0.1, "initial_const": 10.0, "use_resize": False},
    "vat": {"steps": 1},
    "pixel": {"steps": 3, "th": 5},
    "threshold": {"steps": 5, "th": 60},
    "boundary": {"steps": 10},
    "hop_skip_jump": {"steps": 4, "init_eval": 20},
    "geoda": {"queries": 1000, "sub_dim": 4},
    "sign_opt": {"steps": 2, "queries": 200, "k": 10, "num_trial": 10},
    "spatial_transformation": {"num_translations": 3, "num_rotations": 3},
    "shadow": {"steps": 5, "batch_size": 8},
    "wasserstein": {"steps": 5, **_SINKHORN},
    "composite": {"steps": 1, "max_inner_iter": 2},
    "adversarial_patch": {"steps": 5},
    "adversarial_patch_numpy": {"steps": 3},
    "graphite_blackbox": {"queries": 30, "num_xforms_mask": 5, "num_xforms_boost": 5, "heat_patch_stride": 4},
    "graphite_whitebox": {"steps": 3, "first_steps": 3, "num_xforms": 3},
    "laser_beam": {"steps": 5, "restarts": 2},
    "adversarial_training": {"steps": 1, "step_size": 1.0},
    "madry_pgd": {"steps": 1, "step_size": 1.0},
    "trades": {"steps": 1, "step_size": 1.0},
    "awp": {"steps": 1, "step_size": 1.0},
    "cutout": {"length": 2},
    "total_variation": {"max_iter": 2},
    "randomized_smoothing": {"n": 500},
    "roni": {"suspects": 3},
}
"""Budgets that keep the checks quick."""

EXPECTED_FAILURES = {
    "feature_adversaries-linf-linear_optimum": "it matches a guide's outputs, not another class",
    "universal_perturbation-*-linear_optimum": _UNIVERSAL,
    "targeted_universal_perturbation-*-linear_*": _UNIVERSAL,
    "cw_linf-linf-linear_optimum": "the bound shrinks by a tenth at a time",
    "newton_fool-l2-linear_optimum": "it goes on until the class is as likely as by chance",
    "ead-l1-linear_optimum": "the elastic net trades l1 for l2",
    "jsma-l0-linear_optimum": "it goes to a class drawn at random",
    "low_pro_fool-l2-linear_optimum": "it descends for a fixed number of steps, and keeps the nearest it passed",
    "brendel_bethge-*-linear_optimum": "needs more steps than a test has to come down from its start",
}
