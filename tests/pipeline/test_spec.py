from __future__ import annotations

import tomllib
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from robustkit.params import UsageError
from robustkit.pipeline.spec import BenchSpec, component_text, to_toml


def _read(tmp_path: Path, text: str) -> BenchSpec:
    path = tmp_path / "bench.toml"
    path.write_text(text, encoding="utf-8")
    return BenchSpec.from_toml(path)


def test_reads_tables_and_texts_of_components(tmp_path: Path) -> None:
    spec = _read(
        tmp_path,
        """
        dataset = "mnist_10k"
        defenses = "pgd_at"
        eps = ["8/255", 0.1]
        seeds = [0, 1]
        limit = 300
        recipe = {epochs = 3, lr = 0.01}

        [[attacks]]
        name = "pgd"
        steps = 50
        random_start = false
        [[attacks]]
        name = "fgsm"
        """,
    )
    assert spec.defenses == ("pgd_at",)
    assert spec.attacks == ("pgd:steps=50:random_start=false", "fgsm")
    assert spec.eps == (8 / 255, 0.1)
    assert (spec.seeds, spec.limit, spec.recipe) == ((0, 1), 300, {"epochs": 3, "lr": 0.01})


def test_what_is_written_reads_back_as_the_same(tmp_path: Path) -> None:
    spec = BenchSpec(
        defenses=("pgd_at:steps=10",),
        attacks=("fgsm", "pgd:restarts=2"),
        norm="l2",
        eps=(0.5, 1.0),
        train_eps=0.5,
        cascade=False,
        recipe={"epochs": 1},
        batch_size=7,
    )
    text = to_toml(spec, {"device": "cpu", "recipe": {"epochs": 1}})
    assert tomllib.loads(text)["resolved"]["device"] == "cpu"
    assert _read(tmp_path, text) == spec


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ('atacks = ["fgsm"]', ("bench.toml", "'atacks'", "did you mean attacks")),
        ("limit = 0", ("limit=0", "at least 1")),
        ("batch_size = 0", ("batch_size=0", "at least 1")),
        ("seeds = []", ("seeds=[]",)),
        ("seeds = [1, 1]", ("seeds=[1, 1]", "different")),
        ('attacks = ["fgsm", "fgsm"]', ("fgsm", "twice")),
        ("[[attacks]]\nsteps = 3", ("attacks", "'name'")),
        ("recipe = {epoch = 3}", ("'epoch'", "did you mean epochs")),
        ("recipe = {epochs = 0}", ("epochs=0", "at least 1")),
        ('recipe = {lr = "fast"}', ("lr", "fast", "number")),
        ('norm = "l3"', ("norm", "l3", "linf")),
        ('precision = "half"', ("precision", "half", "bf16")),
        ('eps = "much"', ("eps", "much")),
        ('checkpoint = "a.pt"\nseeds = [0, 1]', ("checkpoint", "single seed")),
        ("eps = [", ("bench.toml", "TOML")),
    ],
)
def test_mistakes_are_named_with_their_remedy(tmp_path: Path, text: str, words: tuple[str, ...]) -> None:
    with pytest.raises(UsageError) as caught:
        _read(tmp_path, text)
    for word in words:
        assert word in str(caught.value)


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"none\.toml"):
        BenchSpec.from_toml(tmp_path / "none.toml")


@given(
    name=st.from_regex(r"[a-z][a-z0-9_]{0,8}", fullmatch=True),
    params=st.dictionaries(
        st.from_regex(r"[a-z]{1,6}", fullmatch=True).filter(lambda key: key != "name"),
        st.one_of(st.integers(), st.booleans(), st.floats(allow_nan=False, allow_infinity=False), st.none()),
        max_size=4,
    ),
)
@settings(deadline=None)
def test_tables_become_texts_that_hold_every_parameter(name: str, params: dict[str, object]) -> None:
    parts = component_text({"name": name, **params}, "here").split(":")
    assert parts[0] == name
    read = dict(part.split("=", 1) for part in parts[1:])
    assert set(read) == set(params)
    for key, value in params.items():
        if isinstance(value, float) and not isinstance(value, bool):
            above, _, below = read[key].partition("/")
            assert float(above) / float(below or 1) == value
        else:
            assert read[key] == ("none" if value is None else str(value).lower())
