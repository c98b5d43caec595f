"""What the paper reports beside what came out, as a table and as a page with the figures."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from cytosae import __version__
from cytosae.analysis.classification import PAPERS
from cytosae.artefacts import FileRecord, Manifest, claim, whole_file, write_csv
from cytosae.cells.datasets import TABLE as CELLS
from cytosae.cohort import BARCODES, CLASSIFICATION, COHORT, read_methods, why_other_concepts
from cytosae.concepts import read_datasets
from cytosae.report import encode_png, figure_files, template
from cytosae.reproduction.paper import CHOSEN, FIRST, PATIENTS, REPORTED, SECOND, TRAINING_SET
from cytosae.reproduction.recipe import Recipe

TABLE, PAGE, PANEL = "reproduction.csv", "index.html", "panel.json"
_FIGURES = {
    "Figure 2: concepts above a threshold, by expansion": "figures/figure-2-counts.png",
    "Figure 2: all latents on the training set": "study/report/figures/overview-0.png",
    "Figure 3: a patch of an eosinophil, its concepts, and their reference images": "figures/figure-3.png",
    "Figure 4: classification of patients, and the sweep of the threshold": "study/cohort/classification/sweep.png",
    "Figure 4: beside the baselines": "study/cohort/classification/methods.png",
    "Figure 5: two diseases": "comparison/scatter.png",
    f"Figure 5: concepts of {FIRST}": "comparison/references-first.png",
    f"Figure 5: concepts of {SECOND}": "comparison/references-second.png",
}


def claim_results(recipe: Recipe) -> None:
    """Claim what `write_results` and the steps write into the folder itself."""
    drawn = [f"figures/{name}" for figure in ("figure-2-counts", "figure-3") for name in figure_files(figure)]
    further = [PANEL, (recipe.study / CELLS).relative_to(recipe.folder).as_posix(), *drawn]
    claim(recipe.folder, "reproduction", [TABLE, PAGE, *further], unnamed=further)


def write_results(recipe: Recipe) -> dict[str, Any]:
    """Write ``reproduction.csv`` and ``index.html``.

    Returns
    -------
    Paths of both, and the rows for which there is a figure.
    """
    folder = recipe.folder
    table = compared(recipe)
    write_csv(folder / TABLE, table)
    figures = [(title, encode_png(folder / path)) for title, path in _FIGURES.items() if (folder / path).is_file()]
    page = template("reproduction.html.j2").render(
        rows=table.astype(object).where(table.notna(), None).to_dict("records"),
        figures=figures,
        version=__version__,
        recipe=recipe,
        study=recipe.study.relative_to(recipe.folder),
    )
    with whole_file(folder / PAGE) as temporary:
        temporary.write_text(page, encoding="utf-8")
    obtained = table[table["obtained"].notna()].set_index("what")["obtained"].to_dict()
    outputs = {name: FileRecord.from_file(folder / name) for name in (TABLE, PAGE)}
    Manifest("reproduction", {"seeds": recipe.seeds}, {}, outputs, {"obtained": obtained}).save(folder)
    return {"table": str(folder / TABLE), "page": str(folder / PAGE), "obtained": obtained}


def compared(recipe: Recipe) -> pd.DataFrame:
    """A row for each figure of the paper: what it reports, what came out, and over how many trainings."""
    obtained = _obtained(recipe)
    rows = []
    for one in REPORTED:
        values = np.array(obtained.get(one.key, []), dtype=float)
        rows.append(
            {
                "where": one.where,
                "what": one.quantity,
                "paper": one.value,
                "paper_spread": one.spread,
                "obtained": values.mean() if len(values) else None,
                "obtained_spread": values.std(ddof=1) if len(values) > 1 else None,
                "trainings": len(values) if len(values) else None,
                "note": one.note,
            }
        )
    return pd.DataFrame(rows)


def _obtained(recipe: Recipe) -> Mapping[str, list[float]]:
    """The recipe's figures by key; those that are not there yet are missing."""
    figures: dict[str, list[float]] = {}
    for variant, seed in recipe.members:
        if Manifest.load(recipe.concepts_folder(variant, seed)) is not None:
            concepts = read_datasets(recipe.concepts_folder(variant, seed))[TRAINING_SET]["concepts"]
            figures.setdefault(f"concepts {variant}", []).append(concepts)
        if (trained := Manifest.load(recipe.sae_folder(variant, seed))) is not None:
            figures.setdefault(f"dead {variant}", []).append(trained.summary["dead"])
            figures.setdefault(f"l0 {variant}", []).append(trained.summary["l0"])
    pairs = zip(figures.get("l0 lambda-by-10", []), figures.get(f"l0 {CHOSEN}", []), strict=False)
    if ratios := [low / chosen for low, chosen in pairs if chosen]:
        figures["l0 lambda-by-10 over chosen"] = ratios
    if Manifest.load(recipe.study / "concepts") is not None:
        for name, summary in read_datasets(recipe.study / "concepts").items():
            figures[f"cells {name}"] = [summary["cells"]]
    figures |= _patient_figures(recipe.study / COHORT)
    figures |= _expert_figures(recipe.study)
    return figures


def _patient_figures(folder: Path) -> dict[str, list[float]]:
    figures: dict[str, list[float]] = {}
    path, concepts = folder / BARCODES, folder.parent / "concepts"
    if path.is_file() and Manifest.load(concepts) is not None and why_other_concepts(path, concepts):
        return figures
    if (cohort := Manifest.load(folder)) is not None and path.is_file():
        figures[f"patients {PATIENTS}"] = [cohort.summary["patients"]]
    if Manifest.load(folder / CLASSIFICATION) is not None and PAPERS in (rows := read_methods(folder / CLASSIFICATION)):
        figures["weighted F1"] = [rows[PAPERS]["value"]]
    return figures


def _expert_figures(study: Path) -> dict[str, list[float]]:
    """Concepts that experts found specific, where they judged the worklists of the comparison."""
    from cytosae.explorer.annotations import default_address, open_database, summarise
    from cytosae.explorer.annotations.worklists import listed

    if not (study / "annotations.sqlite").is_file():
        return {}
    figures: dict[str, list[float]] = {}
    database = open_database(study, default_address(study))
    try:
        with database.reading() as session:
            for worklist in listed(session):
                specific = summarise(session, worklist.id).specific
                if specific is not None and specific.y and specific.disease in (FIRST, SECOND):
                    figures[f"specific {specific.disease}"] = [specific.x]
    finally:
        database.close()
    return figures
