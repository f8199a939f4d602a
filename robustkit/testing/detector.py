"""Checks of detectors: the contract of the verdict, and manners."""

from __future__ import annotations

import json
from collections.abc import Iterator
from functools import partial
from typing import cast

import torch

from robustkit.contracts import Verdict
from robustkit.hookspecs import DetectorEntry
from robustkit.testing import small
from robustkit.testing.subject import Part, Subject, in_box, seed_all, silence_required


def parts(subject: Subject) -> Iterator[Part]:
    for name, body in (("verdict", _verdict), ("same_seed", _same_seed), ("silent", _silent)):
        yield Part(name, partial(body, subject))


def _inspect(subject: Subject) -> Verdict:
    """Ask for a verdict, and see that neither the model nor the data is changed by it."""
    model, data = small.trained(), small.data()
    weights = {name: value.clone() for name, value in model.state_dict().items()}
    images = small.whole(data.train)[0].clone()
    detector = subject.build()
    seed_all(0)
    with torch.enable_grad():
        verdict = detector(model, data)
    assert isinstance(verdict, Verdict), f"it returned a {type(verdict).__name__}, not a Verdict"
    changed = [name for name, value in model.state_dict().items() if not torch.equal(value, weights[name])]
    assert not changed, f"the model's {', '.join(changed[:3])} changed"
    assert torch.equal(small.whole(data.train)[0], images), "the data were changed in place"
    return verdict


def _verdict(subject: Subject) -> None:
    verdict, entry = _inspect(subject), cast(DetectorEntry, subject.entry)
    score = torch.as_tensor(verdict.score)
    assert bool(torch.isfinite(score).all()), "a score that is not finite"
    if entry.scope == "model":
        assert score.ndim == 0, f"scope 'model' has one score, not {tuple(score.shape)}"
        assert isinstance(verdict.flagged, bool), f"flagged is a {type(verdict.flagged).__name__}, not a bool"
    else:
        assert score.ndim == 1, f"scope {entry.scope!r} has a score for each input, not {tuple(score.shape)}"
        flagged = torch.as_tensor(verdict.flagged)
        assert flagged.shape == score.shape, f"{tuple(flagged.shape)} flags for {tuple(score.shape)} scores"
        assert flagged.dtype == torch.bool, f"flagged is {flagged.dtype}, not bool"
    try:
        json.dumps([dict(row) for row in verdict.table], allow_nan=False)
    except (TypeError, ValueError) as error:
        raise AssertionError(f"the table holds more than plain values: {error}") from error
    for name, image in verdict.images.items():
        assert image.ndim in (3, 4), f"image {name!r} has shape {tuple(image.shape)}"
        in_box(image, f"image {name!r}")


def _same_seed(subject: Subject) -> None:
    first, again = _inspect(subject), _inspect(subject)
    same = torch.equal(torch.as_tensor(first.score), torch.as_tensor(again.score))
    assert same, "the same seed gives another score"


def _silent(subject: Subject) -> None:
    with silence_required():
        _inspect(subject)
