from __future__ import annotations

from robustkit.contracts import Recipe
from robustkit.training.checkpoint import described


def test_a_recipe_is_described_by_what_differs_from_its_defaults() -> None:
    """A field that is added later, at its default, must not turn a half-done training into another one."""
    assert described(Recipe()) == "Recipe()"
    assert described(Recipe(epochs=Recipe().epochs + 1, optimizer="adam")) == (
        f"Recipe(epochs={Recipe().epochs + 1}, optimizer='adam')"
    )
