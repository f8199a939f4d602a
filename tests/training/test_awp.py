"""Adversarial weight perturbation against the reference's way: a copy of the network that takes a step of ascent."""

from __future__ import annotations

import copy

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from robustkit.contracts import Data, Recipe, Threat, Training
from robustkit.defenses.fast_at import FastAT
from robustkit.defenses.fgsm_at import FGSMAT
from robustkit.defenses.free_at import FreeAT
from robustkit.defenses.mart import MART
from robustkit.defenses.nfgsm import NFGSM
from robustkit.defenses.pgd_at import PGDAT
from robustkit.defenses.rfgsm_at import RFGSMAT
from robustkit.defenses.trades import TRADES
from robustkit.testing import small
from robustkit.training.awp import perturbed_weights
from robustkit.training.batches import Batches

EPS, GAMMA = 0.1, 0.05
RECIPE = Recipe(epochs=2, batch_size=50, lr=0.02, schedule="constant", momentum=0.9, weight_decay=1e-3)


def fgsm(model: nn.Module, x: Tensor, y: Tensor) -> Tensor:
    model.eval()
    point = x.clone().requires_grad_()
    (gradient,) = torch.autograd.grad(F.cross_entropy(model(point), y), point)
    model.train()
    return (x + EPS * gradient.sign()).clamp(0, 1)


def by_hand(data: Data, wrong: str = "") -> nn.Module:
    model = small.untrained().train()
    optimizer = torch.optim.SGD(model.parameters(), lr=RECIPE.lr, momentum=0.9, weight_decay=1e-3, nesterov=True)
    batches = Batches(data.train, RECIPE, torch.device("cpu"), seed=0)
    for epoch in range(RECIPE.epochs):
        for x, y in batches.epoch(epoch):
            x_adv = fgsm(model, x, y)
            proxy = copy.deepcopy(model)
            step = torch.optim.SGD(proxy.parameters(), lr=0.01)
            if wrong == "statistics":
                model(x_adv)
            loss = F.cross_entropy(proxy(x_adv), y)
            step.zero_grad()
            (loss if wrong == "descent" else -loss).backward()
            step.step()
            moves = {}
            ascended = dict(proxy.named_parameters())
            for name, w in model.named_parameters():
                if (name.endswith("weight") and w.ndim > 1) or wrong == "biases":
                    way = (ascended[name] - w).detach()
                    moves[name] = GAMMA * w.detach().norm() / way.norm().clamp_min(1e-20) * way
            if wrong == "all layers as one":
                way = torch.cat([move.reshape(-1) for move in moves.values()]).norm()
                size = torch.cat([w.detach().reshape(-1) for w in model.parameters()]).norm()
                moves = {name: GAMMA * size / way * move for name, move in moves.items()}
            with torch.no_grad():
                for name, w in model.named_parameters():
                    w.add_(moves.get(name, torch.zeros_like(w)))
            if wrong == "examples anew":
                x_adv = fgsm(model, x, y)
            optimizer.zero_grad()
            F.cross_entropy(model(x_adv), y).backward()
            optimizer.step()
            if wrong != "not taken off":
                with torch.no_grad():
                    for name, w in model.named_parameters():
                        w.sub_(moves.get(name, torch.zeros_like(w)))
    return model


def trained(defense: object, eps: float = EPS) -> nn.Module:
    training = Training(threat=Threat("linf", eps), recipe=RECIPE, precision="fp32")
    return defense(small.untrained(), small.data(), training)  # type: ignore[operator, no-any-return]


def difference(a: nn.Module, b: nn.Module) -> float:
    pairs = zip(a.state_dict().values(), b.state_dict().values(), strict=True)
    return max(float((one.double() - other.double()).abs().max()) for one, other in pairs)


@pytest.fixture(scope="module")
def found() -> nn.Module:
    return trained(FGSMAT(awp=GAMMA))


def test_it_is_the_papers_algorithm(found: nn.Module) -> None:
    assert difference(found, by_hand(small.data())) < 1e-4


@pytest.mark.parametrize(
    "wrong", ["statistics", "descent", "biases", "all layers as one", "examples anew", "not taken off"]
)
def test_a_wrong_variant_would_be_noticed(wrong: str, found: nn.Module) -> None:
    assert difference(found, by_hand(small.data(), wrong)) > 1e-3


@pytest.mark.parametrize(
    "kind", [FGSMAT, RFGSMAT, FastAT, NFGSM, PGDAT, FreeAT, TRADES, MART], ids=lambda kind: kind.__name__
)
def test_every_adversarial_training_takes_it(kind: type) -> None:
    steps = {"steps": 2} if kind in (PGDAT, TRADES, MART) else {}
    plain, perturbed = trained(kind(**steps)), trained(kind(**steps, awp=0.02))
    assert 1e-3 < difference(plain, perturbed) < 10
    assert small.accuracy(perturbed, small.data().test) > 0.5


def test_the_weights_come_back_and_the_loss_is_worse_in_between() -> None:
    model = small.untrained().train()
    x, y = small.data().train.batch(torch.arange(50))

    def loss() -> Tensor:
        return F.cross_entropy(model(x), y)

    before = copy.deepcopy(model.state_dict())
    with torch.no_grad():
        calm = float(loss())
    model.load_state_dict(before)

    def look() -> None:
        with perturbed_weights(model, loss, 0.01):
            assert torch.equal(model[1].running_mean, before["1.running_mean"])  # type: ignore[index]
            moved = model.state_dict()["0.weight"] - before["0.weight"]
            assert float(moved.norm()) == pytest.approx(0.01 * float(before["0.weight"].norm()), rel=1e-4)
            with torch.no_grad():
                assert float(loss()) > calm
            raise KeyError

    with pytest.raises(KeyError):
        look()
    for name, value in model.named_parameters():
        assert torch.allclose(value, before[name], rtol=1e-5, atol=1e-7)
        assert value.grad is None


def test_it_costs_one_pass_more() -> None:
    counts = []
    for gamma in (0.0, 0.01):
        seen: list[int] = []
        model = small.untrained()
        model.register_forward_hook(lambda m, _i, _o, seen=seen: seen.append(1) if m.training else None)
        training = Training(threat=Threat("linf", EPS), recipe=RECIPE, precision="fp32")
        FGSMAT(awp=gamma)(model, small.data(), training)
        counts.append(len(seen))
    assert counts == [16, 32]
