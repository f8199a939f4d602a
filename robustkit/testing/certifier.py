"""Checks of certifiers: the contract, and that no radius exceeds the exact one of a linear model."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from typing import TYPE_CHECKING, cast

import torch

from robustkit.contracts import ABSTAIN, Certificate, Norm
from robustkit.hookspecs import CertifierEntry
from robustkit.testing.subject import Part, Subject, seed_all, silence_required
from robustkit.testing.yardstick import images, labels, network, yardstick

if TYPE_CHECKING:
    from torch import Tensor, nn


def parts(subject: Subject) -> Iterator[Part]:
    for norm in sorted(cast(CertifierEntry, subject.entry).norms):
        yield Part("linear_radius", partial(_linear_radius, subject, norm), norm)
    for name, body in (
        ("certificate", _certificate),
        ("inputs_untouched", _inputs_untouched),
        ("same_seed", _same_seed),
        ("silent", _silent),
    ):
        yield Part(name, partial(body, subject))


def _certify(subject: Subject, model: nn.Module, x: Tensor, y: Tensor) -> Certificate:
    certifier = subject.build()
    seed_all(0)
    with torch.no_grad():
        result = certifier(model, x, y)
    assert isinstance(result, Certificate), f"it returned a {type(result).__name__}, not a Certificate"
    return result


def _linear_radius(subject: Subject, norm: Norm) -> None:
    """The radius of a linear model is known: a larger one is a false promise."""
    ruler = yardstick(norm)
    found = _certify(subject, ruler.model, ruler.x, ruler.y)
    if found.norm != norm:
        return  # a certifier of several norms chooses by its parameters
    right = found.prediction == ruler.y
    largest = float(torch.where(right, found.radius.double(), 0.0).max())
    assert largest <= ruler.margin * (1 + 1e-4), f"radius {largest:.4g}, though {ruler.margin:.4g} is exact"


def _certificate(subject: Subject) -> None:
    entry = cast(CertifierEntry, subject.entry)
    for samples in (1, 4):
        model, x = network(), images(samples)
        found = _certify(subject, model, x, labels(model, x))
        assert found.prediction.shape == (samples,), f"prediction of shape {tuple(found.prediction.shape)}"
        assert found.prediction.dtype == torch.int64, f"prediction in {found.prediction.dtype}"
        assert found.radius.shape == (samples,), f"radius of shape {tuple(found.radius.shape)}"
        assert found.radius.dtype == torch.float64, f"radius in {found.radius.dtype}; use float64"
        assert bool((found.radius >= 0).all()), "a negative or undefined radius"
        promised = found.radius[found.prediction == ABSTAIN]
        assert not bool(promised.any()), "a radius where it abstains"
        assert found.norm in entry.norms, f"norm {found.norm}, of which the entry says nothing"
        assert found.guarantee.strip(), "no guarantee; say in a sentence what is promised"
        for name, column in found.counts.items():
            assert column.shape == (samples,), f"count {name!r} of shape {tuple(column.shape)}"


def _inputs_untouched(subject: Subject) -> None:
    model, x = network(), images()
    y = labels(model, x)
    kept = x.clone(), y.clone()
    _certify(subject, model, x, y)
    assert torch.equal(x, kept[0]), "x was changed in place"
    assert torch.equal(y, kept[1]), "y was changed in place"


def _same_seed(subject: Subject) -> None:
    model, x = network(), images()
    y = labels(model, x)
    first, again = _certify(subject, model, x, y), _certify(subject, model, x, y)
    assert torch.equal(first.radius, again.radius), "the same seed gives other radii"
    assert torch.equal(first.prediction, again.prediction), "the same seed gives other predictions"


def _silent(subject: Subject) -> None:
    model, x = network(), images()
    y = labels(model, x)
    with silence_required():
        _certify(subject, model, x, y)
