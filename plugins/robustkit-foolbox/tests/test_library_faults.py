"""What foolbox 3.3.4 does wrong, so that a release that mends it is noticed: each test fails on that day."""

from __future__ import annotations

import pytest
import torch
from robustkit_foolbox.bridge import attacks, budget, criterion, minimal, wrapped

from robustkit.contracts import Threat
from robustkit.norms import distance
from robustkit.params import UsageError
from robustkit.testing import yardstick


def test_newton_fool_returns_nan(subject) -> None:
    with wrapped(subject.model, subject.x) as network:
        found = attacks.NewtonFoolAttack(steps=20).run(network, subject.x.clone(), criterion(subject.y, False))
    assert bool(torch.isnan(found).any()), "mended: offer it"


def test_vat_at_its_own_xi_finds_no_direction() -> None:
    """A certain network: the divergence at 1e-6 is 0 in float32. The adapter says so instead of returning NaN."""
    from robustkit_foolbox.budget import VAT

    ruler = yardstick("l2")
    certain = torch.nn.Sequential(ruler.model, _Times(100.0)).eval()
    with pytest.raises(UsageError, match="raise xi"):
        VAT(xi=1e-6)(certain, ruler.x, ruler.y, ruler.threat(1.0))


class _Times(torch.nn.Module):
    def __init__(self, factor: float) -> None:
        super().__init__()
        self.factor = factor

    def forward(self, logits: torch.Tensor) -> torch.Tensor:
        return self.factor * logits


def test_fmn_in_l2_never_projects() -> None:
    ruler = yardstick("l2")
    x_adv = minimal(attacks.L2FMNAttack().run, ruler.model, ruler.x, ruler.y)
    assert float(distance(x_adv, ruler.x, "l2").min()) > 1.5 * ruler.margin, "mended: drop the entry's note"


def test_gradient_steps_in_l1_are_not_the_steepest() -> None:
    ruler = yardstick("l1")
    threat = ruler.threat(1.05)
    attack = attacks.L1ProjectedGradientDescentAttack(rel_stepsize=0.1, steps=100)
    x_adv = budget(attack, ruler.model, ruler.x, ruler.y, threat)
    with torch.no_grad():
        standing = ruler.model(x_adv).argmax(dim=1) == ruler.y
    assert bool(standing.all()), "mended: drop the entries' note"


def test_hop_skip_jump_scales_its_steps_by_the_batch(subject) -> None:
    """In l2 a gradient is divided by the norm of the batch's gradients: 16 equal samples move a quarter as far."""
    attack = attacks.HopSkipJumpAttack(steps=1, constraint="l2")
    gradients = {}
    for size in (1, 16):
        torch.manual_seed(0)
        x = subject.x[:1].expand(size, -1, -1, -1).contiguous()
        with wrapped(subject.model, x) as network:
            import eagerpy

            points = eagerpy.astensor(x)
            ones = eagerpy.astensor(torch.ones(size))
            found = attack.approximate_gradients(
                lambda p: eagerpy.astensor(network(p).raw.argmax(dim=1) != subject.y[0]), points, 50, 0.5 * ones
            )
        gradients[size] = float(found.raw[0].norm())
    assert gradients[1] == pytest.approx(1.0, abs=1e-3)
    assert gradients[16] < 0.5, "mended: attack batches"


def test_fgsm_refuses_targets(subject) -> None:
    with wrapped(subject.model, subject.x) as network, pytest.raises(ValueError, match="unsupported criterion"):
        attacks.LinfFastGradientAttack().run(network, subject.x, criterion(subject.y, True), epsilon=0.1)


def test_pgd_defaults_do_not_cross_the_ball() -> None:
    """40 steps of eps / 30 from the far side end at a third of eps."""
    ruler = yardstick("linf")
    threat = Threat("linf", 1.05 * ruler.margin)
    torch.manual_seed(0)
    x_adv = budget(attacks.LinfProjectedGradientDescentAttack(), ruler.model, ruler.x, ruler.y, threat)
    with torch.no_grad():
        fallen = ruler.model(x_adv).argmax(dim=1) != ruler.y
    assert not bool(fallen.any()), "mended: drop the entry's note"
