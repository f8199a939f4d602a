"""Attacks of the libraries called as their own documentation shows: model, images, labels, eps → adversarial images."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

Call = Callable[[nn.Module, Tensor, Tensor, float], Tensor]


def torchattacks(name: str, *, budget: bool = True, **params: Any) -> Call:
    """`atk = torchattacks.PGD(model, eps=…); adv = atk(images, labels)`."""

    def call(model: nn.Module, x: Tensor, y: Tensor, eps: float) -> Tensor:
        import torchattacks

        given = {"eps": eps, **params} if budget else params
        return getattr(torchattacks, name)(model, **given)(x, y)

    return call


def foolbox(name: str, *, budget: bool = True, **params: Any) -> Call:
    """`raw, clipped, is_adv = attack(PyTorchModel(model, bounds=(0, 1)), images, labels, epsilons=eps)`."""

    def call(model: nn.Module, x: Tensor, y: Tensor, eps: float) -> Tensor:
        import foolbox

        attack = getattr(foolbox.attacks, name)(**params)
        fmodel = foolbox.PyTorchModel(model, bounds=(0, 1))
        _, clipped, _ = attack(fmodel, x, y, epsilons=eps if budget else None)
        return clipped

    return call


def art(name: str, *, eps: str = "eps", wants_labels: bool = True, **params: Any) -> Call:
    """`attack = ProjectedGradientDescent(estimator=PyTorchClassifier(…), eps=…); attack.generate(x, y)`."""

    def call(model: nn.Module, x: Tensor, y: Tensor, radius: float) -> Tensor:
        from art.attacks import evasion
        from art.estimators.classification import PyTorchClassifier

        classifier = PyTorchClassifier(
            model=model,
            loss=nn.CrossEntropyLoss(),
            input_shape=tuple(x.shape[1:]),
            nb_classes=10,
            clip_values=(0.0, 1.0),
        )
        given = dict(params)
        if eps:
            given[eps] = radius
        attack = getattr(evasion, name)(classifier, **given)
        found = attack.generate(x.numpy(), y.numpy()) if wants_labels else attack.generate(x.numpy())
        return torch.from_numpy(found)

    return call


def pyautoattack(norm: str) -> Call:
    """`AutoAttack(model, norm=…, eps=…, version="standard").run_standard_evaluation(x, y, batch_size=…)`."""

    def call(model: nn.Module, x: Tensor, y: Tensor, eps: float) -> Tensor:
        from pyautoattack import AutoAttack

        attack = AutoAttack(model, norm=norm, eps=eps, version="standard", device="cpu")
        found = attack.run_standard_evaluation(x, y, batch_size=len(x))
        return found[0] if isinstance(found, tuple) else found

    return call
