"""Certifiers in a bench: their components, and the check of certificates against attacks."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence

import numpy as np

from robustkit.contracts import Threat
from robustkit.hookspecs import CertifierEntry
from robustkit.host import Component, Host
from robustkit.params import UsageError
from robustkit.pipeline.store import Record, RunStore


def plan_certifier(text: str, threat: Threat, host: Host) -> Component:
    """A certifier in the norm of the bench: where it has a parameter `norm` that isn't given, it is set.

    Raises:
        UsageError: it cannot certify in that norm, or another one is given.
    """
    component = host.build("certifier", text)
    entry = component.entry
    assert isinstance(entry, CertifierEntry)
    if threat.norm not in entry.norms:
        fitting = [
            other.short
            for other in host.entries("certifier")
            if isinstance(other.entry, CertifierEntry) and threat.norm in other.entry.norms
        ]
        raise UsageError(
            f"{component.registered.short} certifies in {', '.join(sorted(entry.norms))}, the bench is in "
            f"{threat.norm}; these fit: {', '.join(fitting) or 'none'}"
        )
    if component.params.get("norm", threat.norm) == threat.norm:
        return component
    if any(part.startswith("norm=") for part in text.split(":")):
        raise UsageError(
            f"{text}: the threat model is the bench's, {threat.norm}; leave the norm out, or give --norm another"
        )
    return dataclasses.replace(
        component,
        value=dataclasses.replace(component.value, norm=threat.norm),
        params={**component.params, "norm": threat.norm},
        label=f"{component.label}:norm={threat.norm}",
    )


def contradictions(records: Sequence[Record], store: RunStore) -> dict[str, str]:
    """Certificates that an attack has broken, by the key of the certifier's cell: a mistake in one of the two.

    Compared are deterministic certifiers alone: they promise something of the very network that was attacked. Where
    one promises a sample a radius it must predict what the network does; and no adversarial input that the host
    found to be misclassified may lie nearer than that. Rounding of distances (see `Threat.allowance`) is left out.
    """
    found: dict[str, str] = {}
    good = [record for record in records if record["status"] == "ok"]
    for record in good:
        if record["kind"] != "certify" or record["component"]["probabilistic"]:
            continue
        columns = store.samples(record["key"])
        for other in good:
            if other["kind"] == "certify" or other["subject"]["key"] != record["subject"]["key"]:
                continue
            broken = _broken(columns, store.samples(other["key"]), record["threat"]["norm"])
            if len(broken):
                what = "clean prediction" if other["kind"] == "clean" else other["component"]["label"]
                found[record["key"]] = (
                    f"{record['component']['label']} promised what {what} contradicts, on {len(broken)} samples "
                    f"(index {', '.join(map(str, broken[:5]))}{' …' if len(broken) > 5 else ''}): "
                    "there is an error in one of the two"
                )
                break
    return found


def _broken(columns: Mapping[str, np.ndarray], other: Mapping[str, np.ndarray], norm: str) -> np.ndarray:
    """Indices of samples whose promise doesn't hold."""
    promised = columns["radius"] > 0
    wrong = promised & (columns["prediction"] != other["clean_pred"])
    if "adv_pred" in other:
        fooled = other["attacked"] & (other["adv_pred"] != columns["prediction"])
        radius = columns["radius"] if norm == "l0" else columns["radius"] * (1 - 1e-5) - 1e-6
        wrong |= promised & fooled & (other[f"dist_{norm}"].astype(np.float64) <= radius)
    broken: np.ndarray = columns["index"][wrong]
    return broken
