"""Libraries as they are, without an adapter, behind the guard: each is first seen to offend, then to be harmless."""

from __future__ import annotations

import importlib
from collections.abc import Callable
from types import ModuleType
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from robustkit.contracts import Threat
from robustkit.engine.evaluate import Arena
from robustkit.host import Component

Changed = Callable[..., list[str]]
Make = Callable[..., Component]
Samples = tuple[Tensor, Tensor]
EPS = 0.1
BALL = Threat("linf", EPS)


def _library(name: str) -> ModuleType:
    """The library; its absence skips the test, and what it says on import is not ours."""
    import warnings

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            return importlib.import_module(name)
        except ImportError as error:
            pytest.skip(f"{name} is not installed: {error}")


def torchattacks_pgd(network: nn.Module, x: Tensor, y: Tensor, threat: Threat) -> Tensor:
    library = _library("torchattacks")
    result: Tensor = library.PGD(network, eps=threat.eps, alpha=threat.eps / 4, steps=5)(x, y)
    return result


def torchattacks_square(network: nn.Module, x: Tensor, y: Tensor, threat: Threat) -> Tensor:
    library = _library("torchattacks")
    result: Tensor = library.Square(network, eps=threat.eps, n_queries=20, n_restarts=1)(x, y)
    return result


def foolbox_pgd(network: nn.Module, x: Tensor, y: Tensor, threat: Threat) -> Tensor:
    library = _library("foolbox")
    with torch.random.fork_rng(devices=[]):
        model = library.PyTorchModel(network.eval(), bounds=(0, 1))
    result: Tensor = library.attacks.LinfPGD(steps=5)(model, x, y, epsilons=threat.eps)[1]
    return result


def art_pgd(network: nn.Module, x: Tensor, y: Tensor, threat: Threat) -> Tensor:
    classification = _library("art.estimators.classification")
    evasion = _library("art.attacks.evasion")
    classifier = classification.PyTorchClassifier(
        model=network, loss=nn.CrossEntropyLoss(), input_shape=tuple(x.shape[1:]), nb_classes=5, clip_values=(0.0, 1.0)
    )
    attack = evasion.ProjectedGradientDescentNumpy(
        classifier, eps=threat.eps, eps_step=threat.eps / 4, max_iter=5, num_random_init=1, verbose=False
    )
    return torch.from_numpy(attack.generate(x.numpy(), y=np.eye(5, dtype=np.float32)[y.numpy()]))


ATTACKS: list[tuple[Any, set[str]]] = [
    (torchattacks_pgd, {"1.training", "torch"}),
    (torchattacks_square, {"1.training", "torch"}),
    (foolbox_pgd, {".training", "0.weight.grad"}),
    (art_pgd, {".training", "0.weight.grad", "numpy"}),
]
NAMES = [attack.__name__ for attack, _ in ATTACKS]


def _fine_tuned(network: nn.Module) -> nn.Module:
    """In train mode with a frozen BatchNorm, as in fine-tuning."""
    network.train()
    network[1].eval()  # type: ignore[index]
    return network


@pytest.mark.parametrize(("attack", "offences"), ATTACKS, ids=NAMES)
def test_called_bare_it_changes_the_model_or_the_random_state(
    network: nn.Module, samples: Samples, changed: Changed, attack: Any, offences: set[str]
) -> None:
    x, y = samples
    found = set(changed(_fine_tuned(network), lambda: attack(network, x.clone(), y.clone(), BALL)))
    assert found >= offences


@pytest.mark.parametrize("copied", [True, False], ids=["copied", "itself"])
@pytest.mark.parametrize("attack", [attack for attack, _ in ATTACKS], ids=NAMES)
def test_called_by_the_host_it_changes_nothing_and_works(
    network: nn.Module,
    samples: Samples,
    component: Make,
    changed: Changed,
    uncopyable: type[nn.Module],
    attack: Any,
    copied: bool,
) -> None:
    model = _fine_tuned(network) if copied else uncopyable(_fine_tuned(network))
    arena = Arena(model, "fp32", None, samples[0])
    results = []

    def call() -> None:
        with torch.no_grad():  # under which all of them fail when called bare
            for _ in range(2):
                results.append(arena.attack(component(attack, norms=frozenset({"linf"})), *samples, BALL, seed=3))

    assert changed(model, call) == []
    first, again = results
    assert torch.equal(first.x_adv, again.x_adv)
    assert first.success.any()
    assert float(first.dist_linf.max()) <= BALL.allowance
    assert first.forwards >= 24
    assert (first.backwards >= 24) is (attack is not torchattacks_square)  # what fell is not computed again
    assert ("parameter gradients" in first.restored) is (not copied and attack in (foolbox_pgd, art_pgd))


@pytest.mark.parametrize(("attack", "offences"), ATTACKS[:1] + ATTACKS[2:], ids=[NAMES[0], *NAMES[2:]])
def test_called_bare_under_no_grad_it_fails(
    network: nn.Module, samples: Samples, attack: Any, offences: set[str]
) -> None:
    with torch.no_grad(), pytest.raises(RuntimeError, match="grad"):
        attack(network, samples[0].clone(), samples[1].clone(), BALL)
