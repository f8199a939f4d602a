"""Threat models of a bench: from what was asked, and what the data set usually takes."""

from __future__ import annotations

from robustkit.contracts import Data, Norm, Threat
from robustkit.params import UsageError
from robustkit.pipeline.spec import BenchSpec


def threats_of(spec: BenchSpec, data: Data) -> tuple[Threat, ...]:
    """The threats of a bench, eps rising.

    Raises:
        UsageError: an eps is missing, out of range or given twice.
    """
    norm = spec.norm or data.threat.norm
    if not spec.eps and norm != data.threat.norm:
        raise UsageError(f"norm={norm} needs an eps; {data.name} usually takes {data.threat}")
    radii = spec.eps or (data.threat.eps,)
    if len(set(radii)) != len(radii):
        raise UsageError(f"eps={list(radii)} holds a value twice")
    single = {
        "cascade": spec.cascade,
        "budget": spec.budget is not None,
        "precision_points": spec.precision_points is not None,
    }
    for name, given in single.items():
        if given and len(radii) > 1:
            raise UsageError(f"{name} judges one eps; give a single one, or leave {name} off")
    return tuple(threat_of(norm, eps) for eps in sorted(radii))


def threat_of(norm: Norm, eps: float) -> Threat:
    """A threat; UsageError where its eps is out of range."""
    try:
        return Threat(norm, eps)
    except ValueError as error:
        raise UsageError(str(error)) from error


def train_eps(spec: BenchSpec, threats: tuple[Threat, ...], data: Data) -> float:
    """The radius that defenses train against: a curve is measured on models that were trained as usual."""
    if spec.train_eps is not None:
        return spec.train_eps
    usual = data.threat if data.threat.norm == threats[0].norm else None
    return usual.eps if usual is not None and len(threats) > 1 else threats[-1].eps
