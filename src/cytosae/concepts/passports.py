"""All that is known of a concept in one table: what it shows, whether it comes back, who judged it."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from cytosae.artefacts import Manifest
from cytosae.concepts.description import DESCRIPTIONS, description_inputs, read_descriptions, read_facts, read_proposals
from cytosae.concepts.schema import (
    ANNOTATION,
    CELL_SHARE,
    CONCENTRATION,
    DESCRIPTION,
    NAMES,
    POSITION,
    STAIN_SHARE,
    STAIN_WORD,
    VERDICT,
)
from cytosae.concepts.storage import PER_LATENT, read_concepts, read_datasets
from cytosae.morphometry import MEASURED as CELLS_MEASURED

MEASURED = (
    "reproducibility",
    "nearest_cosine",
    "best_label",
    "best_label_auroc",
    "nucleus_share",
    "cytoplasm_share",
    "background_share",
    "coherence",
    "monosemanticity",
    "consistency",
)
"""Columns of the quality table that a passport has."""
_TABLE = (
    "activation_frequency",
    "mean_activation",
    "label_entropy",
    POSITION,
    CONCENTRATION,
    STAIN_SHARE,
    CELL_SHARE,
)


def has_descriptions(study: Path) -> bool:
    """Whether a study has descriptions of the concepts that it has now.

    No example: needs the concepts of a study, or a trained autoencoder; the README makes both.
    """
    manifest = Manifest.load(study / DESCRIPTIONS)
    if manifest is None or Manifest.load(study / CELLS_MEASURED) is None:
        return False
    return description_inputs(study).items() <= dict(manifest.inputs).items()


def passport(study: Path, latent: int) -> dict[str, Any]:
    """What is known of a concept.

    Parameters
    ----------
    study
        With ``concepts/``; what `cytosae describe`, `cytosae evaluate` and `cytosae annotations apply` left is added.
    latent
        Its number.

    Returns
    -------
    ``datasets``: for each its description, the facts that pass, what a model proposed, its statistics; ``quality``:
    reproducibility, label specificity, place, coherence, monosemanticity, as far as they were measured; ``judged``: name,
    verdict and raters.

    Notes
    -----
    No example: needs the concepts of a study, or a trained autoencoder; the README makes both.
    """
    described = read_descriptions(study) if has_descriptions(study) else None
    facts = read_facts(study) if described is not None else None
    proposals = read_proposals(study) if described is not None else None
    datasets: dict[str, Any] = {}
    judged: dict[str, str] = {}
    for dataset in read_datasets(study / "concepts"):
        row = read_concepts(study / "concepts", dataset, matrices=False).var.iloc[latent]
        entry: dict[str, Any] = {name: float(row[name]) for name in _TABLE if name in row and not pd.isna(row[name])}
        if STAIN_WORD in row and not pd.isna(row[STAIN_WORD]):
            entry[STAIN_WORD] = str(row[STAIN_WORD])
        if described is not None and facts is not None:
            mine = facts[(facts["dataset"] == dataset) & (facts["latent"] == latent) & facts["passes"]]
            patches = described[(described["dataset"] == dataset) & (described["latent"] == latent)]["patches"]
            entry = {
                "description": None if pd.isna(row.get(DESCRIPTION)) else str(row[DESCRIPTION]),
                "evidence": {f"{f.kind}: {f.subject}": _evidence(f) for f in mine.itertuples()},
                **({"share_of_patches": float(patches.iloc[0])} if len(patches) else {}),
                **entry,
            }
        if proposals is not None:
            for row in proposals[(proposals["dataset"] == dataset) & (proposals["latent"] == latent)].itertuples():
                entry["proposed"] = _proposed(row)
        datasets[dataset] = entry
        judged |= {
            name: str(row[name]) for name in (ANNOTATION, VERDICT, NAMES) if name in row and not pd.isna(row[name])
        }
    return {"datasets": datasets, "quality": _quality(study, latent), "judged": judged}


PASSPORT = ("part", "name", "value")
"""Columns of `passport_table`."""


def passport_table(known: Mapping[str, Any]) -> pd.DataFrame:
    """What is known of a concept as a table, a row per figure.

    Parameters
    ----------
    known
        Such as `passport` gives, with whatever was added.

    Examples
    --------
    >>> passport_table({"quality": {"coherence": 0.5}, "judged": {}})
          part       name  value
    0  quality  coherence    0.5
    """
    rows: list[tuple[str, str, Any]] = []

    def add(part: str, name: str, value: Any) -> None:
        if isinstance(value, Mapping):
            for key, inner in value.items():
                add(part, f"{name}.{key}" if name else str(key), inner)
        elif value is not None:
            rows.append((part, name, value))

    for part, value in known.items():
        add(part, "", value)
    return pd.DataFrame(rows, columns=[*PASSPORT])


def is_passport_table(path: Path) -> bool:
    """Whether the columns of a table are those of `passport_table`.

    No example: needs the concepts of a study, or a trained autoencoder; the README makes both.
    """
    return tuple(pd.read_csv(path, nrows=0).columns) == PASSPORT


def _proposed(row: Any) -> dict[str, Any]:
    """What a model proposes, which model, and whether that could be tested."""
    known = {"detection": row.detection, "by_chance": 0.5, "shuffled": row.shuffled} if row.names else {}
    return {
        "phrase": row.phrase,
        "model": row.model,
        "model_sha256": row.model_sha256,
        "names": row.names or "nothing that is measured: not scored",
        **{name: float(value) for name, value in known.items() if not np.isnan(value)},
    }


def _evidence(fact: Any) -> str:
    """``0.62, by chance 0.21``, with q where the fact was tested over cells."""
    q = "" if np.isnan(fact.q) else f", q {fact.q:.2g}"
    return f"{fact.value:.2f}, by chance {fact.null:.2f}{q}"


def _quality(study: Path, latent: int) -> dict[str, Any]:
    path = study / "quality" / PER_LATENT
    if not path.is_file():
        return {}
    table = pd.read_parquet(path).set_index("latent")
    if latent not in table.index:
        return {}
    row = table.loc[latent]
    return {name: row[name] for name in MEASURED if name in row and not pd.isna(row[name])}
