"""A zoo of clean and backdoored networks, and what every detector says of them.

    python benchmarks/backdoor_zoo.py train --work DIR --clean 40 --each 10
    python benchmarks/backdoor_zoo.py judge --work DIR
    python benchmarks/backdoor_zoo.py published --work DIR --data-dir DATA
    python benchmarks/backdoor_zoo.py report --work DIR

Small CNNs on mnist_10k, each from a seed of its own. A backdoored one counts only where its attack success rate is at
least 0.9. Every stage goes on where it was stopped. Clean models are split into two halves before anything is
measured: even numbers calibrate (they are the reference of the p-values), odd numbers are judged; backdoored
models are only judged. `published` judges backdoored CIFAR-10 networks that others trained, as far as DATA has them.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
from machine import stated
from reference_networks import elu_blocks

from robustkit.contracts import Data, Threat, Training
from robustkit.data.load import load_data
from robustkit.data.splits import ArraySplit, Subset, fingerprint
from robustkit.engine.backdoor import backdoor_success
from robustkit.engine.guard import guarded
from robustkit.engine.statistics import wilson
from robustkit.host import Host, default_host
from robustkit.models.build import build_model
from robustkit.models.weights import load_checkpoint, save_weights
from robustkit.pipeline.keys import seed_of
from robustkit.poisons.manifest import manifest
from robustkit.poisons.planting import goal

FAMILIES = {
    "patch": "badnets:target={target}:rate=0.05:place={place}",
    "blended": "blended:target={target}:rate=0.05:pattern_seed={seed}",
    "sig": "sig:target={target}:rate=0.05:delta=0.2:clean_label=false",
    "wanet": "wanet:target={target}:rate=0.25:strength=3:field_seed={seed}",
    "all_to_all": "badnets:mode=all_to_all:rate=0.3:size=4",
}
PLACES = ("bottom_right", "bottom_left", "top_right", "top_left")
EPOCHS = 4
LEAST_ASR = 0.9
DATASET = "mnist_10k"


def name_of(family: str, number: int) -> str:
    return f"{family}-{number:03d}"


def poison_text(family: str, number: int) -> str:
    text = FAMILIES[family]
    return text.format(target=number % 10, seed=number, place=PLACES[number % len(PLACES)])


def train_zoo(work: Path, clean: int, each: int) -> None:
    """Train what is missing, families in turn, so that a zoo that was stopped is balanced."""
    host = default_host()
    data = load_data(DATASET, host=host)
    x, y = data.test.batch(torch.arange(len(data.test)))
    wanted = [("clean", number) for number in range(clean)]
    for number in range(each):
        at = min(len(wanted), (number + 1) * (clean // each) + number * len(FAMILIES))
        wanted[at:at] = [(family, number) for family in FAMILIES]
    for family, number in wanted:
        weights = work / f"{name_of(family, number)}.safetensors"
        if weights.with_suffix(".json").is_file():
            continue
        seed = seed_of(f"zoo/{family}", number)
        poison = None if family == "clean" else host.build("poison", poison_text(family, number)).value
        train = data.train
        if poison is not None:
            train = poison(train, torch.Generator().manual_seed(seed))
        recipe = dataclasses.replace(data.recipe, epochs=EPOCHS)
        training = Training(threat=data.threat, recipe=recipe, seed=seed, precision="fp32")
        began = time.perf_counter()
        model = build_model("cnn", data, host=host, seed=seed)
        defense = host.build("defense", "standard").value
        model = defense(model, dataclasses.replace(data, train=train), training).eval()
        about: dict[str, Any] = {"name": weights.stem, "family": family, "number": number, "seed": seed}
        with torch.no_grad():
            about["accuracy"] = float((model(x).argmax(1) == y).float().mean())
            if poison is not None:
                success = backdoor_success(model(poison.trigger(x)).argmax(1), y, goal(poison, y, 10)[0])
                about |= {"asr": success.asr.value, "ra": success.ra.value, "poison": poison_text(family, number)}
                about["manifest"] = manifest(family, poison, data.train, train, seed=seed)
        about["seconds"] = time.perf_counter() - began
        save_weights(model, weights)
        weights.with_suffix(".json").write_text(json.dumps(about))
        print(about["name"], f"accuracy {about['accuracy']:.3f}", f"ASR {about.get('asr', 0):.3f}", flush=True)


def models(work: Path) -> list[dict[str, Any]]:
    """What was trained, numbers in turn."""
    found = [json.loads(path.read_text()) for path in sorted(work.glob("*-[0-9][0-9][0-9].json"))]
    share = {family: sum(a["family"] == family for a in found) for family in {a["family"] for a in found}}
    return sorted(found, key=lambda about: ((about["number"] + 0.5) / share[about["family"]], about["family"]))


def poisoned_data(about: dict[str, Any], data: Data, host: Host) -> Data:
    """What a detector of the training set is given."""
    if "poison" not in about:
        return data
    poison = host.build("poison", about["poison"]).value
    return dataclasses.replace(data, train=poison(data.train, torch.Generator().manual_seed(about["seed"])))


def judge_zoo(work: Path, detectors: list[str], train_images: int) -> None:
    """Ask every detector of scope "model" or "dataset" about every model, once."""
    host = default_host()
    data = load_data(DATASET, host=host)
    records = work / "verdicts.jsonl"
    lines = records.read_text().splitlines() if records.is_file() else []
    done = {(record["model"], record["detector"]) for record in map(json.loads, lines)}
    for text in detectors:
        component = host.build("detector", text)
        for about in models(work):
            if (about["name"], text) in done or about.get("asr", 1.0) < LEAST_ASR:
                continue
            model = build_model("cnn", data, host=host, seed=0)
            load_checkpoint(model, work / f"{about['name']}.safetensors")
            given = data
            if component.entry.scope == "dataset":  # type: ignore[attr-defined]
                given = poisoned_data(about, data, host)
                given = dataclasses.replace(given, train=Subset(given.train, torch.arange(train_images)))
            began, cpu = time.perf_counter(), time.process_time()
            with guarded(model.eval(), about["seed"]):
                verdict = component.value(model, given)
            record = {
                "model": about["name"],
                "family": about["family"],
                "number": about["number"],
                "detector": text,
                "target": (about.get("manifest") or {}).get("target"),
                "seconds": time.perf_counter() - began,
                "cpu_seconds": time.process_time() - cpu,
                "table": list(verdict.table) if component.entry.scope == "model" else [],  # type: ignore[attr-defined]
                "score": float(verdict.score) if component.entry.scope == "model" else None,  # type: ignore[attr-defined]
                "p": verdict.p_value,
                "classes": list(verdict.classes),
            }
            if component.entry.scope == "dataset":  # type: ignore[attr-defined]
                record |= sample_metrics(verdict, given, data, about, train_images)
            with records.open("a") as file:
                file.write(json.dumps(record) + "\n")
            print(
                record["model"],
                text,
                record["score"],
                record["p"],
                record["classes"],
                f"{record['seconds']:.1f} s",
                flush=True,
            )


def sample_metrics(verdict: Any, given: Data, data: Data, about: dict[str, Any], count: int) -> dict[str, Any]:
    """How well the samples that were marked stand out, and the model's score: the largest share a class flags."""
    score, flagged = torch.as_tensor(verdict.score).double(), torch.as_tensor(verdict.flagged)
    index = torch.arange(count)
    changed = torch.zeros(count, dtype=torch.bool)
    if "poison" in about:
        before, after = data.train.batch(index), given.train.batch(index)
        changed = (before[0] != after[0]).flatten(1).any(1) & (before[1] != after[1])
        if about["family"] == "sig":
            changed = (before[0] != after[0]).flatten(1).any(1)
    rows = {row["class"]: row for row in verdict.table}
    worst = max(rows.values(), key=lambda row: row["score"])
    return {
        "score": worst["score"],
        "classes": [worst["class"]],
        "sample_auroc": auroc(score[changed].tolist(), score[~changed].tolist()) if bool(changed.any()) else None,
        "flagged_poison": float(flagged[changed].double().mean()) if bool(changed.any()) else None,
        "flagged_clean": float(flagged[~changed].double().mean()),
    }


def judge_published(work: Path, data_dir: Path, text: str) -> None:
    """Ask one detector about the published networks; what each was made to say is the number that ends its name."""
    host = default_host()
    with np.load(data_dir / "cifar10" / "test.npz") as arrays:
        images = torch.from_numpy(arrays["x"][:500])
        labels = torch.from_numpy(arrays["y"][:500].astype(np.int64))
    split = ArraySplit(images, labels)
    data = Data(
        name="cifar10",
        classes=tuple(str(k) for k in range(10)),
        shape=(3, 32, 32),
        threat=Threat("linf", 8 / 255),
        train=split,
        val=split,
        test=split,
        fingerprint=fingerprint(split),
    )
    records = work / "published.jsonl"
    lines = records.read_text().splitlines() if records.is_file() else []
    done = {(record["model"], record["detector"]) for record in map(json.loads, lines)}
    for weights in sorted((data_dir / "backdoored" / "cifar10").glob("*.safetensors")):
        if (weights.stem, text) in done:
            continue
        model = elu_blocks().eval()
        load_checkpoint(model, weights)
        began, cpu = time.perf_counter(), time.process_time()
        with guarded(model, 0):
            verdict = host.build("detector", text).value(model, data)
        record = {
            "model": weights.stem,
            "detector": text,
            "target": int(weights.stem.rpartition("_")[2]),
            "seconds": time.perf_counter() - began,
            "cpu_seconds": time.process_time() - cpu,
            "p": verdict.p_value,
            "flagged": bool(verdict.flagged),
            "classes": list(verdict.classes),
            "table": list(verdict.table),
        }
        with records.open("a") as file:
            file.write(json.dumps(record) + "\n")
        print(record["model"], text, record["p"], record["classes"], f"{record['cpu_seconds']:.0f} CPU s", flush=True)


def published_lines(work: Path) -> list[str]:
    """What was said of the published networks, a table; nothing where none was judged."""
    path = work / "published.jsonl"
    if not path.is_file():
        return []
    found = [json.loads(line) for line in path.read_text().splitlines()]
    lines = ["", f"Backdoored CIFAR-10 networks that others trained (six convolutions), {len(found)} verdicts:", ""]
    lines += [
        "| network | detector | target | class named | flagged | p | norm there | other norms | CPU s |",
        "|" + " --- |" * 9,
    ]
    for record in found:
        norms = {row["class"]: row.get("norm") for row in record["table"]}
        others = sorted(norm for k, norm in norms.items() if k != record["target"])
        lines.append(
            f"| {record['model']} | {record['detector']} | {record['target']} | {record['classes'][0]} | "
            f"{'yes' if record['flagged'] else 'no'} | {record['p']:.2g} | {norms[record['target']]:.1f} | "
            f"{others[0]:.1f} to {others[-1]:.1f} | {record['cpu_seconds']:.0f} |"
        )
    return lines


def auroc(positive: list[float], negative: list[float]) -> float:
    """Share of pairs in the right order, ties count half (Mann & Whitney 1947)."""
    p, n = np.asarray(positive)[:, None], np.asarray(negative)[None, :]
    return float(((p > n) + 0.5 * (p == n)).mean())


def bootstrap(positive: list[float], negative: list[float], draws: int = 2000) -> tuple[float, float]:
    """Percentile interval of the AUROC, models drawn anew on both sides."""
    generator = np.random.default_rng(0)
    p, n = np.asarray(positive), np.asarray(negative)
    found = [auroc(generator.choice(p, len(p)).tolist(), generator.choice(n, len(n)).tolist()) for _ in range(draws)]
    return float(np.quantile(found, 0.025)), float(np.quantile(found, 0.975))


def rows_of(work: Path) -> dict[str, list[dict[str, Any]]]:
    """Verdicts by detector."""
    found: dict[str, list[dict[str, Any]]] = {}
    for line in (work / "verdicts.jsonl").read_text().splitlines():
        record = json.loads(line)
        found.setdefault(record["detector"], []).append(record)
    return found


def standardised(records: list[dict[str, Any]]) -> dict[str, float]:
    """Scores in standard deviations of the clean models of the calibration half."""
    known = np.array([r["score"] for r in records if r["family"] == "clean" and r["number"] % 2 == 0])
    spread = max(float(known.std(ddof=1)), 1e-9) if len(known) > 1 else 1.0
    return {r["model"]: (r["score"] - float(known.mean())) / spread for r in records}


def write_report(work: Path, output: Path) -> None:
    """The table: every detector and the portfolio, by family, on the evaluation half."""
    detectors = rows_of(work)
    trained = models(work)
    missed = [about["name"] for about in trained if about.get("asr", 1.0) < LEAST_ASR]
    counts = {
        family: sum(a["family"] == family and a["name"] not in missed for a in trained)
        for family in ("clean", *FAMILIES)
    }
    scores = {name: standardised(records) for name, records in detectors.items()}
    published = {
        r["model"]: max(row["published_index"] for row in r["table"])
        for name, records in detectors.items()
        for r in records
        if name.startswith("neural_cleanse")
    }
    most = max(len(found) for found in scores.values())
    asked_all = [name for name, found in scores.items() if len(found) == most]
    for title, left_out in (("portfolio", ()), ("portfolio without last_layer", ("last_layer",))):
        members = [name for name in asked_all if name not in left_out]
        scores[title] = {m: max(scores[name][m] for name in members) for m in scores[members[0]]}
    if published:
        scores["neural_cleanse, published index"] = published
    about_model = {about["name"]: about for about in trained}
    lines = [
        "# Backdoored models and their detectors",
        "",
        f"{stated()} {DATASET}, cnn, {EPOCHS} epochs, one seed a model. Trained: "
        + ", ".join(f"{count} {family}" for family, count in counts.items())
        + f"; {len(missed)} with an attack success rate below {LEAST_ASR} left out ({', '.join(missed) or 'none'}).",
        "Clean models of even number calibrate, those of odd number are judged; detectors see validation images only "
        "(activation_clustering and spectral_signatures: the first training images).",
        "AUROC of backdoored models against clean models of the evaluation half, with a 95 % bootstrap interval over "
        "models; TPR at the score that no more than 5 % of the calibration half exceed; FPR at that score on the "
        "evaluation half, with its Wilson interval.",
        f"The portfolio is the largest score of {', '.join(asked_all)}, which judged all {most} models, each in "
        "standard deviations of the calibration half. neural_cleanse judged as many models as its "
        "rows say, balanced over the families, in the order of their numbers.",
        "activation_clustering and spectral_signatures need the training set, which nobody has of a model from "
        "elsewhere. Other work ran on the machine: compare CPU seconds.",
        "Poisons: " + "; ".join(f"{family} `{text}`" for family, text in FAMILIES.items()) + ".",
        "",
        "| detector | family | n | AUROC | TPR at 5 % FPR | target named |",
        "| --- | --- | --- | --- | --- | --- |",
    ]
    rates = []
    for name, found in scores.items():
        clean = {about_model[m]["number"]: score for m, score in found.items() if about_model[m]["family"] == "clean"}
        held = [score for number, score in clean.items() if number % 2 == 1]
        known = [score for number, score in clean.items() if number % 2 == 0]
        if len(held) < 2 or len(known) < 2:
            continue
        limit = float(np.quantile(known, 0.95, method="higher"))
        false = sum(score > limit for score in held)
        low, high = wilson(false, len(held))
        rates.append(f"| {name} | {false} of {len(held)} | [{low:.2f}, {high:.2f}] |")
        named = {
            r["model"]: r["classes"][:1] == [r["target"]] for r in detectors.get(name, []) if r["target"] is not None
        }
        for family in FAMILIES:
            mine = {m: score for m, score in found.items() if about_model[m]["family"] == family}
            if not mine:
                continue
            values = list(mine.values())
            area, (low, high) = auroc(values, held), bootstrap(values, held)
            right = [named[m] for m in mine if m in named]
            lines.append(
                f"| {name} | {family} | {len(values)} | {area:.3f} [{low:.3f}, {high:.3f}] | "
                f"{sum(v > limit for v in values)} of {len(values)} | "
                + (f"{sum(right)} of {len(right)} |" if right else "– |")
            )
    lines += ["", "| detector | false alarms | 95 % interval |", "| --- | --- | --- |", *rates, ""]
    lines += nominal_lines(detectors)
    lines += ["| detector | seconds a model, median | CPU seconds |", "| --- | --- | --- |"]
    for name, records in detectors.items():
        wall, cpu = (float(np.median([r[key] for r in records])) for key in ("seconds", "cpu_seconds"))
        lines.append(f"| {name} | {wall:.2f} | {cpu:.2f} |")
    samples = [r for records in detectors.values() for r in records if r.get("sample_auroc") is not None]
    if samples:
        lines += ["", "Poisoned samples among the training images, AUROC of the samples' scores, mean over models:", ""]
        lines += ["| detector | " + " | ".join(FAMILIES) + " |", "|" + " --- |" * (1 + len(FAMILIES))]
        for name in dict.fromkeys(r["detector"] for r in samples):
            cells = []
            for family in FAMILIES:
                mean = [r["sample_auroc"] for r in samples if r["detector"] == name and r["family"] == family]
                cells.append(f"{np.mean(mean):.3f}" if mean else "–")
            lines.append(f"| {name} | " + " | ".join(cells) + " |")
    lines += published_lines(work)
    output.write_text("\n".join(lines) + "\n", encoding="utf-8")
    print(output.read_text())


def nominal_lines(detectors: dict[str, list[dict[str, Any]]]) -> list[str]:
    """What the p-values say that need no reference: no model calibrates, so all clean ones count."""
    lines = [
        "Flagged at p ≤ 0.05 without any clean model as reference:",
        "",
        "| detector | clean models, with 95 % interval | " + " | ".join(FAMILIES) + " |",
        "|" + " --- |" * (2 + len(FAMILIES)),
    ]
    for name, records in detectors.items():
        if any(r["p"] is None for r in records):
            continue
        cells = []
        for family in ("clean", *FAMILIES):
            mine = [r["p"] <= 0.05 for r in records if r["family"] == family]
            cells.append(f"{sum(mine)} of {len(mine)}")
            if family == "clean":
                low, high = wilson(sum(mine), len(mine))
                cells[0] += f" [{low:.2f}, {high:.2f}]"
        lines.append(f"| {name} | " + " | ".join(cells) + " |")
    return [*lines, ""]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("stage", choices=("train", "judge", "published", "report"))
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--clean", type=int, default=40)
    parser.add_argument("--each", type=int, default=10)
    parser.add_argument(
        "--detectors", default="neural_cleanse,mmbd,last_layer,activation_clustering,spectral_signatures"
    )
    parser.add_argument("--data-dir", type=Path, help="of the published networks and of CIFAR-10")
    parser.add_argument("--published", default="neural_cleanse:images=150:steps=50:batches=2:batch_size=16")
    parser.add_argument("--train-images", type=int, default=4000)
    parser.add_argument("--output", type=Path, default=Path(__file__).parent / "results" / "backdoors.md")
    given = parser.parse_args()
    given.work.mkdir(parents=True, exist_ok=True)
    if given.stage == "train":
        train_zoo(given.work, given.clean, given.each)
    elif given.stage == "judge":
        judge_zoo(given.work, given.detectors.split(","), given.train_images)
    elif given.stage == "published":
        judge_published(given.work, given.data_dir, given.published)
    else:
        write_report(given.work, given.output)


if __name__ == "__main__":
    main()
