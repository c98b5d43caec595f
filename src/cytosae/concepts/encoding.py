"""Encode a set of cells: counts, image activations, statistics, reference images and their maps."""

from __future__ import annotations

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
from cytosae.concepts.parts import PARTS, Parts
from cytosae.concepts.pieces import BATCH, Encoder, MapBatch, MapMaker, PieceMaker, Reducer
from cytosae.concepts.reduction import Partial, Roster
from cytosae.concepts.references import References
from cytosae.concepts.statistics import is_concept, label_entropy
from cytosae.concepts.storage import file_names, write_concepts, write_maps
from cytosae.console import progress, say
from cytosae.engines import Engine, LocalEngine, Partition
from cytosae.errors import CytosaeError
from cytosae.sae import SAE
from cytosae.settings import EncodeConfig, to_stored
from cytosae.tokens import Layout, TokenSource


def check_fit(layout: Layout, sae: SAE) -> None:
    """Refuse tokens of another backbone, layer or width than the autoencoder was trained on."""
    if layout.d_model != sae.d_model:
        raise CytosaeError(
            f"The tokens are {layout.d_model} wide (backbone {layout.backbone['name']}), the autoencoder takes "
            f"{sae.d_model}. Embed the cells with the backbone that it was trained on."
        )
    trained = sae.metadata.get("backbone")
    if not trained:
        say("concepts: the autoencoder does not say on which backbone it was trained; its width fits")
        return
    for key, what in (("fingerprint", "backbone"), ("layer", "layer")):
        if trained.get(key) != layout.backbone.get(key):
            mine, theirs = (_name(about, what) for about in (layout.backbone, trained))
            raise CytosaeError(
                f"The tokens come from {what} {mine}, the autoencoder was trained on {what} {theirs}. Embed the "
                f"cells with that {what}."
            )


def _name(about: dict[str, Any], what: str) -> str:
    if what == "layer":
        return f"{about.get('layer', -2) + 1} of {about.get('depth')}"
    return f"{about.get('name')} ({str(about.get('fingerprint'))[:12]})"


def encode_inputs(source: TokenSource, sae_digest: str) -> dict[str, str]:
    """Digests of what the concepts depend on."""
    return {"tokens": source.fingerprint, "sae": sae_digest, "cells": metadata_digest(source.cells)}


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
    `read_concepts` and `read_maps`. Work that is interrupted goes on at the next piece, as many
    cells as a shard of tokens holds.

    Parameters
    ----------
    source
        Tokens and their cells.
    sae
        The autoencoder. The digest of its weights (`cytosae.sae.SAE.weights_digest`) goes into the manifest.
    folder
        Where the concepts go.
    config
        Settings.
    device
        ``auto`` or a device of torch.
    engine
        Who encodes, counts and draws the maps; this process if None.
    partition
        Encode only the missing pieces of this partition, and leave it to others, or to a later call without it, to finish.

    Returns
    -------
    Figures by data set: cells, concepts, mean count of active latents a cell; of a partition the pieces and those made.

    Raises
    ------
    CytosaeError
        Tokens of another backbone or layer, damaged shards, NaN, a full disk.
    """
    config, engine = config or EncodeConfig(), engine or LocalEngine()
    check_fit(source.layout, sae)
    names = file_names(source.cells["dataset"].unique().tolist())
    claim(folder, "concepts", [file for name in names.values() for file in _files(name)])
    inputs = encode_inputs(source, sae.weights_digest())
    size = source.layout.cells_per_shard
    identity = {"parameters": to_stored(config), "inputs": inputs, "activation": sae.activation.described()}
    parts = Parts.of(folder.absolute() / PARTS, size, sae.n_latents, identity)
    encoder = Encoder.of(source, sae, device)
    with disk_errors(folder):
        if partition is not None:
            return _encode_partition(encoder, parts, config, inputs, folder, engine, partition)
        source.verify()
        (folder / MANIFEST).unlink(missing_ok=True)
        _encode_parts(encoder, parts, config.threshold, parts.missing(source.n_cells), engine)
        return _finish(encoder, parts, config, inputs, folder, engine)


def _encode_partition(
    encoder: Encoder,
    parts: Parts,
    config: EncodeConfig,
    inputs: dict[str, str],
    folder: Path,
    engine: Engine,
    partition: Partition,
) -> dict[str, Any]:
    """Make the missing pieces of a partition."""
    source = encoder.source
    finished = Manifest.load(folder)
    if finished is not None and finished.why_stale(folder, to_stored(config), inputs) is None:
        say(f"concepts: finished already, nothing to do for partition {partition}")
        return {"pieces": 0, "pieces_made": 0}
    pieces = [start for start in range(0, source.n_cells, parts.size) if partition.has(start // parts.size)]
    missing = sorted({*pieces} & {*parts.missing(source.n_cells)})
    source.verify(start // parts.size for start in missing)
    _encode_parts(encoder, parts, config.threshold, missing, engine)
    say(f"concepts: partition {partition} is made; the same command without --shard finishes them")
    return {"pieces": len(pieces), "pieces_made": len(missing)}


def _encode_parts(encoder: Encoder, parts: Parts, threshold: float, missing: list[int], engine: Engine) -> None:
    """Write counts and means of pieces of cells."""
    n_cells = encoder.source.n_cells
    ranges = [range(start, min(start + parts.size, n_cells)) for start in missing]
    done = n_cells - sum(map(len, ranges))
    with progress("concepts", n_cells, "cells", done) as bar:
        for _ in engine.map(PieceMaker(encoder, parts, threshold), ranges, bar.advance):
            pass


def _finish(
    encoder: Encoder,
    parts: Parts,
    config: EncodeConfig,
    inputs: dict[str, str],
    folder: Path,
    engine: Engine,
) -> dict[str, Any]:
    """From pieces to the files of every data set."""
    source = encoder.source
    summary: dict[str, Any] = {}
    outputs: dict[str, FileRecord] = {}
    names = file_names(source.cells["dataset"].unique().tolist())
    for dataset, name in names.items():
        rows = np.flatnonzero((source.cells["dataset"] == dataset).to_numpy())
        cells = source.cells.iloc[rows]
        roster = Roster.of(cells)
        partial = _reduced(parts, rows, roster, config, engine, dataset)
        var, summary[dataset] = _statistics(partial, roster, config)
        kinds = partial.gallery.kinds()
        about = _about(source, config, inputs, dataset)
        h5ad, maps = (folder / file for file in _files(name))
        write_concepts(h5ad, cells, var, kinds, partial.groups, about, parts.read(rows))
        latents = np.flatnonzero(var["is_concept"].to_numpy())
        write_maps(maps, latents, _maps(encoder, rows, latents, kinds["reference"], engine, dataset))
        outputs.update({path.name: FileRecord.of(path) for path in (h5ad, maps)})
    Manifest("concepts", to_stored(config), inputs, outputs, {"datasets": summary, "files": names}).save(folder)
    remove_outdated(folder, "concepts", outputs)
    parts.remove()
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
        "meaning": {
            "X": "count of tokens with h > tau (Eq. 2, 3)",
            "mean_activation": "mean of h over the tokens of a cell",
        },
    }


def _reduced(
    parts: Parts, rows: NDArray[np.int64], roster: Roster, config: EncodeConfig, engine: Engine, dataset: str
) -> Partial:
    """Statistics and reference images of some cells, each replica of the engine adding up a run of pieces."""
    limit = config.per_patient if (roster.patients >= 0).any() else 0
    first = np.searchsorted(rows // parts.size, np.unique(rows // parts.size))  # places where a piece begins
    runs = [run for run in np.array_split(first, engine.replicas) if len(run)]
    ends = [*(int(run[0]) for run in runs), len(rows)]
    units = ((rows[a:b], roster[a:b]) for a, b in pairwise(ends))
    with progress(f"statistics {dataset}", len(rows), "cells") as bar:
        partials = engine.map(Reducer(parts, config, limit), units, bar.advance)
        return reduce(Partial.merge, partials)


def _statistics(partial: Partial, roster: Roster, config: EncodeConfig) -> tuple[pd.DataFrame, dict[str, Any]]:
    """The table of the latents and the figures of a data set."""
    sums, references = partial.sums, partial.gallery.strongest
    labels = np.where(references.cells >= 0, roster.codes("label")[references.cells], -1)
    mean = sums.mean_activation()
    concept = is_concept(mean, config.concept_threshold)
    var = pd.DataFrame(
        {
            "activation_frequency": sums.activation_frequency(),
            "mean_activation": mean,
            "label_entropy": label_entropy(references.values, labels),
            "n_references": (references.values > 0).sum(axis=1).astype(np.int32),
            "is_concept": concept,
        },
        index=pd.Index([str(latent) for latent in range(len(mean))], name="latent"),
    )
    summary = {
        "cells": len(roster.patients),
        "concepts": int(concept.sum()),
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

    def batch(cells_of: NDArray[np.int64]) -> MapBatch:
        first, last = np.searchsorted(sorted_cells, [cells_of[0], cells_of[-1] + 1])
        places = order[first:last]
        needed, column = np.unique(places // cells.shape[1], return_inverse=True)
        row = np.searchsorted(cells_of, cells.ravel()[places])
        return MapBatch(rows[cells_of], latents[needed], row, column, places)

    # A unit is as many batches as a piece of cells has; a map's last bit may depend on what else is in its batch.
    batches = [wanted[i : i + BATCH] for i in range(0, len(wanted), BATCH)]
    together = max(1, encoder.source.layout.cells_per_shard // BATCH)
    units = ([batch(b) for b in batches[i : i + together]] for i in range(0, len(batches), together))
    with progress(f"maps {dataset}", len(wanted), "cells") as bar:
        for places, found in engine.map(MapMaker(encoder, grid), units, bar.advance):
            maps.reshape(-1, *grid)[places] = found
    return maps
