"""What the page says, as plain values: sentences, the main table, details of every cell."""

from __future__ import annotations

import math
from collections.abc import Hashable, Mapping, Sequence
from typing import Any

import pandas as pd

from robustkit.contracts import Threat
from robustkit.report.format import FAILED, MISSING, number, percent
from robustkit.tables import WORST, Record, attack_columns, certified_columns, over_seeds, radii_of
from robustkit.values import as_text

_BALLS = {
    "linf": "change every pixel value by at most {}",
    "l2": "move an image by a Euclidean distance of at most {}",
    "l1": "change the pixel values of an image by at most {} in sum",
    "l0": "set at most {} values of an image to anything",
}
_KNOWLEDGE = {
    "white-box": "know the network and its gradients",
    "score": "see the network's scores alone",
    "decision": "see the predicted class alone",
}
_HELP = {"clean": "Accuracy on clean test images.", WORST: "Right under every attack, sample by sample."}
_COSTS = (
    ("ASR", "success rate", "Attack success rate: share of what was right before that the attacks brought down."),
    ("passes", "passes", "Forward and backward passes a sample, over all attacks."),
    ("attack s", "seconds", "Seconds that all attacks took."),
    ("training s", "training seconds", "Seconds that training took."),
    ("violations", "violations", "Adversarial inputs that left ball or box and were projected back."),
)


def question(records: Sequence[Record]) -> str:
    """What was asked, in a sentence."""
    models = list(dict.fromkeys(r["subject"]["label"] for r in records))
    attacks = list(dict.fromkeys(r["component"]["label"] for r in records if r["kind"] == "attack"))
    seeds = len({r["subject"]["seed"] for r in records})
    data = records[0]["dataset"]
    each = f", each trained with {seeds} seeds" if seeds > 1 else ""
    judged = (
        f"attacked in {len(attacks)} {'way' if len(attacks) == 1 else 'ways'}" if attacks else "judged on clean images"
    )
    are = "model was" if len(models) == 1 else "models were"
    drawn = any("sampled" in record for record in records)
    which = f"{data['n']:,} test images, drawn at random," if drawn else f"the first {data['n']:,} test images"
    return (
        f"{len(models)} {are} {judged} on {which} of {data['name']}; "
        f"architecture {records[0]['subject']['model']}{each}."
    )


def threat_sentence(records: Sequence[Record]) -> str:
    """The threat model, in a sentence."""
    norm = records[0]["threat"]["norm"]
    radii = radii_of(records) or [records[0]["threat"]["eps"]]
    sizes = [_radius(norm, eps) for eps in radii]
    words = sizes[0] if len(sizes) == 1 else f"{', '.join(sizes[:-1])} or {sizes[-1]}"
    scale = "" if norm == "l0" else " on the scale of [0, 1]"
    known = dict.fromkeys(r["component"].get("knowledge") for r in records if r["kind"] == "attack")
    ways = [_KNOWLEDGE[kind] for kind in _KNOWLEDGE if kind in known]
    who = f" Attacks here {'; others '.join(ways)}." if ways else ""
    return f"The adversary may {_BALLS[norm].format(words)}{scale}, and stays inside [0, 1].{who}"


def headline(records: Sequence[Record], table: pd.DataFrame) -> list[dict[str, str]]:
    """A few large numbers: best worst case, best clean accuracy, cells, violations."""
    tiles = []
    attacks = attack_columns(records)
    for title, name in (("most robust", attacks[-1] if attacks else None), ("most accurate on clean images", "clean")):
        if name is not None and table[name].notna().any():
            row = max(table.dropna(subset=name).to_dict("records"), key=lambda each: float(each[name]))
            about = f"{row['defense']}, {'clean' if name == 'clean' else name}"
            tiles.append({"title": title, "value": f"{percent(row[name])} %", "text": f"{about} {_bounds(row, name)}"})
    failed = sum(record["status"] != "ok" for record in records)
    tiles.append(
        {
            "title": "measurements",
            "value": str(len(records)),
            "text": f"{failed} failed" if failed else "none failed",
        }
    )
    broke = int(table["violations"].sum())
    tiles.append({"title": "violations", "value": str(broke), "text": "inputs outside ball or box, projected back"})
    return tiles


def columns(records: Sequence[Record], table: pd.DataFrame) -> list[dict[str, str]]:
    """Headers of the main table, with what they mean."""
    names = [{"name": "defense", "help": "How the model was trained or wrapped."}]
    if _seeds(table):
        names.append({"name": "seed", "help": "Of the training."})
    for name in _shares(records):
        names.append({"name": name, "help": _help(name)})
    return (
        names
        + [{"name": short, "help": text} for short, _, text in _COSTS]
        + [{"name": "flags", "help": "What to know before believing a number."}]
    )


def rows(records: Sequence[Record], table: pd.DataFrame) -> list[list[dict[str, Any]]]:
    """Cells of the main table: text, a second line, a value to sort by (None: last), length of a bar, class."""
    names = _shares(records)
    marked = flags(records)
    best = {name: table[name].max() for name in names}
    made = []
    for row in table.to_dict("records"):
        cells: list[dict[str, Any]] = [_plain(row["defense"], row["defense"], "name")]
        if _seeds(table):
            cells.append(_plain(str(row["seed"]), row["seed"], ""))
        cells += [_share(row, name, best[name]) for name in names]
        cells += _costs(row)
        mine = marked.get((row["defense"], row["seed"]), [])
        cells.append(_plain("", len(mine), "flags") | {"flags": mine})
        made.append(cells)
    if _seeds(table):
        made += [_over(row, names) for row in over_seeds(table).to_dict("records")]
    return made


def flags(records: Sequence[Record]) -> dict[tuple[str, int], list[tuple[str, str]]]:
    """By defense and seed: what to know of a model before believing its numbers, short and in a sentence."""
    found: dict[tuple[str, int], list[tuple[str, str]]] = {}
    for record in records:
        subject = record["subject"]
        mine = found.setdefault((subject["label"], subject["seed"]), [])
        if subject.get("obfuscates"):
            mine.append(("hides gradients", "Attacks that follow gradients overrate it."))
        if subject.get("collapsed"):
            epochs = ", ".join(map(str, subject["collapsed"]))
            mine.append(("collapsed", f"Catastrophic overfitting in training, epoch {epochs}."))
        if record["status"] != "ok":
            mine.append(("error", "A measurement failed; its reason stands in the details."))
        if record["metrics"].get("violations"):
            mine.append(("violations", "Adversarial inputs left ball or box and were projected back."))
        if record["restored"]:
            mine.append(("restored", "A plugin left the model changed; the host put it back."))
    return {key: list(dict.fromkeys(mine)) for key, mine in found.items()}


def details(records: Sequence[Record]) -> list[dict[str, Any]]:
    """Of every model its cells: who measured what, with which parameters, at which cost."""
    models: dict[tuple[str, int], dict[str, Any]] = {}
    for record in records:
        subject = record["subject"]
        model = models.setdefault(
            (subject["label"], subject["seed"]),
            {
                "label": subject["label"],
                "seed": subject["seed"],
                "weights": (subject.get("weights") or "")[:12],
                "defense": _component(subject.get("defense")),
                "cells": [],
            },
        )
        model["cells"].append(_cell(record))
    return list(models.values())


def _shares(records: Sequence[Record]) -> list[str]:
    """Columns of accuracies; what matters most comes first, where a phone shows it."""
    attacks = attack_columns(records)
    worst = attacks[-len(radii_of(records)) :] if attacks else []
    return ["clean", *worst, *certified_columns(records), *attacks[: len(attacks) - len(worst)]]


def _help(name: str) -> str:
    if name.startswith("certified "):
        return "Predicted as labelled, with a certified radius of at least ε."
    return _HELP.get(name.partition(" @ ")[0], "Accuracy under this attack.")


def _cell(record: Record) -> dict[str, Any]:
    component, metrics = record["component"], record["metrics"]
    passes = MISSING
    if "forwards" in metrics:
        passes = f"{metrics['forwards']:.0f} + {metrics['backwards']:.0f}"
    elif "mean_passes" in metrics:
        passes = f"{metrics['mean_passes']:.0f}"
    certified = metrics.get(f"certified_accuracy@{record['threat']['eps']:g}")
    share = metrics.get("robust_accuracy", metrics.get("clean_accuracy", certified))
    eps = "any ε" if component and component.get("goal") == "minimal" else str(Threat(**_threat(record)))
    distance = metrics.get("median_distance")
    return {
        "label": component["label"] if component else record["kind"],
        **_component(component),
        "threat": eps if component else MISSING,
        "share": MISSING
        if share is None or (component and component.get("goal") == "minimal")
        else f"{percent(share)} %",
        "distance": MISSING if distance is None else f"{distance:.3g}",
        "passes": passes,
        "seconds": MISSING if record["seconds"] is None else number(record["seconds"], 2),
        "precision": record["precision"] or MISSING,
        "violations": str(metrics.get("violations", MISSING)),
        "restored": ", ".join(record["restored"]),
        "status": record["status"],
        "error": record["error"],
        "traceback": "\n".join(record.get("traceback", [])),
    }


def _component(component: Mapping[str, Any] | None) -> dict[str, str]:
    """Provider with the libraries it wraps, and parameters."""
    if not component:
        return {"provider": "", "params": ""}
    libraries = [f"{name} {version}" for name, version in sorted(component.get("libraries", {}).items())]
    return {
        "provider": ", ".join([f"{component['distribution']} {component['version']}", *libraries]),
        "params": ", ".join(
            f"{key}={as_text(value)}" for key, value in sorted(component.get("params", {}).items()) if value is not None
        ),
    }


def _threat(record: Record) -> dict[str, Any]:
    return {"norm": record["threat"]["norm"], "eps": record["threat"]["eps"]}


def _radius(norm: str, eps: float) -> str:
    return str(Threat(norm, eps)).partition("eps=")[2]  # type: ignore[arg-type]


def _seeds(table: pd.DataFrame) -> bool:
    return bool(table["seed"].nunique() > 1)


def _plain(text: str, value: Any, kind: str) -> dict[str, Any]:
    return {"text": text, "sub": "", "value": value, "bar": None, "kind": kind, "flags": []}


def _share(row: Mapping[Hashable, Any], name: str, best: float) -> dict[str, Any]:
    value = row[name]
    if math.isnan(value):
        whole = name == "clean" or name.startswith(WORST)
        failed = row["status"] != "ok" if whole else row.get(f"{name} status") == "error"
        return _plain(FAILED if failed else MISSING, None, "error" if failed else "missing")
    kind = "share best" if value == best else "share"
    return {**_plain(percent(value), value, kind), "sub": _bounds(row, name), "bar": f"{100 * value:.1f}"}


def _bounds(row: Any, name: str) -> str:
    return f"[{percent(row[f'{name} low'])}, {percent(row[f'{name} high'])}]"


def _costs(row: Mapping[Hashable, Any]) -> list[dict[str, Any]]:
    cells = []
    for short, name, _ in _COSTS:
        value = row[name]
        if math.isnan(value):
            cells.append(_plain(MISSING, None, "missing"))
        else:
            text = percent(value) if short == "ASR" else number(value, 1 if short.endswith(" s") else 0)
            cells.append(_plain(text, value, "warn" if short == "violations" and value else "number"))
    return cells


def _over(row: Mapping[Hashable, Any], names: Sequence[str]) -> list[dict[str, Any]]:
    """Mean ± standard deviation over seeds."""
    cells = [_plain(row["defense"], row["defense"], "name"), _plain(f"mean ± sd of {row['seeds']}", 10**9, "")]
    for name in names:
        if math.isnan(row[name]):
            cells.append(_plain(FAILED if row["status"] != "ok" else MISSING, None, "error"))
        else:
            cells.append(_plain(f"{percent(row[name])} ± {percent(row[f'± {name}'])}", row[name], "share"))
    return [*cells, *_costs(row), _plain("", None, "flags")]
