"""The host against real entry points: folders with *.dist-info in tests/data/host_plugins, put on sys.path."""

from __future__ import annotations

import dataclasses
import importlib
import inspect
import os
import re
import subprocess
import sys
import textwrap
import types
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from robustkit.hookspecs import HOOKS, KINDS, Specs
from robustkit.host import AmbiguousName, Broken, Host, MissingLibrary, NameNotFound, Provider, default_host
from robustkit.params import ParamError, UsageError

CASES = Path(__file__).parent / "data" / "host_plugins"
Plugged = Callable[..., Host]


@pytest.fixture
def plugged(monkeypatch: pytest.MonkeyPatch) -> Iterator[Plugged]:
    """Builds a host that discovers the plugins of the named cases, and no other."""

    def build(*cases: str) -> Host:
        folders = [CASES / case for case in cases]
        assert all(folder.is_dir() for folder in folders)
        points = "\n".join(file.read_text() for folder in folders for file in folder.glob("*/entry_points.txt"))
        monkeypatch.setattr(sys, "path", [*map(str, folders), *sys.path])
        importlib.invalidate_caches()
        return Host(allow=frozenset(re.findall(r"^(\S+) *=", points, re.MULTILINE)))

    before = set(sys.modules)
    yield build
    for name in set(sys.modules) - before:
        if str(CASES) in str(getattr(sys.modules[name], "__file__", "")):
            del sys.modules[name]


def names(host: Host, provider: str) -> set[str]:
    return {r.entry.name for kind in KINDS for r in host.entries(kind) if r.provider.name == provider}


def only_failure(host: Host) -> Broken:
    (failure,) = host.broken
    return failure


def test_a_good_plugin_is_listed_with_distribution_and_version(plugged: Plugged) -> None:
    host = plugged("success")
    assert host.broken == ()
    assert host.providers[1:] == (Provider("good", "robustkit-good", "1.0", "good"),)
    assert names(host, "good") == {"sign", "pgd"}
    assert "good_parts" not in sys.modules


@pytest.mark.parametrize(
    ("case", "provider", "stage", "error"),
    [
        ("import_error", "import_error", "import", "ModuleNotFoundError: No module named 'module_that_nobody_has'"),
        ("sys_exit", "exits", "import", "SystemExit: no licence found"),
        ("base_exception", "base_exception", "import", "Odd: its message cannot be shown"),
        ("generator_raises", "generator_raises", "robustkit_attacks", "SystemExit: 3"),
        ("bare_exit_in_hook", "exit_in_hook", "robustkit_attacks", "SystemExit"),
        ("bad_entry", "bad_entry", "robustkit_attacks", "yields {'name': 'sign'}, which is no AttackEntry"),
        ("malformed_entry", "malformed_entry", "robustkit_attacks", "must be 'package.module:Attribute'"),
        ("other_kind", "other_kind", "robustkit_attacks", "which is no AttackEntry"),
        ("twice", "twice", "robustkit_attacks", "yields 'sign' twice"),
        ("single", "single", "robustkit_attacks", "not iterable"),
        ("newer_entry", "newer_entry", "robustkit_attacks", "unexpected keyword argument 'venue'"),
        ("newer_api", "newer_api", "requirement", "built for API 2 of RobustKit's hooks, this one has 1"),
        ("old_requirement", "old", "requirement", "built for robustkit <0.1, this is"),
        ("wrong_arguments", "wrong_arguments", "registration", "library"),
        ("undecorated", "undecorated", "registration", "robustkit_attacks is not decorated with robustkit.hookimpl"),
        ("nothing", "nothing", "registration", "contributes nothing"),
        ("attribute", "attribute", "discovery", "it points to 'attribute:plugin'"),
        ("bad_name", "Bad.Name", "discovery", "the name 'Bad.Name' must match"),
        ("takes_builtin", "robustkit", "discovery", "the name 'robustkit' is taken by robustkit"),
    ],
)
def test_what_fails_is_named_with_its_stage_and_breaks_nothing_else(
    plugged: Plugged, case: str, provider: str, stage: str, error: str
) -> None:
    host = plugged(case, "success")
    failure = only_failure(host)
    assert (failure.provider, failure.stage, failure.version) == (provider, stage, "1.0")
    assert failure.distribution.startswith("robustkit-")
    assert error in failure.error
    assert "\n" not in failure.error
    assert provider == "robustkit" or not names(host, provider)
    assert names(host, "good") == {"sign", "pgd"}
    assert host.find("attack", "pgd").provider.name == "robustkit"


def test_an_error_names_the_plugins_line(plugged: Plugged) -> None:
    assert only_failure(plugged("import_error")).error.endswith("import_error.py, line 3)")


def test_one_failing_hook_leaves_the_others(plugged: Plugged) -> None:
    host = plugged("hook_raises")
    failure = only_failure(host)
    assert (failure.stage, failure.error.partition(" (")[0]) == ("robustkit_attacks", "RuntimeError: the table is gone")
    assert names(host, "hook_raises") == {"works"}


def test_a_misspelt_hook_is_reported_with_the_name_it_should_have(plugged: Plugged) -> None:
    host = plugged("misspelt")
    failure = only_failure(host)
    assert failure.stage == "registration"
    assert "no hook 'robustkit_atacks'; did you mean robustkit_attacks" in failure.error
    assert names(host, "misspelt") == {"works"}


def test_of_two_plugins_of_one_name_the_second_is_broken_whatever_the_order(plugged: Plugged) -> None:
    for cases in (("same_name_a", "same_name_b"), ("same_name_b", "same_name_a")):
        host = plugged(*cases)
        failure = only_failure(host)
        assert (failure.provider, failure.distribution, failure.stage) == ("same", "robustkit-same-b", "discovery")
        assert "taken by robustkit-same-a" in failure.error
        assert names(host, "same") == {"from_a"}


def test_requirements_for_other_systems_and_extras_do_not_count(plugged: Plugged) -> None:
    host = plugged("marker")
    assert host.broken == ()
    assert names(host, "marker") == {"sign"}


def test_unreadable_metadata_is_reported_and_breaks_nothing(monkeypatch: pytest.MonkeyPatch, plugged: Plugged) -> None:
    monkeypatch.setattr(sys, "path", [str(CASES / "unreadable"), *sys.path])
    importlib.invalidate_caches()
    host = Host()
    (failure,) = [b for b in host.broken if b.distribution == "robustkit-unreadable"]
    assert (failure.stage, failure.error.startswith("unreadable metadata")) == ("discovery", True)
    assert host.find("attack", "pgd")


def test_a_folder_that_is_twice_on_the_path_counts_once(plugged: Plugged) -> None:
    plugged("success")
    host = plugged("success")
    assert host.broken == ()
    assert [p.name for p in host.providers] == ["robustkit", "good"]


def test_what_a_plugin_prints_does_not_reach_stdout(plugged: Plugged, capsys: pytest.CaptureFixture[str]) -> None:
    host = plugged("talks")
    assert names(host, "talks") == {"sign"}
    out, err = capsys.readouterr()
    assert out == ""
    assert err.split("\n")[:2] == ["hello from the import", "hello from the hook"]


def test_an_interrupt_is_no_broken_plugin() -> None:
    module = types.ModuleType("interrupted")
    exec(
        "from robustkit import hookimpl\n@hookimpl\ndef robustkit_attacks():\n    raise KeyboardInterrupt", vars(module)
    )
    with pytest.raises(KeyboardInterrupt):
        Host({"interrupted": module}, discover=False)


def test_plugins_can_be_disabled_or_chosen(plugged: Plugged, monkeypatch: pytest.MonkeyPatch) -> None:
    plugged("success", "second_pgd")
    for wanted, providers in (("", set()), ("good", {"good"}), (" good , other ", {"good", "other"})):
        monkeypatch.setenv("ROBUSTKIT_PLUGINS", wanted)
        default_host.cache_clear()
        assert {p.name for p in default_host().providers} == {"robustkit"} | providers
    monkeypatch.setenv("ROBUSTKIT_PLUGINS", "godo")
    default_host.cache_clear()
    assert only_failure(default_host()).error == "asked for, but no installed distribution has it"
    monkeypatch.delenv("ROBUSTKIT_PLUGINS")
    default_host.cache_clear()
    assert {"good", "other"} <= {p.name for p in default_host().providers}
    default_host.cache_clear()


def test_a_bare_name_is_the_built_in_or_the_only_owner(plugged: Plugged) -> None:
    host = plugged("success", "second_pgd")
    assert host.find("attack", "pgd").qualified == "robustkit.pgd"
    assert host.find("attack", "robustkit.pgd").qualified == "robustkit.pgd"
    assert host.find("attack", "good.pgd").qualified == "good.pgd"
    assert host.find("attack", "only_here").qualified == "other.only_here"
    with pytest.raises(AmbiguousName, match=r"write one of: good\.sign, other\.sign$"):
        host.find("attack", "sign")


@pytest.mark.parametrize(
    ("kind", "name", "message"),
    [
        ("attack", "pdg", "no attack is called 'pdg'; did you mean"),
        ("attack", "good.sing", "did you mean good.sign"),
        ("attack", "pgd_at", r"did you mean .* \(pgd_at is a defense\)"),
        ("attack", "zzzz", "robustkit list attacks shows them all"),
        ("attack", "exits.pgd", "plugin exits is broken, see: robustkit plugins"),
    ],
)
def test_an_unknown_name_is_answered_with_a_remedy(plugged: Plugged, kind: str, name: str, message: str) -> None:
    host = plugged("success", "sys_exit")
    with pytest.raises(NameNotFound, match=message):
        host.find(kind, name)  # type: ignore[arg-type]


def test_entries_are_sorted_the_built_in_first(plugged: Plugged) -> None:
    listed = [r.short for r in plugged("second_pgd", "success").entries("attack")]
    own = [name for name in listed if "." not in name]
    assert listed == [*sorted(own), "good.pgd", "good.sign", "other.only_here", "other.sign"]


def test_a_missing_library_is_answered_with_the_line_that_installs_it(plugged: Plugged) -> None:
    host = plugged("second_pgd")
    with pytest.raises(MissingLibrary, match="'other_missing'; install it with: pip install some-library"):
        host.build("attack", "only_here")


def test_components_that_cannot_be_had_are_usage_errors(plugged: Plugged) -> None:
    host = plugged("heavy")
    with pytest.raises(UsageError, match=r"heavy\.fails cannot be imported: AttributeError: module 'numpy' has no"):
        host.build("attack", "fails")
    for name, attribute in (("function", "function"), ("gone", "Gone")):
        with pytest.raises(
            UsageError, match=f"heavy_parts has no dataclass '{attribute}'; tell the authors of robustkit-heavy"
        ):
            host.build("attack", name)


def test_a_component_is_built_with_all_defaults_written_out(plugged: Plugged) -> None:
    component = plugged("success").build("attack", "good.sign:steps=5", {"offsets": [1, 2]})
    assert component.label == "good.sign:steps=5:offsets=1+2"
    assert component.params == {"steps": 5, "step_size": 2 / 255, "offsets": [1, 2]}
    assert component.entry.name == "sign"
    assert dataclasses.asdict(component.value) == {"steps": 5, "step_size": 2 / 255, "offsets": (1, 2)}


def test_a_label_builds_the_same_component_and_leaves_defaults_out(plugged: Plugged) -> None:
    host = plugged("success")
    assert host.build("attack", "good.sign:steps=3:step_size=2/255").label == "good.sign"
    first = host.build("attack", "good.sign:step_size=4/255:steps=9")
    assert first.label == "good.sign:steps=9:step_size=4/255"
    assert host.build("attack", first.label) == first


def test_a_parameter_given_twice_is_refused(plugged: Plugged) -> None:
    with pytest.raises(UsageError, match="steps is given twice"):
        plugged("success").build("attack", "good.sign:steps=5", {"steps": 6})
    with pytest.raises(ParamError, match=r"good.sign has no parameter 'stepz'; did you mean step_size, steps\?|steps"):
        plugged("success").build("attack", "good.sign:stepz=5")


def test_modules_can_be_given_and_their_names_are_guarded() -> None:
    module = types.ModuleType("mine")
    exec("from robustkit import ModelEntry, hookimpl\n@hookimpl\ndef robustkit_models():\n"
         "    yield ModelEntry(name='net', target='mine:Net', summary='A net.')", vars(module))  # fmt: skip
    host = Host({"mine": module, "robustkit": module, "again": module}, discover=False)
    assert names(host, "mine") == {"net"}
    assert [(b.provider, b.stage) for b in host.broken] == [("robustkit", "discovery"), ("again", "registration")]
    assert host.find("attack", "pgd").qualified == "robustkit.pgd"


@pytest.mark.parametrize("hook", sorted(HOOKS))
def test_the_example_of_each_hook_runs(hook: str) -> None:
    text = inspect.getdoc(getattr(Specs, hook)) or ""
    module = types.ModuleType("example")
    exec(textwrap.dedent(text.partition("Example:\n")[2]), vars(module))
    host = Host({"mine": module}, discover=False)
    assert host.broken == ()
    (entry,) = [r.entry for kind in KINDS for r in host.entries(kind) if r.provider.name == "mine"]
    assert type(entry) is HOOKS[hook]


def test_the_hooks_are_the_kinds() -> None:
    assert tuple(entry.kind for entry in HOOKS.values()) == KINDS
    assert {name for name in vars(Specs) if name.startswith("robustkit_")} == set(HOOKS)


def test_discovering_and_listing_imports_nothing_heavy() -> None:
    code = (
        "import sys\nfrom robustkit.host import Host\nhost = Host()\n"
        "assert any(r.qualified == 'heavy.sign' for r in host.entries('attack')), host.broken\n"
        "heavy = {'torch', 'numpy', 'pandas', 'scipy', 'torchattacks', 'foolbox', 'art', 'heavy_parts', 'rich'}\n"
        "print(sorted(heavy & set(sys.modules)))"
    )
    environment = {**os.environ, "PYTHONPATH": str(CASES / "heavy")}
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=environment, check=True)
    assert done.stdout.strip() == "[]"
