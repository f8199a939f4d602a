from __future__ import annotations

import random
import sys
from dataclasses import replace
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
import torch
from torch import nn

from robustkit.contracts import Data
from robustkit.data.splits import ArraySplit
from robustkit.host import Host, NameNotFound
from robustkit.models.build import build_model
from robustkit.models.normalise import Normalise, Normalised
from robustkit.models.weights import weights_hash
from robustkit.params import ParamError, UsageError
from tests.made import data_of


@pytest.fixture(scope="module")
def host() -> Host:
    return Host(discover=False)


def made_for(shape: tuple[int, int, int], classes: int = 10) -> Data:
    part = ArraySplit(torch.zeros(1, *shape), torch.zeros(1, dtype=torch.int64))
    return data_of(part, map(str, range(classes)), mean=(0.4,) * shape[0], std=(0.2,) * shape[0])


@pytest.fixture
def module(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    made = ModuleType("users_models")
    monkeypatch.setitem(sys.modules, "users_models", made)
    return made


def test_every_registered_model_can_be_built(host: Host) -> None:
    for registered in host.entries("model"):
        text = registered.short + (":depth=10:width=1" if registered.entry.name == "wide_resnet" else "")
        for shape in ((3, 32, 32), (1, 28, 28)):
            model = build_model(text, made_for(shape), host=host)
            assert isinstance(model, Normalised)
            assert model(torch.rand(2, *shape)).shape == (2, 10)


def test_normalisation_is_inside(host: Host) -> None:
    model = build_model("linear", made_for((3, 8, 8)), host=host)
    assert isinstance(model, Normalised)
    x = torch.rand(2, 3, 8, 8)
    torch.testing.assert_close(model(x), model.network((x - 0.4) / 0.2))


def test_equal_seeds_give_equal_weights_and_the_callers_randomness_is_untouched(host: Host) -> None:
    data = made_for((1, 28, 28))
    torch.manual_seed(77)
    random.seed(77)
    before = (torch.get_rng_state(), random.getstate(), np.random.get_state()[1].tolist())  # type: ignore[index]  # noqa: NPY002
    first = weights_hash(build_model("cnn", data, host=host, seed=5))
    torch.rand(3)
    assert weights_hash(build_model("cnn", data, host=host, seed=5)) == first
    assert weights_hash(build_model("cnn", data, host=host, seed=6)) != first
    torch.manual_seed(77)
    build_model("cnn", data, host=host, seed=5)
    after = (torch.get_rng_state(), random.getstate(), np.random.get_state()[1].tolist())  # type: ignore[index]  # noqa: NPY002
    assert torch.equal(before[0], after[0])
    assert before[1:] == after[1:]


def test_parameters_reach_the_architecture(host: Host) -> None:
    model = build_model("mlp:hidden=7+9", made_for((1, 8, 8)), host=host)
    assert [m.out_features for m in model.modules() if isinstance(m, nn.Linear)] == [7, 9, 10]
    with pytest.raises(ParamError, match=r"no parameter 'depht'.*depth"):
        build_model("wide_resnet:depht=16", made_for((3, 32, 32)), host=host)
    with pytest.raises(NameNotFound, match="resnet18"):
        build_model("resnet81", made_for((3, 32, 32)), host=host)


def test_a_factorys_model_is_taken_whole(host: Host, module: ModuleType) -> None:
    module.make = lambda: nn.Sequential(nn.Flatten(), nn.Linear(64, 3))  # type: ignore[attr-defined]
    model = build_model("users_models:make", made_for((1, 8, 8), 3), host=host, seed=1)
    assert isinstance(model, Normalised)
    x = torch.rand(2, 1, 8, 8)
    assert torch.equal(model(x), model.network(x))
    assert weights_hash(model) == weights_hash(
        build_model("users_models:make", made_for((1, 8, 8), 3), host=host, seed=1)
    )

    def whole() -> nn.Module:
        return Normalised(Normalise((0.5,), (0.5,), 1), nn.Flatten())

    module.whole = whole  # type: ignore[attr-defined]
    kept = build_model("users_models:whole", made_for((1, 8, 8), 64), host=host)
    assert isinstance(kept, Normalised)
    assert isinstance(kept.network, nn.Flatten)


def test_a_factory_of_shape_and_classes_is_an_architecture(host: Host, module: ModuleType) -> None:
    def net(shape: tuple[int, int, int], classes: int) -> nn.Module:
        return nn.Sequential(nn.Flatten(), nn.Linear(shape[0] * shape[1] * shape[2], classes))

    def own(shape: tuple[int, int, int], classes: int) -> nn.Module:
        return Normalised(Normalise((0.7,), (0.3,), shape[0]), net(shape, classes))

    module.net, module.own = net, own  # type: ignore[attr-defined]
    x = torch.rand(2, 3, 8, 8)
    for name, mean, std in (("net", 0.4, 0.2), ("own", 0.7, 0.3)):
        model = build_model(f"users_models:{name}", made_for((3, 8, 8), 5), host=host)
        assert isinstance(model, Normalised)
        torch.testing.assert_close(model(x), model.network((x - mean) / std))


def test_factories_that_fail(host: Host, module: ModuleType) -> None:
    module.text = lambda: "weights"  # type: ignore[attr-defined]
    module.broken = lambda: nn.Linear(-1, 3)  # type: ignore[attr-defined]
    module.grey = lambda: nn.Conv2d(1, 3, 3)  # type: ignore[attr-defined]
    module.three = lambda: nn.Sequential(nn.Flatten(), nn.Linear(192, 3))  # type: ignore[attr-defined]
    module.maps = lambda: nn.Conv2d(3, 10, 3)  # type: ignore[attr-defined]
    module.both = lambda: _Both()  # type: ignore[attr-defined]
    for text, words in (
        ("users_models:text", "returned a str"),
        ("users_models:broken", "failed with"),
        ("users_models:absent", "has no 'absent'"),
        ("users_models:grey", r"cannot take images of \(3, 8, 8\)"),
        ("users_models:three", r"\(2, 3\).*10 classes"),
        ("users_models:maps", r"\(2, 10, 6, 6\)"),
        ("users_models:both", "tuple"),
        ("no_package.models:make", "cannot be imported"),
    ):
        with pytest.raises(UsageError, match=words):
            build_model(text, made_for((3, 8, 8)), host=host)


class _Both(nn.Module):
    def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        return x, x


@pytest.mark.parametrize("name", ["resnet18", "mobilenet_v3_small", "squeezenet1_1"])
def test_torchvision_without_weights(host: Host, name: str) -> None:
    for text in (f"torchvision.{name}", f"torchvision.{name}:weights=none"):
        model = build_model(text, made_for((3, 64, 64), 5), host=host)
        assert model.eval()(torch.rand(2, 3, 64, 64)).shape == (2, 5)
    assert isinstance(model, Normalised)
    assert model.normalise.mean.flatten().tolist() == pytest.approx([0.4] * 3)


def test_torchvisions_auxiliary_heads_are_left_out(host: Host) -> None:
    model = build_model("torchvision.googlenet", made_for((3, 64, 64), 5), host=host).train()
    assert model(torch.rand(2, 3, 64, 64)).shape == (2, 5)


def test_torchvisions_weights_bring_their_own_normalisation(
    host: Host, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from torchvision.models import SqueezeNet1_1_Weights, squeezenet1_1

    # the file where torch.hub would have downloaded it to, with the hash in its name
    published = squeezenet1_1(num_classes=1000)
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    checkpoints = tmp_path / "hub" / "checkpoints"
    checkpoints.mkdir(parents=True)
    torch.save(published.state_dict(), checkpoints / SqueezeNet1_1_Weights.DEFAULT.url.rpartition("/")[2])
    data = made_for((3, 64, 64), 1000)
    for text in ("torchvision.squeezenet1_1:weights=DEFAULT", "torchvision.squeezenet1_1:weights=IMAGENET1K_V1"):
        model = build_model(text, data, host=host)
        assert isinstance(model, Normalised)
        assert model.normalise.mean.flatten().tolist() == pytest.approx([0.485, 0.456, 0.406])
        assert weights_hash(model.network) == weights_hash(published)


@pytest.mark.parametrize("name", ["squeezenet1_1", "shufflenet_v2_x0_5"])  # a last convolution, a last linear layer
def test_torchvisions_weights_with_a_new_head(
    name: str, host: Host, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from torchvision import models

    published = models.get_model(name, weights=None)
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    checkpoints = tmp_path / "hub" / "checkpoints"
    checkpoints.mkdir(parents=True)
    url = models.get_model_weights(name).DEFAULT.url
    torch.save(published.state_dict(), checkpoints / url.rpartition("/")[2])
    model = build_model(f"torchvision.{name}:weights=DEFAULT:head=new", made_for((3, 64, 64), 7), host=host)
    assert isinstance(model, Normalised)
    assert model.eval()(torch.rand(2, 3, 64, 64)).shape == (2, 7)  # in eval mode: statistics stay the published ones
    assert model.normalise.mean.flatten().tolist() == pytest.approx([0.485, 0.456, 0.406])
    own, theirs = model.network.state_dict(), published.state_dict()
    assert own.keys() == theirs.keys()
    kept = [key for key in own if own[key].shape == theirs[key].shape]
    assert {key.rpartition(".")[0] for key in own if key not in kept} <= {"classifier.1", "fc"}
    assert all(torch.equal(own[key], theirs[key]) for key in kept)


@pytest.mark.parametrize(
    ("text", "shape", "classes", "words"),
    [
        ("torchvision.resnet18:head=old", (3, 64, 64), 10, "head='old' is not one of own or new"),
        ("torchvision.resnet19", (3, 64, 64), 10, "no classifier 'resnet19'.*resnet1"),
        ("torchvision.resnet18:depth=3", (3, 64, 64), 10, "no parameter 'depth'"),
        ("torchvision.resnet18", (1, 28, 28), 10, "these have 1"),
        ("torchvision.resnet18:weights=BEST", (3, 64, 64), 1000, "is not one of IMAGENET1K_V1, DEFAULT or none"),
        ("torchvision.resnet18:weights=DEFAULT", (3, 64, 64), 10, "knows 1000 classes, the data have 10"),
        ("torchvision.alexnet", (3, 16, 16), 10, r"cannot take images of \(3, 16, 16\)"),
    ],
)
def test_torchvision_mistakes(host: Host, text: str, shape: tuple[int, int, int], classes: int, words: str) -> None:
    with pytest.raises(UsageError, match=words):
        build_model(text, made_for(shape, classes), host=host)


def test_weights_that_cannot_be_downloaded(host: Host, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import socket

    def refuse(*_: object, **__: object) -> None:
        raise OSError("Network is unreachable")

    monkeypatch.setattr(socket, "create_connection", refuse)
    monkeypatch.setattr(socket, "getaddrinfo", refuse)
    for name in ("http_proxy", "https_proxy", "HTTP_PROXY", "HTTPS_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    with pytest.raises(UsageError, match=r"could not be downloaded.*Place the file at .*resnet18-") as caught:
        build_model("torchvision.resnet18:weights=DEFAULT", made_for((3, 64, 64), 1000), host=host)
    assert str(tmp_path) in str(caught.value)


def test_a_plugins_model(module: ModuleType) -> None:
    from robustkit.hookspecs import ModelEntry, hookimpl
    from robustkit.models.linear import Linear

    @hookimpl
    def robustkit_models() -> list[ModelEntry]:
        return [ModelEntry(name="flat", target="users_models:Linear", summary="Flat.")]

    module.robustkit_models = robustkit_models  # type: ignore[attr-defined]
    module.Linear = Linear  # type: ignore[attr-defined]
    host = Host({"users": module}, discover=False)
    data = replace(made_for((1, 8, 8)), mean=(0.0,), std=(1.0,))
    assert build_model("users.flat", data, host=host)(torch.rand(1, 1, 8, 8)).shape == (1, 10)
