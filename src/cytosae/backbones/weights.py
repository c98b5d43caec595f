"""Read files of weights without running anything in them."""

from __future__ import annotations

import pickle
import re
import warnings
import zipfile
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from cytosae.errors import CytosaeError, in_short

SUFFIXES = (".pth", ".pt", ".bin", ".safetensors")

_WRAPPERS = ("teacher", "model", "state_dict")  # keys under which training scripts put the weights
_DAMAGED = (SafetensorError, RuntimeError, EOFError, OSError, ValueError, KeyError, IndexError, zipfile.BadZipFile)


def read_weights(path: Path) -> dict[str, Tensor]:
    """The tensors of a ``.safetensors``, ``.pth``, ``.pt`` or ``.bin`` file, by name.

    Pickles are read by torch's own restricted reader, which knows tensors and plain containers and calls nothing else.
    A checkpoint's weights may lie under ``teacher``, ``model`` or ``state_dict``; what lies beside them is ignored.

    Raises
    ------
    CytosaeError
        The file is missing, damaged, or holds more than tensors and plain containers.
    """
    if not path.is_file():
        raise CytosaeError(f"{path}: no such file of weights.")
    if path.suffix not in SUFFIXES:
        raise CytosaeError(f"{path}: not a file of weights; expected one that ends in {', '.join(SUFFIXES)}.")
    try:
        if path.suffix == ".safetensors":
            return load_file(path)
        with (
            warnings.catch_warnings()
        ):  # of pickle protocols that the restricted reader may not know: it says so itself
            warnings.simplefilter("ignore", UserWarning)
            content = torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        raise _refusal(path, error) from error
    except _DAMAGED as error:
        raise CytosaeError(f"{path}: not a file of weights, or damaged ({in_short(error)}).") from error
    return _tensors(content, path)


def _refusal(path: Path, error: pickle.UnpicklingError) -> CytosaeError:
    message = str(error)
    if match := re.search(r"GLOBAL (\S+)|reduce for unrecognized function (.+)", message):
        return CytosaeError(
            f"{path}: refused, since it holds more than weights ({match[1] or match[2]}). Nothing in it was run. Get the "
            "file from the authors' own record, or save its tensors as .safetensors on a machine where you trust it."
        )
    return CytosaeError(
        f"{path}: refused, since it is not a file of weights, or damaged ({in_short(error)}). Nothing in it was run."
    )


def _tensors(content: Any, path: Path) -> dict[str, Tensor]:
    for key in _WRAPPERS:
        if isinstance(content, dict) and isinstance(content.get(key), dict):
            content = content[key]
    if not isinstance(content, dict):
        raise CytosaeError(f"{path}: holds a {type(content).__name__}; expected a dictionary of tensors by name.")
    if strange := [key for key, value in content.items() if not (isinstance(key, str) and isinstance(value, Tensor))]:
        raise CytosaeError(
            f"{path}: {', '.join(map(str, strange[:4]))} is no tensor with a name; expected a dictionary of tensors, at "
            f"the top or under one of {', '.join(_WRAPPERS)}."
        )
    return content
