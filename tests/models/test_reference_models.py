"""Networks that others trained, against their published and measured error rates."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from robustkit.contracts import Data, Threat
from robustkit.data.load import load_data
from robustkit.data.splits import ArraySplit, Subset
from robustkit.host import Host
from robustkit.models.build import build_model
from robustkit.models.normalise import Normalise, Normalised
from robustkit.models.weights import load_checkpoint


def wong_kolter() -> nn.Sequential:
    """The network of locuslab/convex_adversarial for MNIST; indices count every layer."""
    return nn.Sequential(
        nn.Conv2d(1, 16, 4, stride=2, padding=1),
        nn.ReLU(),
        nn.Conv2d(16, 32, 4, stride=2, padding=1),
        nn.ReLU(),
        nn.Flatten(),
        nn.Linear(1568, 100),
        nn.ReLU(),
        nn.Linear(100, 10),
    )


class _Block(nn.Module):
    """A block of ResNet-20 whose way round takes every second pixel and pads channels with zeros."""

    def __init__(self, inputs: int, width: int) -> None:
        super().__init__()
        self.step = 1 if inputs == width else 2
        self.conv1 = nn.Conv2d(inputs, width, 3, stride=self.step, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(width)
        self.conv2 = nn.Conv2d(width, width, 3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(width)
        self.more = (width - inputs) // 2

    def forward(self, x: Tensor) -> Tensor:
        y = self.bn2(self.conv2(self.bn1(self.conv1(x)).relu()))
        around = nn.functional.pad(x[:, :, :: self.step, :: self.step], (0, 0, 0, 0, self.more, self.more))
        return (y + around).relu()


class _ResNet20(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(3, 16, 3, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(16)
        self.layer1 = nn.Sequential(*(_Block(16, 16) for _ in range(3)))
        self.layer2 = nn.Sequential(_Block(16, 32), _Block(32, 32), _Block(32, 32))
        self.layer3 = nn.Sequential(_Block(32, 64), _Block(64, 64), _Block(64, 64))
        self.linear = nn.Linear(64, 10)

    def forward(self, x: Tensor) -> Tensor:
        x = self.layer3(self.layer2(self.layer1(self.bn1(self.conv1(x)).relu())))
        return self.linear(x.mean(dim=(2, 3)))


def resnet20() -> Normalised:
    """A whole model: its normalisation differs from what CIFAR-10's source declares."""
    return Normalised(Normalise((0.485, 0.456, 0.406), (0.229, 0.224, 0.225), 3), _ResNet20())


@pytest.fixture
def here(monkeypatch: pytest.MonkeyPatch) -> str:
    """The name under which this module's factories are imported."""
    monkeypatch.setitem(sys.modules, "reference_factories", sys.modules[__name__])
    return "reference_factories"


def errors(model: nn.Module, data: Data) -> int:
    wrong = 0
    with torch.inference_mode():
        for index in torch.arange(len(data.test)).split(1000):
            x, y = data.test.batch(index)
            wrong += int((model.eval()(x).argmax(dim=1) != y).sum())
    return wrong


@pytest.mark.parametrize("text", ["FACTORY", "cnn"])
def test_mnist_network_of_wong_and_kolter(real_data: Path, here: str, text: str) -> None:
    host = Host(discover=False)
    data = load_data("mnist", host=host, data_dir=real_data)
    model = build_model(text.replace("FACTORY", f"{here}:wong_kolter"), data, host=host)
    load_checkpoint(model, real_data / "reference_models" / "mnist_kw_eps0.1.safetensors")
    assert errors(model, data) == 180  # 1.80 % of 10,000


def test_cifar_resnet20(real_data: Path, here: str) -> None:
    host = Host(discover=False)
    with np.load(real_data / "cifar10" / "test.npz") as file:
        test = ArraySplit(torch.from_numpy(file["x"]), torch.from_numpy(file["y"]).long())
    part = Subset(test, torch.arange(1000))
    data = Data(
        name="cifar10 test",
        classes=tuple("0123456789"),
        shape=(3, 32, 32),
        threat=Threat("linf", 8 / 255),
        train=part,
        val=part,
        test=part,
        fingerprint="",
        mean=(0.1, 0.2, 0.3),  # must not be applied to a whole model
        std=(9.0, 9.0, 9.0),
    )
    model = build_model(f"{here}:resnet20", data, host=host)
    load_checkpoint(model, real_data / "reference_models" / "cifar10_resnet20.safetensors")
    assert errors(model, data) / 1000 == pytest.approx(0.0827, abs=0.018)  # two standard errors
