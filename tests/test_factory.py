from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from robustkit.factory import call_factory, import_factory, is_reference, takes
from robustkit.params import UsageError


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("package.module:factory", True),
        ("module:factory", True),
        ("pgd:steps=3", False),
        ("npz:/some/path.npz", False),
        ("npz:file.npz", False),
        ("mnist", False),
        (":factory", False),
        ("a.b:", False),
        ("a..b:c", False),
        ("a.b:c:d", False),
    ],
)
def test_what_is_a_reference(text: str, expected: bool) -> None:
    assert is_reference(text) is expected


def test_modules_of_the_working_directory_are_found_last(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "path", [entry for entry in sys.path if entry != ""])
    monkeypatch.chdir(tmp_path)
    (tmp_path / "own_factory_module.py").write_text("def make():\n    return 41 + 1\n")
    (tmp_path / "json.py").write_text("def make():\n    return 'shadowed'\n")
    assert import_factory("own_factory_module:make")() == 42
    with pytest.raises(UsageError, match="has no 'make'"):
        import_factory("json:make")
    monkeypatch.delitem(sys.modules, "own_factory_module")


def test_a_module_that_exits_is_reported(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(tmp_path)
    (tmp_path / "leaves_at_once.py").write_text("raise SystemExit(3)\n")
    with pytest.raises(UsageError, match=r"leaves_at_once cannot be imported \(SystemExit: 3\)"):
        import_factory("leaves_at_once:make")


def test_failures_name_the_factory_and_usage_errors_pass_unchanged() -> None:
    def refuse() -> None:
        raise UsageError("give me a license")

    with pytest.raises(UsageError, match=r"^give me a license$"):
        call_factory("module:refuse", refuse)
    with pytest.raises(UsageError, match=r"^module:divide failed with ZeroDivisionError"):
        call_factory("module:divide", lambda a, b: a / b, 1, 0)


class _Net:
    def __init__(self, shape: object, classes: int) -> None: ...


@pytest.mark.parametrize(
    ("factory", "expected"),
    [
        (lambda: 0, False),
        (lambda width=3: 0, False),
        (lambda *rest, **more: 0, False),
        (lambda shape, classes: 0, True),
        (lambda s, k, width=3: 0, True),
        (lambda shape=(1, 2, 3), classes=10: 0, True),
        (lambda *, classes: 0, True),
        (_Net, True),
        (dict, False),
    ],
)
def test_which_factories_are_given_shape_and_classes(factory: Callable[..., object], expected: bool) -> None:
    assert takes(factory, {"shape": (1, 2, 3), "classes": 10}) is expected
