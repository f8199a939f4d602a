from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torchvision.models.resnet import BasicBlock, Bottleneck
from torchvision.models.resnet import ResNet as TheirResNet

from robustkit.contracts import Shape
from robustkit.models.cnn import CNN
from robustkit.models.lenet5 import LeNet5
from robustkit.models.linear import Linear
from robustkit.models.mlp import MLP
from robustkit.models.preact_resnet import PreActResNet18
from robustkit.models.resnet import ResNet18, ResNet34, ResNet50
from robustkit.models.wide_resnet import WideResNet
from robustkit.params import ParamError, UsageError

SMALL = [Linear(), MLP(), MLP(hidden=()), CNN(), LeNet5(), WideResNet(depth=10, width=1)]
LARGE = [PreActResNet18(), ResNet18(), ResNet34(), ResNet50(), WideResNet(depth=16, width=2)]


@pytest.mark.parametrize("architecture", SMALL + LARGE, ids=repr)
@pytest.mark.parametrize("shape", [(3, 32, 32), (1, 28, 28), (3, 19, 33)], ids=str)
def test_logits_for_every_shape_and_batch_size(architecture: Any, shape: Shape) -> None:
    model = architecture(shape, 7).eval()
    for count in (1, 3):
        x = torch.rand(count, *shape, requires_grad=True)
        logits = model(x)
        assert logits.shape == (count, 7)
        assert logits.dtype == torch.float32
        (gradient,) = torch.autograd.grad(logits.sum(), x)
        assert bool((gradient != 0).any())


@pytest.mark.parametrize(
    ("architecture", "shape", "published"),
    [
        (Linear(), (1, 28, 28), 7_850),
        (MLP(), (1, 28, 28), 328_810),
        (CNN(), (1, 28, 28), 166_406),
        (LeNet5(), (1, 28, 28), 61_706),
        (PreActResNet18(), (3, 32, 32), 11_171_146),
        (ResNet18(), (3, 32, 32), 11_173_962),
        (ResNet34(), (3, 32, 32), 21_282_122),
        (ResNet50(), (3, 32, 32), 23_520_842),
        (WideResNet(), (3, 32, 32), 36_479_194),
        (WideResNet(depth=34), (3, 32, 32), 46_160_474),
    ],
    ids=repr,
)
def test_published_numbers_of_parameters(architecture: Any, shape: Shape, published: int) -> None:
    with torch.device("meta"):
        model = architecture(shape, 10)
    assert sum(parameter.numel() for parameter in model.parameters()) == published


@pytest.mark.parametrize("architecture", LARGE, ids=repr)
def test_feature_maps_are_halved_as_the_papers_say(architecture: Any) -> None:
    sides: list[int] = []
    model = architecture((3, 32, 32), 10).eval()
    for module in model.modules():
        if isinstance(module, nn.Conv2d):
            module.register_forward_hook(lambda _m, _i, output: sides.append(output.shape[-1]))
    model(torch.zeros(1, 3, 32, 32))
    expected = {32, 16, 8} if isinstance(architecture, WideResNet) else {32, 16, 8, 4}
    assert set(sides) == expected
    # the number of convolutions that give the network its name, shortcuts not counted
    kinds = [m for n, m in model.named_modules() if isinstance(m, nn.Conv2d) and "hortcut" not in n]
    depth = {PreActResNet18: 18, ResNet18: 18, ResNet34: 34, ResNet50: 50, WideResNet: 16}[type(architecture)]
    assert len(kinds) == (depth - 3 if isinstance(architecture, WideResNet) else depth - 1)


@pytest.mark.parametrize(
    ("ours", "block", "depths"),
    [
        (ResNet18(), BasicBlock, [2, 2, 2, 2]),
        (ResNet34(), BasicBlock, [3, 4, 6, 3]),
        (ResNet50(), Bottleneck, [3, 4, 6, 3]),
    ],
    ids=["18", "34", "50"],
)
def test_the_function_is_torchvisions_with_another_stem(ours: Any, block: Any, depths: list[int]) -> None:
    theirs = TheirResNet(block, depths, num_classes=10)
    theirs.conv1 = nn.Conv2d(3, 64, 3, padding=1, bias=False)
    theirs.maxpool = nn.Identity()
    model = ours((3, 32, 32), 10)
    for tensor in model.state_dict().values():
        if tensor.dtype == torch.float32 and tensor.ndim == 1:
            tensor.uniform_(0.5, 1.5)  # running statistics that matter
    renamed = {
        name.replace("shortcut", "downsample").replace("linear", "fc"): value
        for name, value in model.state_dict().items()
    }
    theirs.load_state_dict(renamed)
    x = torch.rand(2, 3, 32, 32)
    with torch.no_grad():
        torch.testing.assert_close(model.eval()(x), theirs.eval()(x), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("kind", [ResNet18, ResNet34, ResNet50])
def test_a_narrow_resnet_has_the_same_layers_with_fewer_channels(kind: Any) -> None:
    wide, narrow = (kind(width=width)((3, 32, 32), 10).state_dict() for width in (64, 8))
    assert list(wide) == list(narrow)
    fixed = {3, 10, 1}  # channels of the image, classes, and sides of kernels
    for name, tensor in wide.items():
        assert list(narrow[name].shape) == [side if side in fixed else side // 8 for side in tensor.shape]


def _normalised(x: Tensor, layer: nn.BatchNorm2d) -> Tensor:
    return nn.functional.batch_norm(x, layer.running_mean, layer.running_var, layer.weight, layer.bias, False, 0, 1e-5)


@pytest.mark.parametrize("changes", [False, True])
@pytest.mark.parametrize("kind", ["preact", "wide"])
def test_a_pre_activation_block_follows_its_formula(kind: str, changes: bool) -> None:
    """y = W2 r(W1 r(x)) + x, or + Ws r(x) where the shape changes, with r = ReLU of BatchNorm."""
    if kind == "preact":
        model: Any = PreActResNet18()((3, 16, 16), 4).eval()
        block, around = (model.layer2 if changes else model.layer1)[0], "shortcut"
    else:
        model = WideResNet(depth=10, width=1 if not changes else 2)((3, 16, 16), 4).eval()
        block, around = model.block1.layer[0], "convShortcut"
    for layer in (block.bn1, block.bn2):
        for tensor in (layer.weight, layer.bias, layer.running_mean, layer.running_var):
            tensor.data.uniform_(0.5, 1.5)
    x = torch.randn(2, block.conv1.in_channels, 8, 8)
    r = _normalised(x, block.bn1).relu()
    conv = nn.functional.conv2d
    stride = block.conv1.stride
    inner = _normalised(conv(r, block.conv1.weight, stride=stride, padding=1), block.bn2).relu()
    expected = conv(inner, block.conv2.weight, padding=1)
    short = getattr(block, around)
    assert (short is not None) == changes
    if changes:
        weight = (short[0] if kind == "preact" else short).weight
        expected = expected + conv(r, weight, stride=stride)
    else:
        expected = expected + x
    torch.testing.assert_close(block(x), expected, rtol=1e-4, atol=1e-4)


def test_linear_is_linear() -> None:
    model = Linear()((1, 4, 5), 3)
    x, d = torch.rand(2, 1, 4, 5), torch.rand(2, 1, 4, 5)
    torch.testing.assert_close(model(x + d) - model(x), model(d) - model(torch.zeros_like(d)))


def test_the_inference_function_has_no_randomness() -> None:
    for architecture in (*SMALL, *LARGE):
        model = architecture((3, 16, 16), 4).eval()
        x = torch.rand(2, 3, 16, 16)
        assert torch.equal(model(x), model(x))


@pytest.mark.parametrize(("architecture", "side"), [(CNN(), 7), (LeNet5(), 11)])
def test_images_too_small_are_refused(architecture: Any, side: int) -> None:
    with pytest.raises(UsageError, match=f"these are {side} x 40"):
        architecture((1, side, 40), 10)
    assert architecture((1, side + 1, 40), 10)(torch.zeros(1, 1, side + 1, 40)).shape == (1, 10)


@pytest.mark.parametrize(("depth", "words"), [(29, "take 28 or 34"), (15, "take 10 or 16"), (4, "at least 10")])
def test_depths_that_do_not_exist_are_refused(depth: int, words: str) -> None:
    with pytest.raises(UsageError, match=words):
        WideResNet(depth=depth)
    with pytest.raises(ParamError, match="width=0"):
        WideResNet(width=0)
    with pytest.raises(ParamError, match="width=0"):
        ResNet18(width=0)


def test_hidden_layers() -> None:
    layers = [m for m in MLP(hidden=(5, 6))((1, 4, 4), 3) if isinstance(m, nn.Linear)]  # type: ignore[attr-defined]
    assert [(m.in_features, m.out_features) for m in layers] == [(16, 5), (5, 6), (6, 3)]
    with pytest.raises(UsageError, match="hidden"):
        MLP(hidden=(5, 0))
