"""The ``.pt`` of CytoSAE and PatchSAE: ``{"cfg": <object>, "state_dict": {...}}``.

Written by ``SparseAutoencoder.save_model`` of the release; read after ``src/sae_training/sparse_autoencoder.py`` there. Its
equations are ours: it subtracts `b_dec`, multiplies with ``W_enc (d_in, d_sae)``, adds `b_enc`, and nothing is normalised.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from cytosae.errors import CytosaeError
from cytosae.sae.foreign.equations import Found, refuse, take
from cytosae.sae.foreign.inert import Inert, class_name, plain

ARRAYS = ("W_enc", "b_enc", "W_dec", "b_dec")
_SETTINGS = ("cfg", "config")  # the release reads either


def matches(content: Any) -> bool:
    """Whether the content of a checkpoint looks like this."""
    return isinstance(content, Mapping) and "state_dict" in content


def read(path: Path, content: Any) -> Found:
    """The arrays as they are, and the fields of the configuration object."""
    if not matches(content):
        raise CytosaeError(f"{path}: no dictionary with 'state_dict' and 'cfg', as CytoSAE and PatchSAE save it.")
    settings: Any = next((content[key] for key in _SETTINGS if key in content), {})
    fields = plain(settings)
    if isinstance(settings, Inert):
        fields = {"class": class_name(type(settings)), **fields}
    if not isinstance(fields, dict):
        raise CytosaeError(f"{path}: 'cfg' is a {type(settings).__name__}; expected an object with fields.")
    if fields.get("gated_sae"):
        raise refuse(path, "a gated autoencoder (gated_sae)", "has a gate besides the magnitude")
    W_enc, b_enc, W_dec, b_dec = take(path, content["state_dict"], ARRAYS, "an autoencoder of CytoSAE or PatchSAE")
    return Found(W_enc, b_enc, W_dec, b_dec, fields)
