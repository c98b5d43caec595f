"""Encode a set of cells: counts, image activations, statistics, reference images and their maps."""

from __future__ import annotations

import re
import shutil
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

import anndata as ad
import h5py
import numpy as np
import pandas as pd
import scipy.sparse as sp
from anndata.io import sparse_dataset, write_elem
from numpy.typing import NDArray
from safetensors import SafetensorError
from safetensors.numpy import load_file, save_file

from cytosae import __version__
from cytosae.artefacts import (
    MANIFEST,
    FileRecord,
    Manifest,
    disk_errors,
    make_folder,
    read_json,
    whole_file,
    write_json,
)
from cytosae.backbones import choose_device
from cytosae.cells import metadata_digest
from cytosae.cells.table import FILE_COLUMNS
from cytosae.concepts.activations import cell_activations, concept_maps
from cytosae.concepts.statistics import LatentSums, References, is_concept, label_entropy
from cytosae.console import progress, say
from cytosae.errors import CytosaeError
from cytosae.sae import SAE
from cytosae.settings import EncodeConfig
from cytosae.tokens import TokenSource

BATCH = 32  # cells read together
_PARTS = "parts"


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
    names = _file_names(source.cells["dataset"].unique().tolist())
    inputs = encode_inputs(source, sae_digest)
    with disk_errors(folder):
        (folder / MANIFEST).unlink(missing_ok=True)
        _encode_parts(source, sae, folder / _PARTS, {"parameters": asdict(config), "inputs": inputs}, config)
        summary: dict[str, Any] = {}
        outputs: dict[str, FileRecord] = {}
        for dataset, name in names.items():
            rows = np.flatnonzero((source.cells["dataset"] == dataset).to_numpy())
            var, references, summary[dataset] = _statistics(source, folder / _PARTS, rows, sae.n_latents, config)
            _write_h5ad(
                folder / f"{name}.h5ad",
                source,
                folder / _PARTS,
                rows,
                var,
                references,
                config,
                inputs,
                dataset,
            )
            _write_maps(folder / f"{name}.maps.safetensors", source, sae, rows, var, references, dataset)
            for file in (f"{name}.h5ad", f"{name}.maps.safetensors"):
                outputs[file] = FileRecord.of(folder / file)
        Manifest("concepts", asdict(config), inputs, outputs, {"datasets": summary, "files": names}).save(folder)
        for path in (*folder.glob("*.h5ad"), *folder.glob("*.maps.safetensors")):
            if path.name not in outputs:
                path.unlink()
        shutil.rmtree(folder / _PARTS)
    return summary


def _file_names(datasets: list[str]) -> dict[str, str]:
    names: dict[str, str] = {}
    for dataset in datasets:
        base = name = re.sub(r"[^A-Za-z0-9._-]+", "-", dataset).strip("-.") or "cells"
        number = 1
        while name in names.values():
            number += 1
            name = f"{base}-{number}"
        names[dataset] = name
    return names


def _part_path(parts: Path, start: int) -> Path:
    return parts / f"part-{start:08d}.safetensors"


def _encode_parts(source: TokenSource, sae: SAE, parts: Path, identity: dict[str, Any], config: EncodeConfig) -> None:
    """Write counts and means of every piece of cells that is not there yet."""
    about = parts / "identity.json"
    if parts.exists() and (not about.is_file() or read_json(about) != identity):
        shutil.rmtree(parts)
    make_folder(parts)
    write_json(about, identity)
    size = source.layout.cells_per_shard
    starts = [start for start in range(0, source.n_cells, size) if not _part_path(parts, start).is_file()]
    ranges = [
        np.arange(row, min(row + BATCH, start + size, source.n_cells))
        for start in starts
        for row in range(start, min(start + size, source.n_cells), BATCH)
    ]
    tokens = source.stream(ranges)
    done = source.n_cells - sum(map(len, ranges))
    with progress("concepts", source.n_cells, "cells", done) as bar:
        for start in starts:
            stop = min(start + size, source.n_cells)
            pieces = []
            for _ in range(start, stop, BATCH):
                batch = next(tokens)
                pieces.append(cell_activations(sae, batch, config.threshold))
                done += len(batch)
                bar.to(done)
            counts, means = (sp.csr_matrix(sp.vstack(matrices)) for matrices in zip(*pieces, strict=True))
            with whole_file(_part_path(parts, start)) as partial:
                save_file({**_arrays("counts", counts), **_arrays("means", means)}, partial)


def _arrays(name: str, matrix: sp.csr_matrix) -> dict[str, NDArray[Any]]:
    return {
        f"{name}.data": matrix.data,
        f"{name}.indices": matrix.indices.astype(np.int32),
        f"{name}.indptr": matrix.indptr.astype(np.int64),
    }


def _read_parts(
    parts: Path, rows: NDArray[np.int64], size: int, n_latents: int
) -> Iterator[tuple[int, sp.csr_matrix, sp.csr_matrix]]:
    """The chosen rows piece by piece: position of the first within the choice, counts, means."""
    position = 0
    for start in np.unique(rows // size) * size:
        arrays = load_file(_part_path(parts, int(start)))
        chosen = rows[(rows >= start) & (rows < start + size)] - start
        counts, means = (
            sp.csr_matrix(
                (arrays[f"{n}.data"], arrays[f"{n}.indices"], arrays[f"{n}.indptr"]),
                shape=(len(arrays[f"{n}.indptr"]) - 1, n_latents),
            )[chosen]
            for n in ("counts", "means")
        )
        yield position, counts, means
        position += len(chosen)


def _statistics(
    source: TokenSource, parts: Path, rows: NDArray[np.int64], n_latents: int, config: EncodeConfig
) -> tuple[pd.DataFrame, References, dict[str, Any]]:
    sums: LatentSums | None = None
    references: References | None = None
    for position, _, means in _read_parts(parts, rows, source.layout.cells_per_shard, n_latents):
        part_sums, part_references = LatentSums.of(means), References.of(means, config.references, position)
        sums = part_sums if sums is None else sums + part_sums
        references = part_references if references is None else references.merge(part_references)
    assert sums is not None
    assert references is not None
    codes, _ = pd.factorize(source.cells["label"].iloc[rows])  # -1 where the label is unknown
    labels = np.where(references.cells >= 0, np.asarray(codes)[references.cells], -1)
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
        index=pd.Index([str(latent) for latent in range(n_latents)], name="latent"),
    )
    summary = {
        "cells": len(rows),
        "concepts": int(concept.sum()),
        "active_latents": int((sums.active > 0).sum()),
        "active_latents_per_cell": float(sums.active.sum() / max(1, sums.n_cells)),
    }
    return var, references, summary


def _write_h5ad(
    path: Path,
    source: TokenSource,
    parts: Path,
    rows: NDArray[np.int64],
    var: pd.DataFrame,
    references: References,
    config: EncodeConfig,
    inputs: dict[str, str],
    dataset: str,
) -> None:
    """Write an AnnData piece by piece, so that the matrices are never whole in memory."""
    obs = _obs(source.cells.iloc[rows])
    about = {
        "cytosae": __version__,
        "dataset": dataset,
        "parameters": asdict(config),
        "inputs": inputs,
        "n_tokens": source.layout.n_tokens,
        "backbone": {k: v for k, v in source.layout.backbone.items() if v is not None},
        "meaning": {
            "X": "count of tokens with h > tau (Eq. 2, 3)",
            "mean_activation": "mean of h over the tokens of a cell",
        },
    }
    with whole_file(path) as partial, h5py.File(partial, "w") as file:
        empty = ad.AnnData(
            obs=obs,
            var=var,
            varm={"reference_cells": references.cells, "reference_values": references.values},
            uns={"cytosae": about},
        )
        file.attrs.update({"encoding-type": "anndata", "encoding-version": "0.1.0"})
        for key in ("obs", "var", "varm", "uns", "obsm", "obsp", "varp"):
            write_elem(file, key, getattr(empty, key) if key in {"obs", "var"} else dict(getattr(empty, key)))
        write_elem(file, "layers", {})
        for _, counts, means in _read_parts(parts, rows, source.layout.cells_per_shard, len(var)):
            for group, key, matrix in ((file, "X", counts), (file["layers"], "mean_activation", means)):
                if key in group:
                    sparse_dataset(group[key]).append(matrix)
                else:
                    write_elem(group, key, matrix)


def _obs(cells: pd.DataFrame) -> pd.DataFrame:
    """The cells as AnnData stores them: text as categories, columns without any value left out."""
    kept = cells.drop(columns=[c for c in FILE_COLUMNS if c != "file_sha256"]).dropna(axis=1, how="all")
    obs = kept.drop(columns="cell_id")
    obs.index = pd.Index(kept["cell_id"].astype(object), name="cell_id")
    for column in obs.columns:
        if not pd.api.types.is_numeric_dtype(obs[column]):
            text = obs[column].astype(object)
            obs[column] = pd.Categorical(text.where(text.isna(), text.astype(str)))
    return obs


def _write_maps(
    path: Path,
    source: TokenSource,
    sae: SAE,
    rows: NDArray[np.int64],
    var: pd.DataFrame,
    references: References,
    dataset: str,
) -> None:
    """Write the maps of the reference images of every discovered concept; needs the tokens of those cells again."""
    latents = np.flatnonzero(var["is_concept"].to_numpy())
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
    with whole_file(path) as partial:
        save_file({"latents": latents.astype(np.int64), "maps": maps}, partial)


def read_concepts(folder: Path, dataset: str, *, backed: bool = False) -> ad.AnnData:
    """The AnnData of a data set: ``obs`` cells, ``var`` latents, ``X`` counts, ``layers["mean_activation"]``.

    Parameters
    ----------
    folder
        Written by `encode`.
    dataset
        Name of the data set.
    backed
        Leave the matrices on disk.
    """
    path = folder / f"{_files(folder)[dataset]}.h5ad"
    try:
        return ad.read_h5ad(path, backed="r" if backed else None)
    except (OSError, KeyError, ValueError) as error:
        raise CytosaeError(f"{path}: not a readable AnnData ({error}). Run `cytosae encode` again.") from error


def read_maps(folder: Path, dataset: str) -> tuple[NDArray[np.int64], NDArray[np.float16]]:
    """Latents ``(n_concepts,)`` and the maps of their reference images ``(n_concepts, k, rows, columns)``."""
    path = folder / f"{_files(folder)[dataset]}.maps.safetensors"
    try:
        arrays = load_file(path)
    except (OSError, SafetensorError) as error:
        raise CytosaeError(f"{path}: not readable ({error}). Run `cytosae encode` again.") from error
    return arrays["latents"], arrays["maps"]


def read_datasets(folder: Path) -> dict[str, dict[str, Any]]:
    """The figures of every data set in a folder of concepts, by name."""
    return dict(_manifest(folder).summary["datasets"])


def _files(folder: Path) -> dict[str, str]:
    return dict(_manifest(folder).summary["files"])


def _manifest(folder: Path) -> Manifest:
    manifest = Manifest.load(folder)
    if manifest is None or manifest.stage != "concepts":
        raise CytosaeError(
            f"{folder}: no finished concepts there. Make them with `cytosae encode CELLS --sae SAE -o {folder}`."
        )
    return manifest
