"""What the blood of each diagnosis looks like: mean share of the cell types, mean rates of optional concepts.

The numbers are set by hand after the descriptions cited in ``docs/explanation/synthetic.md``;
they are no measured frequencies.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType

import numpy as np
from numpy.typing import NDArray

from cytosae.synthetic.recipes import CELL_TYPES, TRAIT_RATES


@dataclass(frozen=True)
class Profile:
    """Means from which the patients of a diagnosis are drawn."""

    fractions: Mapping[str, float]
    """Cell type -> mean share; brought to a sum of 1."""
    rates: Mapping[str, Mapping[str, float]]
    """Cell type -> optional concept -> mean rate, where it differs from `TRAIT_RATES`."""
    marked_by: tuple[str, ...]
    """Planted concepts in excess of the other diagnoses."""
    alike: float = 14.0
    """Dirichlet concentration of the shares: larger makes patients more alike."""
    alike_rates: float = 7.0
    """Beta concentration (sum of both parameters) of the rates: larger makes patients more alike."""


def _fractions(*percent: float) -> Mapping[str, float]:
    return MappingProxyType(dict(zip(CELL_TYPES, percent, strict=True)))


# Per cent, in the order of CELL_TYPES:
# segmented, band, lymphocyte, monocyte, eosinophil, basophil, erythroblast, platelet, blast, promyelocyte, smudge
PROFILES: Mapping[str, Profile] = MappingProxyType(
    {
        "APL_PML_RARA": Profile(
            fractions=_fractions(12, 4, 20, 3, 1, 1, 3, 2, 12, 39, 3),
            rates={
                "promyelocyte": {
                    "azurophilic_granules": 0.95,
                    "faggot": 0.28,
                    "auer_rod": 0.22,
                    "nuclear_lobes": 0.50,
                    "perinuclear_halo": 0.05,
                    "cytoplasmic_basophilia": 0.35,
                },
                "blast": {"azurophilic_granules": 0.50, "auer_rod": 0.10, "cytoplasmic_basophilia": 0.50},
            },
            marked_by=("azurophilic_granules", "faggot", "auer_rod"),
        ),
        "NPM1": Profile(
            fractions=_fractions(12, 3, 18, 16, 1, 0.5, 2, 2, 42, 2, 4),
            rates={
                "blast": {
                    "nuclear_indentation": 0.50,
                    "auer_rod": 0.02,
                    "cytoplasmic_basophilia": 0.50,
                },
                "monocyte": {"nuclear_indentation": 0.92},
            },
            marked_by=("nuclear_indentation",),
        ),
        "CBFB_MYH11": Profile(
            fractions=_fractions(13, 4, 14, 19, 13, 1, 2, 2, 27, 3, 2),
            rates={
                "eosinophil": {"basophilic_granules": 0.70, "nuclear_lobes": 0.45},
                "monocyte": {"vacuoles": 0.50, "azurophilic_granules": 0.15},
                "blast": {"cytoplasmic_basophilia": 0.50, "auer_rod": 0.05},
            },
            marked_by=("eosinophilic_granules", "basophilic_granules"),
        ),
        "RUNX1_RUNX1T1": Profile(
            fractions=_fractions(18, 6, 17, 3, 3, 1, 3, 2, 41, 4, 2),
            rates={
                "blast": {
                    "auer_rod": 0.32,
                    "perinuclear_halo": 0.55,
                    "vacuoles": 0.40,
                    "azurophilic_granules": 0.30,
                    "cytoplasmic_basophilia": 0.85,
                },
                "segmented_neutrophil": {"hypogranulation": 0.55, "vacuoles": 0.10},
                "band_neutrophil": {"hypogranulation": 0.55, "vacuoles": 0.10},
            },
            marked_by=(
                "auer_rod",
                "perinuclear_halo",
                "vacuoles",
                "hypogranulation",
                "cytoplasmic_basophilia",
            ),
        ),
        "healthy": Profile(
            fractions=_fractions(51, 5, 27, 8, 3.5, 1, 0.3, 2, 0.1, 0.1, 2),
            rates={},
            marked_by=("nuclear_lobes", "dense_chromatin"),
        ),
    }
)
"""Diagnosis -> profile."""

DIAGNOSES: tuple[str, ...] = tuple(PROFILES)
"""Diagnoses in the order in which patients take turns."""


def drawn_profile(
    profile: Profile, rng: np.random.Generator
) -> tuple[NDArray[np.float64], dict[str, dict[str, float]]]:
    """Cell shares and concept rates of one patient.

    Parameters
    ----------
    profile
        Of the patient's diagnosis.
    rng
        Source of randomness.

    Returns
    -------
    Shares of `CELL_TYPES`, float64, sum 1; and rates per cell type and optional concept.
    """
    mean = np.array([profile.fractions[cell_type] for cell_type in CELL_TYPES])
    fractions = rng.dirichlet(profile.alike * mean / mean.sum())
    rates: dict[str, dict[str, float]] = {}
    for cell_type, usual in TRAIT_RATES.items():
        own = profile.rates.get(cell_type, {})
        rates[cell_type] = {}
        for concept, rate in usual.items():
            centre = own.get(concept, rate)
            if 0 < centre < 1:
                k = profile.alike_rates
                centre = float(rng.beta(k * centre, k * (1 - centre)))
            rates[cell_type][concept] = centre
    return fractions, rates
