"""Checks of defenses: what comes back is a network that classifies, repeatably, and hides nothing unsaid."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from typing import cast

import torch
from torch import nn

from robustkit.hookspecs import DefenseEntry
from robustkit.testing import small
from robustkit.testing.subject import Part, Subject, seed_all, silence_required


def parts(subject: Subject) -> Iterator[Part]:
    for name, body in (
        ("network", _network),
        ("classifies", _classifies),
        ("gradient", _gradient),
        ("same_seed", _same_seed),
        ("data_untouched", _data_untouched),
        ("silent", _silent),
    ):
        yield Part(name, partial(body, subject))


def _defend(subject: Subject) -> nn.Module:
    """Trains from scratch, or wraps a trained network, as the host would."""
    entry = cast(DefenseEntry, subject.entry)
    model = small.untrained() if entry.trains else small.trained()
    defense = subject.build()
    seed_all(0)
    with torch.enable_grad():
        result = defense(model, small.data(), small.training())
    assert isinstance(result, nn.Module), f"it returned a {type(result).__name__}, not a network"
    return result.eval()


def _network(subject: Subject) -> None:
    model = _defend(subject)
    for samples in (1, 4):
        x, _ = small.data().test.batch(torch.arange(samples))
        with torch.no_grad():
            logits = model(x)
        assert logits.shape == (samples, len(small.data().classes)), f"logits of shape {tuple(logits.shape)}"
        assert logits.dtype == torch.float32, f"logits in {logits.dtype}"
        assert bool(torch.isfinite(logits).all()), "logits that are not finite"
    assert all(p.device.type == "cpu" for p in model.parameters()), "the network left its device"


def _classifies(subject: Subject) -> None:
    correct = small.accuracy(_defend(subject), small.data().test)
    assert correct >= 0.3, f"accuracy {correct:.2f} on ten easy classes, where 0.1 is chance"


def _gradient(subject: Subject) -> None:
    """Unless the entry says that it obfuscates, the output is repeatable and has a gradient."""
    if cast(DefenseEntry, subject.entry).obfuscates:
        return
    model = _defend(subject)
    x, y = small.data().test.batch(torch.arange(8))
    x.requires_grad_()
    with torch.enable_grad():
        logits = model(x)
        assert logits.requires_grad, "no gradient flows through it; declare obfuscates=True"
        (gradient,) = torch.autograd.grad(nn.functional.cross_entropy(logits, y), x)
        again = model(x)
    assert bool((gradient.flatten(1).abs().sum(dim=1) > 0).any()), "the gradient is 0; declare obfuscates=True"
    assert torch.equal(logits, again), "two passes differ; declare obfuscates=True"


def _same_seed(subject: Subject) -> None:
    first, again = _defend(subject).state_dict(), _defend(subject).state_dict()
    assert first.keys() == again.keys(), "other parameters at the second run"
    different = [name for name in first if not torch.equal(first[name], again[name])]
    assert not different, f"the same seed gives other weights: {', '.join(different[:5])}"


def _data_untouched(subject: Subject) -> None:
    data, entry = small.data(), cast(DefenseEntry, subject.entry)
    before = small.whole(data.train)
    kept = before[0].clone(), before[1].clone()
    seed_all(0)
    with torch.enable_grad():
        subject.build()(small.untrained() if entry.trains else small.trained(), data, small.training())
    after = small.whole(data.train)
    assert torch.equal(after[0], kept[0]), "the training images were changed in place"
    assert torch.equal(after[1], kept[1]), "the labels were changed in place"


def _silent(subject: Subject) -> None:
    with silence_required():
        _defend(subject)
