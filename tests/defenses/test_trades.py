"""trades against the paper's formulas written out as the reference does it: natural logits anew at every step."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from robustkit.contracts import Data, Norm
from robustkit.defenses.trades import TRADES, _Smooth
from robustkit.params import ParamError
from robustkit.training.perturbation import Perturbation
from tests.defenses.conftest import RADII, Objective, by_hand, difference, onto_ball, steepest, trained


def kl(p: Tensor, q: Tensor) -> Tensor:
    return (p * (p / q).log()).sum(dim=1).mean()


def trades(norm: Norm = "linf", wrong: str = "") -> Objective:
    beta, eps = (1.0 if wrong == "beta" else 6.0), RADII[norm]

    def objective(model: nn.Module, x: Tensor, y: Tensor) -> Tensor:
        model.train(wrong == "train mode")
        x_adv = x if wrong == "start" else (x + 0.001 * torch.randn_like(x)).clamp(0, 1)
        for _ in range(3):
            point = x_adv.detach().requires_grad_()
            q, p = model(point).softmax(dim=1), model(x).softmax(dim=1).detach()
            ascent = torch.nn.functional.cross_entropy(model(point), y) if wrong == "inner loss" else kl(p, q)
            (gradient,) = torch.autograd.grad(ascent, point)
            x_adv = onto_ball(x_adv + 2.26 / 3 * eps * steepest(gradient, norm), x, norm)
        model.train()
        logits = model(torch.cat([x_adv.detach(), x]))
        q, p = logits.softmax(dim=1).chunk(2)
        natural = -p.gather(1, y[:, None]).log().mean()
        if wrong == "detached":
            p = p.detach()
        robust = kl(q, p) if wrong == "reversed" else kl(p, q)
        return natural + beta * robust

    return objective


# In linf the sign of a gradient near 0 turns with the rounding of the machine, and with it a pixel of an example.
@pytest.mark.parametrize(("norm", "rounding"), [("linf", 2e-3), ("l2", 1e-4)])
def test_it_is_the_papers_algorithm(norm: Norm, rounding: float, net: nn.Module, bars: Data) -> None:
    found = trained(TRADES(steps=3), net, bars, norm)
    assert difference(found, by_hand(net, bars, trades(norm))) < rounding
    assert difference(found, net) > 1e-2


@pytest.mark.parametrize("wrong", ["beta", "train mode", "start", "inner loss", "detached", "reversed"])
def test_a_wrong_variant_would_be_noticed(wrong: str, net: nn.Module, bars: Data) -> None:
    """In l2, where the right variant is held to 1e-4."""
    found = trained(TRADES(steps=3), net, bars, "l2")
    assert difference(found, by_hand(net, bars, trades("l2", wrong=wrong))) > 1e-3


def test_the_natural_logits_are_computed_once_a_batch(net: nn.Module, bars: Data) -> None:
    """Images in forward passes: one for p(x), ten steps, and the pair of the outer loss; the reference takes 33."""
    seen: list[int] = []
    net[0].register_forward_hook(lambda _m, _i, out: seen.append(len(out)))  # type: ignore[index]
    method = _Smooth(Perturbation(start="normal", start_size=0.001, steps=10, step_size=0.226), 6.0)
    x, y = bars.train.batch(torch.arange(16))
    examples = method.examples(net, x, y, bars.threat, {})
    method.loss(net, examples, x, y)
    assert sum(seen) == 16 * (1 + 10 + 2)


def test_the_ten_steps_are_the_papers(net: nn.Module, bars: Data) -> None:
    step_size = 0.007 / 0.031
    assert difference(trained(TRADES(), net, bars), trained(TRADES(step_size=step_size), net, bars)) < 1e-3


@pytest.mark.parametrize("given", [{"beta": -1.0}, {"steps": 0}, {"step_size": -0.1}])
def test_parameters_are_checked(given: dict[str, float]) -> None:
    with pytest.raises(ParamError, match=next(iter(given))):
        TRADES(**given)  # type: ignore[arg-type]
