"""IBD-PSC: what is amplified, in which order, from which layer on, and whether triggered inputs stand out."""

from __future__ import annotations

import copy
import dataclasses
from functools import cache

import pytest
import torch
from sklearn.metrics import roc_auc_score
from torch import Tensor, nn

from robustkit.contracts import Data
from robustkit.data.splits import ArraySplit
from robustkit.detectors.ibd_psc import IBDPSC, logits_amplified, passed_layers
from robustkit.params import UsageError
from robustkit.poisons.badnets import BadNets
from robustkit.testing import small

POISON = BadNets(target=3, rate=0.2, size=2, margin=0)


def network(depth: int = 6, width: int = 12) -> nn.Sequential:
    layers: list[nn.Module] = []
    for number in range(depth):
        channels, stride = (3 if number == 0 else width), (2 if number == 2 else 1)
        layers += [nn.Conv2d(channels, width, 3, padding=1, stride=stride), nn.BatchNorm2d(width), nn.ReLU()]
    return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(2), nn.Flatten(), nn.Linear(4 * width, 10))


@cache
def backdoored() -> nn.Sequential:
    """Trained on the kit's images, a fifth of them with a patch of class 3; two seconds."""
    with torch.random.fork_rng(devices=[]), torch.enable_grad():
        torch.manual_seed(1)
        x, y = small.whole(POISON(small.data().train, torch.Generator().manual_seed(0)))
        model = network()
        optimizer = torch.optim.Adam(model.parameters(), lr=0.005)
        for _ in range(8):
            for rows in torch.split(torch.randperm(len(x)), 50):
                optimizer.zero_grad()
                torch.autograd.backward(nn.functional.cross_entropy(model(x[rows]), y[rows]))
                optimizer.step()
    model.zero_grad(set_to_none=True)
    return model.eval()


def inputs() -> tuple[Data, Tensor]:
    """The clean test images, then those of other classes with the patch; (N,) bool: which have it."""
    data = small.data()
    x, y = small.whole(data.test)
    mixed = torch.cat([x, POISON.trigger(x[y != 3])])
    judged = dataclasses.replace(data, test=ArraySplit(mixed, torch.zeros(len(mixed), dtype=torch.int64)))
    return judged, torch.arange(len(mixed)) >= len(x)


def by_hand(model: nn.Sequential, places: list[int], omega: float, x: Tensor) -> Tensor:
    changed = copy.deepcopy(model)
    with torch.no_grad():
        for place in places:
            for parameter in changed[place].parameters():
                parameter.mul_(omega)
        return changed(x)  # type: ignore[no-any-return]


def test_triggered_inputs_keep_their_prediction() -> None:
    data, triggered = inputs()
    with torch.no_grad():
        x, _ = small.whole(data.test)
        assert float((backdoored()(x[triggered]).argmax(1) == 3).float().mean()) > 0.9
    verdict = IBDPSC()(backdoored(), data)
    assert roc_auc_score(triggered.numpy(), verdict.score) > 0.75
    assert float(verdict.flagged[~triggered].double().mean()) <= 0.2


def test_scores_are_those_of_copies_changed_by_hand() -> None:
    model, (data, _) = backdoored(), inputs()
    x, _ = small.whole(data.test)
    clean, labels = small.whole(data.val)
    norms = [place for place, layer in enumerate(model) if isinstance(layer, nn.BatchNorm2d)]
    errors = [
        float((by_hand(model, norms[-count:], 2.0, clean).argmax(1) != labels).double().mean())
        for count in range(1, len(norms) + 1)
    ]
    limit = 0.9 * max(errors)
    first = next(count for count, error in enumerate(errors, 1) if error > limit)
    with torch.no_grad():
        own = model(x).argmax(1, keepdim=True)
    shares = [
        by_hand(model, norms[-count:], 2.0, x).double().softmax(1).gather(1, own)[:, 0]
        for count in range(first, min(first + 2, len(norms) + 1))
    ]
    found = IBDPSC(omega=2.0, models=2, error=limit)(model, data)
    torch.testing.assert_close(torch.as_tensor(found.score), torch.stack(shares).mean(0), atol=1e-6, rtol=0)


def test_an_unreachable_error_takes_as_many_layers_as_there_are_and_says_so() -> None:
    data, _ = inputs()
    verdict = IBDPSC(omega=1.0, error=0.99)(backdoored(), data)
    assert verdict.cost["forwards"] == 6 * (100 + 190) + 2 * 100
    assert "larger omega" in verdict.note or "no input can be flagged" in verdict.note


class Backwards(nn.Module):
    """Written down in the other order than it is passed."""

    def __init__(self) -> None:
        super().__init__()
        self.second, self.plain, self.first = nn.BatchNorm2d(3), nn.BatchNorm2d(3, affine=False), nn.BatchNorm2d(3)
        self.last = nn.Linear(192, 10)

    def forward(self, x: Tensor) -> Tensor:
        return self.last(self.second(self.plain(self.first(x))).flatten(1))  # type: ignore[no-any-return]


def test_layers_come_in_the_order_in_which_they_are_passed() -> None:
    model = Backwards().eval()
    assert passed_layers(model, torch.rand(1, 3, 8, 8)) == ["first", "second"]
    assert all(not module._forward_pre_hooks for module in model.modules())


def test_the_model_stays_as_it_is() -> None:
    model, data = backdoored(), small.data()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    logits_amplified(model, data.val, passed_layers(model, small.whole(data.val)[0][:1]), 3.0)
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())


def test_a_network_without_batchnorm_is_refused() -> None:
    with pytest.raises(UsageError, match="BatchNorm layers with scale and shift, and the network has none"):
        IBDPSC()(nn.Sequential(nn.Flatten(), nn.Linear(192, 10)).eval(), small.data())
