"""Rows of all other attacks. Strings only."""

from __future__ import annotations

from collections.abc import Iterator

from robustkit.contracts import Norm
from robustkit.hookspecs import AttackEntry
from robustkit_torchattacks.rows_gradient import attack

_LINF: frozenset[Norm] = frozenset({"linf"})
_L2: frozenset[Norm] = frozenset({"l2"})
_L1: frozenset[Norm] = frozenset({"l1"})
_L0: frozenset[Norm] = frozenset({"l0"})

_TEN = "10 iterations by default, where the reference has 100: set steps=100 to compare."
_BATCH = "Stops early on a loss summed over the batch, so that samples of a batch affect one another."
_ELASTIC = f"{_BATCH} The library's first step moves its own reference image by about 1e-5."


def noise_rows() -> Iterator[AttackEntry]:
    yield attack(
        "vanila",
        "baseline:Vanila",
        "The input itself: clean accuracy as an attack.",
        "",
        norms=_LINF | _L2 | _L1 | _L0,
        knowledge="decision",
        deterministic=True,
    )
    yield attack(
        "gn",
        "baseline:GN",
        "Gaussian noise of a given standard deviation, without a budget.",
        "",
        norms=frozenset(),
        knowledge="decision",
        goal="minimal",
    )


def parameter_free_rows() -> Iterator[AttackEntry]:
    yield attack(
        "apgd",
        "parameter_free:APGD",
        "PGD with an adaptive step size.",
        "2003.01690",
        norms=_LINF | _L2,
        notes=f"{_TEN} The library asserts on l1.",
    )
    yield attack(
        "apgdt",
        "parameter_free:APGDT",
        "Targeted APGD on each of the likeliest wrong classes.",
        "2003.01690",
        norms=_LINF | _L2,
        notes=f"{_TEN} In l2 all samples of a batch get the step size of its first one.",
    )
    yield attack(
        "fab",
        "parameter_free:FAB",
        "Fast adaptive boundary attack, points inside the ball only.",
        "1907.02044",
        norms=_LINF | _L2,
        notes=f"{_TEN} The library's l1 crashes, and its targeted mode attacks nothing.",
    )
    yield attack(
        "square",
        "parameter_free:Square",
        "Random search with squares, on scores alone.",
        "1912.00049",
        norms=_LINF | _L2,
        knowledge="score",
        targeted=True,
    )
    yield attack(
        "apgd_fab_square_10",
        "parameter_free:APGDFABSquare10",
        "APGD, APGD-T and FAB-T of 10 iterations, then Square: torchattacks' AutoAttack class.",
        "2003.01690",
        norms=_LINF | _L2,
        notes="Not AutoAttack: its members have 10 iterations for the reference's 100. For numbers to compare "
        "use pyautoattack.autoattack.",
    )


def minimal_rows() -> Iterator[AttackEntry]:
    yield attack(
        "cw",
        "minimal:CW",
        "Carlini and Wagner's l2 attack with one fixed constant.",
        "1608.04644",
        norms=_L2,
        goal="minimal",
        targeted=True,
        deterministic=True,
        notes=f"Refuses models whose logits are all negative (log_softmax): the library then does nothing. Pixels "
        f"at exactly 0 or 1 never move. No binary search over c. {_BATCH}",
    )
    yield attack(
        "deepfool",
        "minimal:DeepFool",
        "Steps to the nearest linearised boundary, in l2.",
        "1511.04599",
        norms=_L2,
        goal="minimal",
        deterministic=True,
        notes="Stalls on images with many pixels at 0 or 1: it overshoots each step by 2 % of itself, the clamp to the "
        "box takes more, and the iterates come to rest on the boundary. foolbox.deepfool does not.",
    )
    yield attack(
        "eadl1",
        "minimal:EADL1",
        "Elastic-net attack that keeps the best l1 distance.",
        "1709.04114",
        norms=_L1,
        goal="minimal",
        targeted=True,
        deterministic=True,
        notes=_ELASTIC,
    )
    yield attack(
        "eaden",
        "minimal:EADEN",
        "Elastic-net attack that keeps the best mix of l2 and l1 distance.",
        "1709.04114",
        norms=_L2 | _L1,
        goal="minimal",
        targeted=True,
        deterministic=True,
        notes=_ELASTIC,
    )
    yield attack(
        "jsma",
        "sparse:JSMA",
        "Two values at a time by the Jacobian's saliency map.",
        "1511.07528",
        norms=_L0,
        goal="minimal",
        targeted=True,
        deterministic=True,
        notes="Without targeted it aims at the next class alone. Memory grows with the square of the pixels.",
    )
    yield attack(
        "sparsefool",
        "sparse:SparseFool",
        "Few pixels along the normal of DeepFool's boundary.",
        "1811.02248",
        norms=_L1 | _L0,
        goal="minimal",
        deterministic=True,
        notes="Stalls where DeepFool does: on images with many pixels at 0 or 1.",
    )
    yield attack(
        "onepixel",
        "sparse:OnePixel",
        "Differential evolution over eps / C pixels, on scores.",
        "1710.08864",
        norms=_L0,
        knowledge="score",
        targeted=True,
        notes="l0 counts values: an RGB image needs eps=3 for one pixel.",
    )
    yield attack(
        "pixle",
        "sparse:Pixle",
        "Random search over copied pixels, on scores.",
        "2202.02236",
        norms=_L0,
        knowledge="score",
        goal="minimal",
        targeted=True,
        notes="Has no budget: stops at the first success and is scored by distance. Square images only.",
    )


def score_rows() -> Iterator[AttackEntry]:
    yield attack(
        "spsa",
        "spsa:SPSA",
        "Gradient descent on an estimate of the gradient from scores.",
        "1802.05666",
        norms=_LINF,
        knowledge="score",
        targeted=True,
        notes="The library's defaults take one step of 0.01 at whatever eps: give it steps.",
    )
