"""Checks that call no component: what importing a plugin does, and whether its entries tell the truth."""

from __future__ import annotations

import dataclasses
import functools
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from functools import partial
from typing import Any, get_args

from robustkit import params
from robustkit.hookspecs import AttackEntry, Kind
from robustkit.host import Host
from robustkit.testing.subject import Part, Subject

_LIST = """
import importlib, json, sys
before = set(sys.modules)
plugin = importlib.import_module(sys.argv[1])
from robustkit.hookspecs import Specs
count = sum(len(list(getattr(plugin, hook)())) for hook in vars(Specs)
            if hook.startswith("robustkit_") and hasattr(plugin, hook))
new = sorted({name.partition(".")[0] for name in set(sys.modules) - before} - set(sys.stdlib_module_names))
print(json.dumps({"count": count, "modules": new}))
"""
"""Lists a plugin in a fresh process, and tells which top-level modules that brought in."""

_IMPORT = """
import io, contextlib, importlib, json, logging, os, random, signal, sys, warnings
import numpy, scipy.stats, torch  # what RobustKit itself needs is not the plugin's doing
import robustkit.norms, robustkit.params

def state():
    return {
        "torch's generator": torch.get_rng_state().tolist(),
        "numpy's generator": str(numpy.random.get_state()),
        "python's generator": random.getstate(),
        "torch's default dtype": str(torch.get_default_dtype()),
        "gradients enabled": torch.is_grad_enabled(),
        "threads of torch": torch.get_num_threads(),
        "deterministic algorithms": torch.are_deterministic_algorithms_enabled(),
        "numpy's error handling": numpy.geterr(),
        "warning filters": [str(f) for f in warnings.filters],
        "root logger": (logging.root.level, len(logging.root.handlers)),
        "environment": dict(os.environ),
        "working directory": os.getcwd(),
        "interrupt handler": str(signal.getsignal(signal.SIGINT)),
        "excepthook": str(sys.excepthook),
        "trace function": str(sys.gettrace()),
    }

before = state()
out, err = io.StringIO(), io.StringIO()
filters = list(warnings.filters)
shown = []
warnings.showwarning = lambda message, category, *rest: shown.append(f"{category.__name__}: {message}")
with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
    for target in json.loads(sys.argv[1]):
        importlib.import_module(target)
after = state()
changed = [name for name in before if before[name] != after[name]]
said = [text.strip()[:300] for text in (out.getvalue(), err.getvalue()) if text.strip()]
print(json.dumps({"changed": changed, "said": said, "warned": shown}))
"""
"""Imports all targets in a fresh process, and tells what that changed or said."""


def plugin_parts(host: Host, provider: str) -> Iterator[Part]:
    yield Part("listed_without_import", partial(_listed_without_import, host, provider))
    yield Part("import_changes_nothing", partial(_import_changes_nothing, host, provider))
    yield Part("import_is_silent", partial(_import_is_silent, host, provider))


def entry_parts(subject: Subject) -> Iterator[Part]:
    yield Part("entry_is_true", partial(_entry_is_true, subject))
    yield Part("parameters_described", partial(_parameters_described, subject))
    yield Part("parameters_roundtrip", partial(_parameters_roundtrip, subject))


def _listed_without_import(host: Host, provider: str) -> None:
    module = next(p.module for p in host.providers if p.name == provider)
    result = _fresh_process(_LIST, module)
    allowed = {"robustkit", "pluggy", module.partition(".")[0]}
    extra = [name for name in result["modules"] if name not in allowed and not name.startswith("_")]
    assert not extra, f"listing {module} imports {', '.join(extra)}; it may import robustkit.hookspecs alone"
    assert result["count"], f"{module} offers no entry"


def _import_changes_nothing(host: Host, provider: str) -> None:
    changed = _import_targets(_modules(host, provider))["changed"]
    assert not changed, f"importing the components changes: {', '.join(changed)}"


def _import_is_silent(host: Host, provider: str) -> None:
    result = _import_targets(_modules(host, provider))
    assert not result["said"], f"importing the components prints: {result['said']}"
    assert not result["warned"], f"importing the components warns: {result['warned']}"


def _modules(host: Host, provider: str) -> tuple[str, ...]:
    return tuple(
        sorted(
            {
                registered.entry.target.partition(":")[0]
                for kind in get_args(Kind)
                for registered in host.entries(kind)
                if registered.provider.name == provider
            }
        )
    )


@functools.cache
def _import_targets(modules: tuple[str, ...]) -> dict[str, Any]:
    return _fresh_process(_IMPORT, json.dumps(modules))


def _fresh_process(script: str, argument: str) -> dict[str, Any]:
    path = os.pathsep.join(entry for entry in sys.path if entry)
    done = subprocess.run(
        [sys.executable, "-c", script, argument],
        capture_output=True,
        text=True,
        env={**os.environ, "PYTHONPATH": path},
        check=False,
    )
    assert done.returncode == 0, f"the import fails in a fresh process: {done.stderr.strip()[-800:]}"
    loaded: dict[str, Any] = json.loads(done.stdout.strip().splitlines()[-1])
    return loaded


def _entry_is_true(subject: Subject) -> None:
    entry = subject.entry
    component = subject.host.resolve(subject.registered)
    where = entry.target
    assert component.__dataclass_params__.frozen, f"{where} is not frozen"
    assert callable(component.__call__), f"{where} has no __call__"
    positional = [f.name for f in dataclasses.fields(component) if f.init and not f.kw_only]
    assert not positional, f"{where} takes {', '.join(positional)} by position; use kw_only=True"
    if isinstance(entry, AttackEntry):
        names = {f.name for f in dataclasses.fields(component)}
        has = "targeted" in names
        assert has == entry.targeted, f"{entry.name} declares targeted={entry.targeted}, its fields say {has}"
        unwanted = names & {"eps", "epsilon", "norm"}
        assert not unwanted, f"{', '.join(unwanted)}: the threat model is the bench's, not a parameter"
    subject.build()


def _parameters_described(subject: Subject) -> None:
    silent = [row.name for row in params.describe(subject.host.resolve(subject.registered)) if not row.help]
    assert not silent, f"no help for {', '.join(silent)}; declare them with robustkit.params.param"


def _parameters_roundtrip(subject: Subject) -> None:
    component = subject.build()
    text = json.dumps(params.to_plain(component), allow_nan=False)
    again = params.build(type(component), json.loads(text), subject.entry.name)
    assert again == component, f"{component} comes back from JSON as {again}"
