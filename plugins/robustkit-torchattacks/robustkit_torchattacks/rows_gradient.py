"""Rows of the attacks that follow the gradient inside the ball. Strings only."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from robustkit.contracts import Norm
from robustkit.hookspecs import AttackEntry

_LINF: frozenset[Norm] = frozenset({"linf"})
_L2: frozenset[Norm] = frozenset({"l2"})

_FREEZE = "A sample whose gradient is once exactly 0 never moves again: its momentum is NaN."
_CHANNELS = "Images of 3 channels only: the library's kernel is made for them; others are refused."


def attack(name: str, target: str, summary: str, paper: str, **facts: Any) -> AttackEntry:
    """An entry of this plugin; `target` within the package, `paper` an arXiv number."""
    return AttackEntry(
        name=name,
        target=f"robustkit_torchattacks.{target}",
        summary=summary,
        paper=f"https://arxiv.org/abs/{paper}" if paper else "",
        needs="torchattacks",
        **facts,
    )


def gradient_rows() -> Iterator[AttackEntry]:
    yield attack(
        "fgsm",
        "gradient:FGSM",
        "One step of eps along the sign of the gradient.",
        "1412.6572",
        norms=_LINF,
        targeted=True,
        deterministic=True,
    )
    yield attack(
        "ffgsm",
        "gradient:FFGSM",
        "A random point of the ball, then one step of the sign (fast FGSM).",
        "2001.03994",
        norms=_LINF,
        targeted=True,
    )
    yield attack(
        "bim",
        "gradient:BIM",
        "Iterated FGSM from the clean input (I-FGSM).",
        "1607.02533",
        norms=_LINF,
        targeted=True,
        deterministic=True,
    )
    yield attack(
        "rfgsm",
        "gradient:RFGSM",
        "A random step, then steps of the sign (R+FGSM).",
        "1705.07204",
        norms=_LINF,
        targeted=True,
        notes="Takes 10 gradient steps by default, where the paper's R+FGSM takes one.",
    )
    yield attack(
        "pgd",
        "gradient:PGD",
        "Projected gradient descent in linf from one random start.",
        "1706.06083",
        norms=_LINF,
        targeted=True,
        notes="Returns the last iterate, not the best one.",
    )
    yield attack(
        "pgdl2",
        "gradient:PGDL2",
        "Projected gradient descent in l2 from one random start.",
        "1706.06083",
        norms=_L2,
        targeted=True,
        notes="Returns the last iterate. The random start is not uniform in the ball.",
    )
    yield attack(
        "eotpgd",
        "losses:EOTPGD",
        "PGD with gradients averaged over passes of a randomised network.",
        "1907.00895",
        norms=_LINF,
        targeted=True,
    )
    yield attack(
        "tpgd",
        "losses:TPGD",
        "PGD on the divergence from the clean prediction (TRADES).",
        "1901.08573",
        norms=_LINF,
        notes="Ignores labels: a wrong prediction may be repaired.",
    )
    yield attack(
        "jitter",
        "losses:Jitter",
        "PGD on scaled and noisy softmax outputs.",
        "2105.10304",
        norms=_LINF,
        targeted=True,
        notes="The loss depends on a constant added to the logits, which changes no prediction.",
    )
    yield attack(
        "upgd",
        "losses:UPGD",
        "PGD with momentum, a choice of loss and averaged gradients.",
        "",
        norms=_LINF,
        targeted=True,
        deterministic=False,
        notes=f"{_FREEZE} The loss margin is refused where all logits are negative, as in cw.",
    )
    yield attack(
        "pgdrs",
        "smoothed:PGDRS",
        "PGD in linf against randomized smoothing (SmoothAdv).",
        "1906.04584",
        norms=_LINF,
        targeted=True,
    )
    yield attack(
        "pgdrsl2",
        "smoothed:PGDRSL2",
        "PGD in l2 against randomized smoothing (SmoothAdv).",
        "1906.04584",
        norms=_L2,
        targeted=True,
    )


def transfer_rows() -> Iterator[AttackEntry]:
    for name, summary, paper, deterministic in (
        ("mifgsm", "Iterated FGSM with momentum (MI-FGSM).", "1710.06081", True),
        ("nifgsm", "Iterated FGSM with Nesterov momentum (NI-FGSM).", "1908.06281", True),
        ("sinifgsm", "NI-FGSM averaged over scaled copies of the image (SI-NI-FGSM).", "1908.06281", True),
        ("vmifgsm", "MI-FGSM tuned by the variance of the gradient (VMI-FGSM).", "2103.15571", False),
        ("vnifgsm", "NI-FGSM tuned by the variance of the gradient (VNI-FGSM).", "2103.15571", False),
    ):
        yield attack(
            name,
            f"momentum:{name.upper()}",
            summary,
            paper,
            norms=_LINF,
            targeted=True,
            deterministic=deterministic,
            notes=_FREEZE,
        )
    yield attack(
        "difgsm",
        "transfer:DIFGSM",
        "Gradients of randomly resized inputs (DI-FGSM).",
        "1803.06978",
        norms=_LINF,
        targeted=True,
        notes=_FREEZE,
    )
    yield attack(
        "tifgsm",
        "transfer:TIFGSM",
        "DI-FGSM with a smoothed gradient (TI-FGSM).",
        "1904.02884",
        norms=_LINF,
        targeted=True,
        notes=f"{_CHANNELS} {_FREEZE}",
    )
    yield attack(
        "pifgsm",
        "transfer:PIFGSM",
        "Patch-wise FGSM: what is cut off at eps goes to the neighbours.",
        "2007.06765",
        norms=_LINF,
        deterministic=True,
        notes=_CHANNELS,
    )
    yield attack(
        "pifgsmpp",
        "transfer:PIFGSMPP",
        "Patch-wise FGSM with a smoothed gradient (PI-FGSM++).",
        "2012.15503",
        norms=_LINF,
        targeted=True,
        deterministic=True,
        notes=_CHANNELS,
    )
