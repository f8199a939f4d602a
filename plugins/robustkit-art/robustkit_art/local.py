"""NumPy as single modules of ART need it, for the time of one call.

ART 1.20.1 draws from `np.random.RandomState()`, which no seed reaches, uses names that NumPy 2 has removed, and
writes a file into the working directory (GeoDA). The module's own name `np` is replaced by a stand-in, so that
nobody else sees a difference.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from functools import partial
from types import ModuleType
from typing import Any

import numpy as np


class _Random:
    """numpy.random, in which a generator without a seed is seeded from the global one, as the host has set it."""

    def RandomState(self, seed: int | None = None) -> np.random.RandomState:
        return np.random.RandomState(np.random.randint(2**31 - 1) if seed is None else seed)  # noqa: NPY002

    def __getattr__(self, name: str) -> Any:
        return getattr(np.random, name)


class NumPy:
    """numpy with the removed names back, seeded, and unable to write files."""

    random = _Random()
    mat = staticmethod(np.asarray)  # GeoDA needs no more of a matrix than that it can be transposed

    def asfarray(self, values: Any) -> Any:
        return np.asarray(values, dtype=np.float64)

    def save(self, path: str, values: Any) -> None:
        """Nothing."""

    def __getattr__(self, name: str) -> Any:
        return getattr(np, name)


@contextlib.contextmanager
def numpy_for(*modules: ModuleType, instead: NumPy | None = None) -> Iterator[None]:
    """Inside, `np` of these modules is the stand-in, or another one."""
    kept = [module.np for module in modules]
    for module in modules:
        module.np = instead or NumPy()  # type: ignore[attr-defined]
    try:
        yield
    finally:
        for module, original in zip(modules, kept, strict=True):
            module.np = original  # type: ignore[attr-defined]


@contextlib.contextmanager
def quiet(*modules: ModuleType) -> Iterator[None]:
    """Inside, these modules show no progress bars; ART's trainers and poisons have no switch for theirs."""
    kept = [(module, name, getattr(module, name)) for module in modules for name in ("tqdm", "trange")
            if hasattr(module, name)]  # fmt: skip
    for module, name, bar in kept:
        setattr(module, name, partial(bar, disable=True))
    try:
        yield
    finally:
        for module, name, bar in kept:
            setattr(module, name, bar)
