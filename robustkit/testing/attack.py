"""Checks of attacks: ball and box, exact optima of a linear model, and manners."""

from __future__ import annotations

import math
import random
from collections.abc import Iterator
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Any, cast

import numpy as np
import torch

from robustkit.contracts import Norm, Threat
from robustkit.engine.evaluate import attack_block
from robustkit.hookspecs import AttackEntry
from robustkit.norms import distance
from robustkit.testing.subject import Part, Subject, alike, in_box, seed_all, silence_required
from robustkit.testing.yardstick import Yardstick, images, labels, network, yardstick

if TYPE_CHECKING:
    from torch import Tensor, nn

_USUAL: dict[Norm, float] = {"linf": 0.05, "l2": 0.5, "l1": 4.0, "l0": 12.0}
_REACH = 20.0
"""Attacks that see no gradient must fool at least one sample of the linear model at this many margins."""


def parts(subject: Subject) -> Iterator[Part]:
    entry = cast(AttackEntry, subject.entry)
    norms = sorted(entry.norms)
    for norm in norms:
        yield Part("ball_and_box", partial(_ball_and_box, subject, norm), norm)
        if entry.knowledge == "white-box":
            yield Part("linear_optimum", partial(_linear_optimum, subject, norm), norm)
            if entry.targeted:
                yield Part("linear_target", partial(_linear_target, subject, norm), norm)
        else:
            yield Part("linear_reach", partial(_linear_reach, subject, norm), norm)
    first: Norm = norms[0] if norms else "linf"
    if not norms:
        yield Part("box", partial(_ball_and_box, subject, None))
    for name, body in (
        ("shape_and_dtype", _shape_and_dtype),
        ("batch_of_one", _batch_of_one),
        ("float64", _float64),
        ("inputs_untouched", _inputs_untouched),
        ("same_seed", _same_seed),
        ("silent", _silent),
        ("host_empty_batch", _host_empty_batch),
        ("host_no_grad", _host_no_grad),
        ("host_restores", _host_restores),
    ):
        yield Part(name, partial(body, subject, first))
    if entry.deterministic:
        yield Part("split_independence", partial(_split_independence, subject, first))


def call(attack: Any, model: nn.Module, x: Tensor, y: Tensor, threat: Threat, seed: int = 0) -> Tensor:
    """Call the attack as the host's guard would: seeded, with gradients, the model in eval mode."""
    seed_all(seed)
    with torch.enable_grad():
        result = _on(attack, model)(model, x, y, threat)
    assert isinstance(result, torch.Tensor), f"it returned a {type(result).__name__}, not a tensor"
    return result.detach()


def _on(attack: Any, model: nn.Module) -> Any:
    """One that makes its examples on another network makes them on the attacked one here."""
    return attack.on(model) if hasattr(attack, "on") else attack


def _usual(norm: Norm) -> Threat:
    return Threat(norm, _USUAL[norm])


def _ball_and_box(subject: Subject, norm: Norm | None) -> None:
    entry = cast(AttackEntry, subject.entry)
    model, x = network(), images()
    y = labels(model, x)
    threat = _usual(norm or "linf")
    x_adv = call(subject.build(), model, x, y, threat)
    alike(x_adv, x, "result")
    in_box(x_adv, "result")
    if norm is not None and entry.goal == "budget":
        far = float(distance(x_adv, x, norm).max())
        assert far <= threat.allowance, f"{norm} distance {far:.6g} leaves the ball of {threat.eps:g}"


def _adversarial(ruler: Yardstick, x_adv: Tensor) -> Tensor:
    """(N,) bool: the model's prediction has changed."""
    return labels(ruler.model, x_adv.to(ruler.x.dtype)) != ruler.y


def _linear_optimum(subject: Subject, norm: Norm) -> None:
    entry = cast(AttackEntry, subject.entry)
    ruler = yardstick(norm)
    n = len(ruler.x)
    wide, narrow = _factors(ruler)
    x_adv = call(subject.build(), ruler.model, ruler.x, ruler.y, ruler.threat(wide))
    fallen = _adversarial(ruler, x_adv)
    if entry.goal == "minimal":
        far = distance(x_adv, ruler.x, norm) / ruler.margin  # (N,)
        assert bool(fallen.all()), f"{int(fallen.sum())} of {n} samples of a linear model fooled"
        worst = float(far.max())
        assert worst <= 1.05, f"distance {worst:.3f} x the margin of a linear model; at most 1.05 x is expected"
        assert float(far.min()) >= 0.999, "closer than the exact margin: the yardstick itself is wrong"
        return
    assert bool(fallen.all()), f"{int(fallen.sum())} of {n} samples fall at {wide:.3g} x the exact margin"
    x_adv = call(subject.build(), ruler.model, ruler.x, ruler.y, ruler.threat(narrow))
    fallen = _adversarial(ruler, x_adv)
    assert not bool(fallen.any()), f"{int(fallen.sum())} of {n} fall at {narrow:.3g} x the margin: out of the ball"


def _linear_target(subject: Subject, norm: Norm) -> None:
    entry = cast(AttackEntry, subject.entry)
    ruler = yardstick(norm)
    wide = 3.0 if entry.goal == "minimal" else _factors(ruler)[0]
    x_adv = call(subject.build(targeted=True), ruler.model, ruler.x, ruler.rival, ruler.threat(wide))
    hit = labels(ruler.model, x_adv) == ruler.rival
    assert bool(hit.all()), f"{int(hit.sum())} of {len(hit)} reach their target at {wide:.3g} x the exact margin"


def _linear_reach(subject: Subject, norm: Norm) -> None:
    ruler = yardstick(norm)
    factor = min(_REACH, 0.9 / ruler.margin) if norm == "linf" else _REACH
    threat = ruler.threat(factor)
    x_adv = call(subject.build(), ruler.model, ruler.x, ruler.y, threat)
    fallen = _adversarial(ruler, x_adv) & (distance(x_adv, ruler.x, norm) <= threat.allowance)
    assert bool(fallen.any()), f"no sample of a linear model falls within {factor:.3g} x its margin"


def _factors(ruler: Yardstick) -> tuple[float, float]:
    """1.05 and 0.95; l0 counts values, so there it is the count itself and one less."""
    return (1.0, (ruler.margin - 1) / ruler.margin) if ruler.norm == "l0" else (1.05, 0.95)


def _shape_and_dtype(subject: Subject, norm: Norm) -> None:
    model, x = network(), images()
    x_adv = call(subject.build(), model, x, labels(model, x), _usual(norm))
    _like(x_adv, x)


def _batch_of_one(subject: Subject, norm: Norm) -> None:
    model, x = network(), images(1)
    x_adv = call(subject.build(), model, x, labels(model, x), _usual(norm))
    _like(x_adv, x)


def _float64(subject: Subject, norm: Norm) -> None:
    model, x = network().double(), images().double()
    x_adv = call(subject.build(), model, x, labels(model, x), _usual(norm))
    _like(x_adv, x)
    assert next(model.parameters()).dtype == torch.float64, "the model was cast"


def _like(x_adv: Tensor, x: Tensor) -> None:
    alike(x_adv, x, "result")
    assert bool(torch.isfinite(x_adv).all()), "values that are not finite"


def _inputs_untouched(subject: Subject, norm: Norm) -> None:
    model, x = network(), images()
    y = labels(model, x)
    kept = x.clone(), y.clone()
    call(subject.build(), model, x, y, _usual(norm))
    assert torch.equal(x, kept[0]), "x was changed in place"
    assert torch.equal(y, kept[1]), "y was changed in place"
    assert not x.requires_grad, "x was left requiring a gradient"


def _same_seed(subject: Subject, norm: Norm) -> None:
    model, x = network(), images()
    y = labels(model, x)
    entry = cast(AttackEntry, subject.entry)
    first = call(subject.build(), model, x, y, _usual(norm), seed=3)
    again = call(subject.build(), model, x, y, _usual(norm), seed=4 if entry.deterministic else 3)
    what = "another seed, though the entry is deterministic" if entry.deterministic else "the same seed"
    assert torch.equal(first, again), f"a different result with {what}"


def _split_independence(subject: Subject, norm: Norm) -> None:
    model, x = network(), images(6)
    y = labels(model, x)
    attack = subject.build()
    whole = call(attack, model, x, y, _usual(norm))
    split = [call(attack, model, x[part], y[part], _usual(norm)) for part in (slice(0, 1), slice(1, 6))]
    far = float((whole - torch.cat(split)).abs().max())
    assert far <= 1e-4, f"results differ by {far:.3g} where the batch is split: samples affect one another"


def _silent(subject: Subject, norm: Norm) -> None:
    model, x = network(), images()
    y = labels(model, x)
    attack = subject.build()
    with silence_required():
        call(attack, model, x, y, _usual(norm))


def _block(subject: Subject, model: nn.Module, x: Tensor, y: Tensor, norm: Norm) -> Any:
    component = subject.component()
    return attack_block(
        model,
        replace(component, value=_on(component.value, model)),
        x,
        y,
        _usual(norm),
        seed=0,
        precision="fp32",
        batch_size=None,
        targets="least_likely",
        active=None,
    )


def _host_empty_batch(subject: Subject, norm: Norm) -> None:
    x = images(0)
    result = _block(subject, network(), x, torch.zeros(0, dtype=torch.int64), norm)
    assert result.x_adv.shape == x.shape, f"shape {tuple(result.x_adv.shape)}, not {tuple(x.shape)}"


def _host_no_grad(subject: Subject, norm: Norm) -> None:
    model, x = network(), images()
    with torch.no_grad():
        result = _block(subject, model, x, labels(model, x), norm)
        assert not torch.is_grad_enabled(), "gradients were switched on for the caller"
    _like(result.x_adv, x)


def _host_restores(subject: Subject, norm: Norm) -> None:
    model, x = network(), images()
    y = labels(model, x)
    model.train()
    model[1].eval()  # type: ignore[index]  # a frozen batch normalisation
    for index, parameter in enumerate(model.parameters()):
        parameter.requires_grad_(index != 0)
        parameter.grad = None if index == 1 else torch.full_like(parameter, 0.5)
    before = _state(model)
    _block(subject, model, x, y, norm)
    changed = [name for name, value in _state(model).items() if not _equal(before[name], value)]
    assert not changed, f"not as before the call: {', '.join(changed)}"


def _state(model: nn.Module) -> dict[str, Any]:
    """Everything that a call may not leave changed."""
    numpy_state: Any = np.random.get_state()  # noqa: NPY002 - wrapped libraries draw from the legacy generator
    state: dict[str, Any] = {f"{name}.training": m.training for name, m in model.named_modules()}
    for name, parameter in model.named_parameters():
        state[f"{name}.requires_grad"] = parameter.requires_grad
        state[f"{name}.grad"] = None if parameter.grad is None else parameter.grad.clone()
    state |= {name: value.clone() for name, value in model.state_dict().items()}
    state["torch's generator"] = torch.get_rng_state()
    state["numpy's generator"] = numpy_state[1].tolist()
    state["python's generator"] = random.getstate()
    state["default dtype"] = torch.get_default_dtype()
    state["gradients enabled"] = torch.is_grad_enabled()
    return state


def _equal(a: Any, b: Any) -> bool:
    if isinstance(a, torch.Tensor) and isinstance(b, torch.Tensor):
        return torch.equal(a, b)
    return type(a) is type(b) and bool(a == b or (isinstance(a, float) and math.isnan(a)))
