"""Writes docs/coverage.md: every class of the wrapped libraries, and what came of it in the conformance kit.

    python docs/write_coverage.py [PLUGIN ...]

Runs all checks of the installed plugins, which takes a quarter of an hour on two cores.
"""

from __future__ import annotations

import importlib
import sys
from collections import Counter
from collections.abc import Mapping
from importlib import metadata
from pathlib import Path

from robustkit import testing
from robustkit.host import default_host

PAGE = Path(__file__).parent / "coverage.md"
PLUGINS = {
    "torchattacks": "torchattacks",
    "foolbox": "foolbox",
    "art": "adversarial-robustness-toolbox",
    "pyautoattack": "pyautoattack",
}


def classes(plugin: str) -> tuple[dict[str, tuple[str, ...]], dict[str, str]]:
    """Entry → classes of the library, and class → why it is no entry."""
    try:
        module = importlib.import_module(f"robustkit_{plugin}.coverage")
    except ModuleNotFoundError:
        return {}, {}
    covers: Mapping[str, str | tuple[str, ...]] = getattr(module, "COVERS", None) or module.WRAPS
    plain = {name: (found,) if isinstance(found, str) else tuple(found) for name, found in covers.items()}
    return plain, dict(module.UNSUPPORTED)


def section(plugin: str) -> str:
    """The table of one library."""
    covers, unsupported = classes(plugin)
    outcomes: dict[str, Counter[str]] = {}
    reasons: dict[str, set[str]] = {}
    for outcome in testing.run(plugin):
        entry = outcome.check.entry
        outcomes.setdefault(entry, Counter())[outcome.status] += 1
        if outcome.status != "passed":
            reasons.setdefault(entry, set()).add(f"{outcome.check.name}: {' '.join(outcome.reason.split())}")
        sys.stderr.write(f"{outcome.check.id}: {outcome.status}\n")
    host = default_host()
    rows = []
    for kind in ("attack", "defense", "certifier", "detector", "poison"):
        for registered in host.entries(kind):  # type: ignore[arg-type]
            if registered.provider.name != plugin:
                continue
            name = registered.entry.name
            counts = outcomes.get(name, Counter())
            failed = counts["failed"] + counts["passed unexpectedly"]
            rows.append(
                {
                    "entry": f"`{registered.qualified}` ({kind})",
                    "classes": ", ".join(covers.get(name, ())) or "–",
                    "status": "fails" if failed else "works",
                    "checks": f"{counts['passed']} hold, {counts['expected failure']} expected to fail, {failed} fail",
                    "limits": "; ".join([registered.entry.notes, *sorted(reasons.get(name, ()))]).strip("; ") or "–",
                }
            )
    out = [f"## {PLUGINS[plugin]} {metadata.version(PLUGINS[plugin])}\n", table(rows)]
    if unsupported:
        out.append("No entry:\n")
        out.append(table([{"class": k, "reason": v} for k, v in sorted(unsupported.items())]))
    return "\n".join(out)


def table(rows: list[dict[str, str]]) -> str:
    """Markdown without padding, for the columns are of very different widths."""
    lines = [list(rows[0]), ["---"] * len(rows[0]), *([text.replace("|", "\\|") for text in row.values()] for row in rows)]
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)


def main() -> None:
    head = (
        "# Coverage\n\nEvery class of the wrapped libraries: as which entry it is offered, what the conformance kit says "
        "of it, or why it is no entry. Written by `python docs/write_coverage.py` from a run of the kit.\n"
    )
    PAGE.write_text("\n".join([head, *(section(plugin) for plugin in sys.argv[1:] or PLUGINS)]), encoding="utf-8")


if __name__ == "__main__":
    main()
