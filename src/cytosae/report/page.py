"""One self-contained HTML page for a study."""

from __future__ import annotations

import base64
from importlib.resources import files
from pathlib import Path
from typing import Any

import anndata as ad
import numpy as np
import pandas as pd
import scipy.sparse as sp
from numpy.typing import NDArray
from PIL import Image

from cytosae import __version__
from cytosae.artefacts import (
    CONFIG,
    FileRecord,
    Manifest,
    claim,
    digest,
    read_json,
    sha256_file,
    whole_file,
)
from cytosae.cells import Reading, UnreadableImage, load_squashed, read_cells, readings
from cytosae.cohort import (
    BARCODES,
    CLASSIFICATION,
    COHORT,
    methods_figure,
    read_barcodes,
    read_warnings,
    why_other_concepts,
)
from cytosae.concepts import (
    NAMES,
    alike_leaders,
    interest_of,
    read_cell_rows,
    read_concepts,
    read_datasets,
    read_maps,
    read_names,
    spread_rows,
)
from cytosae.concepts.schema import DESCRIPTION
from cytosae.console import progress, say
from cytosae.errors import CytosaeError
from cytosae.learned import why_not_learned
from cytosae.report.barcodes import BARCODE_FIGURES, CHOSEN, barcode_figures
from cytosae.report.inline import encode_png, jpeg, template
from cytosae.report.overview import overview
from cytosae.report.study_figures import StudyFigure, draw_study_figures, figures_of_study, is_trained
from cytosae.report.style import figure_files, save
from cytosae.sae import measured_on
from cytosae.settings import DrawnConfig, to_stored
from cytosae.storage import StoredPath, resolve_path

SHOWN = 48
"""Concepts of each of the two rankings of the page: by interest, and by mean activation."""
_FIRST = 3
"""Concepts that a summary of the page names."""
_EDGE = 112  # pixels of a reference image, shown at 96: sharp enough on dense screens, small to send
PAGE = "index.html"


def report_inputs(study: Path) -> dict[str, str]:
    """Digests of what the report depends on.

    No example: draws what a study holds; `cytosae report` and the commands on patients run it.
    """
    templates = [
        (files("cytosae.report") / name).read_text(encoding="utf-8") for name in ("template.html.j2", "page.css")
    ]
    inputs = {"page": digest([__version__, *templates])}
    for stage in ("sae", "concepts"):
        manifest = Manifest.load(study / stage)
        if manifest is None:
            raise CytosaeError(f"{study / stage}: this stage is not finished. Run `cytosae run` on the study first.")
        inputs[stage] = manifest.fingerprint()
    further = {"quality": study / "quality", COHORT: study / COHORT, CLASSIFICATION: study / COHORT / CLASSIFICATION}
    for name, folder in further.items():
        if (made := Manifest.load(folder)) is not None and (name == "quality" or not why_no_patients(study)):
            inputs[name] = made.fingerprint()
    return inputs


def shown_concepts(var: pd.DataFrame, count: int = SHOWN) -> NDArray[np.int64]:
    """The concepts that the page shows, by falling interest.

    The `count` most interesting of all discovered concepts (``var["interest"]``, see
    `cytosae.concepts.interest_scores`), and the `count` strongest by mean activation, which are often in every cell and
    tell little about one. Near-duplicates (``var["alike"]``, see `cytosae.concepts.alike_leaders`) stand in the place of the
    most interesting of them.

    No example: draws what a study holds; `cytosae report` and the commands on patients run it.
    """
    folded = var["alike"].to_numpy() != np.arange(len(var)) if "alike" in var else np.zeros(len(var), bool)
    concepts = np.flatnonzero(var["is_concept"].to_numpy() & ~folded)
    interest, mean = var["interest"].to_numpy()[concepts], var["mean_activation"].to_numpy()[concepts]
    by_interest, by_mean = np.lexsort((-mean, -interest)), np.argsort(-mean, kind="stable")
    chosen = np.union1d(by_interest[:count], by_mean[:count])
    return concepts[by_interest[np.isin(by_interest, chosen)]]


def drawn_config(study: Path) -> DrawnConfig:
    """What of the barcodes the report of a study shows, as it was last written.

    Examples
    --------
    >>> drawn_config(Path("no-study")) == DrawnConfig()
    True
    """
    made = Manifest.load(study / "report")
    return DrawnConfig() if made is None else DrawnConfig(**made.parameters)


def write_report(study: Path, config: DrawnConfig | None = None) -> dict[str, Any]:
    """Write ``report/index.html`` and its figures for a study.

    Parameters
    ----------
    study
        Folder whose concepts are finished.
    config
        What of the barcodes is shown; as the report was last written if None.

    Returns
    -------
    Path of the page, its size, and for each data set the number of concepts shown, and the first three in words.

    Raises
    ------
    CytosaeError
        A stage is missing, or no permission to write.

    Notes
    -----
    No example: draws what a study holds; `cytosae report` and the commands on patients run it.
    """
    inputs, config = report_inputs(study), config or drawn_config(study)
    folder = study / "report"
    figures = folder / "figures"
    numbers = sorted(read_datasets(study / "concepts").items(), key=lambda item: -item[1]["cells"])
    drawn = _claim(study, folder, len(numbers))
    for name in figure_files(CHOSEN):  # of a former choice
        (figures / name).unlink(missing_ok=True)
    cells = read_cells(study / "cells.parquet")
    files = dict(zip(cells["cell_id"], zip(cells["path"], readings(cells), strict=True), strict=True))
    names = read_names(study / "concepts") | read_names(study / "concepts", NAMES)  # without raters in older files
    datasets = []
    for index, (name, summary) in enumerate(numbers):
        data = read_concepts(study / "concepts", name, matrices=False)
        threshold = float(data.uns["cytosae"]["parameters"]["concept_threshold"])
        save(overview(data.var, title=name, concept_threshold=threshold), figures / f"overview-{index}")
        latents, maps = read_maps(study / "concepts", name)
        data.var["interest"] = interest_of(data.var, latents, maps, summary["cells"], _n_labels(data))
        counts = sp.csc_matrix(read_cell_rows(study / "concepts", name, spread_rows(data.n_obs))[0], dtype=np.float32)
        data.var["alike"] = alike_leaders(
            counts, data.var["interest"].to_numpy(), data.var["is_concept"].to_numpy(bool)
        )
        references = _references(data, latents, maps, files, names)
        datasets.append(
            {"name": name, "summary": summary, "overview": encode_png(figures / f"overview-{index}.png"), **references}
        )
    page = _render(study, datasets, _patients(study, figures, config), list(draw_study_figures(study, figures)))
    with whole_file(folder / PAGE) as temporary:
        temporary.write_text(page, encoding="utf-8")
    shown = {dataset["name"]: len(dataset["concepts"]) for dataset in datasets}
    first = {dataset["name"]: _first(dataset["concepts"]) for dataset in datasets}
    summary = {"bytes": len(page.encode()), "concepts_shown": shown, "first": first}
    if isinstance(folder, StoredPath):
        drawn = []  # each would be fetched whenever somebody asks whether the report is up to date
    outputs = {name: FileRecord.from_file(folder / name) for name in (PAGE, *drawn) if (folder / name).is_file()}
    Manifest("report", to_stored(config), inputs, outputs, summary).save(folder)
    return {"page": f"{folder / PAGE}", **summary}


def _claim(study: Path, folder: Path, datasets: int) -> list[str]:
    """Claim the page and the figures that will be drawn for it; the figures."""
    drawn = [*(figure.name for figure in figures_of_study(study)), *(f"overview-{index}" for index in range(datasets))]
    drawn += BARCODE_FIGURES if Manifest.load(study / COHORT) is not None else []
    names = [f"figures/{name}" for figure in drawn for name in figure_files(figure)]
    claim(folder, "report", [PAGE, *names], unnamed=names)
    return names


def _references(
    data: ad.AnnData,
    latents: NDArray[np.int64],
    maps: NDArray[np.float16],
    files: dict[str, tuple[str, str | None]],
    names: dict[int, str],
) -> dict[str, Any]:
    """Concepts with their reference images and maps, the named ones first, and every picture once."""
    var, labels = data.var, data.obs["label"].astype(object) if "label" in data.obs else None
    cells, values = data.varm["reference_cells"], data.varm["reference_values"]
    ids = data.obs_names.to_numpy()
    alike = var["alike"].to_numpy()
    row_of_latent = {int(latent): row for row, latent in enumerate(latents)}
    concepts: list[dict[str, Any]] = []
    images: dict[int, str] = {}
    named = np.array(sorted(latent for latent in names if latent < len(var)), int)
    named = named[np.argsort(-var["mean_activation"].to_numpy()[named], kind="stable")]
    unnamed = shown_concepts(var)
    chosen = np.concatenate([named, unnamed[~np.isin(unnamed, named)]])
    with progress("report", len(chosen), "concepts") as bar:
        for done, latent in enumerate(chosen, 1):
            # a named latent may be no concept of this data set, for which no maps are kept
            row = maps[row_of_latent[int(latent)]].astype(np.float32) if int(latent) in row_of_latent else None
            top = 1.0 if row is None else float(row.max()) or 1.0
            references = []
            for rank, cell in enumerate(cells[latent]):
                if cell < 0:
                    break
                if cell not in images:
                    images[int(cell)] = _encode_image(*files.get(str(ids[cell]), ("", Reading())))
                graded = b"" if row is None else np.rint(row[rank] / top * 255).astype(np.uint8).tobytes()
                label = labels.iloc[cell] if labels is not None else None
                references.append(
                    {
                        "cell": int(cell),
                        "label": None if pd.isna(label) else str(label),
                        "value": float(values[latent, rank]),
                        "map": base64.b64encode(graded).decode(),
                    }
                )
            about = var.iloc[latent]
            entropy = float(about["label_entropy"])
            concepts.append(
                {
                    "latent": int(latent),
                    "name": names.get(int(latent), ""),
                    "words": _words(about),
                    "interest": float(about["interest"]),
                    "alike": [other for other in np.flatnonzero(alike == latent).tolist() if other != latent],
                    "mean": float(about["mean_activation"]),
                    "frequency": float(about["activation_frequency"]),
                    "entropy": None if np.isnan(entropy) else entropy,
                    "references": references,
                }
            )
            bar.to(done)
    used = {cell: str(ids[cell]) for cell in images}
    return {"concepts": concepts, "pictures": images, "ids": used, "grid": list(maps.shape[2:])}


def _first(concepts: list[dict[str, Any]]) -> dict[str, str]:
    """The most interesting concepts that have words, by number."""
    described = sorted((one for one in concepts if one["words"]), key=lambda one: -one["interest"])
    return {str(one["latent"]): one["words"] for one in described[:_FIRST]}


def _words(about: pd.Series) -> str:
    """The description of a concept; empty where it has none."""
    text = about.get(DESCRIPTION)
    return "" if text is None or pd.isna(text) else str(text)


def _n_labels(data: ad.AnnData) -> int:
    return int(data.obs["label"].nunique()) if "label" in data.obs else 0


def _encode_image(path: str, reading: Reading) -> str:
    """A small JPEG as base64; empty where the file has gone since."""
    try:
        pixels = load_squashed(resolve_path(path), 224, reading)
    except UnreadableImage:
        return ""
    small = Image.fromarray(pixels).resize((_EDGE, _EDGE), Image.Resampling.LANCZOS)
    return jpeg(np.asarray(small))


def why_no_patients(study: Path) -> str | None:
    """Why the barcodes of a study are not shown: there are none (an empty text), or they are of other concepts."""
    path = study / COHORT / BARCODES
    if Manifest.load(study / COHORT) is None or not path.is_file():
        return ""
    why = why_other_concepts(path, study / "concepts")
    return why and f"{path} is not of these concepts: {why}"


def _patients(study: Path, figures: Path, config: DrawnConfig) -> tuple[dict[str, str], list[str]]:
    """The figures of the patients, where their barcodes were made of these concepts, and what to know before these."""
    path = study / COHORT / BARCODES
    if (why := why_no_patients(study)) is not None:
        if why:
            say(f"report: {why}. Patients are left out.")
        return {}, []
    data = read_barcodes(path, pooled=True)
    drawn = {name: encode_png(figures / f"{name}.png") for name in barcode_figures(data, figures, config=config)}
    classification = Manifest.load(path.parent / CLASSIFICATION)
    if classification is not None and classification.inputs.get("barcodes") == sha256_file(path):
        folder = path.parent / CLASSIFICATION
        drawn |= {"methods": encode_png(methods_figure(folder)), "confusion": encode_png(folder / "confusion.png")}
        return drawn, read_warnings(folder)
    return drawn, []


def _render(
    study: Path,
    datasets: list[dict[str, Any]],
    patients: tuple[dict[str, str], list[str]],
    figures: list[tuple[StudyFigure, str]],
) -> str:
    sae = Manifest.load(study / "sae")
    assert sae is not None
    backbone = read_json(study / "sae" / CONFIG)["metadata"]["backbone"]
    return template("template.html.j2").render(
        study=study.absolute().name,
        version=__version__,
        datasets=[
            {key: value for key, value in d.items() if key not in {"concepts", "pictures", "ids"}} for d in datasets
        ],
        galleries=[{key: d[key] for key in ("name", "concepts", "pictures", "ids", "grid")} for d in datasets],
        sae=sae.summary,
        measured_on=measured_on(sae.summary, sae.inputs),
        why_not_learned=why_not_learned(sae.summary),
        training=sae.parameters,
        trained=is_trained(study),
        figures=figures,
        patients=patients[0],
        patient_warnings=patients[1],
        backbone=backbone,
        backbone_name=Path(backbone["name"]).name if Path(backbone["name"]).exists() else backbone["name"],
        shown=SHOWN,
    )
