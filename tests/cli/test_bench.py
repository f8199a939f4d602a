"""`robustkit bench` and the commands that read its runs, on a small data set, for real."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from typer.testing import CliRunner, Result

from robustkit.cli.app import app

SMALL = ["--model", "linear", "--epochs", "2", "--eps", "0.1", "--precision", "fp32"]


def invoke(*words: str) -> Result:
    return CliRunner().invoke(app, list(words))


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with small.npz: three classes that differ in which third of the image is bright."""
    path = tmp_path_factory.mktemp("bench")
    generator = np.random.default_rng(0)
    y = generator.integers(0, 3, 600)
    x = generator.integers(0, 90, (600, 1, 9, 9))
    for row, label in enumerate(y):
        x[row, 0, 3 * label : 3 * label + 3] += 60
    np.savez(path / "small.npz", x=x.astype(np.uint8), y=y)
    return path


@pytest.fixture(scope="module")
def run(folder: Path) -> tuple[Path, Result]:
    """One bench of two models and two attacks."""
    cache = pytest.MonkeyPatch()
    cache.setenv("ROBUSTKIT_CACHE", str(folder / "cache"))
    try:
        result = invoke(
            "bench",
            *("--dataset", f"npz:{folder / 'small.npz'}", *SMALL),
            *("--defense", "pgd_at:steps=2", "--attacks", "fgsm,linear_exact"),
            *("-o", str(folder / "run"), "-o", str(folder / "table.csv")),
        )
    finally:
        cache.undo()
    assert result.exit_code == 0, result.output
    return folder / "run", result


def test_the_table_goes_to_stdout_as_markdown_and_the_narration_to_stderr(run: tuple[Path, Result]) -> None:
    _, result = run
    assert result.stdout.startswith("| defense")
    assert "…" not in result.stdout
    assert "training" not in result.stdout.splitlines()[0] or "training s" in result.stdout
    assert "run directory" in result.stderr


def test_the_run_directory_is_whole(run: tuple[Path, Result]) -> None:
    directory, _ = run
    records = [json.loads(line) for line in (directory / "records.jsonl").read_text().splitlines()]
    assert [record["status"] for record in records] == ["ok"] * 6
    for record in records:
        rows = pd.read_parquet(directory / "samples" / f"{record['key']}.parquet")
        assert len(rows) == record["dataset"]["n"]
    assert {path.suffix for path in (directory / "tables").iterdir()} >= {".md", ".csv", ".tex", ".json", ".parquet"}
    assert json.loads((directory / "environment.json").read_text())["versions"]["torch"]
    assert len(list((directory / "models").glob("*.safetensors"))) == 2
    assert not list(directory.rglob("*.part"))
    assert not (directory / "blocks").exists() or not any((directory / "blocks").iterdir())


def test_fgsm_is_exact_on_a_linear_model_and_the_table_says_so(run: tuple[Path, Result], folder: Path) -> None:
    """Two classes at a time the worst case of a linear model is FGSM's; over three classes it can only be lower."""
    table = pd.read_csv(folder / "table.csv")
    assert (table["linear_exact"] <= table["fgsm"]).all()
    assert (table["worst case"] <= table[["fgsm", "linear_exact"]].min(axis=1)).all()
    assert (table["clean"] >= table["fgsm"]).all()


def test_a_second_call_answers_from_the_records(run: tuple[Path, Result], folder: Path) -> None:
    directory, first = run
    before = (directory / "records.jsonl").read_bytes()
    again = invoke(
        "bench",
        *("--dataset", f"npz:{folder / 'small.npz'}", *SMALL),
        *("--defense", "pgd_at:steps=2", "--attacks", "fgsm,linear_exact", "-o", str(directory)),
    )
    assert again.exit_code == 0, again.output
    assert again.stdout == first.stdout
    assert (directory / "records.jsonl").read_bytes() == before


def test_report_prints_the_same_table(run: tuple[Path, Result], tmp_path: Path) -> None:
    directory, first = run
    result = invoke("report", str(directory), "-o", str(tmp_path / "t.tex"))
    assert result.exit_code == 0, result.output
    assert result.stdout == first.stdout
    assert r"\toprule" in (tmp_path / "t.tex").read_text()


def test_detectors_of_inputs_are_asked_about_every_attack_and_report_says_it_again(
    folder: Path, tmp_path: Path
) -> None:
    words = ["bench", "--dataset", f"npz:{folder / 'small.npz'}", *SMALL, "--attacks", "fgsm,noise", "--limit", "40"]
    result = invoke(*words, "--detectors", "feature_squeezing,mahalanobis", "-o", str(tmp_path / "run"))
    assert result.exit_code == 0, result.output
    table = (tmp_path / "run" / "tables" / "detectors.md").read_text()
    assert table in result.stdout
    for name in ("feature_squeezing", "mahalanobis", "fgsm @ linf eps=0.1", "noise @ linf eps=0.1", "clean (FPR)"):
        assert name in table
    numbers = pd.read_csv(tmp_path / "run" / "tables" / "detectors.csv")
    assert numbers["attack"].tolist() == ["fgsm", "fgsm", "noise", "noise"]
    assert numbers["error"].isna().all()
    assert 'id="detectors"' in (tmp_path / "run" / "report.html").read_text()
    assert table in invoke("report", str(tmp_path / "run")).stdout


def test_compare_of_a_run_with_itself_finds_no_difference(run: tuple[Path, Result]) -> None:
    directory, _ = run
    result = invoke("compare", str(directory), str(directory), "--format", "json")
    assert result.exit_code == 0, result.output
    rows = json.loads(result.stdout)
    assert {(row["defense"], row["attack"]) for row in rows} == {
        (defense, attack)
        for defense in ("standard", "pgd_at:steps=2")
        for attack in ("clean", "fgsm", "linear_exact", "worst case")
    }
    assert {row["only first"] for row in rows} == {0}
    assert {row["p (McNemar)"] for row in rows} == {"1"}


@pytest.mark.parametrize(("gate", "code"), [("clean>=0", 0), ("fgsm>=0.999", 1), ("standard/worst>=100%", 1)])
def test_gates_decide_the_exit_code(run: tuple[Path, Result], folder: Path, gate: str, code: int) -> None:
    directory, _ = run
    result = invoke(
        "bench",
        *("--dataset", f"npz:{folder / 'small.npz'}", *SMALL),
        *("--defense", "pgd_at:steps=2", "--attacks", "fgsm,linear_exact", "-o", str(directory)),
        *("--fail-under", gate),
    )
    assert result.exit_code == code, result.output
    assert ("gate:" in result.stderr) == (code == 1)


def test_the_written_spec_runs_again_and_finds_everything_done(run: tuple[Path, Result]) -> None:
    directory, first = run
    result = invoke("bench", "--config", str(directory / "spec.toml"), "-o", str(directory))
    assert result.exit_code == 0, result.output
    assert result.stdout == first.stdout


def test_a_failed_cell_is_shown_and_the_exit_code_is_1(folder: Path) -> None:
    """linear_exact refuses a network that is not linear: an error of its cell, while fgsm has its number."""
    result = invoke(
        "bench",
        *("--dataset", f"npz:{folder / 'small.npz'}", "--model", "mlp", "--epochs", "1", "--eps", "0.1"),
        *("--precision", "fp32", "--attacks", "fgsm,linear_exact", "-o", str(folder / "failed"), "-f", "json"),
    )
    assert result.exit_code == 1
    shown = json.loads(result.stdout)
    (row,) = shown["rows"]
    assert row["linear_exact"] is None
    assert row["fgsm"] is not None
    assert any("affine" in note for note in shown["notes"])


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--attacks", "pdg"], "did you mean pgd"),
        (["--attacks", "pgd:stpes=3"], "steps"),
        (["--attacks", "pgd:steps=0"], "at least 1"),
        (["--attacks", "fgsm", "--eps", "8"], "8/255"),
        (["--attacks", "fgsm", "--norm", "l0", "--eps", "3"], "these fit"),
        (["--attacks", "fgsm", "--dataset", "npz:nowhere.npz"], "nowhere.npz"),
        (["--attacks", "fgsm", "--limit", "0"], "limit"),
        (["--attacks", "fgsm", "--recipe", "speed=3"], "speed"),
        (["--attacks", "fgsm", "-o", "table.docx"], ".docx"),
        (["--attacks", "fgsm,,pgd"], "empty part"),
        ([], "no attacks"),
    ],
)
def test_mistakes_name_the_value_and_the_remedy_before_anything_runs(words: list[str], message: str) -> None:
    result = invoke("bench", "--defense", "standard", *words)
    assert result.exit_code == 2
    assert message in result.stderr


def test_dry_run_shows_the_plan_and_runs_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    result = invoke("bench", "--defense", "pgd_at", "--attacks", "fgsm,pgd:steps=10", "--dry-run")
    assert result.exit_code == 0, result.output
    assert result.stdout.count("pgd:steps=10") == 2
    assert not list(tmp_path.iterdir())


def test_train_writes_weights_that_bench_judges(folder: Path, tmp_path: Path) -> None:
    data = f"npz:{folder / 'small.npz'}"
    trained = invoke(
        *("train", "--defense", "standard", "--dataset", data, "--model", "linear", "--epochs", "1"),
        *("-o", str(tmp_path / "trained")),
    )
    assert trained.exit_code == 0, trained.output
    weights = Path(trained.stdout.strip())
    assert weights.is_file()
    assert list((tmp_path / "trained").rglob("events.out.tfevents*"))
    assert len((tmp_path / "trained" / "training.csv").read_text().splitlines()) == 2
    assert (tmp_path / "trained" / "training.png").is_file()
    assert "standard" in (tmp_path / "trained" / "training.svg").read_text()
    assert "loss" in trained.stderr
    assert "validation accuracy" in trained.stderr
    judged = invoke(
        *("bench", "--checkpoint", str(weights), "--dataset", data, "--model", "linear", "--attacks", "fgsm"),
        *("--eps", "0.1", "-o", str(tmp_path / "run"), "-f", "json"),
    )
    assert judged.exit_code == 0, judged.output
    assert len(json.loads(judged.stdout)["rows"]) == 1


def test_attack_writes_arrays_inside_the_ball_and_a_picture(folder: Path, tmp_path: Path) -> None:
    out = tmp_path / "adversarial.npz"
    result = invoke(
        *("attack", "pgd:steps=5", "--dataset", f"npz:{folder / 'small.npz'}", "--model", "linear"),
        *("--epochs", "1", "--eps", "0.1", "--limit", "20", "-o", str(out)),
    )
    assert result.exit_code == 0, result.output
    with np.load(out) as arrays:
        assert arrays["x_adv"].shape == (20, 1, 9, 9)
        assert np.abs(arrays["x_adv"] - arrays["x"]).max() <= 0.1 * (1 + 1e-5) + 1e-6
    assert out.with_suffix(".png").stat().st_size > 1000


def test_doctor_names_versions_timings_and_the_cache() -> None:
    result = invoke("doctor", "--format", "json")
    found = {row["what"]: row for row in json.loads(result.stdout)}
    assert found["torch"]["good"]
    assert "ms" in found["precision fp32"]["found"]
    assert os.environ["ROBUSTKIT_CACHE"] in found["cache"]["found"]


def test_an_interrupt_exits_with_130_and_the_same_command_goes_on(folder: Path, tmp_path: Path) -> None:
    """A real process, a real signal."""
    import signal
    import time

    command = [
        *(sys.executable, "-m", "robustkit", "bench", "--dataset", f"npz:{folder / 'small.npz'}"),
        *("--model", "mlp", "--defense", "pgd_at", "--attacks", "fgsm", "--eps", "0.1", "--recipe", "epochs=400"),
        *("-o", str(tmp_path / "run")),
    ]
    with subprocess.Popen(command, stderr=subprocess.PIPE, stdout=subprocess.DEVNULL, text=True) as process:
        assert process.stderr is not None
        for line in process.stderr:
            if "training" in line:
                break
        time.sleep(0.2)
        process.send_signal(signal.SIGINT)
        process.stderr.read()
        assert process.wait(timeout=60) == 130
    command[command.index("epochs=400")] = "epochs=1"
    again = subprocess.run(command, capture_output=True, text=True)
    assert again.returncode == 0, again.stderr


def test_a_bench_ends_in_a_page_that_report_writes_again(run: tuple[Path, Result]) -> None:
    directory, result = run
    assert f"report: {directory / 'report.html'}" in result.stderr
    first = (directory / "report.html").read_bytes()
    (directory / "report.html").unlink()
    again = invoke("report", str(directory), "--html")
    assert again.exit_code == 0, again.output
    assert again.stdout == f"{directory / 'report.html'}\n"
    assert (directory / "report.html").read_bytes() == first
    assert b"robustkit bench" in first
    assert {path.suffix for path in (directory / "figures").iterdir()} == {".svg", ".pdf", ".png", ".csv"}
    assert invoke("report", str(directory), "--html", "-f", "csv").exit_code == 2


def test_a_budget_takes_a_portfolio_and_ends_with_what_more_time_would_buy(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("robustkit.cli.progress._EVERY_SECONDS", 0.0)  # every line is told
    asked = ("bench", "--dataset", f"npz:{folder / 'small.npz'}", *SMALL, "--budget", "20s")
    result = invoke(*asked, "-o", str(tmp_path / "run"), "--fail-under", "worst>=0")
    assert result.exit_code == 0, result.output
    assert "worst case at most standard" in result.stderr
    assert "of 20.0 s of attacks" in result.stdout
    assert "More time would buy nothing" in result.stdout or "The next minute would probably" in result.stdout
    assert "fgsm" in result.stdout.splitlines()[0]
    again = invoke("report", str(tmp_path / "run"))
    assert again.stdout == result.stdout
    assert (
        "More time would buy nothing" in (tmp_path / "run" / "report.html").read_text()
        or "The next minute" in (tmp_path / "run" / "report.html").read_text()
    )
    bad = invoke("bench", "--dataset", f"npz:{folder / 'small.npz'}", *SMALL, "--budget", "soon")
    assert bad.exit_code == 2
    assert "write e.g. 90s, 10m or 1h30m" in bad.stderr


def test_precision_points_tell_why_no_more_images_were_needed(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("robustkit.cli.progress._EVERY_SECONDS", 0.0)
    asked = ("bench", "--dataset", f"npz:{folder / 'small.npz'}", *SMALL, "--attacks", "fgsm")
    result = invoke(*asked, "--defense", "pgd_at:steps=2", "--precision-points", "60", "-o", str(tmp_path / "run"))
    assert result.exit_code == 0, result.output
    assert "pgd_at:steps=2 − standard" in result.stderr
    assert "Test images in random order" in result.stdout
    assert invoke("report", str(tmp_path / "run")).stdout == result.stdout
    assert "Test images in random order" in (tmp_path / "run" / "report.html").read_text(encoding="utf-8")
    alone = invoke(*asked, "--precision-points", "1")
    assert alone.exit_code == 2
    assert "two or more" in alone.stderr


def test_two_workers_print_the_table_of_one(
    folder: Path, run: tuple[Path, Result], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ROBUSTKIT_CACHE", str(folder / "cache"))
    words = ["bench", "--dataset", f"npz:{folder / 'small.npz'}", *SMALL, "--defense", "pgd_at:steps=2"]
    spread = invoke(*words, "--attacks", "fgsm,linear_exact", "--workers", "2", "-o", str(folder / "spread"))
    assert spread.exit_code == 0, spread.output
    assert timeless(spread.stdout) == timeless(run[1].stdout)


def timeless(text: str) -> list[list[str]]:
    """The table without its columns of seconds."""
    rows = [[cell.strip() for cell in line.split("|")] for line in text.splitlines() if line.startswith("|")]
    kept = [place for place, name in enumerate(rows[0]) if not name.endswith(" s")]
    return [[row[place] for place in kept] for row in rows if not row[1].startswith("-")]


def test_an_executor_that_there_is_not_is_refused(folder: Path) -> None:
    words = ["bench", "--dataset", f"npz:{folder / 'small.npz'}", *SMALL, "--attacks", "fgsm"]
    result = invoke(*words, "--executor", "slurm", "-o", str(folder / "none"))
    assert result.exit_code == 2
    assert "executor='slurm' is not local, ray or ray:ADDRESS" in " ".join(result.output.split())
    assert not (folder / "none").exists()
