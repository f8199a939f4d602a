"""The parts of a recipe: each takes its table and the networks it is about, and gives back words for the page."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
import recipe_data
from recipe_page import Place, Trained, compared, mean, share

import robustkit
from robustkit import studies
from robustkit.api import load_model
from robustkit.engine.certify import certified
from robustkit.files import write_atomically
from robustkit.host import default_host
from robustkit.pipeline.detect import ask, verdict_record
from robustkit.pipeline.plan import settle_device
from robustkit.pipeline.subjects import kept_path
from robustkit.report.backdoors import backdoor_table, draw_pictures, verdict_words
from robustkit.report.certified_curves import Curve, certified_curves
from robustkit.report.drawing import Drawing, look, new_figure, styled
from robustkit.report.files import markdown

Step = Mapping[str, Any]
SAID = ("title", "text", "on", "data", "figures")
"""What a table says of its place on the page; all else goes to the function that it is about."""


def settings(step: Step, *more: str) -> dict[str, Any]:
    return {name: value for name, value in step.items() if name not in (*SAID, *more)}


def train(step: Step, data: str, model: str, place: Place, earlier: Sequence[Trained]) -> Trained:
    """One network, from the cache where it is known; with `start` from the weights of an earlier one."""
    given = settings(step, "name", "defense", "model", "start")
    if "start" in step:
        (start,) = (str(one.path) for one in earlier if one.name == step["start"])
        given["recipe"] = {**given.get("recipe", {}), "start": start}
    folder = place.work / "trainings" / step["name"]
    defense, model = step["defense"], step.get("model", model)
    robustkit.train(defense, directory=folder, dataset=f"recipe_data:{data}", model=model, **given)
    label = default_host().build("defense", defense).label
    found = kept_path(label, int(step.get("seed", 0)), folder)
    path = place.work / "models" / f"{step['name']}.safetensors"  # a bench calls a network as its file
    path.parent.mkdir(parents=True, exist_ok=True)
    for suffix in (".safetensors", ".json"):
        shutil.copyfile(found.with_suffix(suffix), path.with_suffix(suffix))
    return Trained(step["name"], path, data, model, json.loads(path.with_suffix(".json").read_text()))


def trainings(steps: Sequence[Step], known: Sequence[Trained]) -> str:
    """What was trained, with which settings, and how long it took."""
    rows = []
    for step, trained in zip(steps, known, strict=True):
        given = settings(step, "name", "defense", "model", "norm", "eps")
        said = [f"{name} {value}" for name, value in given.items() if name != "recipe"]
        said += [f"{name} {value}" for name, value in given.get("recipe", {}).items()]
        recipe, threat = trained.about["recipe"], trained.about["threat"]
        rows.append(
            {
                "network": trained.name,
                "defense": f"`{step['defense']}`",
                "architecture": trained.model,
                "data": trained.data,
                "against": f"{threat['norm']} {threat['eps']:.4g}",
                "epochs": recipe["epochs"],
                "set here": ", ".join(said) or "–",
                "training s": f"{trained.about['training_seconds']:.0f}",
                "collapsed in epoch": ", ".join(map(str, trained.about.get("collapsed") or [])) or "–",
            }
        )
    return markdown(pd.DataFrame(rows))


def attack(step: Step, on: Sequence[Trained], place: Place, name: str) -> str:
    """Accuracies under attacks, kept cell by cell."""
    given = settings(step)
    results = [
        robustkit.bench(
            checkpoint=str(trained.path),
            dataset=trained.dataset,
            model=trained.model,
            directory=place.work / name / trained.name,
            **given,
        )
        for trained in on
    ]
    return compared(results, place, name, step.get("figures", ["accuracies", "curves"]))


def bench(step: Step, data: str, model: str, place: Place, name: str) -> str:
    """Trainings, attacks and certificates at once."""
    given = {"dataset": f"recipe_data:{data}", "model": model, **settings(step)}
    result = robustkit.bench(directory=place.work / name, **given)
    return compared([result], place, name, step.get("figures", ["accuracies", "cost"]))


def certify(step: Step, on: Sequence[Trained], place: Place, name: str) -> str:
    """Certified counts and both means, and certified accuracy over the radius."""
    given = settings(step, "sigma")
    rows, curves, guarantee = [], [], {}
    for trained in on:
        common = {"dataset": trained.dataset, "model": trained.model, **given}
        found = robustkit.certify(
            checkpoints=[trained.path], sigma=step["sigma"], directory=place.work / name / trained.name, **common
        )
        guarantee |= found.guarantee
        for row, columns in zip(found.table.to_dict("records"), found.rows.values(), strict=True):
            rows.append({"network": trained.name, **_certified(row, columns)})
            curves.append(Curve(f"σ = {row['sigma']:g}", trained.name, columns))
    path = place.work / name / "curves.svg"
    certified_curves(curves, path)
    notes = [f"{label}: {promise}" for label, promise in guarantee.items()]
    notes.append(
        "Certified: predicted as labelled with a radius above 0. The first mean radius is over these alone, ACR over "
        "all images, 0 where nothing is certified; ± is half a 95 % interval. r: percent of images that are certified "
        "at this radius, with 95 % intervals (Wilson)."
    )
    return markdown(pd.DataFrame(rows), notes) + "\n" + place.picture(path, name, "Certified accuracy over the radius")


def _certified(row: Mapping[str, Any], columns: Mapping[str, np.ndarray]) -> dict[str, str]:
    count = len(columns["label"])
    right = (columns["prediction"] == columns["label"]) & (columns["radius"] > 0)
    told = {"σ": f"{row['sigma']:g}", "n": str(count), "certified": str(int(right.sum()))}
    told |= {"certified %": share(int(right.sum()), count), "mean radius": mean(columns["radius"][right])}
    told["ACR"] = mean(np.where(right, columns["radius"], 0.0))
    for name in row:
        if name.startswith("r=") and name != "r=0":
            told[name] = share(int(certified(columns, float(name[2:])).sum()), count)
    return told


def scan(step: Step, on: Sequence[Trained], place: Place, name: str) -> str:
    """How well a trigger works on each network, and what a detector that knows nothing of it says."""
    given = settings(step, "detector")
    records, verdicts = [], {}
    for trained in on:
        common = {"dataset": trained.dataset, "model": trained.model, "checkpoint": str(trained.path)}
        found = robustkit.bench(directory=place.work / name / trained.name, **common, **given)
        records += found.inspections
        verdicts[trained.name] = _verdict(step["detector"], trained, place, name)
    said = [backdoor_table(records)]
    rows = [{"network": key, **row} for key, record in verdicts.items() for row in record["table"]]
    words = [f"{key}: {verdict_words({**record, 'error': None})}." for key, record in verdicts.items()]
    notes = sorted({record["note"] for record in verdicts.values() if record["note"]})
    said.append(markdown(pd.DataFrame(rows), [*words, *notes]))
    said.append(place.drawn(_norms(pd.DataFrame(rows)), name))
    for trained in on:
        path = place.work / name / f"{trained.name}.png"
        said.append(
            place.picture(path, f"{name}_{trained.name.replace(' ', '-')}", f"Reversed triggers: {trained.name}")
        )
    return "\n".join(said)


def _verdict(text: str, trained: Trained, place: Place, name: str) -> dict[str, Any]:
    """What the detector said, asked once; its pictures are beside it."""
    path = place.work / name / f"{trained.name}.json"
    known: dict[str, Any] = json.loads(path.read_text()) if path.is_file() else {}
    asked = [text, trained.about["weights"]]
    if known.get("asked") != asked:
        detector = default_host().build("detector", text)
        data = getattr(recipe_data, trained.data)()
        model = load_model(trained.path).to(settle_device("auto"))
        verdict, seconds = ask(detector, model, data, seed=0)
        pictures = {
            re.sub(r"^class (\d+)", lambda found: data.classes[int(found[1])], title): picture
            for title, picture in verdict.images.items()
        }
        draw_pictures(pictures, path.with_suffix(".png"))
        known = {"asked": asked, **verdict_record(detector, verdict, seconds, None)}
        for row in known["table"]:
            row["class"] = data.classes[row["class"]]
        known["classes"] = [data.classes[k] for k in known["classes"]]
        write_atomically(path, json.dumps(known, indent=2).encode())
    return known


def _norms(rows: pd.DataFrame) -> Drawing:
    """Size of the smallest trigger of each class, a mark a network."""
    classes = list(dict.fromkeys(rows["class"]))
    with styled():
        figure = new_figure(7.2, 3.2)
        axes = figure.subplots()
        for place, (network, mine) in enumerate(rows.groupby("network", sort=False)):
            style = {**look(place), "linestyle": "none"}
            axes.plot(
                [classes.index(name) for name in mine["class"]], mine["norm"], **style, markersize=8, label=network
            )
        axes.set_xticks(range(len(classes)), classes)
        axes.set_xlim(-0.5, len(classes) - 0.5)
        axes.set_ylim(0, 1.1 * rows["norm"].max())
        axes.set_ylabel("L1 norm of the mask (pixels)")
        figure.legend(loc="outside lower center", ncols=3)
    caption = (
        "The smallest trigger that was found for each class: its mask's L1 norm. One that stands out below the others "
        "is the sign of a backdoor."
    )
    return Drawing("norms", "Size of the smallest trigger by class", caption, figure, rows)


def study(step: Step, data: str, model: str, place: Place, name: str) -> str:
    """A study's text, tables and figures; asked once."""
    folder = place.work / name
    given, images = settings(step, "name"), ""
    if "data" in step:
        given = {"dataset": f"recipe_data:{data}", "model": model, **given}
        known = getattr(recipe_data, data)()
        images = f"{known.fingerprint} {known.recipe}"
    asked = folder / "asked.json"
    key = json.dumps({"study": step["name"], "images": images, **given}, sort_keys=True)
    if not asked.is_file() or asked.read_text() != key:
        getattr(studies, step["name"])(**given).write(folder)
        write_atomically(asked, key.encode())
    lines = (folder / "study.md").read_text(encoding="utf-8").splitlines()
    said = []
    for line in lines[1:]:  # without its title
        if line.startswith("!["):
            title, _, file = line[2:-1].partition("](")
            picture = folder / file
            vector = picture.with_suffix(".svg")
            said.append(
                place.picture(vector if vector.is_file() else picture, f"{name}_{picture.stem}", title).rstrip()
            )
        else:
            said.append(f"#{line}" if line.startswith("## ") else line)
    return "\n".join(said) + "\n"
