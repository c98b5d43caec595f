"""Two groups of patients: which concepts each has more of, and what these look like in patients of both."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import anndata as ad
import numpy as np
import pandas as pd
from numpy.typing import NDArray

from cytosae.analysis.viewing import Viewer, study_tokens
from cytosae.artefacts import FileRecord, Manifest, claim, refuse_strangers, sha256_file, write_csv
from cytosae.cohort import (
    FEATURES,
    PAPER,
    REACH_Z,
    CohortWarning,
    Representation,
    as_records,
    cohort_warnings,
    compare,
    compare_rates,
    compare_reach,
    group_means,
    make_strata,
    most_different,
    patient_column,
    read_barcodes,
    restricted,
    transformed,
    without_components,
)
from cytosae.concepts import TAUGHT, check_encoded_with, read_activations, read_concepts, read_datasets, read_names
from cytosae.concepts.schema import DESCRIPTION
from cytosae.console import say
from cytosae.errors import NotFound, Unanswerable
from cytosae.report import Row, comparison_scatter, figure_files, reference_grid, save
from cytosae.settings import CompareConfig, to_stored

REST, TABLE = "rest", "latents.csv"
_EACH = 5  # cells of each side that are drawn for a latent


def unit_of(config: CompareConfig) -> str:
    """What the values of a comparison are, such as ``share of the cells, log1p less 5 components``."""
    unit = Representation(config.features, config.transform).unit
    return f"{unit} less {config.components} components" if config.components else unit


def compare_groups(
    path: Path,
    folder: Path,
    first: str,
    second: str = REST,
    config: CompareConfig | None = None,
    *,
    target: str = "diagnosis",
    adjust: str | None = None,
    study: Path | None = None,
    cell_type: str | None = None,
    device: str = "auto",
) -> dict[str, Any]:
    """Compare the barcodes of two groups of patients, or of one with all others.

    Parameters
    ----------
    path
        Barcodes.
    folder
        Where ``latents.csv`` (a row per latent), the scatter and the reference images go.
    first, second
        Values of the column; ``rest`` for all patients with another value.
    target
        The column.
    adjust
        Column (laboratory) within whose values patients are compared.
    study
        The study of the barcodes, to draw the cells of the latents most in favour of each side.

    Raises
    ------
    CytosaeError
        No such group or column, or no value of the covariate with patients of both groups.

    Notes
    -----
    No example: needs a finished study; its command runs it, in the tutorials or the how-to pages.
    """
    config = config or CompareConfig()
    figures = ["scatter", *(f"references-{side}" for side in ("first", "second") if study is not None)]
    names = [name for figure in figures for name in figure_files(figure)]
    refuse_strangers(folder, "comparison", [TABLE, *names], unnamed=names)
    if study is not None:
        check_encoded_with(study)
    data = read_barcodes(path, cell_type, concepts=None if study is None else study / "concepts")
    data = restricted(data, path, config.concepts)
    compared = compare_patients(data, first, second, config, target=target, adjust=adjust, rates=True)
    data, side, table, favour = compared.data, compared.side, compared.table, compared.favour
    for text in [*(f"{warning.kind}: {warning.text}" for warning in compared.warnings), *compared.caveats]:
        say(f"comparison: {text}")
    if TAUGHT in data.var:
        table[TAUGHT] = data.var[TAUGHT].astype(object).to_numpy()
    if study is not None and (descriptions := read_names(study / "concepts", DESCRIPTION)):
        table[DESCRIPTION] = [descriptions.get(latent, "") for latent in table.index]
    table["favours"] = ""
    for name, latents in zip((first, second), favour, strict=True):
        table.loc[latents, "favours"] = name
    claim(folder, "comparison", [TABLE, *names], unnamed=names)
    drawn = comparison_scatter(
        table["first"].to_numpy(),
        table["second"].to_numpy(),
        *favour,
        names=(first, second),
        unit=unit_of(config),
        title=f"{first} and {second}",
    )
    save(drawn, folder / "scatter")
    if study is not None:
        _draw_references(study, data, side, favour, (first, second), config.shown, folder, device)
    write_csv(folder / TABLE, table, index=True)
    shown = table.drop(columns=["favours", "tested"])
    result = {
        "first": {"name": first, "patients": int((side > 0).sum()), "latents": as_records(shown.loc[favour[0]])},
        "second": {"name": second, "patients": int((side < 0).sum()), "latents": as_records(shown.loc[favour[1]])},
        "adjusted_for": adjust,
        "tested": int(table["tested"].sum()),
        "below_fdr_0.1": int((table["fdr"] <= 0.1).sum()),
        "rates_below_fdr_0.1": int((table["rate_fdr"] <= 0.1).sum()) if "rate_fdr" in table else None,
        "reach_below_fdr_0.1": int((table["reach_fdr"] <= 0.1).sum()) if "reach_fdr" in table else None,
        "warnings": [warning.as_dict() for warning in compared.warnings],
        "caveats": compared.caveats,
        "table": f"{folder / TABLE}",
        "figure": f"{folder / 'scatter.png'}",
    }
    parameters = {**to_stored(config), "first": first, "second": second, "target": target, "adjust": adjust}
    summary = {key: result[key] for key in ("tested", "below_fdr_0.1", "warnings", "caveats")}
    outputs = {TABLE: FileRecord.from_file(folder / TABLE)}
    Manifest("comparison", parameters, {"barcodes": sha256_file(path)}, outputs, summary).save(folder)
    return result


@dataclass(frozen=True)
class Comparison:
    """Two groups of patients, latent by latent."""

    data: ad.AnnData
    """Barcodes of the patients of both."""
    side: NDArray[np.int64]
    """1 for the first group, -1 for the second, ``(n_patients,)``."""
    table: pd.DataFrame
    """Of `cytosae.cohort.compare`."""
    favour: tuple[NDArray[np.int64], NDArray[np.int64]]
    """The latents most in favour of each."""
    warnings: list[CohortWarning]
    caveats: list[str]


def compare_patients(
    data: ad.AnnData,
    first: str,
    second: str = REST,
    config: CompareConfig | None = None,
    *,
    target: str = "diagnosis",
    adjust: str | None = None,
    rates: bool = False,
) -> Comparison:
    """Compare two groups of patients, or one with all others; see `compare_groups`, which also draws it.

    With `rates`, counts as they are get the columns of `cytosae.cohort.compare_rates` too.

    Raises
    ------
    CytosaeError
        No such group or column, or no value of the covariate with patients of both groups.
    """
    config = config or CompareConfig()
    side = sides(patient_column(data, target), first, second, target)
    caveats = _caveats(side, first, second)
    covariate = None if adjust is None else patient_column(data, adjust)[side != 0]
    rows, side = side != 0, side[side != 0]
    kind = Representation(config.features, config.transform)
    (name,) = FEATURES[kind.features]
    values, counts = (transformed(data[rows], *one) for one in ((name, kind.transform), ("count", "none")))
    data = ad.AnnData(values, data.obs[rows].copy(), data.var, uns=data.uns)  # without its layers
    warnings = cohort_warnings(data, target, config.seed)
    people = pd.factorize(data.obs["patient"].astype(str))[0]
    strata = make_strata(covariate, len(side))
    compared = without_components(values, config.components, strata) if config.components else values
    groups: dict[str, Any] = {"first": side > 0, "strata": strata, "patients": people}
    permuted = {"permutations": config.permutations, "seed": config.seed}
    try:
        table = compare(
            compared, **groups, occurring=values, prevalence=config.prevalence, draws=config.bootstrap, **permuted
        )
        tested = table["tested"]
        if kind != PAPER or config.components:
            table["count_first"], table["count_second"] = group_means(counts, **groups)
        elif rates:
            cells = data.obs["n_cells"].to_numpy(np.float64)
            counted = values * cells[:, None]
            table = table.join(compare_rates(counted, cells, **groups, tested=tested, **permuted))
        if config.order == "reach":
            table = table.join(compare_reach(compared, **groups, tested=tested, **permuted))
    except ValueError as error:
        raise Unanswerable(f"--adjust {adjust}: {error}; {first} and {second} cannot be compared within it.") from error
    by = REACH_Z if config.order == "reach" else config.order
    return Comparison(data, side, table, most_different(table, config.top, by), warnings, caveats)


def sides(values: pd.Series, first: str, second: str, target: str) -> NDArray[np.int64]:
    """1 for the first group, -1 for the second, 0 for neither."""
    text = values.map(lambda value: None if value is None else str(value))
    known = sorted(text.dropna().unique())
    for name in (first, second):
        if name not in known and not (name == REST and name is second):
            raise NotFound(f"{name}: no patient with this {target}; there are {', '.join(known)}.")
    if first == second:
        raise Unanswerable(f"{first}: a group cannot be compared with itself.")
    others = text.notna() & (text != first) if second == REST and REST not in known else text == second
    side = np.where(text == first, 1, np.where(others, -1, 0)).astype(np.int64)
    if not (side < 0).any():
        raise NotFound(f"{target}: all patients are {first}; there is nothing to compare with.")
    return side


def _caveats(side: NDArray[np.int64], first: str, second: str) -> list[str]:
    counts = {name: int((side == sign).sum()) for name, sign in ((first, 1), (second, -1))}
    return [
        f"{name} has {count} patient{'s' if count > 1 else ''}: a difference may be one of single patients"
        for name, count in counts.items()
        if count < 5
    ]


def _draw_references(
    study: Path,
    data: ad.AnnData,
    side: NDArray[np.int64],
    favour: tuple[NDArray[np.int64], NDArray[np.int64]],
    names: tuple[str, str],
    shown: int,
    folder: Path,
    device: str,
) -> None:
    """The cells of both sides that have most of each latent, one of a patient, as a figure for each side's latents."""
    side_by_patient = dict(
        zip(data.obs["dataset"].astype(str) + "\n" + data.obs["patient"].astype(str), side, strict=True)
    )
    latents = np.concatenate([chosen[:shown] for chosen in favour])
    tops = [_strongest(study / "concepts", side_by_patient, latents, sign) for sign in (1, -1)]
    with study_tokens(study, device=device) as source:
        viewer = Viewer(study, source)
        for name, chosen in zip(("first", "second"), favour, strict=True):
            rows = []
            for latent in chosen[:shown]:
                halves = [viewer.shown(name, int(latent), *top[int(latent)]) for top in tops]
                rows.append(_both_sides(viewer.title(int(latent)), *halves))
            title = f"Concepts in favour of {names[0] if name == 'first' else names[1]}"
            headings = {0: f"{names[0]} patients", _EACH: f"{names[1]} patients"}
            save(reference_grid(rows, title=title, each_row=True, headings=headings), folder / f"references-{name}")


def _both_sides(name: str, first: Row, second: Row) -> Row:
    """Cells of both sides in one row; places that one side cannot fill stay blank."""

    def filled(values: Any) -> list[Any]:
        return [*values, *[None] * (_EACH - len(values))]

    columns = ([*filled(getattr(first, key)), *getattr(second, key)] for key in ("images", "maps", "labels", "values"))
    return Row(name, *columns)


def _strongest(
    concepts: Path, side_by_patient: dict[str, int], latents: NDArray[np.int64], sign: int
) -> dict[int, tuple[list[str], list[float]]]:
    """For each latent the cells of one side with the largest m_i[s], one of a patient: names and values."""
    tables = []
    for dataset in read_datasets(concepts):
        obs = read_concepts(concepts, dataset, matrices=False).obs
        if "patient" not in obs:
            continue
        key = dataset + "\n" + obs["patient"].astype(str)
        rows = np.flatnonzero((key.map(side_by_patient).fillna(0) == sign).to_numpy())
        if not len(rows):
            continue
        means = read_activations(concepts, dataset, rows, latents)[1].toarray()
        tables.append(
            pd.DataFrame(means, columns=range(len(latents))).assign(cell=obs.index[rows], key=key.iloc[rows].to_numpy())
        )
    cells = pd.concat(tables, ignore_index=True)
    strongest = {}
    for column, latent in enumerate(latents):
        order = cells.iloc[np.argsort(-cells[column].to_numpy(), kind="stable")].drop_duplicates("key").head(_EACH)
        order = order[order[column] > 0]
        strongest[int(latent)] = order["cell"].astype(str).tolist(), order[column].tolist()
    return strongest
