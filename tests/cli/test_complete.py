"""Completion, asked as the shell asks."""

from __future__ import annotations

import subprocess
from collections.abc import Callable

import pytest

from robustkit.cli.complete import complete

Run = Callable[..., "subprocess.CompletedProcess[str]"]


def asked(run: Run, words: str) -> list[str]:
    """What bash gets for the last of `words`."""
    environment = {
        "_ROBUSTKIT_COMPLETE": "complete_bash",
        "COMP_WORDS": words,
        "COMP_CWORD": str(len(words.split(" ")) - 1),
    }
    done = run(cases=("success", "sys_exit"), plugins="good,exits", env=environment)
    assert done.stderr == ""
    return done.stdout.split()


@pytest.mark.parametrize(
    ("words", "offered"),
    [
        ("robustkit pl", ["plugins"]),
        ("robustkit list at", ["attacks"]),
        ("robustkit info pg", ["pgd", "pgd_at"]),
        ("robustkit info good.", ["good.pgd", "good.sign"]),
        ("robustkit plugins check g", ["good"]),
        ("robustkit info zzz", []),
    ],
)
def test_names_are_offered(run: Run, words: str, offered: list[str]) -> None:
    assert asked(run, words) == offered


def test_the_last_name_of_a_list_is_completed() -> None:
    attacks = complete("attack")
    assert [name for name, _ in attacks("fgsm,linear")] == ["fgsm,linear_exact"]
    assert ("pgd", "Projected gradient descent from random starts.") in attacks("")
    assert all(name.startswith("fgsm,") for name, _ in attacks("fgsm,"))
