"""union_at against the objectives of Tramèr & Boneh 2019 written out, and against their wrong variants."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from robustkit.attacks.pgd import PGD
from robustkit.contracts import Data, Norm, Recipe, Threat, Training
from robustkit.defenses.pgd_at import PGDAT
from robustkit.defenses.union_at import UnionAT, _Union
from robustkit.norms import random_start
from robustkit.params import ParamError, UsageError
from robustkit.testing import small
from robustkit.training.perturbation import Perturbation
from robustkit.training.radii import Radii
from tests.defenses.conftest import RADII, Objective, by_hand, difference, onto_ball, steepest, trained


def union(combine: str, wrong: str = "") -> Objective:
    def attack(model: nn.Module, x: Tensor, y: Tensor, norm: Norm) -> Tensor:
        eps = RADII[norm]
        point = random_start(x, Threat(norm, eps))
        for _ in range(2):
            at = point.detach().requires_grad_()
            (gradient,) = torch.autograd.grad(F.cross_entropy(model(at), y), at)
            point = onto_ball(at.detach() + 1.25 * eps * steepest(gradient, norm), x, norm)
        return point

    def objective(model: nn.Module, x: Tensor, y: Tensor) -> Tensor:
        model.eval()
        points = [attack(model, x, y, norm) for norm in ("linf", "l2")]
        if combine == "max":
            with torch.no_grad():
                losses = torch.stack([F.cross_entropy(model(point), y, reduction="none") for point in points])
            chosen = losses.argmin(dim=0) if wrong == "least" else losses.argmax(dim=0)
            points = [torch.stack(points)[chosen, torch.arange(len(x))]]
        model.train()
        return F.cross_entropy(model(torch.cat(points)), y.repeat(len(points)))

    return objective


@pytest.mark.parametrize("combine", ["max", "average"])
def test_it_is_the_papers_objective(combine: str, net: nn.Module, bars: Data) -> None:
    found = trained(UnionAT(l2=RADII["l2"], steps=2, combine=combine), net, bars)  # type: ignore[arg-type]
    assert difference(found, by_hand(net, bars, union(combine))) < 1e-5
    assert difference(found, by_hand(net, bars, union("average" if combine == "max" else "max"))) > 3e-4


def test_a_wrong_choice_would_be_noticed(net: nn.Module, bars: Data) -> None:
    found = trained(UnionAT(l2=RADII["l2"], steps=2), net, bars)
    assert difference(found, by_hand(net, bars, union("max", "least"))) > 1e-4


@pytest.fixture
def point(net: nn.Module, bars: Data) -> tuple[nn.Module, Tensor, Tensor]:
    x, y = bars.train.batch(torch.arange(32))
    return net.eval(), x, y


INNER = Perturbation(start="clean", steps=2, step_size=1.25)
BALLS = (Threat("linf", 0.05), Threat("l2", 0.4), Threat("l1", 2.0))


def test_of_each_image_the_worst_example_is_taken(point: tuple[nn.Module, Tensor, Tensor]) -> None:
    model, x, y = point
    found = _Union(INNER, BALLS, "max").examples(model, x, y, BALLS[0], {})
    each = [INNER(model, x, y, ball) for ball in BALLS]

    def loss(z: Tensor) -> Tensor:
        return F.cross_entropy(model(z), y, reduction="none").detach()

    losses = torch.stack([loss(z) for z in each])
    assert torch.allclose(loss(found), losses.amax(dim=0), atol=1e-6)
    assert bool((losses.amax(dim=0) > losses[0] + 1e-4).any())  # another ball than the first is worst for some
    for k in range(len(x)):
        assert any(torch.equal(found[k], z[k]) for z in each)


def test_the_average_trains_on_all_examples_alike(point: tuple[nn.Module, Tensor, Tensor]) -> None:
    model, x, y = point
    method = _Union(INNER, BALLS, "average")
    found = method.examples(model, x, y, BALLS[0], {})
    each = [INNER(model, x, y, ball) for ball in BALLS]
    assert torch.equal(found, torch.cat(each))
    expected = torch.stack([F.cross_entropy(model(z), y) for z in each]).mean()
    assert float(method.loss(model, found, x, y).detach()) == pytest.approx(float(expected.detach()), rel=1e-5)


def test_all_radii_shrink_with_the_threat_models(point: tuple[nn.Module, Tensor, Tensor]) -> None:
    model, x, y = point
    method = _Union(INNER, BALLS, "average")
    for now in (Threat("linf", 0.025), Radii("linf", 0.05, torch.full((32,), 0.5))):
        for ball, z in zip(BALLS, method.examples(model, x, y, now, {}).chunk(3), strict=True):
            length = torch.linalg.vector_norm(
                (z - x).flatten(1), ord={"linf": float("inf"), "l2": 2, "l1": 1}[ball.norm], dim=1
            )
            assert float(length.max()) <= 0.5 * ball.eps * (1 + 1e-4)
            assert float(length.max()) > 0.45 * ball.eps


def test_it_withstands_the_other_norm_better_than_training_on_one() -> None:
    data, recipe = small.data(), Recipe(epochs=8, batch_size=50, optimizer="adam", lr=0.01, weight_decay=0.0)
    other = Threat("l2", 2.0)
    robust = {}
    for name, defense in (("one", PGDAT(steps=3)), ("both", UnionAT(l2=2.0, steps=3))):
        training = Training(threat=Threat("linf", 0.02), recipe=recipe, seed=1, precision="fp32")
        model = defense(small.untrained(), data, training)
        x, y = small.whole(data.test)
        x_adv = PGD(steps=20)(model, x, y, other)
        with torch.no_grad():
            robust[name] = float((model(x_adv).argmax(dim=1) == y).float().mean())
    assert robust["both"] >= robust["one"] + 0.1


def test_mistakes_are_told(net: nn.Module, bars: Data) -> None:
    with pytest.raises(ParamError, match="needs the radius of another ball"):
        UnionAT()
    with pytest.raises(ParamError, match="l2=-1"):
        UnionAT(l2=-1.0)
    with pytest.raises(UsageError, match="is in the norm of the threat model"):
        trained(UnionAT(linf=0.1), net, bars)
    with pytest.raises(UsageError, match="8/255"):
        trained(UnionAT(linf=8.0), net, bars, "l2")
