"""Finds plugins by the entry points of installed distributions, and says what is wrong with them.

The loop over distributions is our own: `metadata.entry_points` fails as a whole on one malformed file, and pluggy's
loader is unguarded and skips the second of two plugins of one name in silence.
"""

from __future__ import annotations

import importlib
import os
import re
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path

import pluggy

GROUP = "robustkit"

_NAME = re.compile(r"[a-z][a-z0-9_-]*")
_RELEASE = re.compile(r"[0-9]+(\.[0-9]+)*")
_BOUND = re.compile(r"(>=|<)([0-9.]+)")
_USUAL = re.compile(r"robustkit(>=|<)[0-9]+(\.[0-9]+)*(,(>=|<)[0-9]+(\.[0-9]+)*)*")
_OURS = ("<", *(str(Path(m.__file__ or "").parent) + os.sep for m in (sys.modules[__package__], importlib, pluggy)))
_MODULE = re.compile(r"[A-Za-z_]\w*(\.[A-Za-z_]\w*)*")


@dataclass(frozen=True)
class Provider:
    """Who brings entries: the entry point's name, its distribution and version, its module."""

    name: str
    distribution: str
    version: str
    module: str


@dataclass(frozen=True)
class Broken:
    """A plugin, or a part of one, that was left out, and why.

    Args:
        provider: the entry point's name; the distribution's where it could not be read.
        distribution: that declares it.
        version: of the distribution.
        stage: "discovery", "requirement", "import", "registration", or the hook that failed.
        error: in one line.
    """

    provider: str
    distribution: str
    version: str
    stage: str
    error: str


@dataclass(frozen=True)
class Candidate:
    """An entry point before it is imported, with what its distribution requires."""

    provider: Provider
    requires: tuple[str, ...]


def candidates() -> Iterator[Candidate | Broken]:
    """What the distributions on the path declare in our group, by name, then by distribution.

    Of two installations of one distribution the first on the path counts, as it does for imports.
    """
    found: dict[tuple[str, str, str], Candidate | Broken] = {}
    owners: dict[str, metadata.Distribution] = {}
    for distribution in metadata.distributions():
        name = str(getattr(distribution, "_path", "unknown"))  # its folder leads the user to what has no name
        try:
            text = distribution.read_text("entry_points.txt") or ""
            if f"[{GROUP}]" not in text:
                continue
            name = distribution.name or name
            if owners.setdefault(_canonical(name), distribution) is not distribution:
                continue
            version, requires = distribution.version or "", tuple(distribution.requires or ())
            points = distribution.entry_points.select(group=GROUP)
        except Exception as error:
            found[name, name, ""] = Broken(name, name, "", "discovery", f"unreadable metadata: {describe(error)}")
            continue
        for point in points:
            provider = Provider(point.name, name, version, point.value)
            found[point.name, name, point.value] = Candidate(provider, requires)
    for key in sorted(found):
        yield found[key]


def name_complaint(candidate: Candidate) -> str:
    """Why this entry point cannot be taken as it is written, or nothing."""
    name, module = candidate.provider.name, candidate.provider.module
    if not _NAME.fullmatch(name):
        return f"the name {name!r} must match {_NAME.pattern}, so that it can be written before an entry's"
    if not _MODULE.fullmatch(module):
        return f"it points to {module!r}; an entry point of group {GROUP!r} names a module"
    return ""


def requirement_complaint(candidate: Candidate, version: str) -> str:
    """Why RobustKit `version` is not the one this plugin was built for, or nothing.

    pip checks this when it installs, but not when RobustKit is upgraded alone or the plugin lies on PYTHONPATH.
    Without a version (RobustKit itself is not installed) there is nothing to compare.
    """
    for text in candidate.requires:
        if not _canonical(text).startswith("robustkit") or plainly_met(text, version):
            continue
        from packaging.requirements import InvalidRequirement, Requirement

        try:
            requirement = Requirement(text)
        except InvalidRequirement as error:
            return f"requires {text!r}, which cannot be read: {describe(error)}"
        if _canonical(requirement.name) != "robustkit":
            continue
        if requirement.marker and not requirement.marker.evaluate({"extra": ""}):
            continue
        if version and not requirement.specifier.contains(version, prereleases=True):
            return f"built for robustkit {requirement.specifier}, this is {version}; upgrade one of the two"
    return ""


def plainly_met(requirement: str, version: str) -> bool:
    """Whether a requirement of the usual form "robustkit>=0.1,<0.2" is met; False also means "look closer".

    `packaging` answers all other cases; its import takes a quarter of the time of the whole discovery.
    """
    if not _USUAL.fullmatch(requirement) or not _RELEASE.fullmatch(version):
        return False
    own = _release(version)
    return all(
        own >= _release(bound) if sign == ">=" else own < _release(bound) for sign, bound in _BOUND.findall(requirement)
    )


def describe(error: BaseException) -> str:
    """An error in one line, with the line of the plugin that led to it."""
    import traceback  # only a plugin that failed needs it

    try:
        message = " ".join(str(error).split())
    except Exception:
        message = "its message cannot be shown"
    frames = [frame for frame in traceback.extract_tb(error.__traceback__) if not frame.filename.startswith(_OURS)]
    place = f" ({frames[-1].filename}, line {frames[-1].lineno})" if frames else ""
    return f"{type(error).__name__}: {message}".rstrip(": ") + place


def installed_version() -> str:
    """Of RobustKit itself; empty where it runs from a folder that was never installed."""
    try:
        return metadata.version("robustkit")
    except metadata.PackageNotFoundError:
        return ""


def _release(version: str) -> list[int]:
    numbers = [int(part) for part in version.split(".")]
    while numbers and not numbers[-1]:
        numbers.pop()  # 1.0 is 1
    return numbers


def _canonical(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()
