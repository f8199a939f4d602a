"""ART's adversarial trainers, on RobustKit's data and recipe; see `fitting.py` for what of the recipe holds.

Norm and eps are the threat model's; ART's inner attacks know linf and l2.
"""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from robustkit.params import UsageError, check, param
from robustkit_art.bridge import ORDER, PyTorchClassifier, evasion
from robustkit_art.fitting import arrays, learner, seeded
from robustkit_art.library import (
    adversarial_trainer,
    adversarial_trainer_awp_pytorch,
    adversarial_trainer_fbf_pytorch,
    adversarial_trainer_trades_pytorch,
)
from robustkit_art.library import trainer as art
from robustkit_art.local import quiet

if TYPE_CHECKING:
    from torch import nn

    from robustkit.contracts import Data, Training

_STEPS = "iterations of the inner PGD"
_STEP = "length of its step as a share of eps"


def run(build: Callable[[PyTorchClassifier], Any], model: nn.Module, data: Data, training: Training) -> nn.Module:
    """Train `model` in place by an ART trainer."""
    if training.threat.norm not in ("linf", "l2"):
        raise UsageError(f"ART's inner attacks know linf and l2; the threat model is {training.threat}")
    recipe = training.recipe
    x, y = arrays(data)
    modules = (
        adversarial_trainer,
        adversarial_trainer_awp_pytorch,
        adversarial_trainer_fbf_pytorch,
        adversarial_trainer_trades_pytorch,
    )
    with seeded(training), quiet(*modules):
        build(learner(model, data, training)).fit(x, y, batch_size=recipe.batch_size, nb_epochs=recipe.epochs)
    model.zero_grad(set_to_none=True)
    return model.eval()


def pgd(classifier: PyTorchClassifier, training: Training, steps: int, step_size: float) -> Any:
    """The inner attack, from a random start."""
    eps = training.threat.eps
    return evasion.ProjectedGradientDescent(
        classifier,
        norm=ORDER[training.threat.norm],
        eps=eps,
        eps_step=step_size * eps,
        max_iter=steps,
        num_random_init=1,
        batch_size=training.recipe.batch_size,
        verbose=False,
    )


@dataclass(frozen=True, kw_only=True)
class AdversarialTraining:
    """Adversarial training on a share of each batch (`AdversarialTrainer`; with share 1, Madry et al. 2018).

    Cost: `steps` + 1 forward and backward passes a sample and epoch.
    """

    steps: int = param(7, _STEPS, low=1)
    step_size: float = param(0.25, _STEP, low=0.0)
    ratio: float = param(0.5, "share of a batch that is perturbed", low=1e-6, high=1.0)

    def __post_init__(self) -> None:
        check(self)

    def __call__(self, model: nn.Module, data: Data, training: Training) -> nn.Module:
        return run(
            lambda c: art.AdversarialTrainer(c, pgd(c, training, self.steps, self.step_size), ratio=self.ratio),
            model,
            data,
            training,
        )


@dataclass(frozen=True, kw_only=True)
class MadryPGD:
    """Adversarial training of Madry et al. 2018 (`AdversarialTrainerMadryPGD`), linf only.

    Cost: `steps` + 1 forward and backward passes a sample and epoch.
    """

    steps: int = param(7, _STEPS, low=1)
    step_size: float = param(0.25, _STEP, low=0.0)

    def __post_init__(self) -> None:
        check(self)

    def __call__(self, model: nn.Module, data: Data, training: Training) -> nn.Module:
        _linf(training, "madry_pgd")
        eps = training.threat.eps
        return run(
            lambda c: art.AdversarialTrainerMadryPGD(
                c,
                nb_epochs=training.recipe.epochs,
                batch_size=training.recipe.batch_size,
                eps=eps,
                eps_step=self.step_size * eps,
                max_iter=self.steps,
            ),
            model,
            data,
            training,
        )


@dataclass(frozen=True, kw_only=True)
class FBF:
    """Fast is better than free (`AdversarialTrainerFBFPyTorch`; Wong et al. 2020,
    https://arxiv.org/abs/2001.03994), linf only.

    ART's own learning rate (up to 0.21) is replaced by the recipe's. Cost: 2 forward and backward passes.
    """

    def __post_init__(self) -> None:
        check(self)

    def __call__(self, model: nn.Module, data: Data, training: Training) -> nn.Module:
        _linf(training, "fbf")
        return run(lambda c: art.AdversarialTrainerFBFPyTorch(c, eps=training.threat.eps), model, data, training)


@dataclass(frozen=True, kw_only=True)
class TRADES:
    """TRADES (`AdversarialTrainerTRADESPyTorch`; Zhang et al. 2019, https://arxiv.org/abs/1901.08573).

    ART's inner attack is PGD on the cross-entropy, not on the divergence as in the paper.
    Cost: `steps` + 2 forward and backward passes a sample and epoch.
    """

    steps: int = param(7, _STEPS, low=1)
    step_size: float = param(0.25, _STEP, low=0.0)
    beta: float = param(6.0, "weight of the divergence", low=0.0)

    def __post_init__(self) -> None:
        check(self)

    def __call__(self, model: nn.Module, data: Data, training: Training) -> nn.Module:
        return run(
            lambda c: art.AdversarialTrainerTRADESPyTorch(
                c, pgd(c, training, self.steps, self.step_size), beta=self.beta
            ),
            model,
            data,
            training,
        )


@dataclass(frozen=True, kw_only=True)
class AWP:
    """Adversarial weight perturbation (`AdversarialTrainerAWPPyTorch`; Wu et al. 2020,
    https://arxiv.org/abs/2004.05884). Cost: `steps` + 2 forward and backward passes a sample and epoch.
    """

    steps: int = param(7, _STEPS, low=1)
    step_size: float = param(0.25, _STEP, low=0.0)
    mode: Literal["PGD", "TRADES"] = param("PGD", "loss that is minimised")
    gamma: float = param(0.01, "size of the perturbation relative to the weights", low=0.0)
    beta: float = param(6.0, "weight of the divergence in mode TRADES", low=0.0)
    warmup: int = param(0, "epochs without perturbation", low=0)

    def __post_init__(self) -> None:
        check(self)

    def __call__(self, model: nn.Module, data: Data, training: Training) -> nn.Module:
        proxy = copy.deepcopy(model)
        return run(
            lambda c: art.AdversarialTrainerAWPPyTorch(
                c,
                learner(proxy, data, training),
                pgd(c, training, self.steps, self.step_size),
                mode=self.mode,
                gamma=self.gamma,
                beta=self.beta,
                warmup=self.warmup,
            ),
            model,
            data,
            training,
        )


def _linf(training: Training, name: str) -> None:
    if training.threat.norm != "linf":
        raise UsageError(f"ART's {name} is made for linf and the threat model is {training.threat}")
