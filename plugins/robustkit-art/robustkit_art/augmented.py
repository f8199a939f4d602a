"""ART's training-time preprocessors: ordinary training on mixed, cut or noised images and softened labels.

Trained by ART's `fit` on arrays in memory; see `fitting.py` for what of the recipe holds.
Cost: one forward and backward pass a sample and epoch.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from robustkit.params import check, param
from robustkit_art.fitting import arrays, learner, seeded
from robustkit_art.library import dp_instahide_trainer, preprocessor, trainer
from robustkit_art.local import quiet

if TYPE_CHECKING:
    from torch import nn

    from robustkit.contracts import Data, Training


def _fit(step: Any, model: nn.Module, data: Data, training: Training) -> nn.Module:
    """Epoch by epoch, so that the step is applied anew to the training set."""
    x, y = arrays(data)
    with seeded(training):
        classifier = learner(model, data, training)
        for _ in range(training.recipe.epochs):
            seen, labels = step(x, y)
            classifier.fit(
                seen, labels.astype(np.float32), batch_size=training.recipe.batch_size, nb_epochs=1, verbose=False
            )
    model.zero_grad(set_to_none=True)
    return model.eval()


@dataclass(frozen=True, kw_only=True)
class Cutout:
    """Training with a square cut out of each image (`Cutout`; DeVries & Taylor 2017, https://arxiv.org/abs/1708.04552)."""

    length: int = param(8, "side of the square", unit="pixels", low=1)

    def __post_init__(self) -> None:
        check(self)

    def __call__(self, model: nn.Module, data: Data, training: Training) -> nn.Module:
        length = min(self.length, *data.shape[1:])
        return _fit(preprocessor.Cutout(length=length, channels_first=True), model, data, training)


@dataclass(frozen=True, kw_only=True)
class Mixup:
    """Training on weighted means of images and labels (`Mixup`; Zhang et al. 2018, https://arxiv.org/abs/1710.09412)."""

    alpha: float = param(1.0, "of the Beta distribution of the weights", low=1e-6)
    num_mix: int = param(2, "images that are mixed", low=2)

    def __post_init__(self) -> None:
        check(self)

    def __call__(self, model: nn.Module, data: Data, training: Training) -> nn.Module:
        step = preprocessor.Mixup(num_classes=len(data.classes), alpha=self.alpha, num_mix=self.num_mix)
        return _fit(step, model, data, training)


@dataclass(frozen=True, kw_only=True)
class CutMix:
    """Training on images with a part of another (`CutMix`; Yun et al. 2019, https://arxiv.org/abs/1905.04899)."""

    alpha: float = param(1.0, "of the Beta distribution of the parts", low=1e-6)
    probability: float = param(0.5, "share of the images that are mixed", low=0.0, high=1.0)

    def __post_init__(self) -> None:
        check(self)

    def __call__(self, model: nn.Module, data: Data, training: Training) -> nn.Module:
        step = preprocessor.CutMix(
            num_classes=len(data.classes), alpha=self.alpha, probability=self.probability, channels_first=True
        )
        return _fit(step, model, data, training)


@dataclass(frozen=True, kw_only=True)
class LabelSmoothing:
    """Training on softened labels (`LabelSmoothing`; Warde-Farley & Goodfellow 2016)."""

    max_value: float = param(0.9, "what the true class keeps", low=1e-6, high=1.0)

    def __post_init__(self) -> None:
        check(self)

    def __call__(self, model: nn.Module, data: Data, training: Training) -> nn.Module:
        return _fit(preprocessor.LabelSmoothing(max_value=self.max_value), model, data, training)


@dataclass(frozen=True, kw_only=True)
class GaussianAugmentation:
    """Training on noisy copies beside the images (`GaussianAugmentation`; Zantedeschi et al. 2017,
    https://arxiv.org/abs/1707.06728). Cost: (1 + `ratio`) passes a sample and epoch.
    """

    sigma: float = param(0.1, "standard deviation", unit="input units", low=0.0)
    ratio: float = param(1.0, "copies for each image", low=1e-6)

    def __post_init__(self) -> None:
        check(self)

    def __call__(self, model: nn.Module, data: Data, training: Training) -> nn.Module:
        step = preprocessor.GaussianAugmentation(
            sigma=self.sigma, augmentation=True, ratio=self.ratio, clip_values=(0.0, 1.0)
        )
        return _fit(step, model, data, training)


@dataclass(frozen=True, kw_only=True)
class DPInstaHide:
    """Training on mixed images with noise, against poisoned data (`DPInstaHideTrainer`; Borgnia et al. 2021,
    https://arxiv.org/abs/2103.02079).
    """

    noise: Literal["gaussian", "laplacian", "exponential"] = param("laplacian", "its distribution")
    scale: float = param(0.03, "its scale", unit="input units", low=0.0)
    num_mix: int = param(2, "images that are mixed", low=2)

    def __post_init__(self) -> None:
        check(self)

    def __call__(self, model: nn.Module, data: Data, training: Training) -> nn.Module:
        x, y = arrays(data)
        recipe = training.recipe
        with seeded(training), quiet(dp_instahide_trainer):
            method = trainer.DPInstaHideTrainer(
                learner(model, data, training),
                augmentations=preprocessor.Mixup(num_classes=len(data.classes), num_mix=self.num_mix),
                noise=self.noise,
                scale=self.scale,
            )
            method.fit(x, y, batch_size=recipe.batch_size, nb_epochs=recipe.epochs)
        model.zero_grad(set_to_none=True)
        return model.eval()
