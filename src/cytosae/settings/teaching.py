"""Settings of taught concepts."""

from __future__ import annotations

from dataclasses import dataclass

from cytosae.settings.declaration import SHORT_SEED, check, setting


@dataclass(frozen=True)
class TeachConfig:
    """Settings of the learning of a concept from marks.

    Raises
    ------
    CytosaeError
        A value out of its range.
    """

    random_cells: int = setting(
        512, "random cells that marks are compared with, and among which the strongest are shown, at most", minimum=16
    )
    precision: float = setting(
        0.3,
        "estimated share of the patches above the threshold that show the concept",
        minimum=0.05,
        maximum=0.99,
    )
    views: int = setting(
        24,
        "random cells that are looked at turned and in other stains, so that concepts depend less on these; 0: none",
        minimum=0,
    )
    teach_seed: int = setting(0, "fixes random cells and folds", minimum=0, maximum=SHORT_SEED)

    def __post_init__(self) -> None:
        check(self)
