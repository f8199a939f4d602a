"""Parameters reach the library, results are its own, the caller's model and random streams stay as they were."""

from __future__ import annotations

import copy
import random
import subprocess
import sys
import typing
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
import robustkit_torchattacks
import torch

from robustkit import params
from robustkit.contracts import Threat
from robustkit.host import Host, Registered
from robustkit.testing.yardstick import images, labels, network

torchattacks = pytest.importorskip("torchattacks")

HOST = Host({"torchattacks": robustkit_torchattacks}, discover=False)
ENTRIES = [r for r in HOST.entries("attack") if r.provider.name == "torchattacks"]


def _threat(registered: Registered) -> Threat:
    norm = min(registered.entry.norms, default="linf")  # type: ignore[attr-defined]
    return Threat(norm, {"linf": 0.05, "l2": 0.5, "l1": 4.0, "l0": 12.0}[norm])


def test_every_class_is_an_entry_or_has_a_reason() -> None:
    covered = set(robustkit_torchattacks.WRAPS.values()) | set(robustkit_torchattacks.UNSUPPORTED)
    assert covered == set(torchattacks.__all__)
    assert {r.entry.name for r in ENTRIES} == set(robustkit_torchattacks.WRAPS)


@pytest.fixture
def built(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """Records the library's attacks instead of running them."""
    seen: list[Any] = []

    def record(self: Any, x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
        seen.append(self)
        return x

    monkeypatch.setattr(torchattacks.attack.Attack, "__call__", record)
    return seen


def _plain(value: Any) -> Any:
    """What an attack object holds, without its model."""
    if isinstance(value, torchattacks.attack.Attack):
        return {k: _plain(v) for k, v in vars(value).items() if k not in ("model", "_attacks", "seed")}
    if isinstance(value, torch.Tensor):
        return value.tolist()
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    if type(value).__module__.startswith("torchattacks"):
        return {k: _plain(v) for k, v in vars(value).items()}
    return value if isinstance(value, bool | int | float | str | None) else str(type(value))


def _other(hint: Any, field: Any, value: Any) -> Any:
    """A value that is not the default."""
    if isinstance(value, bool):
        return not value
    if typing.get_origin(hint) is typing.Literal:
        return next(choice for choice in typing.get_args(hint) if choice != value)
    if isinstance(value, tuple):
        return (1, 3)
    if value is None:
        return 0.0123
    low, high = field.metadata["low"], field.metadata["high"]
    for candidate in (value - 1, value / 2, value + 1):
        inside = (low is None or candidate >= low) and (high is None or candidate <= high)
        if inside and candidate != value:
            return type(value)(candidate)
    raise AssertionError(f"no other value for {field.name}")


def _cases() -> Iterator[Any]:
    for registered in ENTRIES:
        component = HOST.resolve(registered)
        hints = typing.get_type_hints(component)
        for field in component.__dataclass_fields__.values():
            other = _other(hints[field.name], field, field.default)
            yield pytest.param(registered, field.name, other, id=f"{registered.entry.name}-{field.name}")


@pytest.mark.parametrize(("registered", "name", "value"), list(_cases()))
def test_every_parameter_reaches_the_library(registered: Registered, name: str, value: Any, built: list[Any]) -> None:
    model, x = network(), images(1)
    y = labels(model, x)
    more = {"multi_targeted": True} if name == "n_target_classes" and registered.entry.name == "fab" else {}
    for given in (more, {**more, name: value}):
        HOST.assemble(registered, given).value(model, x, y, _threat(registered))
    first, second = built[0], built[-1]
    if registered.entry.name == "jsma" and name == "targeted":
        return  # always targeted in the library; tested by its targets below
    assert _plain(first) != _plain(second), f"{name}={value!r} changes nothing in {type(first).__name__}"


DIRECT: dict[str, Any] = {
    "fgsm": lambda m, e: torchattacks.FGSM(m, eps=e),
    "bim": lambda m, e: torchattacks.BIM(m, eps=e, alpha=e / 4, steps=10),
    "pgd": lambda m, e: torchattacks.PGD(m, eps=e, alpha=e / 4, steps=10),
    "pgdl2": lambda m, e: torchattacks.PGDL2(m, eps=e, alpha=e / 5, steps=10),
    "mifgsm": lambda m, e: torchattacks.MIFGSM(m, eps=e, alpha=e / 4, steps=10),
    "tifgsm": lambda m, e: torchattacks.TIFGSM(m, eps=e, alpha=e / 4, steps=10),
    "vmifgsm": lambda m, e: torchattacks.VMIFGSM(m, eps=e, alpha=e / 4, steps=10),
    "deepfool": lambda m, e: torchattacks.DeepFool(m),
    "eadl1": lambda m, e: torchattacks.EADL1(m),
    "cw": lambda m, e: torchattacks.CW(m),
    "jsma": lambda m, e: torchattacks.JSMA(m),
}


@pytest.mark.parametrize("name", DIRECT)
def test_result_is_the_librarys_own(name: str) -> None:
    """Adapter and direct call, with the same random numbers, give the same image bit for bit."""
    registered = HOST.find("attack", f"torchattacks.{name}")
    threat = _threat(registered)
    model, x = network(), images()
    y = labels(model, x)
    torch.manual_seed(5)
    ours = HOST.assemble(registered, {}).value(model, x, y, threat)
    torch.manual_seed(5)
    torch.manual_seed(int(torch.randint(2**31 - 1, ())))  # the seed that the adapter draws
    direct = DIRECT[name](copy.deepcopy(model), threat.eps)(x, y).detach().clamp(0, 1)
    assert torch.equal(ours, direct)


@pytest.mark.parametrize("registered", ENTRIES, ids=lambda r: r.entry.name)
def test_caller_is_left_alone(registered: Registered) -> None:
    """Even without the host's guard: modes, gradients, and random streams but for one number of torch's."""
    model, x = network().train(), images(2)
    model[1].eval()  # type: ignore[index]
    model[3].eval()  # type: ignore[index]  # dropout, so that the labels below mean something
    y = labels(model, x)
    modes = [m.training for m in model.modules()]
    torch.manual_seed(1)
    torch.randint(2**31 - 1, ())
    expected = torch.get_rng_state()
    torch.manual_seed(1)
    numpy_state, python_state = np.random.get_state()[1].copy(), random.getstate()  # type: ignore[index, union-attr] # noqa: NPY002
    quick = {"square": {"queries": 10}, "apgd_fab_square_10": {"queries": 10}}
    attack = HOST.assemble(registered, quick.get(registered.entry.name, {})).value
    with torch.no_grad():
        attack(model, x, y, _threat(registered))
    assert torch.equal(torch.get_rng_state(), expected)
    assert np.array_equal(np.random.get_state()[1], numpy_state)  # type: ignore[index] # noqa: NPY002
    assert random.getstate() == python_state
    assert [m.training for m in model.modules()] == modes
    assert all(p.grad is None and p.requires_grad for p in model.parameters())


@pytest.mark.parametrize("registered", ENTRIES, ids=lambda r: r.entry.name)
def test_empty_batch(registered: Registered) -> None:
    x = images(0)
    y = torch.zeros(0, dtype=torch.int64)
    assert HOST.assemble(registered, {}).value(network(), x, y, _threat(registered)).shape == x.shape


def test_model_without_parameters_and_int32_labels() -> None:
    x = images(3)
    model = torch.nn.AdaptiveAvgPool2d(2)
    headless = torch.nn.Sequential(model, torch.nn.Flatten())
    y = labels(headless, x).int()
    attack = HOST.build("attack", "torchattacks.pgd").value
    moved = (attack(headless, x, y, Threat("linf", 0.1)) - x).abs().amax(dim=(1, 2, 3))
    assert bool((moved > 0.09).all())


def test_missing_library_names_the_install_line() -> None:
    script = (
        "import sys; sys.modules['torchattacks'] = None\n"
        "import robustkit_torchattacks\n"
        "from robustkit.host import Host\n"
        "host = Host({'torchattacks': robustkit_torchattacks}, discover=False)\n"
        "try: host.build('attack', 'torchattacks.pgd')\n"
        "except ValueError as error: print(error)\n"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert "pip install torchattacks" in done.stdout


def test_entries_show_defaults_and_help() -> None:
    for registered in ENTRIES:
        for row in params.describe(HOST.resolve(registered)):
            assert row.help
            assert row.default != "required"
