"""ImageNet's 1,000 classes: their WordNet ids in the usual order, and the nine groups of Restricted ImageNet."""

from __future__ import annotations

import functools
from importlib import resources

CLASSES = 1000

RESTRICTED: dict[str, tuple[int, int]] = {
    "dog": (151, 268),
    "cat": (281, 285),
    "frog": (30, 32),
    "turtle": (33, 37),
    "bird": (80, 100),
    "primate": (365, 382),
    "fish": (389, 397),
    "crab": (118, 121),
    "insect": (300, 319),
}
"""Group → first and last of its classes (Tsipras et al. 2019, https://arxiv.org/abs/1805.12152, table 1)."""


@functools.cache
def wordnet_ids() -> dict[str, int]:
    """From "n01440764" → 0 to "n15075141" → 999, the order of the ILSVRC-2012 networks, which is that of the ids.

    Source: Russakovsky et al. 2015, https://arxiv.org/abs/1409.0575.
    """
    text = (resources.files("robustkit") / "imagenet_ids.txt").read_text(encoding="ascii")
    return {name: place for place, name in enumerate(text.split())}


def group_of(index: int) -> int | None:
    """The place in `RESTRICTED` of the group that a class belongs to; None where it is in none."""
    groups = enumerate(RESTRICTED.values())
    return next((place for place, (first, last) in groups if first <= index <= last), None)
