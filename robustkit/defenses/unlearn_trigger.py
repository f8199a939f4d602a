"""Unlearning: the trigger that Neural Cleanse finds is shown with true labels until it means nothing."""

from __future__ import annotations

import copy
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from robustkit.contracts import Data, Training
from robustkit.defenses.repair import clean_images, finetune
from robustkit.detectors.inversion import stamp
from robustkit.detectors.neural_cleanse import NeuralCleanse
from robustkit.params import check, param
from robustkit.precision import exact_float32


@dataclass(frozen=True, kw_only=True)
class UnlearnTrigger:
    """Wang et al. 2019 (IEEE S&P, https://doi.org/10.1109/SP.2019.00031, section VI).

    Neural Cleanse searches the smallest trigger of each class; the smallest of all is put on a share of the clean
    images, whose labels stay true, and the network is trained on them. It is applied whether or not the model is
    flagged: without a backdoor it costs a little accuracy and mends nothing.

    Fields:
        share: of the images of a batch that carry the trigger; the paper takes 20 %.
        epochs, lr: of the training on validation images; the paper takes one epoch of 10 % of the training data.
        steps, batches: of the search, see `neural_cleanse`.

    Cost: that of `neural_cleanse`, and the training.

    Raises:
        UsageError: no validation images.
    """

    share: float = param(0.2, "of the images that carry the trigger", low=0.0, high=1.0)
    epochs: int = param(5, "of the training", low=1)
    lr: float = param(0.01, "of the training", low=1e-9)
    steps: int = param(100, "of the search for the trigger", low=1)
    batches: int = param(4, "a step of the search", low=1)

    def __post_init__(self) -> None:
        check(self)

    def __call__(self, model: nn.Module, data: Data, training: Training) -> nn.Module:
        network = copy.deepcopy(model).eval()
        x, y = (part.to(training.device) for part in clean_images(data, "unlearn_trigger"))
        with exact_float32():
            detector = NeuralCleanse(steps=self.steps, batches=self.batches)
            found = detector.search(network, x[:500], len(data.classes))
        smallest = found.norm.argmin()
        mask, pattern = found.mask[smallest], found.pattern[smallest]

        def change(batch: Tensor, generator: torch.Generator) -> Tensor:
            marked = torch.rand(len(batch), generator=generator).to(batch.device) < self.share
            return torch.where(marked[:, None, None, None], stamp(batch, mask, pattern), batch)

        finetune(network, x, y, epochs=self.epochs, lr=self.lr, seed=training.seed, change=change)
        return network
