"""Tokens of an untrained backbone of the same shape, pooled by patient: what needs no learning to be predicted."""

from __future__ import annotations

from pathlib import Path

import anndata as ad
import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save_file

from cytosae.artefacts import digest, whole_file
from cytosae.backbones import NAMES, Backbone, load
from cytosae.cohort import patient_tokens
from cytosae.console import say
from cytosae.errors import CytosaeError
from cytosae.settings import StoreConfig
from cytosae.tokens import LiveTokens, TokenStore, store_layout

UNTRAINED = "untrained_tokens.safetensors"
"""File of the pooled tokens in the folder of a classification."""
METHOD = "untrained backbone, mean and maximum of patch tokens"


def untrained_baseline(
    source: TokenStore, data: ad.AnnData, path: Path, *, seed: int = 0, device: str = "auto"
) -> dict[str, NDArray[np.float32]]:
    """Mean and maximum of patch tokens of an untrained backbone, for each patient; the images are read batch by batch.

    Parameters
    ----------
    source
        Tokens of the cells: which backbone has the shape, and where the images are.
    data
        Barcodes of the patients.
    path
        File that keeps the result; read instead, if it is of the same images, backbone, seed and patients.
    seed
        Of the initial weights.
    device
        Where the backbone runs.

    Returns
    -------
    ``(n_rows, 2 d_model)`` by the method's name; nothing, and a message, where an image or the backbone cannot be read.
    """
    try:
        backbone = _same_shape(source, seed, device)
        layout = source.layout
        live = LiveTokens(
            source.cells,
            lambda: backbone,
            store_layout(
                backbone.info, StoreConfig(layout.dtype, layout.cells_per_shard, layout.batch_size), layout.frame
            ),
        )
        identity = digest([live.fingerprint, data.obs_names.tolist(), data.obs["n_cells"].tolist()])
        if (stored := _stored(path, identity)) is not None:
            return {METHOD: stored}
        features = patient_tokens(live, data).pooled()["mean and maximum of patch tokens"]
    except CytosaeError as error:
        say(f"classification: without the baseline of an untrained backbone, {error}")
        return {}
    with whole_file(path) as temporary:
        save_file({"features": features}, temporary, metadata={"identity": identity})
    return {METHOD: features}


def _same_shape(source: TokenStore, seed: int, device: str) -> Backbone:
    about = source.layout.backbone
    name, weights = str(about["name"]), Path(str(about["source"]))
    given = weights if name in NAMES and weights.is_file() else None
    layer, revision = int(about["layer"]) + 1, about["revision"] if given is None else None
    if revision is not None and Path(name).exists():
        revision = None
    return load(
        name, layer=layer, dtype=about["dtype"], device=device, revision=revision, weights=given, untrained=seed
    )


def _stored(path: Path, identity: str) -> NDArray[np.float32] | None:
    """What an earlier run kept, if it is of the same."""
    if not path.is_file():
        return None
    try:
        with safe_open(path, framework="numpy") as file:
            same = (file.metadata() or {}).get("identity") == identity
            return np.asarray(file.get_tensor("features")) if same else None
    except (OSError, SafetensorError):
        return None
