"""Settings of barcodes and of what is asked of patients."""

from __future__ import annotations

from dataclasses import dataclass

from cytosae.settings.declaration import SEED, SHORT_SEED, check, setting

CHOOSE = "choose"
"""Value of a setting that is decided inside the training patients."""
COVERAGE = 0.9
"""Nominal coverage of conformal sets."""
_COVERAGE = "nominal share of patients whose conformal set (the classes that a patient may have) holds the true class"

CONCEPTS = ("all", "discovered", "approved", "distinct", "inside", "reproduced", "morphology", "taught", "untaught")
"""Which latents are used."""
_CONCEPTS = (
    "all; discovered (the test of a concept); approved (experts call it meaningful); distinct (of each group of "
    "near-duplicates the one that is listed); inside (less than half of it lies on the background); reproduced (comes "
    "back in at least half of other trainings); morphology (hardly responds to stain, `cytosae stain-response`); taught "
    "(`cytosae teach`); untaught"
)


BLOCK_FEATURES = ("counts", "share", "top", "strongest")
"""Features that are one block of the barcodes."""
_BLOCK = (
    "counts (Eq. 3), share (of the cells that show a concept), top (mean of the 5 strongest cells), strongest (cell)"
)
BLOCK_TRANSFORMS = ("none", "log1p", "sqrt")


@dataclass(frozen=True)
class BarcodeConfig:
    """Settings of the barcodes.

    Raises
    ------
    CytosaeError
        A value that is no choice.
    """

    by_cell_type: bool = setting(False, "a barcode of each cell type (column 'label') of each patient")
    duplicates: bool = setting(
        True, "look for cells that occur under two patients, as the same file or turned, resized, compressed anew"
    )
    artefacts: str = setting(
        "count",
        "latents that experts call artefact (`cytosae annotations apply`) or that `cytosae refine --artefacts keep` "
        "gathered: count, or leave-out (0 in all barcodes)",
        ("count", "leave-out"),
    )

    def __post_init__(self) -> None:
        check(self)


@dataclass(frozen=True)
class ClassifyConfig:
    """Settings of the classification of patients.

    Raises
    ------
    CytosaeError
        A value out of its range.
    """

    splits: int = setting(5, "folds, by patient, with equal shares of the classes", minimum=2)
    repeats: int = setting(5, "how often the folds are drawn", minimum=1)
    inner: int = setting(3, "folds of the training patients, in which representation and penalty are chosen", minimum=2)
    features: str = setting(
        CHOOSE,
        "blocks of the barcodes: counts (Eq. 3), share (of the cells that show a concept), counts+share, top (mean of "
        f"the 5 strongest cells), strongest (cell) or all (the first three); {CHOOSE}: counts+share, top or strongest, "
        "decided inside the training patients",
        (CHOOSE, "counts", "share", "top", "counts+share", "all", "strongest"),
    )
    transform: str = setting(
        "log1p",
        "of the blocks' values: none, log1p, sqrt, log-ratio (log1p less its mean over the patient's concepts, against "
        f"stains that change all alike); {CHOOSE}: decided inside the training patients",
        ("none", "log1p", "sqrt", "log-ratio", CHOOSE),
    )
    concepts: str = setting("all", f"latents that may be used: {_CONCEPTS}", CONCEPTS)
    deep: bool = setting(
        False,
        "also fit multiple-instance models: attention and a transformer on the concept counts of the cells and, with "
        "--tokens, a transformer on CLS tokens",
    )
    short: bool = setting(
        False,
        "also fit a short model, an elastic net on few concepts, near-duplicates counted once, and what models of 1 to "
        "60 concepts predict",
    )
    step: float = setting(
        0.5, "distance of the thresholds, log10 of mean activation, from -6 to 0 (Fig. 4A)", minimum=0.05
    )
    permutations: int = setting(200, "classifications of permuted labels, for the null", minimum=0)
    bootstrap: int = setting(1000, "bootstrap draws of the patients, for intervals", minimum=20)
    coverage: float = setting(COVERAGE, _COVERAGE, minimum=0.5, maximum=0.99)
    untrained: bool = setting(
        False,
        "compare with an untrained backbone of the same shape too; takes one pass over the images, kept for later",
    )
    seed: int = setting(0, "fixes folds, permutations and draws", minimum=0, maximum=SHORT_SEED)

    def __post_init__(self) -> None:
        check(self)

    @property
    def thresholds(self) -> tuple[float, ...]:
        """From -6 to 0, the paper's -3 among them."""
        return tuple(sorted({-3.0, *(round(-6 + self.step * i, 6) for i in range(int(6 / self.step + 1e-9) + 1))}))


@dataclass(frozen=True)
class CompareConfig:
    """Settings of the comparison of two groups of patients.

    Raises
    ------
    CytosaeError
        A value out of its range.
    """

    top: int = setting(50, "latents most in favour of each side (sec. 3.3)", minimum=1)
    features: str = setting(
        "counts",
        f"block of the barcodes that is compared: {_BLOCK}; with another than counts these stand beside it",
        BLOCK_FEATURES,
    )
    transform: str = setting("none", "of the block's values", BLOCK_TRANSFORMS)
    concepts: str = setting("all", f"latents that are compared: {_CONCEPTS}", CONCEPTS)
    order: str = setting(
        "difference",
        "what the latents of each side are listed by: difference of the barcodes (sec. 3.3), effect (Hedges' g), or "
        "reach (patients of each side who reach a level); the last two find rare marks, with --features strongest",
        ("difference", "effect", "reach"),
    )
    components: int = setting(
        0,
        "principal components of the patients, found without their groups, taken out of every latent first; 5 to 10 "
        "find rare marks behind the mix of the cells",
        minimum=0,
    )
    prevalence: float = setting(
        0.1, "a latent is tested if it occurs in at least this share of the patients of both groups", minimum=0
    )
    bootstrap: int = setting(1000, "bootstrap draws of the patients, for intervals", minimum=20)
    permutations: int = setting(10_000, "permutations of the groups, for p values", minimum=0)
    shown: int = setting(8, "latents of each side whose cells are drawn, if a study is given", minimum=1)
    seed: int = setting(0, "fixes draws and permutations", minimum=0, maximum=SEED)

    def __post_init__(self) -> None:
        check(self)


@dataclass(frozen=True)
class PatientConfig:
    """Settings of the page of a patient.

    Raises
    ------
    CytosaeError
        A value out of its range.
    """

    healthy: str = setting("healthy", "group (diagnosis) of healthy patients, with which every patient is compared")
    concepts: int = setting(8, "unusual concepts shown, at most", minimum=1)
    cells: int = setting(10, "cells shown, at most", minimum=1)
    fdr: float = setting(0.1, "false-discovery rate up to which a concept is unusual", minimum=0)
    features: str = setting(
        "counts",
        f"block of the barcodes in which a concept may be unusual: {_BLOCK}; with another than counts these stand beside it",
        BLOCK_FEATURES,
    )
    transform: str = setting("none", "of the block's values", BLOCK_TRANSFORMS)

    def __post_init__(self) -> None:
        check(self)


@dataclass(frozen=True)
class DrawnConfig:
    """Settings of the figures of the barcodes.

    Raises
    ------
    CytosaeError
        A value that is no choice.
    """

    features: str = setting(
        "counts",
        f"block of the barcodes that the figures show: {_BLOCK}; diseases are shown by counts too",
        BLOCK_FEATURES,
    )
    transform: str = setting("none", "of the block's values", BLOCK_TRANSFORMS)

    def __post_init__(self) -> None:
        check(self)


@dataclass(frozen=True)
class PredictConfig:
    """Settings of the prediction of new patients.

    Raises
    ------
    CytosaeError
        A value out of its range.
    """

    coverage: float = setting(COVERAGE, _COVERAGE, minimum=0.5, maximum=0.99)
    strongest: int = setting(
        10, "cells listed per patient at most, those that contribute most to the prediction", minimum=1
    )

    def __post_init__(self) -> None:
        check(self)


@dataclass(frozen=True)
class LaboratoryConfig:
    """Settings of the comparison of laboratories.

    Raises
    ------
    CytosaeError
        A value out of its range.
    """

    laboratory: str = setting("dataset", "column of patients and cells that says the laboratory")
    healthy: str = setting("healthy", "group of healthy patients, for centring on each laboratory's controls")
    cells: int = setting(150, "cells of each type and laboratory, at most", minimum=10)
    permutations: int = setting(100, "permutations, for the null", minimum=0)
    bootstrap: int = setting(1000, "bootstrap draws of the patients or cells, for intervals", minimum=20)
    seed: int = setting(0, "fixes folds, permutations and draws", minimum=0, maximum=SHORT_SEED)

    def __post_init__(self) -> None:
        check(self)


@dataclass(frozen=True)
class StainConfig:
    """Settings of the stain response of concepts.

    Raises
    ------
    CytosaeError
        A value out of its range.
    """

    cells: int = setting(128, "cells of each data set that are restained, dimmed and so on, at most", minimum=20)
    seed: int = setting(0, "fixes which cells", minimum=0, maximum=SHORT_SEED)

    def __post_init__(self) -> None:
        check(self)


FROM_CONCEPTS, FROM_TOKENS = "concepts", "tokens-and-measurements"
"""What cell types are learned from."""


@dataclass(frozen=True)
class LabelConfig:
    """Settings of cell types that are predicted.

    Raises
    ------
    CytosaeError
        A value out of its range.
    """

    accuracy: float = setting(
        0.95,
        "required share of right answers, measured on cells of the study whose patients the probe had not seen",
        minimum=0.5,
        maximum=1,
    )
    examples: int = setting(
        20_000, "labelled cells that the probe learns from, at most; a sample if there are more", minimum=20
    )
    features: str = setting(
        FROM_CONCEPTS,
        "what types are learned from: concepts; or, for cells of another laboratory, tokens made comparable between "
        "laboratories, and measurements",
        choices=(FROM_CONCEPTS, FROM_TOKENS),
    )
    laboratory: str = setting(
        "dataset",
        "column that says the laboratory of a cell, in the study and the new table; with tokens-and-measurements",
    )
    seed: int = setting(0, "fixes folds and draws", minimum=0, maximum=SHORT_SEED)

    def __post_init__(self) -> None:
        check(self)
