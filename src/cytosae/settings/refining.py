"""Settings of the refinement of a dictionary."""

from __future__ import annotations

from dataclasses import dataclass

from cytosae.settings.declaration import SHORT_SEED, check, setting


@dataclass(frozen=True)
class RefineConfig:
    """Settings of the further training in which verdicts, marks and taught concepts count.

    Raises
    ------
    CytosaeError
        A value out of its range.
    """

    refine_images: int = setting(8_000, "images of the further training", minimum=1)
    rate_share: float = setting(0.25, "learning rate, as a share of that of the training before", minimum=0, maximum=1)
    keep: float = setting(
        1.0,
        "weight of the penalty that keeps meaningful latents near their directions, beside the reconstruction",
        minimum=0,
    )
    teach_weight: float = setting(0.1, "weight of the taught concepts' marks, beside the reconstruction", minimum=0)
    artefacts: str = setting(
        "free",
        "what happens to latents judged artefact: free (they start again), or keep (a block that barcodes can "
        "leave out)",
        ("free", "keep"),
    )
    judge: float = setting(
        0.34, "share of the marked patients (or cells) held out to test the taught concepts", minimum=0, maximum=0.8
    )
    refine_seed: int = setting(0, "fixes draws and the order of the images", minimum=0, maximum=SHORT_SEED)

    def __post_init__(self) -> None:
        check(self)
