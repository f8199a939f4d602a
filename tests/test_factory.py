from __future__ import annotations

import sys
from pathlib import Path

import pytest

from robustkit.factory import call_factory, import_factory, is_reference
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
    assert call_factory("own_factory_module:make") == 42
    with pytest.raises(UsageError, match="has no 'make'"):
        import_factory("json:make")
    monkeypatch.delitem(sys.modules, "own_factory_module")


def test_a_module_that_exits_is_reported(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(tmp_path)
    (tmp_path / "leaves_at_once.py").write_text("raise SystemExit(3)\n")
    with pytest.raises(UsageError, match=r"leaves_at_once cannot be imported \(SystemExit: 3\)"):
        import_factory("leaves_at_once:make")


def test_a_usage_error_of_the_factory_passes_unchanged(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse() -> None:
        raise UsageError("give me a license")

    monkeypatch.setattr(sys.modules[__name__], "made_for_this_test", refuse, raising=False)
    monkeypatch.setitem(sys.modules, "refusing_module", sys.modules[__name__])
    with pytest.raises(UsageError, match=r"^give me a license$"):
        call_factory("refusing_module:made_for_this_test")
