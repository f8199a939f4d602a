"""Auto-PGD: its losses, restarts and targets, and beside the authors' own code on the same trained network."""

from __future__ import annotations

import warnings
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from robustkit.attacks.apgd import APGD, likeliest_wrong
from robustkit.attacks.pgd import PGD
from robustkit.contracts import Norm, Threat
from robustkit.norms import distance
from robustkit.params import ParamError, UsageError

EPS: dict[Norm, float] = {"linf": 0.08, "l2": 1.2, "l1": 8.0}
TOLERANCE = 0.0151  # three samples of 200: both draw a random start


def standing(model: nn.Module, x: Tensor, y: Tensor) -> Tensor:
    with torch.no_grad():
        return torch.as_tensor(model(x).argmax(dim=1) == y)


@pytest.mark.parametrize("loss", ["cross_entropy", "dlr", "dlr_targeted"])
@pytest.mark.parametrize("norm", ["linf", "l2", "l1"])
def test_not_weaker_than_the_authors_code(trained: Any, norm: Norm, loss: str) -> None:
    pytest.importorskip("pyautoattack")
    from pyautoattack.autopgd_base import APGDAttack, APGDAttack_targeted

    steps, classes, count = (30, 3, 100) if loss == "dlr_targeted" else (50, 9, 200)
    x, y = trained.x[:count], trained.y[:count]
    given = {"n_iter": steps, "norm": {"linf": "Linf", "l2": "L2", "l1": "L1"}[norm], "n_restarts": 1, "seed": 0}
    given |= {"eps": EPS[norm], "device": "cpu", "use_largereps": norm == "l1"}
    with torch.random.fork_rng(devices=[]), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        if loss == "dlr_targeted":
            theirs = APGDAttack_targeted(trained.model, n_target_classes=classes, **given).perturb(x, y)
        else:
            short = {"cross_entropy": "ce", "dlr": "dlr"}[loss]
            theirs = APGDAttack(trained.model, loss=short, **given).perturb(x, y)
        torch.manual_seed(0)
        ours = APGD(steps=steps, loss=loss, classes=classes)(trained.model, x, y, Threat(norm, EPS[norm]))  # type: ignore[arg-type]
    theirs = (theirs[1] if isinstance(theirs, tuple) else theirs).detach()
    robust = standing(trained.model, theirs, y).double().mean()
    assert 0.05 <= robust <= 0.95
    assert standing(trained.model, ours, y).double().mean() <= robust + (2 if count == 100 else 1) * TOLERANCE
    assert float(distance(theirs, x, norm).max()) <= 1.001 * EPS[norm]


@pytest.mark.parametrize("norm", ["linf", "l2", "l1"])
def test_it_beats_pgd_of_as_many_passes(trained: Any, norm: Norm) -> None:
    torch.manual_seed(0)
    threat = Threat(norm, EPS[norm])
    ours, plain = (
        standing(trained.model, attack(trained.model, trained.x, trained.y, threat), trained.y).double().mean()
        for attack in (APGD(steps=50), PGD(steps=50))
    )
    assert ours <= plain + 0.0051


def test_restarts_and_targets_go_on_with_what_stands(trained: Any) -> None:
    counts: list[int] = []
    handle = trained.model.register_forward_pre_hook(lambda module, args: counts.append(len(args[0])))
    try:
        torch.manual_seed(0)
        attack = APGD(steps=5, loss="dlr_targeted", classes=3, restarts=2)
        x_adv = attack(trained.model, trained.x, trained.y, Threat("linf", 0.08))
    finally:
        handle.remove()
    assert counts[:2] == [200, 200]  # to choose the targets; the first pass
    assert counts == sorted(counts, reverse=True)
    assert len(counts) == 1 + 3 * 2 * 6
    assert counts[-1] >= int(standing(trained.model, x_adv, trained.y).sum())
    assert counts[-1] < 200


def test_targets_are_the_likeliest_wrong_classes(trained: Any) -> None:
    found = likeliest_wrong(trained.model, trained.x, trained.y, 4)
    assert found.shape == (200, 4)
    assert not bool((found == trained.y[:, None]).any())
    logits = trained.model(trained.x).gather(1, found)
    assert bool((logits[:, :-1] >= logits[:, 1:]).all())
    assert likeliest_wrong(trained.model, trained.x, trained.y, 50).shape == (200, 9)


def test_few_classes() -> None:
    torch.manual_seed(0)
    model, x = nn.Sequential(nn.Flatten(), nn.Linear(16, 3)), torch.rand(4, 1, 4, 4)
    y = model(x).argmax(dim=1)
    with pytest.raises(UsageError, match="dlr_targeted needs at least 4 classes, the model has 3"):
        APGD(loss="dlr_targeted")(model, x, y, Threat("linf", 0.1))
    assert APGD(loss="dlr", steps=3)(model, x, y, Threat("linf", 0.1)).shape == x.shape
    with pytest.raises(ParamError, match="chooses its targets itself"):
        APGD(loss="dlr_targeted", targeted=True)


@pytest.mark.parametrize("loss", ["cross_entropy", "dlr_targeted"])
def test_polish_keeps_what_fell_and_costs_a_tenth(trained: Any, loss: Any) -> None:
    x, y, threat = trained.x[:60], trained.y[:60], Threat("linf", 0.08)
    attack = APGD(steps=50, loss=loss, classes=2)
    torch.manual_seed(0)
    found = attack(trained.model, x, y, threat)
    counts: list[int] = []
    handle = trained.model.register_forward_pre_hook(lambda module, args: counts.append(len(args[0])))
    try:
        better = attack.polish(trained.model, x, found, y, threat)
    finally:
        handle.remove()
    assert len(counts) <= 6
    before, after = standing(trained.model, found, y), standing(trained.model, better, y)
    assert bool((after <= before).all())
    assert torch.equal(better[~before], found[~before])
