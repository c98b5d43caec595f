"""The ``.pt`` of CytoSAE, PatchSAE, vit_prisma and early SAELens: ``{"cfg": <object>, "state_dict": {...}}``.

Settings and tensors are those of `cytosae.sae.foreign.lens`.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch import Tensor

from cytosae.errors import CytosaeError
from cytosae.sae.foreign.equations import ForeignSAE
from cytosae.sae.foreign.inert import Inert, class_name, plain
from cytosae.sae.foreign.lens import convert_lens

_SETTINGS = ("cfg", "config")  # the release reads either


def matches(content: Any) -> bool:
    """Whether the content of a checkpoint looks like this."""
    return isinstance(content, Mapping) and "state_dict" in content


def read(path: Path, content: Any) -> ForeignSAE:
    """The arrays, and the fields of the configuration object."""
    if not matches(content):
        raise CytosaeError(f"{path}: no dictionary with 'state_dict' and 'cfg', as CytoSAE and PatchSAE save it.")
    settings: Any = next((content[key] for key in _SETTINGS if key in content), {})
    fields = plain(settings)
    if isinstance(settings, Inert) and isinstance(fields, dict):
        fields = {"class": class_name(type(settings)), **fields}
    if not isinstance(fields, dict):
        raise CytosaeError(f"{path}: 'cfg' is a {type(settings).__name__}; expected an object with fields.")
    state = content["state_dict"]
    if not isinstance(state, Mapping) or not all(isinstance(value, Tensor) for value in state.values()):
        raise CytosaeError(f"{path}: 'state_dict' is no dictionary of tensors.")
    return convert_lens(path, fields, state)
