"""Minimum-norm attacks against the closed form on linear classifiers, and against foolbox on a trained network."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from robustkit.attacks.cw import CW
from robustkit.attacks.ddn import DDN
from robustkit.attacks.deepfool import DeepFool, linearised
from robustkit.attacks.fmn import FMN
from robustkit.attacks.nearest import Nearest, bisect, onto_ball
from robustkit.contracts import Norm, Threat
from robustkit.norms import distance, flat
from robustkit.params import UsageError
from robustkit.testing.yardstick import yardstick

Make = Callable[..., Any]
CASES = [
    (DDN(), "l2"),
    (FMN(), "linf"),
    (FMN(), "l2"),
    (FMN(), "l1"),
    (FMN(), "l0"),
    (DeepFool(), "linf"),
    (DeepFool(), "l2"),
    (CW(steps=100, binary_search_steps=6, initial_const=0.1, step_size=0.05), "l2"),
]
every = pytest.mark.parametrize(("attack", "norm"), CASES, ids=lambda v: v if isinstance(v, str) else type(v).__name__)


def reach(model: nn.Module, x: Tensor, x_adv: Tensor, y: Tensor, norm: Norm) -> Tensor:
    """(N,) distance, +inf where the prediction is still y."""
    with torch.no_grad():
        stands = model(x_adv).argmax(dim=1) == y
        return distance(x_adv, x, norm).masked_fill(stands, torch.inf)


@every
def test_on_a_linear_classifier_it_finds_the_margin(attack: Any, norm: Norm) -> None:
    ruler = yardstick(norm)
    far = reach(ruler.model, ruler.x, attack(ruler.model, ruler.x, ruler.y, ruler.threat(1.0)), ruler.y, norm)
    assert float(far.min()) >= 0.9999 * ruler.margin
    if norm == "l0":  # whole numbers: one value more is a third, and one sample of ten needs it
        assert float(far.median()) == ruler.margin
        assert float(far.max()) <= ruler.margin + 1
    else:
        assert float(far.max()) <= (1.03 if isinstance(attack, CW) else 1.01) * ruler.margin


def _theirs(attack: Any, norm: Norm) -> Any:
    attacks = pytest.importorskip("foolbox").attacks
    if isinstance(attack, FMN):
        name = {"linf": "LInf", "l2": "L2", "l1": "L1", "l0": "L0"}[norm]
        return getattr(attacks, f"{name}FMNAttack")(steps=attack.steps)
    if isinstance(attack, DeepFool):
        return {"linf": attacks.LinfDeepFoolAttack, "l2": attacks.L2DeepFoolAttack}[norm]()
    if isinstance(attack, CW):
        return attacks.L2CarliniWagnerAttack(
            steps=attack.steps,
            binary_search_steps=attack.binary_search_steps,
            initial_const=attack.initial_const,
            stepsize=attack.step_size,
        )
    return attacks.DDNAttack(steps=attack.steps)


@every
def test_median_distance_beside_foolbox(trained: Any, attack: Any, norm: Norm) -> None:
    foolbox = pytest.importorskip("foolbox")
    count = 40 if isinstance(attack, CW) else 100
    model, x, y = trained.model, trained.x[:count], trained.y[:count]
    ours = reach(model, x, attack(model, x, y, Threat(norm, 0.0)), y, norm)
    with torch.enable_grad():
        wrapped = foolbox.PyTorchModel(model, bounds=(0, 1), device="cpu")
        found = _theirs(attack, norm).run(wrapped, x, foolbox.criteria.Misclassification(y))
    theirs = reach(model, x, found, y, norm)
    assert bool(theirs.median().isfinite())
    assert float(ours.median()) <= 1.02 * float(theirs.median())
    assert int(ours.isinf().sum()) <= int(theirs.isinf().sum()) + 1


@every
def test_the_threat_s_radius_is_ignored(untrained: Make, attack: Any, norm: Norm) -> None:
    model, x, y = untrained((5, 1, 6, 6))
    assert torch.equal(attack(model, x, y, Threat(norm, 0.0)), attack(model, x, y, Threat(norm, 1.0)))


@pytest.mark.parametrize(("attack", "norm"), [c for c in CASES if hasattr(c[0], "targeted")], ids=str)
def test_targets_are_reached_on_a_short_way(trained: Any, attack: Any, norm: Norm) -> None:
    model, x, y = trained.model, trained.x[:40], trained.y[:40]
    given = {name: getattr(attack, name) for name in type(attack).__dataclass_fields__} | {"targeted": True}
    target = (y + 1) % 10
    x_adv = type(attack)(**given)(model, x, target, Threat(norm, 0.0))
    hit = model(x_adv).argmax(dim=1) == target
    assert float(hit.double().mean()) >= 0.75
    free = reach(model, x, attack(model, x, y, Threat(norm, 0.0)), y, norm)
    aimed = distance(x_adv, x, norm)[hit]
    assert float(aimed.median()) >= float(free.median())


def test_what_has_no_gradient_is_refused(trained: Any) -> None:
    class Rounded(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return torch.as_tensor(trained.model(x)).detach()

    for attack, norm in CASES:
        with pytest.raises(UsageError, match="no gradient"):
            attack(Rounded(), trained.x[:3], trained.y[:3], Threat(norm, 1.0))


@pytest.mark.parametrize("norm", ["linf", "l2", "l1", "l0"])
def test_projection_onto_balls_of_a_radius_each(norm: Norm) -> None:
    """Inside, and no other point of the ball is nearer: checked with the ball's own points in many directions."""
    torch.manual_seed(0)
    delta = torch.randn(7, 2, 3, 3, dtype=torch.float64)
    radius = torch.tensor([0.0, 0.5, 1.0, 2.0, 3.0, 5.0, 100.0], dtype=torch.float64)
    found = onto_ball(delta, radius, norm)
    whole = radius.floor() if norm == "l0" else radius
    assert bool((distance(found, torch.zeros_like(found), norm) <= whole + 1e-12).all())
    assert torch.equal(found[-1], delta[-1])
    missed = flat(delta - found).norm(dim=1)
    for _ in range(300):
        other = onto_ball(found + 0.3 * torch.randn_like(found) * torch.rand(()), radius, norm)
        assert bool((flat(delta - other).norm(dim=1) >= missed - 1e-12).all())


def test_bisection_ends_at_the_boundary_and_keeps_the_nearest(linear: Make) -> None:
    model, x, y = linear(classes=2, dtype=torch.float64)
    weight = model[1].weight
    gain = torch.where((y == 0)[:, None], weight[1] - weight[0], weight[0] - weight[1]).reshape(x.shape)
    gap = (model(x).gather(1, y[:, None]) - model(x).gather(1, 1 - y[:, None])).squeeze(1)
    exact = gap / flat(gain).norm(dim=1)
    step = 1.9 * gap / flat(gain).square().sum(dim=1)
    points = x + gain * step.reshape(-1, 1, 1, 1)
    nearest = Nearest(x, "l2")
    fell = (model(points).argmax(dim=1) != y) & ((points >= 0) & (points <= 1)).flatten(1).all(dim=1)
    assert int(fell.sum()) >= 5
    nearest.note(points, fell)
    found = bisect(model, x, y, nearest, targeted=False)
    ratio = (distance(found, x, "l2") / exact)[fell]
    assert float(ratio.min()) >= 1
    assert float(ratio.max()) <= 1.01
    assert torch.equal(found[~fell], x[~fell])


def test_linearised_is_the_jacobian(untrained: Make) -> None:
    model, x, y = untrained((4, 2, 5, 5), dtype=torch.float64)
    lead, slopes, logits = linearised(model, x, y, 9)
    assert lead.shape == (4, 4)
    assert bool((lead[:, :-1] <= lead[:, 1:]).all())
    jacobian = torch.func.vmap(torch.func.jacrev(lambda z: model(z[None])[0]))(x)  # (N, K, C, H, W)
    order = logits.scatter(1, y[:, None], -torch.inf).argsort(dim=1, descending=True)[:, :4]
    for sample in range(4):
        expected = jacobian[sample, order[sample]] - jacobian[sample, y[sample]]
        assert torch.allclose(slopes[:, sample], expected)
