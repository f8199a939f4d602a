from __future__ import annotations

import sys
from types import ModuleType

import pytest
import torch
from torch import nn

from robustkit.contracts import Data
from robustkit.data.splits import ArraySplit
from robustkit.host import Host
from robustkit.imagenet import CLASSES, RESTRICTED
from robustkit.models.build import build_model
from robustkit.models.restricted import Restricted
from robustkit.params import UsageError
from tests.made import data_of


def restricted_data() -> Data:
    return data_of(ArraySplit(torch.zeros(1, 3, 8, 8), torch.zeros(1, dtype=torch.int64)), RESTRICTED)


def network(outputs: int) -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Flatten(), nn.Linear(192, outputs))


def test_a_groups_probability_is_the_sum_of_its_classes() -> None:
    inner, x = network(CLASSES), torch.rand(4, 3, 8, 8)
    whole = inner(x).softmax(dim=1)  # (4, 1000)
    sums = torch.stack([whole[:, first : last + 1].sum(dim=1) for first, last in RESTRICTED.values()], dim=1)
    torch.testing.assert_close(Restricted(inner)(x).softmax(dim=1), sums / sums.sum(dim=1, keepdim=True))


@pytest.mark.parametrize("outputs", [CLASSES, len(RESTRICTED)])
def test_networks_of_a_thousand_and_of_nine_classes_are_taken(outputs: int, monkeypatch: pytest.MonkeyPatch) -> None:
    made = ModuleType("users_imagenet")
    made.net = lambda: network(outputs)  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "users_imagenet", made)
    model = build_model("users_imagenet:net", restricted_data(), host=Host(discover=False))
    assert any(isinstance(module, Restricted) for module in model.modules()) == (outputs == CLASSES)
    x = torch.rand(2, 3, 8, 8)
    expected = Restricted(network(CLASSES))(x) if outputs == CLASSES else network(9)(x)
    torch.testing.assert_close(model(x), expected)


def test_another_number_of_classes_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    made = ModuleType("users_imagenet")
    made.net = lambda: network(10)  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "users_imagenet", made)
    with pytest.raises(UsageError, match=r"gives \(2, 10\)"):
        build_model("users_imagenet:net", restricted_data(), host=Host(discover=False))


def test_torchvisions_published_weights_answer_for_groups(monkeypatch: pytest.MonkeyPatch) -> None:
    """The download is replaced by a network of the same form; its file is 45 MB."""
    from torchvision import models

    def get_model(name: str, weights: object = None, num_classes: int = CLASSES) -> nn.Module:
        assert name == "resnet18"
        return models.resnet18(weights=None, num_classes=num_classes)

    monkeypatch.setattr(models, "get_model", get_model)
    model = build_model("torchvision.resnet18:weights=DEFAULT", restricted_data(), host=Host(discover=False)).eval()
    assert model(torch.rand(1, 3, 8, 8)).shape == (1, 9)
    fresh = build_model("torchvision.resnet18:weights=none", restricted_data(), host=Host(discover=False))
    assert not any(isinstance(module, Restricted) for module in fresh.modules())
