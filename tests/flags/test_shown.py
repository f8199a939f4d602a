"""A flag stands beside the number: in the table, in the text and in every file."""

from __future__ import annotations

import json

import torch
from torch import Tensor, nn

import robustkit
from robustkit.report.files import render
from robustkit.report.footer import footer
from robustkit.report.format import readable
from robustkit.testing import small


class Hot(nn.Module):
    """Logits so large that the cross-entropy has no gradient in float32."""

    def __init__(self) -> None:
        super().__init__()
        self.network = small.trained().requires_grad_(False)

    def forward(self, x: Tensor) -> Tensor:
        return torch.as_tensor(1e4 * self.network(x))


def test_a_masked_model_is_flagged_wherever_its_number_stands() -> None:
    model = Hot().eval()
    x, y = small.whole(small.data().test)
    result = robustkit.evaluate(model, (x, y), "pgd:steps=5,square:queries=300", ("linf", 0.3), precision="fp32")
    row = result.table.iloc[0]
    assert row["pgd:steps=5"] > row["square:queries=300"]
    flags = row["flags"].split(", ")
    assert "no-gradients" in flags
    assert "black-box-wins" in flags
    shown = readable(result.table, result.records)
    assert list(shown.columns).index("flags") == list(shown.columns).index("worst case") + 1
    lines = footer(result.records, result.environment)
    assert any("black-box-wins" in line and "docs/red-flags.md#black-box-wins" in line for line in lines)
    assert "no-gradients" in str(result)
    for kind in ("markdown", "latex", "csv", "json"):
        assert b"black-box-wins" in render(kind, result.table, shown, lines)
    assert "black-box-wins" in json.loads(render("json", result.table, shown, lines))["rows"][0]["flags"]


def test_an_honest_one_shows_a_dash() -> None:
    x, y = small.whole(small.data().test)
    result = robustkit.evaluate(small.trained(), (x, y), "pgd:steps=5", ("linf", 0.05), precision="fp32")
    assert result.table["flags"].tolist() == [""]
    assert readable(result.table, result.records)["flags"].tolist() == ["–"]
    assert not any(line.startswith("red flag") for line in footer(result.records, result.environment))
