"""What came out of a sweep: a row for each setting, mean and deviation over its seeds, and the paper beside it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from cytosae import __version__
from cytosae.artefacts import FileRecord, Manifest, claim, whole_file, write_csv
from cytosae.concepts import is_concept, means_by_rule, read_concepts, read_datasets
from cytosae.concepts.evaluation import FIGURES as QUALITY
from cytosae.concepts.evaluation import LATENT_METHOD, read_figures
from cytosae.report import encode_png, figure_files, overview, save, template, threshold_counts
from cytosae.reproduction.paper import REPORTED
from cytosae.sae import measured_on
from cytosae.settings import EncodeConfig, EvaluateConfig, TrainConfig, from_stored, stored_names
from cytosae.sweeps.spec import Run, Spec

TABLE, CSV, RUNS, PAGE = "sweep.parquet", "sweep.csv", "runs.csv", "sweep.html"
FIGURES = ("explained_variance", "l0", "dead", "silent")
"""On the cells that ``measured_on`` names, but the dead share, which is that of the last batches of the training."""
_STORED = stored_names(TrainConfig)


def write_results(
    folder: Path,
    spec: Spec,
    runs: Sequence[Run],
    diverged: Mapping[str, str],
    layer_and_depth: tuple[int, int],
    evaluation: EvaluateConfig | None,
) -> dict[str, Any]:
    """Write ``sweep.parquet``, ``sweep.csv``, ``runs.csv``, ``sweep.html`` and the figures.

    Parameters
    ----------
    runs
        All trainings, those that diverged included.
    diverged
        Why some were stopped, by name.
    layer_and_depth
        Block of the study, from 1, and blocks of its backbone.
    evaluation
        Given where the quality measures were asked for.
    """
    each = make_run_table(spec, runs, diverged, layer_and_depth, quality=evaluation is not None)
    table = over_seeds(each)
    figures = _draw(folder / "figures", [run for run in runs if run.name not in diverged])
    with whole_file(folder / TABLE) as temporary:
        table.to_parquet(temporary, index=False)
    for name, frame in ((CSV, table), (RUNS, each)):
        write_csv(folder / name, frame)
    page = template("sweep.html.j2").render(
        rows=_plain(table),
        measured_on=" or of ".join(sorted(table["measured_on"].dropna().unique())) if "measured_on" in table else "",
        measures=[name for name in table if f"{name}_deviation" in table],
        paper=compare_with_paper(table),
        diverged=diverged,
        seeds=len(spec.seeds),
        figures=[(title, encode_png(path)) for title, path in figures],
        version=__version__,
    )
    with whole_file(folder / PAGE) as temporary:
        temporary.write_text(page, encoding="utf-8")
    outputs = {name: FileRecord.from_file(folder / name) for name in (TABLE, CSV, RUNS, PAGE)}
    Manifest("sweep", {"seeds": list(spec.seeds)}, {}, outputs, {"settings": len(spec.settings)}).save(folder)
    return {"table": f"{folder / TABLE}", "page": f"{folder / PAGE}", "settings": _plain(table)}


def make_run_table(
    spec: Spec,
    runs: Sequence[Run],
    diverged: Mapping[str, str],
    layer_and_depth: tuple[int, int],
    *,
    quality: bool = False,
) -> pd.DataFrame:
    """A row for each training and data set; one that diverged has a row without figures."""
    rows: list[dict[str, Any]] = []
    for run in runs:
        about = {
            "setting": run.setting.name,
            "paper_variant": spec.variant(run.setting, run.layer, *layer_and_depth),
            "layer": run.layer,
            **{_STORED[name]: getattr(run.config, name) for name in _varying(spec)},
            "seed": run.config.seed,
            "state": "diverged" if run.name in diverged else "trained",
        }
        if run.name in diverged:
            rows.append({**about, "dataset": None})
            continue
        made = Manifest.load(run.folder / "sae")
        assert made is not None
        trained = {name: made.summary[name] for name in FIGURES}
        measures = _quality(run.folder) if quality else {}
        for dataset in read_datasets(run.folder / "concepts"):
            means = _means(run.folder, dataset)
            counts = {f"concepts_at_{value:g}": int(is_concept(means, value).sum()) for value in spec.thresholds}
            measured = measured_on(made.summary, made.inputs)
            rows.append({**about, "dataset": dataset, "measured_on": measured, **trained, **counts, **measures})
    return pd.DataFrame(rows)


def _varying(spec: Spec) -> list[str]:
    """Settings of the training that differ somewhere in the sweep; expansion always."""
    names = {name for setting in spec.settings for name in setting.varied if name != "layer"}
    return ["expansion", *sorted(names - {"expansion"})]


def _means(folder: Path, dataset: str) -> NDArray[np.float64]:
    """Mean activations of latents that the rule of concepts does not dismiss for another reason; 0 of the others."""
    data = read_concepts(folder / "concepts", dataset, matrices=False)
    config = EncodeConfig(**from_stored(EncodeConfig, data.uns["cytosae"]["parameters"]))
    return means_by_rule(data.var, config, data.n_obs)


def _quality(folder: Path) -> dict[str, float]:
    """What `cytosae evaluate` says of the latents, by measure; nothing where it had too few concepts."""
    if not (folder / "quality" / QUALITY).is_file():
        return {}
    figures = read_figures(folder)
    own = figures[figures["method"] == LATENT_METHOD]
    return {f"quality: {measure}": float(value) for measure, value in zip(own["measure"], own["value"], strict=True)}


def over_seeds(each: pd.DataFrame) -> pd.DataFrame:
    """A row for each setting and data set: mean of every figure, deviation (of a sample, over n - 1), number of trainings.

    Trainings that diverged are counted in ``diverged`` and left out of the means.

    Parameters
    ----------
    each
        From `make_run_table`.
    """
    figures = [name for name in map(str, each) if name in FIGURES or name.startswith(("concepts_at_", "quality: "))]
    about = [name for name in map(str, each) if name not in (*figures, "seed", "state", "dataset", "measured_on")]
    datasets = each["dataset"].dropna().unique().tolist() or [None]
    rows = []
    for _, trainings in each.groupby("setting", sort=False):
        lost = int((trainings["state"] == "diverged").sum())
        for dataset in datasets:
            some = trainings[trainings["dataset"] == dataset]
            row = {**trainings.iloc[0][about].to_dict(), "dataset": dataset, "trainings": len(some), "diverged": lost}
            if "measured_on" in some:
                row["measured_on"] = " and ".join(sorted(some["measured_on"].dropna().unique())) or None
            for name in figures:
                values = some[name].dropna().to_numpy(dtype=float)
                row[name] = values.mean() if len(values) else None
                row[f"{name}_deviation"] = values.std(ddof=1) if len(values) > 1 else None
            rows.append(row)
    table = pd.DataFrame(rows)
    numbers = [name for name in map(str, table) if name in figures or name.removesuffix("_deviation") in figures]
    return table.astype(dict.fromkeys(numbers, float))


def compare_with_paper(table: pd.DataFrame) -> list[dict[str, Any]]:
    """Figures of section 3.1 and 3.4 for the settings that change the base as the paper changes its chosen one."""
    rows = []
    for one in REPORTED:
        kind, _, variant = one.key.partition(" ")
        column = {"concepts": "concepts_at_-3", "dead": "dead"}.get(kind)
        if column not in table:
            continue
        for row in table[(table["paper_variant"] == variant)].to_dict("records"):
            rows.append(
                {
                    "where": one.where,
                    "what": one.quantity,
                    "setting": row["setting"],
                    "dataset": row["dataset"],
                    "paper": one.value,
                    "paper_spread": one.spread,
                    "obtained": _none(row[column]),
                    "obtained_spread": _none(row[f"{column}_deviation"]),
                    "trainings": row["trainings"],
                    "note": one.note,
                }
            )
    return rows


def _none(value: float) -> float | None:
    return None if pd.isna(value) else value


def _plain(table: pd.DataFrame) -> list[dict[str, Any]]:
    rows = table.astype(object).where(table.notna(), None).to_dict("records")
    return [{str(name): value for name, value in row.items()} for row in rows]


def claim_results(folder: Path, runs: Sequence[Run], datasets: int) -> None:
    """Claim the tables, the page and the figures of a sweep, see `write_results`."""
    figures = [_counts(number) for number in range(datasets)]
    figures += [_overview(number, run) for number in range(datasets) for run in runs]
    drawn = [f"figures/{name}" for figure in figures for name in figure_files(figure)]
    claim(folder, "sweep", [TABLE, CSV, RUNS, PAGE, *drawn], unnamed=drawn)


def _counts(number: int) -> str:
    return f"counts-{number}"


def _overview(number: int, run: Run) -> str:
    return f"overview-{number}-expansion-{run.config.expansion}-layer-{run.layer}"


def _draw(folder: Path, runs: Sequence[Run]) -> list[tuple[str, Path]]:
    """Counts over thresholds of all settings, and all latents of the first training of each expansion and layer."""
    if not runs:
        return []
    figures: list[tuple[str, Path]] = []
    for number, dataset in enumerate(read_datasets(runs[0].folder / "concepts")):
        lines: dict[str, list[NDArray[np.float64]]] = {}
        shown: set[tuple[int, int]] = set()
        for run in runs:
            lines.setdefault(run.setting.name, []).append(_means(run.folder, dataset))
        path = folder / _counts(number)
        save(threshold_counts({name: np.stack(means) for name, means in lines.items()}), path)
        figures.append((f"{dataset}: concepts above a threshold, by setting", path.with_name(f"{path.name}.png")))
        for run in runs:
            key = run.config.expansion, run.layer
            if key in shown:
                continue
            shown.add(key)
            data = read_concepts(run.folder / "concepts", dataset, matrices=False)
            path = folder / _overview(number, run)
            save(overview(data.var, title=f"{dataset}, expansion {key[0]}, layer {key[1]}"), path)
            title = f"{dataset}: all latents, {run.setting.name}, seed {run.config.seed}"
            figures.append((title, path.with_name(f"{path.name}.png")))
    return figures
