"""Encode a set of cells: counts, image activations, statistics, reference images and their maps."""

from __future__ import annotations

from collections.abc import Mapping
from functools import reduce
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from cytosae import __version__
from cytosae.artefacts import MANIFEST, FileRecord, Manifest, claim, disk_errors, remove_outdated
from cytosae.cells import metadata_digest
from cytosae.concepts import schema
from cytosae.concepts.cell_ranges import CellRanges, remove_ranges
from cytosae.concepts.dictionary import taught_inputs
from cytosae.concepts.discovery import concentration, papers_rule, why_no_concept
from cytosae.concepts.fitting import check_fit
from cytosae.concepts.position import position_shares
from cytosae.concepts.reduction import CellTable, Statistics
from cytosae.concepts.references import References
from cytosae.concepts.statistics import label_entropy
from cytosae.concepts.storage import file_names, write_concepts, write_maps
from cytosae.concepts.work_units import BATCH, ActivationMaker, Encoder, MapBatch, MapMaker, StatisticsMaker
from cytosae.console import progress, say
from cytosae.engines import Engine, LocalEngine, Partition
from cytosae.sae import SAE
from cytosae.sae.taught import Taught, TaughtSAE
from cytosae.settings import EncodeConfig, to_stored
from cytosae.tokens import TokenSource


def encode_inputs(source: TokenSource, sae_digest: str, taught: Taught | None = None) -> dict[str, str]:
    """Digests of what the concepts depend on.

    No example: needs the concepts of a study, or a trained autoencoder; the README makes both.
    """
    inputs = {"tokens": source.fingerprint, "sae": sae_digest, "cells": metadata_digest(source.cells)}
    return inputs | taught_inputs(taught)


def encode(
    source: TokenSource,
    sae: SAE,
    folder: Path,
    config: EncodeConfig | None = None,
    *,
    device: str = "auto",
    engine: Engine | None = None,
    partition: Partition | None = None,
) -> dict[str, Any]:
    """Stream tokens through the autoencoder into one AnnData per data set.

    Leaves ``<dataset>.h5ad`` and ``<dataset>.maps.safetensors`` for every data set of the cells, see
    `read_concepts` and `read_maps`. Interrupted work resumes at the next range of as many
    cells as a shard of tokens holds.

    Parameters
    ----------
    source
        Tokens and their cells.
    sae
        The autoencoder, with taught latents (`cytosae.sae.taught.with_taught`) or without. The digest of its weights
        (`cytosae.sae.SAE.weights_digest`) goes into the manifest.
    folder
        Where the concepts go.
    config
        Settings.
    device
        ``auto`` or a device of torch.
    engine
        Who encodes, counts and draws the maps; this process if None.
    partition
        Encode only the missing ranges of this partition; a later call without it finishes.

    Returns
    -------
    Figures by data set: cells, concepts, mean count of active latents a cell; of a partition ``pieces``
    and ``pieces_made``: its ranges and those encoded now.

    Raises
    ------
    CytosaeError
        Tokens of another backbone or layer, damaged shards, NaN, a full disk.

    Notes
    -----
    No example: needs the concepts of a study, or a trained autoencoder; the README makes both.
    """
    config, engine = config or EncodeConfig(), engine or LocalEngine()
    check_fit(source.layout, sae)
    names = file_names(source.cells["dataset"].unique().tolist())
    claim(folder, "concepts", [file for name in names.values() for file in _files(name)])
    taught = sae.taught if isinstance(sae, TaughtSAE) else None
    inputs = encode_inputs(source, sae.weights_digest(), taught)
    size = source.layout.cells_per_shard
    identity = {"parameters": to_stored(config), "inputs": inputs, "activation": sae.activation.described()}
    ranges = CellRanges.for_inputs(folder, size, sae.n_latents, identity)
    encoder = Encoder.from_sae(source, sae, device)
    with disk_errors(folder):
        if partition is not None:
            return _encode_partition(encoder, ranges, config, inputs, folder, engine, partition)
        source.verify()
        (folder / MANIFEST).unlink(missing_ok=True)
        _encode_ranges(encoder, ranges, config.threshold, ranges.missing(source.n_cells), engine)
        return _finish(encoder, ranges, config, inputs, folder, engine, taught, _of_autoencoder(sae))


def _of_autoencoder(sae: SAE) -> dict[str, NDArray[Any]]:
    """What an autoencoder says of its latents: of a pooled one the share of the other trainings in which each is found again
    (NaN for taught ones), of a refined one those in its block of artefacts.
    """
    own = sae.untaught if isinstance(sae, TaughtSAE) else sae
    columns: dict[str, NDArray[Any]] = {}
    returned = (own.metadata.get("pooled") or {}).get("share")
    if returned is not None and len(returned) == own.n_latents:
        more = np.full(sae.n_latents - own.n_latents, np.nan)
        columns[schema.REPRODUCIBILITY] = np.append(np.asarray(returned, np.float64), more)
    if block := ((own.metadata.get("refined") or {}).get("asked") or {}).get("block"):
        columns[schema.ARTEFACT] = np.isin(np.arange(sae.n_latents), block)
    return columns


def _encode_partition(
    encoder: Encoder,
    ranges: CellRanges,
    config: EncodeConfig,
    inputs: dict[str, str],
    folder: Path,
    engine: Engine,
    partition: Partition,
) -> dict[str, Any]:
    """Encode the missing ranges of a partition."""
    source = encoder.source
    finished = Manifest.load(folder)
    if finished is not None and finished.why_stale(folder, to_stored(config), inputs) is None:
        say(f"concepts: finished already, nothing to do for partition {partition}")
        return {"pieces": 0, "pieces_made": 0}
    starts = [start for start in range(0, source.n_cells, ranges.size) if partition.has(start // ranges.size)]
    missing = sorted({*starts} & {*ranges.missing(source.n_cells)})
    source.verify(start // ranges.size for start in missing)
    _encode_ranges(encoder, ranges, config.threshold, missing, engine)
    say(f"concepts: partition {partition} is made; the same command without --shard finishes them")
    return {"pieces": len(starts), "pieces_made": len(missing)}


def _encode_ranges(encoder: Encoder, ranges: CellRanges, threshold: float, missing: list[int], engine: Engine) -> None:
    """Write counts and means of ranges of cells."""
    n_cells = encoder.source.n_cells
    rows = [range(start, min(start + ranges.size, n_cells)) for start in missing]
    done = n_cells - sum(map(len, rows))
    with progress("concepts", n_cells, "cells", done) as bar:
        for _ in engine.map(ActivationMaker(encoder, ranges, threshold), rows, bar.advance):
            pass


def _finish(
    encoder: Encoder,
    ranges: CellRanges,
    config: EncodeConfig,
    inputs: dict[str, str],
    folder: Path,
    engine: Engine,
    taught: Taught | None,
    columns: Mapping[str, NDArray[Any]],
) -> dict[str, Any]:
    """From ranges of cells to the files of every data set."""
    source = encoder.source
    summary: dict[str, Any] = {}
    outputs: dict[str, FileRecord] = {}
    names = file_names(source.cells["dataset"].unique().tolist())
    last = [name or None for name in taught.names] if taught else []
    taught_names = pd.Categorical([*[None] * (encoder.n_latents - len(last)), *last])
    for dataset, name in names.items():
        rows = np.flatnonzero((source.cells["dataset"] == dataset).to_numpy())
        cells = source.cells.iloc[rows]
        cell_table = CellTable.from_cells(cells)
        statistics = _reduced(ranges, rows, cell_table, config, engine, dataset)
        var, summary[dataset] = _latent_table(statistics, cell_table, encoder, config, taught_names)
        for column, values in columns.items():
            var[column] = values
        var[schema.POSITION] = position_shares(encoder, rows, config.draw_seed)
        kinds = statistics.references.kinds()
        about = _about(source, config, inputs, dataset)
        h5ad, maps = (folder / file for file in _files(name))
        write_concepts(h5ad, cells, var, kinds, statistics.groups, about, ranges.read(rows))
        latents = np.flatnonzero(var["is_concept"].to_numpy())
        write_maps(maps, latents, _maps(encoder, rows, latents, kinds["reference"], engine, dataset))
        outputs.update({path.name: FileRecord.from_file(path) for path in (h5ad, maps)})
    remove_outdated(folder, "concepts", outputs)
    Manifest("concepts", to_stored(config), inputs, outputs, {"datasets": summary, "files": names}).save(folder)
    remove_ranges(folder)
    return summary


def _files(name: str) -> tuple[str, str]:
    """The files of a data set."""
    return f"{name}.h5ad", f"{name}.maps.safetensors"


def _about(source: TokenSource, config: EncodeConfig, inputs: dict[str, str], dataset: str) -> dict[str, Any]:
    """Provenance of an AnnData."""
    return {
        "cytosae": __version__,
        "dataset": dataset,
        "parameters": to_stored(config),
        "inputs": inputs,
        "n_tokens": source.layout.n_tokens,
        "backbone": {key: value for key, value in source.layout.backbone.items() if value is not None},
        "meaning": schema.meanings(schema.CONCEPTS, "X", "layers"),
    }


def _reduced(
    ranges: CellRanges,
    rows: NDArray[np.int64],
    cell_table: CellTable,
    config: EncodeConfig,
    engine: Engine,
    dataset: str,
) -> Statistics:
    """Statistics and reference images of some cells, each replica of the engine adding up consecutive ranges."""
    limit = config.per_patient if (cell_table.patients >= 0).any() else 0
    first = np.searchsorted(rows // ranges.size, np.unique(rows // ranges.size))  # positions where a range begins
    runs = [run for run in np.array_split(first, engine.replicas) if len(run)]
    ends = [*(int(run[0]) for run in runs), len(rows)]
    units = ((rows[a:b], cell_table[a:b]) for a, b in pairwise(ends))
    with progress(f"statistics {dataset}", len(rows), "cells") as bar:
        return reduce(Statistics.merge, engine.map(StatisticsMaker(ranges, config, limit), units, bar.advance))


def _latent_table(
    statistics: Statistics, cell_table: CellTable, encoder: Encoder, config: EncodeConfig, taught: pd.Categorical[Any]
) -> tuple[pd.DataFrame, dict[str, Any]]:
    """The table of the latents, of which `taught` names those that were, and the figures of a data set."""
    sums, references = statistics.sums, statistics.references.strongest
    labels = np.where(references.cells >= 0, cell_table.codes("label")[references.cells], -1)
    mean = sums.mean_activation()
    counts, n_tokens = statistics.counts, encoder.source.layout.n_tokens
    concentrated = concentration(counts.total, counts.squares, sums.n_cells, n_tokens)
    mean_alone = papers_rule(encoder.activation, config) | ~taught.isna()  # somebody said what a taught one is
    reasons = why_no_concept(mean, counts.shown, concentrated, config, mean_alone=mean_alone)
    var = pd.DataFrame(
        {
            "activation_frequency": sums.activation_frequency(),
            "mean_activation": mean,
            "label_entropy": label_entropy(references.values, labels),
            "n_references": (references.values > 0).sum(axis=1).astype(np.int32),
            "is_concept": reasons.isna(),
            schema.WHY_NOT: reasons,
            schema.CONCENTRATION: concentrated,
            schema.SHOWN: counts.shown,
        },
        index=pd.Index([str(latent) for latent in range(len(mean))], name="latent"),
    )
    if not taught.isna().all():
        var[schema.TAUGHT] = taught
    summary = {
        "cells": len(cell_table.patients),
        "concepts": int(reasons.isna().sum()),
        "no_concepts": {name: int(count) for name, count in reasons.value_counts().items() if count},
        "active_latents": int((sums.active > 0).sum()),
        "active_latents_per_cell": float(sums.active.sum() / max(1, sums.n_cells)),
    }
    return var, summary


def _maps(
    encoder: Encoder,
    rows: NDArray[np.int64],
    latents: NDArray[np.int64],
    references: References,
    engine: Engine,
    dataset: str,
) -> NDArray[np.float16]:
    """Maps of the reference images of some latents; needs the tokens of those cells again."""
    cells = references.cells[latents]
    grid = tuple(encoder.source.layout.backbone["grid"])
    maps = np.zeros((*cells.shape, *grid), dtype=np.float16)
    wanted = np.unique(cells[cells >= 0])
    order = np.argsort(cells, axis=None, kind="stable")
    sorted_cells = cells.ravel()[order]

    def batch(batch_cells: NDArray[np.int64]) -> MapBatch:
        first, last = np.searchsorted(sorted_cells, [batch_cells[0], batch_cells[-1] + 1])
        positions = order[first:last]
        needed, column = np.unique(positions // cells.shape[1], return_inverse=True)
        row = np.searchsorted(batch_cells, cells.ravel()[positions])
        return MapBatch(rows[batch_cells], latents[needed], row, column, positions)

    # A unit is as many batches as a range of cells has; a map's last bit may depend on what else is in its batch.
    batches = [wanted[i : i + BATCH] for i in range(0, len(wanted), BATCH)]
    together = max(1, encoder.source.layout.cells_per_shard // BATCH)
    units = ([batch(b) for b in batches[i : i + together]] for i in range(0, len(batches), together))
    with progress(f"maps {dataset}", len(wanted), "cells") as bar:
        for positions, batch_maps in engine.map(MapMaker(encoder, grid), units, bar.advance):
            maps.reshape(-1, *grid)[positions] = batch_maps
    return maps
