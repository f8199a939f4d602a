"""A component of plain Python: what the host needs of it is a frozen dataclass."""

from dataclasses import dataclass

from robustkit import check, param


@dataclass(frozen=True, kw_only=True)
class Sign:
    steps: int = param(3, "steps taken", low=1)
    step_size: float = param(2 / 255, "length of a step", unit="input units", low=0, high=1)
    offsets: tuple[int, ...] = param((), "rows skipped")

    def __post_init__(self) -> None:
        check(self)

    def __call__(self, model, x, y, threat):
        return x
