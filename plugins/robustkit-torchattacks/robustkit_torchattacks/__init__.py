"""The attacks of torchattacks 3.5.1 in RobustKit's table. Rows only: nothing is imported before it is used."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from robustkit.hookspecs import AttackEntry, hookimpl

UNSUPPORTED = {
    "MultiAttack": "composes attacks of one model; a bench's worst case over all its attacks, and --cascade, do "
    "the same for attacks of every library",
    "LGV": "trains copies of the model on the training set before it attacks, and an attack is given no training "
    "set; it also moves the data to the first GPU whenever there is one, wherever the model is",
}
"""Classes of torchattacks that are no entry here, with the reason."""

WRAPS = {
    "vanila": "VANILA",
    "gn": "GN",
    "fgsm": "FGSM",
    "bim": "BIM",
    "rfgsm": "RFGSM",
    "pgd": "PGD",
    "eotpgd": "EOTPGD",
    "ffgsm": "FFGSM",
    "tpgd": "TPGD",
    "mifgsm": "MIFGSM",
    "upgd": "UPGD",
    "apgd": "APGD",
    "apgdt": "APGDT",
    "difgsm": "DIFGSM",
    "tifgsm": "TIFGSM",
    "jitter": "Jitter",
    "nifgsm": "NIFGSM",
    "pgdrs": "PGDRS",
    "sinifgsm": "SINIFGSM",
    "vmifgsm": "VMIFGSM",
    "vnifgsm": "VNIFGSM",
    "spsa": "SPSA",
    "jsma": "JSMA",
    "eadl1": "EADL1",
    "eaden": "EADEN",
    "pifgsm": "PIFGSM",
    "pifgsmpp": "PIFGSMPP",
    "cw": "CW",
    "pgdl2": "PGDL2",
    "deepfool": "DeepFool",
    "pgdrsl2": "PGDRSL2",
    "sparsefool": "SparseFool",
    "onepixel": "OnePixel",
    "pixle": "Pixle",
    "fab": "FAB",
    "square": "Square",
    "apgd_fab_square_10": "AutoAttack",
}
"""Entry → class of torchattacks."""

_NAN = "Divides by the mean absolute gradient: a sample whose gradient is exactly 0 comes back unchanged."
_TEN = "10 iterations by default, where the reference has 100: set steps=100 to compare."
_CHANNELS = "Images of 3 channels only: the library's kernel is made for them; others are refused."
_BATCH = "Stops early on a loss summed over the batch, so that samples of a batch affect one another."
_ELASTIC = f"{_BATCH} The library's first step moves its own reference image by about 1e-5."


def _attack(name: str, target: str, summary: str, paper: str, **facts: Any) -> AttackEntry:
    return AttackEntry(
        name=name,
        target=f"robustkit_torchattacks.{target}",
        summary=summary,
        paper=f"https://arxiv.org/abs/{paper}" if paper else "",
        needs="torchattacks",
        **facts,
    )


@hookimpl
def robustkit_attacks() -> Iterator[AttackEntry]:
    linf, l2, l1, l0 = (frozenset({norm}) for norm in ("linf", "l2", "l1", "l0"))
    yield _attack(
        "vanila",
        "baseline:Vanila",
        "The input itself: clean accuracy as an attack.",
        "",
        norms=linf | l2 | l1 | l0,
        knowledge="decision",
        deterministic=True,
    )
    yield _attack(
        "gn",
        "baseline:GN",
        "Gaussian noise of a given standard deviation, without a budget.",
        "",
        norms=frozenset(),
        knowledge="decision",
        goal="minimal",
    )
    yield from _gradient(linf, l2)
    yield from _transfer(linf)
    yield from _parameter_free(linf | l2)
    yield from _minimal(l2, l1, l0)
    yield _attack(
        "spsa",
        "spsa:SPSA",
        "Gradient descent on an estimate of the gradient from scores.",
        "1802.05666",
        norms=linf,
        knowledge="score",
        targeted=True,
        notes="The library's defaults take one step of 0.01 at whatever eps: give it steps.",
    )


def _gradient(linf: Any, l2: Any) -> Iterator[AttackEntry]:
    yield _attack(
        "fgsm",
        "gradient:FGSM",
        "One step of eps along the sign of the gradient.",
        "1412.6572",
        norms=linf,
        targeted=True,
        deterministic=True,
    )
    yield _attack(
        "ffgsm",
        "gradient:FFGSM",
        "A random point of the ball, then one step of the sign (fast FGSM).",
        "2001.03994",
        norms=linf,
        targeted=True,
    )
    yield _attack(
        "bim",
        "gradient:BIM",
        "Iterated FGSM from the clean input (I-FGSM).",
        "1607.02533",
        norms=linf,
        targeted=True,
        deterministic=True,
    )
    yield _attack(
        "rfgsm",
        "gradient:RFGSM",
        "A random step, then steps of the sign (R+FGSM).",
        "1705.07204",
        norms=linf,
        targeted=True,
        notes="Takes 10 gradient steps by default, where the paper's R+FGSM takes one.",
    )
    yield _attack(
        "pgd",
        "gradient:PGD",
        "Projected gradient descent in linf from one random start.",
        "1706.06083",
        norms=linf,
        targeted=True,
        notes="Returns the last iterate, not the best one.",
    )
    yield _attack(
        "pgdl2",
        "gradient:PGDL2",
        "Projected gradient descent in l2 from one random start.",
        "1706.06083",
        norms=l2,
        targeted=True,
        notes="Returns the last iterate. The random start is not uniform in the ball.",
    )
    yield _attack(
        "eotpgd",
        "losses:EOTPGD",
        "PGD with gradients averaged over passes of a randomised network.",
        "1907.00895",
        norms=linf,
        targeted=True,
    )
    yield _attack(
        "tpgd",
        "losses:TPGD",
        "PGD on the divergence from the clean prediction (TRADES).",
        "1901.08573",
        norms=linf,
        notes="Ignores labels: a wrong prediction may be repaired.",
    )
    yield _attack(
        "jitter",
        "losses:Jitter",
        "PGD on scaled and noisy softmax outputs.",
        "2105.10304",
        norms=linf,
        targeted=True,
        notes="The loss depends on a constant added to the logits, which changes no prediction.",
    )
    yield _attack(
        "upgd",
        "losses:UPGD",
        "PGD with momentum, a choice of loss and averaged gradients.",
        "",
        norms=linf,
        targeted=True,
        deterministic=False,
        notes=f"{_NAN} The loss margin is not offered: it returns NaN for what it has fooled.",
    )
    yield _attack(
        "pgdrs",
        "smoothed:PGDRS",
        "PGD in linf against randomized smoothing (SmoothAdv).",
        "1906.04584",
        norms=linf,
        targeted=True,
    )
    yield _attack(
        "pgdrsl2",
        "smoothed:PGDRSL2",
        "PGD in l2 against randomized smoothing (SmoothAdv).",
        "1906.04584",
        norms=l2,
        targeted=True,
    )


def _transfer(linf: Any) -> Iterator[AttackEntry]:
    for name, summary, paper, deterministic in (
        ("mifgsm", "Iterated FGSM with momentum (MI-FGSM).", "1710.06081", True),
        ("nifgsm", "Iterated FGSM with Nesterov momentum (NI-FGSM).", "1908.06281", True),
        ("sinifgsm", "NI-FGSM averaged over scaled copies of the image (SI-NI-FGSM).", "1908.06281", True),
        ("vmifgsm", "MI-FGSM tuned by the variance of the gradient (VMI-FGSM).", "2103.15571", False),
        ("vnifgsm", "NI-FGSM tuned by the variance of the gradient (VNI-FGSM).", "2103.15571", False),
    ):
        yield _attack(
            name,
            f"momentum:{name.upper()}",
            summary,
            paper,
            norms=linf,
            targeted=True,
            deterministic=deterministic,
            notes=_NAN,
        )
    yield _attack(
        "difgsm",
        "transfer:DIFGSM",
        "Gradients of randomly resized inputs (DI-FGSM).",
        "1803.06978",
        norms=linf,
        targeted=True,
        notes=_NAN,
    )
    yield _attack(
        "tifgsm",
        "transfer:TIFGSM",
        "DI-FGSM with a smoothed gradient (TI-FGSM).",
        "1904.02884",
        norms=linf,
        targeted=True,
        notes=f"{_CHANNELS} {_NAN}",
    )
    yield _attack(
        "pifgsm",
        "transfer:PIFGSM",
        "Patch-wise FGSM: what is cut off at eps goes to the neighbours.",
        "2007.06765",
        norms=linf,
        deterministic=True,
        notes=_CHANNELS,
    )
    yield _attack(
        "pifgsmpp",
        "transfer:PIFGSMPP",
        "Patch-wise FGSM with a smoothed gradient (PI-FGSM++).",
        "2012.15503",
        norms=linf,
        targeted=True,
        deterministic=True,
        notes=_CHANNELS,
    )


def _parameter_free(norms: Any) -> Iterator[AttackEntry]:
    yield _attack(
        "apgd",
        "parameter_free:APGD",
        "PGD with an adaptive step size.",
        "2003.01690",
        norms=norms,
        notes=f"{_TEN} The library asserts on l1.",
    )
    yield _attack(
        "apgdt",
        "parameter_free:APGDT",
        "Targeted APGD on each of the likeliest wrong classes.",
        "2003.01690",
        norms=norms,
        notes=f"{_TEN} In l2 all samples of a batch get the step size of its first one.",
    )
    yield _attack(
        "fab",
        "parameter_free:FAB",
        "Fast adaptive boundary attack, points inside the ball only.",
        "1907.02044",
        norms=norms,
        notes=f"{_TEN} The library's l1 crashes, and its targeted mode attacks nothing.",
    )
    yield _attack(
        "square",
        "parameter_free:Square",
        "Random search with squares, on scores alone.",
        "1912.00049",
        norms=norms,
        knowledge="score",
        targeted=True,
    )
    yield _attack(
        "apgd_fab_square_10",
        "parameter_free:APGDFABSquare10",
        "APGD, APGD-T and FAB-T of 10 iterations, then Square: torchattacks' AutoAttack class.",
        "2003.01690",
        norms=norms,
        notes="Not AutoAttack: its members have 10 iterations for the reference's 100. Use pyautoattack.autoattack "
        "for numbers to compare.",
    )


def _minimal(l2: Any, l1: Any, l0: Any) -> Iterator[AttackEntry]:
    yield _attack(
        "cw",
        "minimal:CW",
        "Carlini and Wagner's l2 attack with one fixed constant.",
        "1608.04644",
        norms=l2,
        goal="minimal",
        targeted=True,
        deterministic=True,
        notes=f"Refuses models whose logits are all negative (log_softmax): the library then does nothing. Pixels "
        f"at exactly 0 or 1 never move. No binary search over c. {_BATCH}",
    )
    yield _attack(
        "deepfool",
        "minimal:DeepFool",
        "Steps to the nearest linearised boundary, in l2.",
        "1511.04599",
        norms=l2,
        goal="minimal",
        deterministic=True,
        notes="Stalls on images with many pixels at 0 or 1, since it clamps to the box at every step.",
    )
    yield _attack(
        "eadl1",
        "minimal:EADL1",
        "Elastic-net attack that keeps the best l1 distance.",
        "1709.04114",
        norms=l1,
        goal="minimal",
        targeted=True,
        deterministic=True,
        notes=_ELASTIC,
    )
    yield _attack(
        "eaden",
        "minimal:EADEN",
        "Elastic-net attack that keeps the best mix of l2 and l1 distance.",
        "1709.04114",
        norms=l2 | l1,
        goal="minimal",
        targeted=True,
        deterministic=True,
        notes=_ELASTIC,
    )
    yield _attack(
        "jsma",
        "sparse:JSMA",
        "Two values at a time by the Jacobian's saliency map.",
        "1511.07528",
        norms=l0,
        goal="minimal",
        targeted=True,
        deterministic=True,
        notes="Without targeted it aims at the next class alone. Memory grows with the square of the pixels.",
    )
    yield _attack(
        "sparsefool",
        "sparse:SparseFool",
        "Few pixels along the normal of DeepFool's boundary.",
        "1811.02248",
        norms=l1 | l0,
        goal="minimal",
        deterministic=True,
        notes="Stalls where DeepFool does: on images with many pixels at 0 or 1.",
    )
    yield _attack(
        "onepixel",
        "sparse:OnePixel",
        "Differential evolution over eps / C pixels, on scores.",
        "1710.08864",
        norms=l0,
        knowledge="score",
        targeted=True,
        notes="l0 counts values: an RGB image needs eps=3 for one pixel.",
    )
    yield _attack(
        "pixle",
        "sparse:Pixle",
        "Random search over copied pixels, on scores.",
        "2202.02236",
        norms=l0,
        knowledge="score",
        goal="minimal",
        targeted=True,
        notes="Has no budget: stops at the first success and is scored by distance. Square images only.",
    )
