"""The kept images of a run as cards of a page: original, perturbation, adversarial, within a budget of bytes."""

from __future__ import annotations

import base64
import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

from robustkit.pipeline.pictures import read_pictures
from robustkit.report.format import percent
from robustkit.tables import Record, radii_of
from robustkit.values import as_text

BUDGET = 1_500_000
"""Characters of all images together: leaves half of 3 MB to everything else."""
_SIDES = (128, 96, 64, 48)
_SHADES = 15
_LOW, _MIDDLE, _HIGH = (np.array(color) for color in ((0, 90, 181), (255, 255, 255), (220, 90, 0)))


@dataclass(frozen=True)
class Card:
    """One adversarial image of one model.

    Args:
        model, attack: as the table calls them.
        row: of the test image.
        label: its class.
        original: number of the original among the gallery's.
        perturbation, adversarial: data URIs of PNG images.
        scale: what full colour in the perturbation stands for, in input units.
        before, after: prediction and confidence in words.
        state: "fell", "stood" or "wrong" (before the attack).
    """

    model: str
    attack: str
    row: int
    label: str
    original: int
    perturbation: str
    adversarial: str
    scale: str
    before: str
    after: str
    state: str


@dataclass(frozen=True)
class Gallery:
    """Args: cards, originals (data URIs), attacks and labels to choose from, kept: how many images the run has."""

    cards: tuple[Card, ...]
    originals: tuple[str, ...]
    attacks: tuple[str, ...]
    labels: tuple[str, ...]
    kept: int


def gallery(records: Sequence[Record], directory: Path, budget: int = BUDGET) -> Gallery | None:
    """The images that a run kept of each model's first seed; None where it kept none.

    All cells show the same test images; there are as many of them as the budget allows, and large images are
    made smaller.
    """
    cells = [(record, read_pictures(directory, record["key"])) for record in _shown(records)]
    found = [(record, pictures) for record, pictures in cells if pictures is not None]
    if not found:
        return None
    side = _side([pictures for _, pictures in found], budget)
    names = {id(record): _attack(record, records) for record, _ in found}
    cards: list[Card] = []
    originals: dict[int, tuple[int, str]] = {}
    used = 0
    for place in range(max(len(pictures["row"]) for _, pictures in found)):
        batch = [_card(record, pictures, place, side, names[id(record)], originals) for record, pictures in found]
        made = [card for card in batch if card is not None]
        size = sum(len(card.perturbation) + len(card.adversarial) for card in made)
        if cards and used + size > budget:
            break
        used += size
        cards += made
    return Gallery(
        cards=tuple(cards),
        originals=tuple(uri for _, uri in originals.values())[: max(card.original for card in cards) + 1],
        attacks=tuple(dict.fromkeys(names.values())),
        labels=tuple(sorted(dict.fromkeys(card.label for card in cards), key=_natural)),
        kept=sum(len(pictures["row"]) for _, pictures in found),
    )


def _shown(records: Sequence[Record]) -> list[Record]:
    first: dict[str, int] = {}
    for record in records:
        first.setdefault(record["subject"]["label"], record["subject"]["seed"])
    return [r for r in records if r["kind"] == "attack" and r["subject"]["seed"] == first[r["subject"]["label"]]]


def _attack(record: Record, records: Sequence[Record]) -> str:
    label: str = record["component"]["label"]
    many = len(radii_of(records)) > 1 and record["component"]["goal"] != "minimal"
    return f"{label} @ {as_text(float(record['threat']['eps']))}" if many else label


def _card(
    record: Record,
    pictures: Mapping[str, np.ndarray],
    place: int,
    side: int | None,
    attack: str,
    originals: dict[int, tuple[int, str]],
) -> Card | None:
    if place >= len(pictures["row"]):
        return None
    row = int(pictures["row"][place])
    x, x_adv = pictures["x"][place], pictures["x_adv"][place]
    if row not in originals:
        originals[row] = (len(originals), uri_of(image_of(x), side))
    largest = float(np.abs(x_adv - x).max())
    classes = pictures["classes"]
    right = pictures["clean_pred"][place] == pictures["label"][place]
    lost = pictures["adv_pred"][place] != pictures["label"][place]
    return Card(
        model=record["subject"]["label"],
        attack=attack,
        row=row,
        label=str(classes[pictures["label"][place]]),
        original=originals[row][0],
        perturbation=uri_of(_perturbation(x_adv - x, largest), side),
        adversarial=uri_of(image_of(x_adv), side),
        scale=f"{largest:.2g}",
        before=_prediction(pictures, "clean", place),
        after=_prediction(pictures, "adv", place),
        state="wrong" if not right else "fell" if lost else "stood",
    )


def _prediction(pictures: Mapping[str, np.ndarray], which: str, place: int) -> str:
    name = pictures["classes"][pictures[f"{which}_pred"][place]]
    return f"{name} · {percent(float(pictures[f'{which}_confidence'][place]))} %"


def image_of(x: np.ndarray) -> Image.Image:
    """(C, H, W) in [0, 1]; other than one or three channels are shown by their mean."""
    levels = np.clip(np.rint(x * 255), 0, 255).astype(np.uint8)
    if len(levels) == 3:
        return Image.fromarray(np.ascontiguousarray(levels.transpose(1, 2, 0)))
    return Image.fromarray(levels[0] if len(levels) == 1 else levels.mean(axis=0).astype(np.uint8))


def _perturbation(delta: np.ndarray, largest: float) -> Image.Image:
    """Three channels around grey; one channel from blue (down) over white to orange (up), in few shades."""
    scaled = delta / (largest or 1.0)
    if len(delta) == 3:
        return image_of(scaled / 2 + 0.5)
    shade = np.clip(np.rint((scaled.mean(axis=0) + 1) / 2 * (_SHADES - 1)), 0, _SHADES - 1).astype(np.uint8)
    image = Image.fromarray(shade, mode="P")
    steps = np.linspace(-1, 1, _SHADES)[:, None]
    ends = np.where(steps < 0, _LOW, _HIGH)
    palette = np.rint(_MIDDLE + np.abs(steps) * (ends - _MIDDLE)).astype(np.uint8)
    image.putpalette(palette.tobytes())
    return image


def uri_of(image: Image.Image, side: int | None) -> str:
    """As a PNG in a data URI, its longer side at most `side`."""
    if side is not None and max(image.size) > side:
        share = side / max(image.size)
        size = (max(1, round(image.width * share)), max(1, round(image.height * share)))
        image = (image.convert("RGB") if image.mode == "P" else image).resize(size, Image.Resampling.BOX)
    content = io.BytesIO()
    image.save(content, format="PNG", optimize=True)
    return f"data:image/png;base64,{base64.b64encode(content.getvalue()).decode()}"


def _side(found: Sequence[Mapping[str, np.ndarray]], budget: int) -> int | None:
    """The longest side that lets about one image of every cell into the budget; None leaves images as they are."""
    x, x_adv = found[0]["x"][0], found[0]["x_adv"][0]  # stands for all
    for side in (None, *_SIDES):
        size = len(uri_of(image_of(x_adv), side)) + len(uri_of(_perturbation(x_adv - x, 1), side))
        if size * len(found) <= budget:
            return side
    return _SIDES[-1]


def _natural(text: str) -> tuple[bool, float, str]:
    """Numbers by their size, before names."""
    return (False, float(text), "") if text.isdecimal() and text.isascii() else (True, 0.0, text)
