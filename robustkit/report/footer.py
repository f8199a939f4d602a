"""What a table must say of itself: data, threat model, seeds, precision, versions."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from robustkit.contracts import Threat
from robustkit.flags.flag import PAGE
from robustkit.report.sampling import sampling
from robustkit.report.spending import spending
from robustkit.tables import Record, radii_of


def footer(records: Sequence[Record], environment: Mapping[str, Any]) -> list[str]:
    """A few lines below a table."""
    first = records[0]
    norm = first["threat"]["norm"]
    threats = ", ".join(str(Threat(norm, eps)) for eps in radii_of(records) or [first["threat"]["eps"]])
    seeds = sorted({record["subject"]["seed"] for record in records})
    versions = environment.get("versions", {})
    providers = sorted(
        {
            f"{record['component']['distribution']} {record['component']['version']}"
            for record in records
            if record["component"]
        }
    )
    lines = [
        f"{first['dataset']['name']}, n = {first['dataset']['n']} test images, {threats} in input units of [0, 1], "
        f"{'seed' if len(seeds) == 1 else 'seeds'} {', '.join(map(str, seeds))}, model {first['subject']['model']}",
        "Accuracies in percent with 95 % intervals (Wilson). The worst case over these attacks, sample by sample, "
        "is an upper bound on robustness. ASR: share of what was right before that the attacks brought down.",
        f"Search in {_precision(records)}, every verdict in float32. "
        f"torch {versions.get('torch', '?')}, {', '.join(providers) or 'no attacks'}, "
        f"{environment.get('processor', '')}, {environment.get('threads', '?')} threads.",
    ]
    for label, guarantee in guarantees(records).items():
        lines.append(
            f"certified {label}: share that is predicted as labelled with a radius of at least eps. {guarantee}"
        )
    if any(record["cascade"] and "coverage" not in record for record in records if record["kind"] == "attack"):
        lines.append("Cascade: each attack was tried only on what those before it left standing.")
    return lines + spending(records, environment) + sampling(records, environment) + warnings(records)


def guarantees(records: Sequence[Record]) -> dict[str, str]:
    """What each certifier promises, and of which network."""
    found = {}
    for record in records:
        if record["kind"] == "certify" and record["status"] == "ok":
            whose = (
                "The attacks were on the network itself, so no column bounds another."
                if record["component"]["probabilistic"]
                else "It is of the network that was attacked; no attack broke a promise."
            )
            found[record["component"]["label"]] = f"{record['guarantee']} {whose}"
    return found


def _precision(records: Sequence[Record]) -> str:
    used = sorted({record["precision"] for record in records if record["precision"]})
    return " and ".join(used) or "fp32"


def warnings(records: Sequence[Record]) -> list[str]:
    """Red flags, errors, violations, restored state, hidden gradients, collapses, each with what it is about."""
    hidden = dict.fromkeys(r["subject"]["label"] for r in records if r["subject"].get("obfuscates"))
    found = [
        f"{label} hides gradients or is random at inference: attacks that follow gradients overrate it"
        for label in hidden
    ]
    fallen = {
        (r["subject"]["label"], r["subject"]["seed"]): r["subject"]["collapsed"]
        for r in records
        if r["subject"].get("collapsed")
    }
    found += [
        f"{label} (seed {seed}): catastrophic overfitting in training, epoch {', '.join(map(str, epochs))}"
        for (label, seed), epochs in fallen.items()
    ]
    found += [
        f"red flag {flag['name']}, {record['subject']['label']} (seed {record['subject']['seed']}): {flag['evidence']} "
        f"({PAGE}#{flag['name']})"
        for record in records
        for flag in record.get("flags", [])
    ]
    for record in records:
        component = record["component"]
        where = f"{record['subject']['label']} / {component['label'] if component else 'clean'}"
        if record["status"] != "ok":
            found.append(f"error in {where}: {record['error']}")
            continue
        violations = record["metrics"].get("violations", 0)
        if violations:
            found.append(f"{where}: {violations} adversarial inputs left the ball or the box and were projected back")
        if record["restored"]:
            found.append(f"{where}: the host put back {', '.join(record['restored'])}")
    return found
