"""Adversarial training by cross-entropy, single-step and with PGD, against the same training written out by hand."""

from __future__ import annotations

import copy
from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from robustkit.contracts import Data, Recipe, Threat, Training
from robustkit.defenses.fast_at import FastAT
from robustkit.defenses.fgsm_at import FGSMAT
from robustkit.defenses.nfgsm import NFGSM
from robustkit.defenses.pgd_at import PGDAT
from robustkit.defenses.rfgsm_at import RFGSMAT
from robustkit.params import ParamError, UsageError
from robustkit.training.batches import Batches
from robustkit.training.seeds import reseed, stream

EPS = 0.1
RECIPE = Recipe(epochs=2, batch_size=16, lr=0.05, schedule="constant", momentum=0.0, weight_decay=0.0)
Inner = Callable[[Callable[[Tensor], Tensor], Tensor], Tensor]


def by_hand(model: nn.Module, data: Data, inner: Inner, *, share: float = 0.0, frozen_statistics: bool = True) -> None:
    batches = Batches(data.train, RECIPE, torch.device("cpu"), seed=0)
    optimizer = torch.optim.SGD(model.parameters(), lr=RECIPE.lr)
    with torch.random.fork_rng(devices=[]):
        for epoch in range(RECIPE.epochs):
            reseed(torch.device("cpu"), stream(0, epoch, "perturbations"))
            for x, y in batches.epoch(epoch):

                def direction(point: Tensor, y: Tensor = y) -> Tensor:
                    point = point.clone().requires_grad_()
                    (gradient,) = torch.autograd.grad(F.cross_entropy(model(point), y), point)
                    return gradient.sign()

                model.train(not frozen_statistics)
                x_adv = inner(direction, x)
                model.train()
                both = model(torch.cat([x_adv, x]) if share else x_adv)
                loss = (1 - share) * F.cross_entropy(both[:16], y)
                if share:
                    loss = loss + share * F.cross_entropy(both[16:], y)
                optimizer.zero_grad()
                loss.backward()
                optimizer.step()


def clip(point: Tensor, x: Tensor) -> Tensor:
    return torch.minimum(torch.maximum(point, x - EPS), x + EPS).clamp(0, 1)


def fgsm(direction: Callable[[Tensor], Tensor], x: Tensor) -> Tensor:
    return clip(x + EPS * direction(x), x)


def rfgsm(direction: Callable[[Tensor], Tensor], x: Tensor) -> Tensor:
    start = (x + 0.5 * EPS * torch.randn_like(x).sign()).clamp(0, 1)
    return clip(start + 0.5 * EPS * direction(start), x)


def fast(direction: Callable[[Tensor], Tensor], x: Tensor, alpha: float = 1.25) -> Tensor:
    start = (x + torch.empty_like(x).uniform_(-EPS, EPS)).clamp(0, 1)
    return clip(start + alpha * EPS * direction(start), x)


def nfgsm(direction: Callable[[Tensor], Tensor], x: Tensor, noise: float = 2.0, inside: bool = False) -> Tensor:
    start = (x + torch.empty_like(x).uniform_(-noise * EPS, noise * EPS)).clamp(0, 1)
    point = (start + EPS * direction(start)).clamp(0, 1)
    return clip(point, x) if inside else point


def pgd(direction: Callable[[Tensor], Tensor], x: Tensor, steps: int = 3, start: bool = True) -> Tensor:
    point = (x + torch.empty_like(x).uniform_(-EPS, EPS)).clamp(0, 1) if start else x
    for _ in range(steps):
        point = clip(point + 2.5 / 3 * EPS * direction(point), x)
    return point


def difference(a: nn.Module, b: nn.Module) -> float:
    pairs = zip(a.state_dict().values(), b.state_dict().values(), strict=True)
    return max(float((one.double() - other.double()).abs().max()) for one, other in pairs)


def trained(defense: object, model: nn.Module, data: Data) -> nn.Module:
    training = Training(threat=data.threat, recipe=RECIPE, precision="fp32")
    return defense(model, data, training)  # type: ignore[operator, no-any-return]


@pytest.mark.parametrize(
    ("defense", "inner", "share"),
    [
        (FGSMAT(), fgsm, 0.0),
        (FGSMAT(clean_share=0.5), fgsm, 0.5),
        (RFGSMAT(), rfgsm, 0.0),
        (FastAT(), fast, 0.0),
        (FastAT(clean_share=0.5), fast, 0.5),
        (NFGSM(), nfgsm, 0.0),
        (NFGSM(clean_share=0.5), nfgsm, 0.5),
        (PGDAT(steps=3), pgd, 0.0),
        (PGDAT(steps=3, clean_share=0.25), pgd, 0.25),
    ],
    ids=["fgsm", "fgsm-half", "rfgsm", "fast", "fast-half", "nfgsm", "nfgsm-half", "pgd", "pgd-quarter"],
)
def test_it_is_the_training_written_out(
    defense: object, inner: Inner, share: float, net: nn.Module, bars: Data
) -> None:
    expected, start = copy.deepcopy(net), copy.deepcopy(net)
    by_hand(expected, bars, inner, share=share)
    found = trained(defense, net, bars)
    assert difference(found, expected) < 1e-5
    assert difference(found, start) > 1e-2


@pytest.mark.parametrize(
    ("defense", "wrong", "frozen"),
    [
        (PGDAT(steps=3), lambda d, x: pgd(d, x, steps=2), True),
        (PGDAT(steps=3), lambda d, x: pgd(d, x, start=False), True),
        (PGDAT(steps=3), fgsm, True),
        (PGDAT(steps=3), pgd, False),  # statistics of BatchNorm moved by the inner attack
        (FastAT(), fgsm, True),  # no random start
        (FastAT(), lambda d, x: fast(d, x, alpha=1.0), True),
        (FastAT(), fast, False),
        (NFGSM(), lambda d, x: nfgsm(d, x, inside=True), True),
        (NFGSM(), lambda d, x: nfgsm(d, x, noise=1.0), True),
        (NFGSM(), nfgsm, False),
    ],
    ids=[
        "pgd-steps",
        "pgd-start",
        "pgd-fgsm",
        "pgd-train-mode",
        "fast-start",
        "fast-alpha",
        "fast-train-mode",
        "nfgsm-clipped",
        "nfgsm-noise",
        "nfgsm-train-mode",
    ],
)
def test_a_wrong_inner_attack_would_be_noticed(
    defense: object, wrong: Inner, frozen: bool, net: nn.Module, bars: Data
) -> None:
    expected = copy.deepcopy(net)
    by_hand(expected, bars, wrong, frozen_statistics=frozen)
    assert difference(trained(defense, net, bars), expected) > 1e-4


@pytest.mark.parametrize("defense", [FGSMAT(), RFGSMAT(), FastAT(), NFGSM(), PGDAT()], ids=repr)
@pytest.mark.parametrize(("norm", "eps"), [("l2", 0.5), ("l1", 2.0)])
def test_other_norms_train(defense: object, norm: str, eps: float, net: nn.Module, bars: Data) -> None:
    training = Training(threat=Threat(norm, eps), recipe=RECIPE, precision="fp32")  # type: ignore[arg-type]
    found = defense(net, bars, training)  # type: ignore[operator]
    assert all(bool(torch.isfinite(value).all()) for value in found.state_dict().values())


def test_a_norm_without_gradient_steps_is_refused(net: nn.Module, bars: Data) -> None:
    training = Training(threat=Threat("l0", 5), recipe=RECIPE, precision="fp32")
    with pytest.raises(UsageError, match="norm=l0"):
        PGDAT()(net, bars, training)


def test_all_clean_is_ordinary_training(net: nn.Module, bars: Data) -> None:
    from robustkit.defenses.standard import Standard

    other = copy.deepcopy(net)
    one = trained(PGDAT(clean_share=1.0), net, bars)
    assert difference(one, trained(Standard(), other, bars)) == 0


@pytest.mark.parametrize("given", [{"steps": 0}, {"clean_share": 1.5}, {"step_size": -0.1}])
def test_parameters_are_checked(given: dict[str, float]) -> None:
    with pytest.raises(ParamError, match=next(iter(given))):
        PGDAT(**given)  # type: ignore[arg-type]
