"""Settings of the concepts and of their quality measures."""

from __future__ import annotations

from dataclasses import dataclass

from cytosae.settings.declaration import SEED, SHORT_SEED, check, setting

CONCEPT_THRESHOLD = -3.0
"""A latent is a discovered concept where log10 of its mean activation is above it (sec. 2)."""
CONCENTRATION = 3.0
"""A latent whose active patches are not more concentrated in few cells than this is no concept; shuffled ones have 1."""
POSITION_SHARE = 0.2
"""A latent with a larger position share speaks of a place in the picture, not of the cell."""


@dataclass(frozen=True)
class EncodeConfig:
    """Settings of the encoding.

    Raises
    ------
    CytosaeError
        A value out of its range.
    """

    threshold: float = setting(0.2, "tau: a patch is active if its activation is above it (Eq. 2; release)", minimum=0)
    references: int = setting(10, "reference images per latent (sec. 2)", minimum=1)
    per_patient: int = setting(
        1,
        "at most so many images of one patient in the second list of reference images, beside the strongest",
        minimum=1,
    )
    concept_threshold: float = setting(
        CONCEPT_THRESHOLD, "a latent is a discovered concept if log10 of its mean activation is above it (sec. 2)"
    )
    concept_rule: str = setting(
        "auto",
        "what else a concept needs: 'paper' nothing; 'all' enough cells and concentration; auto is 'paper' if the "
        "latents are ReLUs, as in the paper's loss, else 'all'",
        choices=("auto", "paper", "all"),
    )
    concept_cells: int = setting(10, "cells with an active patch that a concept needs, at least", minimum=1)
    concept_concentration: float = setting(
        CONCENTRATION,
        "variance of a latent's counts over the cells, against that of the same patches shuffled over all cells, above "
        "which it is concentrated",
        minimum=0,
    )
    draw_seed: int = setting(0, "fixes the draw of random reference images", minimum=0, maximum=SEED)

    def __post_init__(self) -> None:
        check(self)


@dataclass(frozen=True)
class EvaluateConfig:
    """Settings of the quality measures.

    Raises
    ------
    CytosaeError
        A value out of its range.
    """

    cells: int = setting(4000, "cells for the measures, drawn from all data sets, at most", minimum=50)
    token_cells: int = setting(
        512, "cells whose single tokens are used, for reconstruction and masks, at most", minimum=10
    )
    changed_cells: int = setting(
        128, "cells that pass the backbone again with another stain, blurred and compressed, at most", minimum=10
    )
    baseline_images: int = setting(
        0,
        "images on which two baselines are trained with the autoencoder's settings, one with its decoder and one "
        "with its encoder frozen as drawn; for a fair comparison as many as it has seen; 0 for none",
        minimum=0,
    )
    tuning: int = setting(
        0,
        "drawn cells for tuning curves, on which each knob of anatomy is turned; 12 are enough, 0 for none",
        minimum=0,
    )
    draws: int = setting(200, "bootstrap draws for an interval", minimum=20)
    seed: int = setting(0, "fixes the cells, the halves and all draws", minimum=0, maximum=SHORT_SEED)

    def __post_init__(self) -> None:
        check(self)


@dataclass(frozen=True)
class DescribeConfig:
    """Settings of the descriptions.

    Raises
    ------
    CytosaeError
        A value out of its range.
    """

    cells: int = setting(
        4000, "cells of a data set on which types, attributes and measurements are compared, at most", minimum=50
    )
    least_auroc: float = setting(
        0.8, "a cell type or attribute is named if its AUROC on held-out cells is above it", minimum=0.5, maximum=1
    )
    least_correlation: float = setting(
        0.3, "a measurement is named if its rank correlation on held-out cells is above it", minimum=0, maximum=1
    )
    least_excess: float = setting(
        0.2,
        "a place is named if its share of the activation exceeds its share of the area by this part of the "
        "possible excess, at the lower end of the interval",
        minimum=0,
        maximum=1,
    )
    false_discoveries: float = setting(
        0.01,
        "expected share of false ones among the associations that pass (Benjamini and Hochberg); of a diagnosis the "
        "chance that any false one passes",
        minimum=0,
        maximum=1,
    )
    laboratory: str = setting(
        "laboratory", "column of the cells that says the laboratory: only its patients are compared for a diagnosis"
    )
    seed: int = setting(0, "fixes the cells and their halves", minimum=0, maximum=SHORT_SEED)

    def __post_init__(self) -> None:
        check(self)
