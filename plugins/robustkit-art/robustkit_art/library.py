"""Imports of ART and its optional parts that leave the process as it was.

On import they and what they pull in draw from Python's generator, add filters of warnings, warn, and set
environment variables (scikit-learn KMP_INIT_AT_FORK, OpenCV LD_LIBRARY_PATH, TorchInductor its cache folder).
Everything of them that the adapters use is imported here.
"""

from __future__ import annotations

import contextlib
import os
import random
import warnings
from collections.abc import Iterator


@contextlib.contextmanager
def unchanged() -> Iterator[None]:
    """Put generator, filters of warnings and environment back; warnings in between stay unsaid."""
    state, environment = random.getstate(), dict(os.environ)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        random.setstate(state)
        for name in os.environ.keys() - environment.keys():
            del os.environ[name]
        os.environ.update(environment)


with unchanged():
    from art.attacks import evasion, poisoning
    from art.attacks.evasion import boundary, geometric_decision_based_attack, hop_skip_jump
    from art.attacks.evasion.laser_attack import laser_attack
    from art.attacks.poisoning.perturbations import image_perturbations
    from art.defences import postprocessor, preprocessor, trainer
    from art.defences.detector import poison
    from art.defences.detector.poison import activation_defence, clustering_analyzer
    from art.defences.trainer import (
        adversarial_trainer,
        adversarial_trainer_awp_pytorch,
        adversarial_trainer_fbf_pytorch,
        adversarial_trainer_trades_pytorch,
        dp_instahide_trainer,
    )
    from art.estimators.certification.randomized_smoothing import RandomizedSmoothingMixin
    from art.estimators.classification import PyTorchClassifier

__all__ = [
    "PyTorchClassifier",
    "RandomizedSmoothingMixin",
    "activation_defence",
    "adversarial_trainer",
    "adversarial_trainer_awp_pytorch",
    "adversarial_trainer_fbf_pytorch",
    "adversarial_trainer_trades_pytorch",
    "boundary",
    "clustering_analyzer",
    "dp_instahide_trainer",
    "evasion",
    "geometric_decision_based_attack",
    "hop_skip_jump",
    "image_perturbations",
    "laser_attack",
    "poison",
    "poisoning",
    "postprocessor",
    "preprocessor",
    "trainer",
    "unchanged",
]
