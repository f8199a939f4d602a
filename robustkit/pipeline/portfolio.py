"""The attacks of a budget whose user named none."""

from __future__ import annotations

from robustkit.contracts import Norm

_DLR = 4
"""Classes that the targeted DLR loss needs."""


def portfolio(norm: Norm, classes: int) -> tuple[str, ...]:
    """Built-in attacks for a threat model, cheap ones first.

    One gradient step; ten; then the members of AutoAttack (Croce & Hein 2020, https://arxiv.org/abs/2003.01690):
    Auto-PGD on the cross-entropy and on the targeted DLR loss, FAB aimed at every class, and Square for models that
    hide their gradients. With fewer than 4 classes, for which that loss is not defined, the margin takes its place.
    In l0 only FMN is at hand.

    Args:
        norm: of the threat model.
        classes: of the data.
    """
    if norm == "l0":
        return ("fmn",)
    targeted = "apgd:loss=dlr_targeted" if classes >= _DLR else "apgd:loss=margin"
    return ("fgsm", "pgd:steps=10", "apgd", targeted, "fab:aimed=true", "square")
