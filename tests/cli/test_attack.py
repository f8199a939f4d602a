"""`robustkit attack` on worker processes, real ones."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from typer.testing import CliRunner

from robustkit.cli.app import app


def test_two_workers_write_the_same_images(tmp_path: Path) -> None:
    rng = np.random.default_rng(2)
    patterns = rng.integers(60, 196, (3, 6, 6))
    y = np.arange(750) % 3
    x = np.clip(patterns[y] + rng.normal(0, 40, (750, 6, 6)), 0, 255).astype(np.uint8)
    np.savez(tmp_path / "three.npz", x_train=x[:300], y_train=y[:300], x_test=x[300:], y_test=y[300:])
    words = ["attack", "transfer:attack=pgd", "--dataset", f"npz:{tmp_path / 'three.npz'}", "--model", "linear"]
    words += ["--epochs", "1", "--eps", "0.3", "--limit", "450", "--precision", "fp32", "--device", "cpu"]
    found = []
    for number in (1, 2):
        out = tmp_path / f"by {number}.npz"
        result = CliRunner().invoke(app, [*words, "--workers", str(number), "-o", str(out)])
        assert result.exit_code == 0, result.output
        assert out.with_suffix(".png").stat().st_size > 1000
        with np.load(out) as arrays:
            found.append({name: arrays[name] for name in arrays.files})
    one, two = found
    assert len(one["x_adv"]) == 450  # three blocks
    assert np.abs(one["x_adv"] - one["x"]).max() > 0.2
    assert one.keys() == two.keys()
    for name, values in one.items():
        np.testing.assert_allclose(two[name], values, atol=1e-6)
