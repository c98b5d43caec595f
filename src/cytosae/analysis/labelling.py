"""Cell types of new cells, predicted by a study whose cells have labels."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import scipy.sparse as sp
from numpy.typing import NDArray

from cytosae.analysis.labelling_elsewhere import known_cells, label_elsewhere
from cytosae.analysis.viewing import further_tokens, saved_backbone, study_framing, study_layout
from cytosae.artefacts import (
    FileRecord,
    Manifest,
    claim,
    parse_json,
    refuse_strangers,
    remove_outdated,
    write_csv,
    write_json,
)
from cytosae.cells import metadata_digest, pixels_digest, read_table, rejected_path
from cytosae.cohort import CELL_TYPE_LEAST, CellAnswers, CellProbe, fit_probe
from cytosae.concepts import (
    Familiarity,
    cell_activations,
    cell_summaries,
    check_fit,
    read_activations,
    read_concepts,
    read_datasets,
    read_dictionary,
    read_familiarity,
    read_inputs,
    read_parameters,
)
from cytosae.concepts.work_units import BATCH, Encoder
from cytosae.console import progress, say
from cytosae.errors import CytosaeError
from cytosae.morphometry import MEASURED
from cytosae.sae import SAE
from cytosae.settings import FROM_CONCEPTS, FROM_TOKENS, ImageConfig, LabelConfig, to_stored
from cytosae.study import check_wish, look_at, rendered
from cytosae.tokens import LiveTokens

TABLE, RESULT, CELLS = "labels.csv", "labels.json", "cells.parquet"
STATED = "stated_label"


def label_cells(
    source: Path,
    study: Path,
    folder: Path,
    config: LabelConfig | None = None,
    *,
    columns: Mapping[str, str] | None = None,
    strict: bool = False,
    images: ImageConfig | None = None,
    device: str = "auto",
    weights: Path | None = None,
) -> dict[str, Any]:
    """Predict the type of each cell, learned from the labelled cells of a study.

    From the concepts of a cell, by a probe; or with `LabelConfig.features` from tokens and measurements that are comparable
    between laboratories, see `cytosae.analysis.labelling_elsewhere`.

    Parameters
    ----------
    source
        Cells, see `cytosae.cells.read_source`.
    study
        A study with labelled cells; their concepts, its autoencoder and its backbone are used.
    folder
        Where ``labels.csv`` goes, a table of the cells with ``label`` (empty where none is sure enough), ``predicted``,
        ``probability`` and ``p TYPE`` of every type, which `cytosae run` takes as it is; ``labels.json`` with the figures on
        cells that were not learned from; the listing of the cells, and their measurements if these are used.
    config
        Settings.
    columns, strict, images
        See `cytosae.study.look_at`.
    device, weights
        See `cytosae.analysis.saved_backbone`.

    Raises
    ------
    CytosaeError
        A study without labels of two types, or of another backbone than can be loaded; what the listing of cells raises.

    Notes
    -----
    No example: needs a finished study; its command runs it, in the tutorials or the how-to pages.
    """
    config = config or LabelConfig()
    names = [TABLE, RESULT, CELLS, rejected_path(Path(CELLS)).name]
    refuse_strangers(folder, "labels", names)
    check_wish(source)
    labelled, few = _labelled_cells(study)
    sae = read_dictionary(study, decoder=False)
    backbone = saved_backbone(study, device, weights)
    check_fit(study_layout(study, backbone), sae)
    listed = look_at(
        rendered(source, folder / "cohort"),
        folder / CELLS,
        columns=columns,
        strict=strict,
        drop_missing=True,
        images=images,
        framing=study_framing(study),
    )
    cells = listed.cells.reset_index(drop=True)
    tokens = further_tokens(study, cells, backbone)
    inputs = {"cells": metadata_digest(cells), "images": pixels_digest(cells), **read_inputs(study / "concepts")}
    if config.features == FROM_CONCEPTS:
        probe = _probe(study, labelled, config)  # once it is known that there are cells
        claim(folder, "labels", names)
        listing = listed.write()
        threshold = float(read_parameters(study / "concepts")["threshold"])
        answers: CellAnswers = probe
        familiar = read_familiarity(study, sae)
        probability, far = _probabilities(probe, sae, threshold, tokens, device, familiar)
        more = {"warnings": _warnings(cells, far, familiar)}
    else:
        known = known_cells(study, _sampled(labelled, config), cells, config, backbone)
        claim(folder, "labels", names)
        listing = listed.write()
        answers, probability, more = label_elsewhere(known, tokens, folder / MEASURED, config)
    table = _table(cells, answers, probability)
    answered = table["label"].notna()
    result: dict[str, Any] = {
        "cells": len(table),
        "labelled": int(answered.sum()),
        "abstained": int((~answered).sum()),
        "rejected": listing["rejected"],
        "threshold": answers.threshold,
        "types": {str(name): int(count) for name, count in table["label"].value_counts().items()},
        "probe": answers.figures,
        "left_out": few,
        "classes": list(answers.classes),
        "confusion": answers.confusion.tolist(),
        **more,
    }
    if STATED in table and (both := answered & table[STATED].notna()).any():
        result["agreement"] = float((table.loc[both, "label"] == table.loc[both, STATED].astype(str)).mean())
    if not answered.any():
        say(
            f"label: no cell is sure enough; of cells that were not learned from {answers.figures['accuracy']:.0%} are right"
        )
    write_csv(folder / TABLE, table)
    write_json(folder / RESULT, {**result, "inputs": inputs, "parameters": to_stored(config)})
    written = [name for name in names if (folder / name).is_file()]
    outputs = {name: FileRecord.from_file(folder / name) for name in written}
    Manifest("labels", to_stored(config), inputs, outputs, {"cells": len(table)}).save(folder)
    remove_outdated(folder, "labels", names)
    return {**result, "table": f"{folder / TABLE}"}


def read_labels(folder: Path) -> tuple[pd.DataFrame, dict[str, Any]]:
    """The table and the figures that `label_cells` left in a folder.

    Raises
    ------
    CytosaeError
        No finished folder, or a file of it was changed since.
    """
    manifest = Manifest.load(folder)
    if manifest is None or manifest.stage != "labels":
        raise CytosaeError(f"{folder}: no labels there. Make them with `cytosae label CELLS --from STUDY -o {folder}`.")
    for name in (TABLE, RESULT):
        manifest.check_output(folder, name, "Run `cytosae label` again.")
    result = parse_json((folder / RESULT).read_text(encoding="utf-8"))
    if "confusion" not in result:
        raise CytosaeError(f"{folder / RESULT}: was written by an older version. Run `cytosae label` again.")
    return read_table(folder / TABLE), result


def _labelled_cells(study: Path) -> tuple[pd.DataFrame, dict[str, int]]:
    """The cells that a probe can learn from, and the types that have too few cells for it."""
    concepts = study / "concepts"
    tables = []
    for dataset in read_datasets(concepts):
        obs = read_concepts(concepts, dataset, matrices=False).obs
        if "label" not in obs:
            continue
        patient = obs["patient"].astype(object) if "patient" in obs else pd.Series(None, obs.index, dtype=object)
        own = pd.DataFrame({"row": np.arange(len(obs)), "label": obs["label"].astype(object), "patient": patient})
        tables.append(own[own["label"].notna()].assign(dataset=dataset))
    cells = pd.concat(tables, ignore_index=True) if tables else pd.DataFrame(columns=["label"])
    sizes = cells["label"].value_counts()
    few = {str(name): int(size) for name, size in sizes.items() if size < CELL_TYPE_LEAST}
    cells = cells[~cells["label"].isin(list(few))]
    if cells["label"].nunique() < 2:
        known = ", ".join(f"{name} ({size})" for name, size in sizes.items()) or "no labels"
        raise CytosaeError(
            f"{concepts}: cells of two types with at least {CELL_TYPE_LEAST} cells each are needed to learn from; "
            f"there are {known}. Give another study with --from."
        )
    return cells, few


def _probe(study: Path, cells: pd.DataFrame, config: LabelConfig) -> CellProbe:
    concepts, cells = study / "concepts", _sampled(cells, config)
    parts = []
    for name, own in cells.groupby("dataset", sort=False):
        parts.append(read_activations(concepts, str(name), own["row"].to_numpy())[0])
    ordered = pd.concat([own for _, own in cells.groupby("dataset", sort=False)])
    names = ordered["dataset"].astype(str) + "\n" + ordered["patient"].astype(str)
    codes = pd.factorize(names.where(ordered["patient"].notna()))[0]
    try:
        probe = fit_probe(
            sp.csr_matrix(sp.vstack(parts)),
            ordered["label"].astype(str).tolist(),
            codes,
            config.accuracy,
            seed=config.seed,
        )
    except ValueError as error:
        raise CytosaeError(f"{concepts}: {error}. Give another study with --from.") from error
    return probe


def _sampled(cells: pd.DataFrame, config: LabelConfig) -> pd.DataFrame:
    if len(cells) <= config.examples:
        return cells
    return cells.iloc[np.sort(np.random.default_rng(config.seed).permutation(len(cells))[: config.examples])]


def _probabilities(
    probe: CellProbe, sae: SAE, threshold: float, source: LiveTokens, device: str, familiar: Familiarity | None
) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
    """Of all cells, batch by batch; and which lie far from those of the study."""
    encoder = Encoder.from_sae(source, sae, device)
    model = encoder.sae()
    batches = [np.arange(i, min(i + BATCH, source.n_cells)) for i in range(0, source.n_cells, BATCH)]
    probabilities, far = [], []
    with progress("label", source.n_cells, "cells") as bar:
        for tokens in encoder.source.stream(batches):
            counts = cell_activations(model, tokens, threshold, encoder.precision)[0]
            probabilities.append(probe.probabilities(counts))
            beyond = np.zeros(len(tokens), bool) if familiar is None else familiar.far(cell_summaries(tokens), counts)
            far.append(beyond)
            bar.to(bar.done + len(tokens))
    return np.concatenate(probabilities), np.concatenate(far)


def _warnings(cells: pd.DataFrame, far: NDArray[np.bool_], familiar: Familiarity | None) -> list[str]:
    """A sentence on each data set whose cells the study does not know, told and returned."""
    if familiar is None:
        return []
    found = []
    for name, own in pd.Series(far).groupby(cells["dataset"].astype(str).to_numpy()):
        if (sentence := familiar.sentence(int(own.sum()), len(own), f"the cells of {name}")) is not None:
            found.append(f"{sentence}, and the stated accuracy does not: try --features {FROM_TOKENS}")
            say(f"label: {found[-1]}")
    return found


def _table(cells: pd.DataFrame, answers: CellAnswers, probability: NDArray[np.float64]) -> pd.DataFrame:
    files = [name for name in cells if str(name).startswith("file_") or name in ("width", "height")]
    table = cells.drop(columns=files)
    if table["label"].notna().any():
        table[STATED] = table["label"]
    best = probability.argmax(axis=1)
    table["label"] = pd.Series(answers.labels(probability), table.index, dtype=object)
    table["predicted"] = [answers.classes[c] for c in best]
    table["probability"] = probability.max(axis=1)
    chances = pd.DataFrame(probability, table.index, columns=[f"p {name}" for name in answers.classes])
    unknown = [name for name in table if name != "label" and table[name].isna().all()]
    return pd.concat([table.drop(columns=unknown), chances], axis=1)
