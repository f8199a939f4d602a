"""`robustkit info`: what stands there is what the component has."""

from __future__ import annotations

import subprocess
from collections.abc import Callable

from robustkit.host import Host
from robustkit.params import describe

Run = Callable[..., "subprocess.CompletedProcess[str]"]


def test_an_entry_is_shown_with_all_its_parameters(run: Run) -> None:
    out = run("info", "pgd").stdout
    host = Host(discover=False)
    registered = host.find("attack", "pgd")
    assert out.startswith(f"pgd (attack): {registered.entry.summary}\n")
    for line in ("knowledge      white-box", "goal           budget", "norms          l1, l2, linf"):
        assert line in out.splitlines()
    assert "https://arxiv.org/abs/1706.06083" in out
    assert "robustkit/attacks/pgd.py" in out.replace("\\", "/")
    for row in describe(host.resolve(registered)):
        (line,) = [line for line in out.splitlines() if line.startswith(f"| {row.name} |")]
        assert row.help.replace("|", "\\|") in line
        assert f"| {row.default} |" in line


def test_units_and_ranges_are_shown(run: Run) -> None:
    out = run("info", "good.sign", cases=("success",), plugins="good").stdout
    assert "| steps | int | 3 |  | at least 1 | steps taken |" in out
    assert "| step_size | float | 2/255 | input units | between 0 and 1 | length of a step |" in out
    assert "provider       robustkit-good 1.0" in out


def test_a_name_of_two_kinds_shows_both(run: Run) -> None:
    out = run("info", "noise").stdout
    assert "noise (attack): " in out
    assert "noise (defense): " in out


def test_parameters_after_the_name_do_not_matter(run: Run) -> None:
    done = run("info", "good.sign:steps=50", cases=("success",), plugins="good")
    assert done.stdout.startswith("good.sign (attack): One step.")
    assert "| steps | int | 3 |" in done.stdout


def test_a_missing_library_leaves_the_facts_and_says_how_to_install_it(run: Run) -> None:
    done = run("info", "other.only_here", cases=("second_pgd",), plugins="other")
    assert done.returncode == 2
    assert done.stdout.startswith("other.only_here (attack): One step.")
    assert "install it with: pip install some-library" in done.stderr
    assert done.stderr.count("\n") == 1


def test_an_ambiguous_name_lists_the_candidates(run: Run) -> None:
    done = run("info", "sign", cases=("success", "second_pgd"), plugins="good,other")
    assert done.returncode == 2
    assert "write one of: good.sign, other.sign" in done.stderr
