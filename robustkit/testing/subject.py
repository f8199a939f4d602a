"""What a check is made of, and what it is made about."""

from __future__ import annotations

import contextlib
import io
import random
import warnings
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import torch

from robustkit.contracts import Norm
from robustkit.hookspecs import Entry
from robustkit.host import Component, Host, Registered

if TYPE_CHECKING:
    from torch import Tensor


class Part(NamedTuple):
    """One check of a subject: `name` of what holds, `body` that raises AssertionError where it doesn't."""

    name: str
    body: Callable[[], None]
    norm: Norm | None = None


@dataclass(frozen=True, kw_only=True)
class Subject:
    """An entry under test, with the parameters that the checks shall build it with."""

    host: Host
    registered: Registered
    given: Mapping[str, Any]

    @property
    def entry(self) -> Entry:
        return self.registered.entry

    def component(self, **more: Any) -> Component:
        """The entry built with the given parameters; `more` wins over them."""
        return self.host.assemble(self.registered, {**self.given, **more})

    def build(self, **more: Any) -> Any:
        return self.component(**more).value


def in_box(x: Tensor, what: str) -> None:
    """Raises AssertionError where a value is not finite or lies outside [0, 1] by more than rounding."""
    assert bool(torch.isfinite(x).all()), f"{what}: values that are not finite"
    low, high = float(x.min()), float(x.max())
    assert min(low, 1 - high) >= -1e-6, f"{what}: values from {low:g} to {high:g} leave the box [0, 1]"


def alike(a: Tensor, b: Tensor, what: str) -> None:
    """Raises AssertionError where shape, dtype or device differ."""
    assert a.shape == b.shape, f"{what}: shape {tuple(a.shape)}, not {tuple(b.shape)}"
    assert a.dtype == b.dtype, f"{what}: {a.dtype}, not {b.dtype}"
    assert a.device == b.device, f"{what}: on {a.device}, not {b.device}"


def seed_all(seed: int) -> None:
    """What the host's guard does before every call."""
    torch.manual_seed(seed)
    np.random.seed(seed % 2**32)  # noqa: NPY002 - wrapped libraries draw from the legacy generator
    random.seed(seed)


@contextlib.contextmanager
def random_states_kept() -> Iterator[None]:
    """Checks leave the caller's random streams as they were, as the guard does."""
    kept = (torch.get_rng_state(), np.random.get_state(), random.getstate())  # noqa: NPY002
    try:
        yield
    finally:
        torch.set_rng_state(kept[0])
        np.random.set_state(kept[1])  # noqa: NPY002
        random.setstate(kept[2])


@contextlib.contextmanager
def silence_required() -> Iterator[None]:
    """Raises AssertionError where the block prints or warns: a bench of 60 attacks must stay readable."""
    out, err = io.StringIO(), io.StringIO()
    with (
        warnings.catch_warnings(record=True) as caught,
        contextlib.redirect_stdout(out),
        contextlib.redirect_stderr(err),
    ):
        warnings.simplefilter("always")
        yield
    assert not out.getvalue(), f"it printed {out.getvalue()[:200]!r}; use logging"
    assert not err.getvalue(), f"it wrote {err.getvalue()[:200]!r} to stderr; use logging"
    assert not caught, f"it warned: {caught[0].category.__name__}: {caught[0].message} ({caught[0].filename})"
