"""Encode a set of cells: counts, image activations, statistics, reference images and their maps."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import scipy.sparse as sp
from numpy.typing import NDArray

from cytosae import __version__
from cytosae.artefacts import MANIFEST, FileRecord, Manifest, disk_errors, make_folder
from cytosae.backbones import choose_device, choose_precision
from cytosae.cells import metadata_digest
from cytosae.concepts.activations import cell_activations, concept_maps
from cytosae.concepts.parts import Parts
from cytosae.concepts.references import Gallery, References
from cytosae.concepts.statistics import Groups, LatentSums, is_concept, label_entropy
from cytosae.concepts.storage import file_names, write_concepts, write_maps
from cytosae.console import progress, say
from cytosae.errors import CytosaeError
from cytosae.sae import SAE
from cytosae.settings import EncodeConfig
from cytosae.tokens import TokenSource

BATCH = 32  # cells read together
GROUPED = ("label", "diagnosis")
"""Columns by whose values the activation of every latent is kept."""


def check_fit(source: TokenSource, sae: SAE) -> None:
    """Refuse tokens of another backbone, layer or width than the autoencoder was trained on."""
    layout = source.layout
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
    sae_digest: str = "",
    device: str = "auto",
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
        The autoencoder.
    folder
        Where the concepts go.
    config
        Settings.
    sae_digest
        Identifies the autoencoder in the manifest.
    device
        ``auto`` or a device of torch.

    Returns
    -------
    Figures by data set: cells, concepts, mean count of active latents a cell.

    Raises
    ------
    CytosaeError
        Tokens of another backbone or layer, damaged shards, NaN, a full disk.
    """
    config = config or EncodeConfig()
    check_fit(source, sae)
    sae = sae.to(choose_device(device))
    make_folder(folder)
    source.verify()
    names = file_names(source.cells["dataset"].unique().tolist())
    inputs = encode_inputs(source, sae_digest)
    parts = Parts(folder / "parts", source.layout.cells_per_shard, sae.n_latents)
    summary: dict[str, Any] = {}
    outputs: dict[str, FileRecord] = {}
    with disk_errors(folder):
        (folder / MANIFEST).unlink(missing_ok=True)
        parts.prepare({"parameters": asdict(config), "inputs": inputs})
        _encode_parts(source, sae, parts, config.threshold)
        for dataset, name in names.items():
            rows = np.flatnonzero((source.cells["dataset"] == dataset).to_numpy())
            var, references, groups, summary[dataset] = _statistics(source, parts, rows, config)
            about = _about(source, config, inputs, dataset)
            h5ad, maps = folder / f"{name}.h5ad", folder / f"{name}.maps.safetensors"
            write_concepts(h5ad, source.cells.iloc[rows], var, references, groups, about, parts.read(rows))
            latents = np.flatnonzero(var["is_concept"].to_numpy())
            write_maps(maps, latents, _maps(source, sae, rows, latents, references["reference"], dataset))
            outputs.update({path.name: FileRecord.of(path) for path in (h5ad, maps)})
        Manifest("concepts", asdict(config), inputs, outputs, {"datasets": summary, "files": names}).save(folder)
        for path in (*folder.glob("*.h5ad"), *folder.glob("*.maps.safetensors")):
            if path.name not in outputs:
                path.unlink()
        parts.remove()
    return summary


def _about(source: TokenSource, config: EncodeConfig, inputs: dict[str, str], dataset: str) -> dict[str, Any]:
    """Provenance of an AnnData."""
    return {
        "cytosae": __version__,
        "dataset": dataset,
        "parameters": asdict(config),
        "inputs": inputs,
        "n_tokens": source.layout.n_tokens,
        "backbone": {key: value for key, value in source.layout.backbone.items() if value is not None},
        "meaning": {
            "X": "count of tokens with h > tau (Eq. 2, 3)",
            "mean_activation": "mean of h over the tokens of a cell",
        },
    }


def _encode_parts(source: TokenSource, sae: SAE, parts: Parts, threshold: float) -> None:
    """Write counts and means of every piece of cells that is not there yet."""
    ranges = {start: range(start, min(start + parts.size, source.n_cells)) for start in parts.missing(source.n_cells)}
    batches = [np.array(rows[i : i + BATCH]) for rows in ranges.values() for i in range(0, len(rows), BATCH)]
    tokens = source.stream(batches)
    dtype = choose_precision("auto", sae.b_dec.device.type)
    done = source.n_cells - sum(map(len, batches))
    with progress("concepts", source.n_cells, "cells", done) as bar:
        for start, rows in ranges.items():
            pieces = []
            for _ in range(0, len(rows), BATCH):
                batch = next(tokens)
                pieces.append(cell_activations(sae, batch, threshold, dtype))
                done += len(batch)
                bar.to(done)
            counts, means = (sp.csr_matrix(sp.vstack(matrices)) for matrices in zip(*pieces, strict=True))
            parts.write(start, counts, means)


def _statistics(
    source: TokenSource, parts: Parts, rows: NDArray[np.int64], config: EncodeConfig
) -> tuple[pd.DataFrame, dict[str, References], Mapping[str, Groups], dict[str, Any]]:
    roster = _roster(source.cells.iloc[rows])
    limit = config.per_patient if (roster.patients >= 0).any() else 0
    partial = Partial.empty(parts.n_latents, roster, config, limit)
    for position, _, means in parts.read(rows):
        partial.add(means, roster[position : position + means.shape[0]])
    sums, gallery = partial.sums, partial.gallery
    references = gallery.strongest
    codes = roster.groups["label"][1] 
    labels = np.where(references.cells >= 0, codes[references.cells], -1)
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
        index=pd.Index([str(latent) for latent in range(parts.n_latents)], name="latent"),
    )
    summary = {
        "cells": len(rows),
        "concepts": int(concept.sum()),
        "active_latents": int((sums.active > 0).sum()),
        "active_latents_per_cell": float(sums.active.sum() / max(1, sums.n_cells)),
    }
    return var, gallery.kinds(), groups, summary


def _maps(
    source: TokenSource,
    sae: SAE,
    rows: NDArray[np.int64],
    latents: NDArray[np.int64],
    references: References,
    dataset: str,
) -> NDArray[np.float16]:
    """Maps of the reference images of some latents; needs the tokens of those cells again."""
    cells = references.cells[latents]
    grid_rows, grid_columns = source.layout.backbone["grid"]
    maps = np.zeros((*cells.shape, grid_rows, grid_columns), dtype=np.float16)
    wanted = np.unique(cells[cells >= 0])
    order = np.argsort(cells, axis=None, kind="stable")
    sorted_cells = cells.ravel()[order]
    batches = [wanted[i : i + BATCH] for i in range(0, len(wanted), BATCH)]
    with progress(f"maps {dataset}", len(wanted), "cells") as bar:
        for batch, tokens in zip(batches, source.stream(rows[b] for b in batches), strict=True):
            first, last = np.searchsorted(sorted_cells, [batch[0], batch[-1] + 1])
            places = order[first:last]
            needed, column = np.unique(places // cells.shape[1], return_inverse=True)
            found = concept_maps(sae, tokens, latents[needed], (grid_rows, grid_columns)).numpy()
            row = np.searchsorted(batch, cells.ravel()[places])
            maps.reshape(-1, grid_rows, grid_columns)[places] = found[row, column]
            bar.to(int(np.searchsorted(wanted, batch[-1])) + 1)
    return maps
