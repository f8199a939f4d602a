"""Architectures of networks that others trained, as factories: `--model reference_networks:resnet20`."""

from __future__ import annotations

from pathlib import Path

from torch import Tensor, nn

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


def elu_blocks() -> nn.Sequential:
    """The network of the backdoored checkpoints of ruoxi-jia-group/I-BAU: three blocks of two convolutions."""
    layers: list[nn.Module] = []
    channels = 3
    for width in (32, 64, 128):
        for _ in range(2):
            layers += [nn.Conv2d(channels, width, 3, padding=1), nn.BatchNorm2d(width), nn.ELU()]
            channels = width
        layers += [nn.MaxPool2d(2), nn.Dropout(0.3)]
    model = nn.Sequential()
    model.add_module("features", nn.Sequential(*layers))
    model.add_module("flatten", nn.Flatten())
    model.add_module("classifier", nn.Linear(2048, 10))
    return model


def reference_network(name: str, folder: Path) -> nn.Module:
    """`cifar10_resnet20`, `mnist_kw_eps0.1` or `fashion_mnist_kw_eps0.1`, with its weights from `folder`."""
    model: nn.Module = resnet20() if name == "cifar10_resnet20" else wong_kolter()
    load_checkpoint(model, folder / "reference_models" / f"{name}.safetensors")
    return model.eval()
