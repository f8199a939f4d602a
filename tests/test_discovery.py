"""Requirements are judged as packaging judges them; errors are one line."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from packaging.requirements import Requirement

from robustkit.discovery import Candidate, Provider, describe, installed_version, plainly_met, requirement_complaint

RELEASES = st.lists(st.integers(0, 3), min_size=1, max_size=4).map(lambda parts: ".".join(map(str, parts)))
VERSIONS = RELEASES | st.builds("{}{}".format, RELEASES, st.sampled_from(["rc1", ".dev2", ".post1", "+local", "a1"]))
CLAUSES = st.builds("{}{}".format, st.sampled_from([">=", "<", "<=", ">", "==", "!=", "~="]), VERSIONS)


def complaint(requirement: str, version: str) -> str:
    return requirement_complaint(Candidate(Provider("p", "d", "1", "m"), (requirement,)), version)


def readable(text: str) -> bool:
    try:
        Requirement(text)
    except ValueError:
        return False
    return True


@settings(deadline=None, max_examples=400)
@given(st.lists(CLAUSES, max_size=3).map(lambda clauses: "robustkit" + ",".join(clauses)), VERSIONS)
def test_a_requirement_is_judged_as_packaging_judges_it(requirement: str, version: str) -> None:
    if not readable(requirement):
        assert "cannot be read" in complaint(requirement, version)
        return
    met = Requirement(requirement).specifier.contains(version, prereleases=True)
    assert (complaint(requirement, version) == "") == met
    if plainly_met(requirement, version):
        assert met


@pytest.mark.parametrize("version", ["0.1", "0.1.0", "0.1.9", "0.1.10"])
def test_the_usual_form_takes_the_short_way(version: str) -> None:
    assert plainly_met("robustkit>=0.1,<0.2", version)
    assert not plainly_met("robustkit>=0.1,<0.1.0", version)


def test_other_distributions_do_not_count() -> None:
    assert complaint("robustkit-art>=9", "0.1") == ""
    assert complaint("torch<0.1", "0.1") == ""
    assert "built for robustkit >=9, this is 0.1" in complaint("RobustKit>=9", "0.1")


def test_without_a_version_of_its_own_nothing_is_compared() -> None:
    assert complaint("robustkit>=9", "") == ""


def test_the_version_is_empty_where_robustkit_is_not_installed(tmp_path: Path) -> None:
    root = Path(__file__).parent.parent
    (tmp_path / "robustkit").symlink_to(root / "robustkit")
    code = (
        "import sys; from importlib import metadata; metadata.version = lambda name: (_ for _ in ()).throw("
        "metadata.PackageNotFoundError(name)); from robustkit.host import Host; h = Host();"
        "print(repr(h.providers[0].version), [b for b in h.broken if b.stage == 'requirement'])"
    )
    environment = {**os.environ, "PYTHONPATH": str(tmp_path)}
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=environment, check=True)
    assert done.stdout.strip() == "'' []"
    assert installed_version()


def test_an_error_is_one_line_with_the_place_that_raised_it() -> None:
    try:
        raise ValueError("first\n  second")
    except ValueError as error:
        text = describe(error)
    assert text.startswith(f"ValueError: first second ({__file__}, line ")
    assert describe(SystemExit()) == "SystemExit"
