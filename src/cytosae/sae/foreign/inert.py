"""Read what ``torch.save`` wrote without running anything in it.

A pickle is a program: it names classes and functions and has them called. `torch.load` with ``weights_only=True`` is an
interpreter of that program that knows tensors and plain containers and refuses every other name, so it also refuses a
checkpoint with a configuration object. Here each such name is given to it as a class that does nothing: the interpreter
finds `Inert` where the file says ``src.sae_training.config.ViTSAERunnerConfig``, makes an empty object and hangs the fields
on it. No module that the file names is imported. A file that wants one of its names *called* (``REDUCE`` of ``os.system``,
``builtins.eval``, ``torch.hub.load``, ...) calls `Inert` instead, which refuses, and the whole file with it.

This is simpler and safer than an unpickler of our own: tensors are rebuilt by torch, which checks their storages, and
opcodes that torch does not know are refused. It needs torch 2.6: before, ``weights_only`` could be broken out of
(CVE-2025-32434) and did not list the names in a file.
"""

from __future__ import annotations

import io
import pickle
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from cytosae.errors import CytosaeError, in_short

_DAMAGED = (RuntimeError, EOFError, OSError, ValueError, KeyError, IndexError, TypeError, AssertionError)
_ZIP = b"PK\x03\x04"
_DEEPEST = 12
"""Levels of a configuration that are kept; a hostile one can contain itself."""


class Inert:
    """An object of a class that is not here: its fields and nothing else."""

    fields: Mapping[str, Any] = {}

    def __new__(cls, *_: Any) -> Inert:
        """An empty object; what ``NEWOBJ`` asks for."""
        return super().__new__(cls)

    def __init__(self, *_: Any) -> None:
        """Refuse: ``NEWOBJ`` does not come here, only a file that has this name called."""
        raise _Called(class_name(type(self)))

    def __setstate__(self, state: Any) -> None:
        self.fields = state if isinstance(state, dict) else {"state": state}


class _Called(Exception):
    """A file wants a function called; the message is its name."""


def class_name(kind: type) -> str:
    """Full name of a class, such as ``src.sae_training.config.ViTSAERunnerConfig``."""
    return f"{kind.__module__}.{kind.__qualname__}"


def read_checkpoint(path: Path, *, after: int = 0) -> Any:
    """The content of a file of ``torch.save``; objects of classes that torch does not know come as `Inert`.

    Parameters
    ----------
    after
        Bytes before the checkpoint begins, for formats that put a header before it.

    Raises
    ------
    CytosaeError
        The file is no checkpoint, is damaged or cut off, or wants something called.
    """
    try:
        with path.open("rb") as file:
            file.seek(after)
            content = io.BytesIO(file.read())
    except OSError as error:
        raise CytosaeError(f"{path}: cannot be read ({error.strerror}).") from error
    try:
        with (
            warnings.catch_warnings()
        ):  # of pickle protocols that the restricted reader may not know: it says so itself
            warnings.simplefilter("ignore", UserWarning)
            with torch.serialization.safe_globals(_stand_ins(content)):
                return torch.load(content, map_location="cpu", weights_only=True)
    except _Called as error:
        raise CytosaeError(
            f"{path}: refused, since reading it would call {error}. Nothing in it was run. Weights and settings need no "
            "such call: get the file from the authors' own record."
        ) from error
    except pickle.UnpicklingError as error:
        raise CytosaeError(
            f"{path}: refused, since it is not a file of weights and settings ({in_short(error)}). Nothing in it was run. "
            "If it is in torch's old format, from before 2020, write it anew with torch.load and torch.save where you trust "
            "it; otherwise get the file from the authors' own record."
        ) from error
    except _DAMAGED as error:
        raise CytosaeError(
            f"{path}: damaged, cut off, or not a file of torch.save ({in_short(error)}). Compare its size with that of the "
            "source and download it again."
        ) from error


def _stand_ins(content: io.BytesIO) -> list[Any]:
    """A class that does nothing for each name in the file that torch does not know."""
    if content.getvalue()[:4] != _ZIP:
        return []  # the format before torch 1.6, whose names cannot be listed: read where it holds tensors alone
    names = torch.serialization.get_unsafe_globals_in_checkpoint(content)
    content.seek(0)
    return [_stand_in(*name.rpartition(".")[::2]) for name in names]


def _stand_in(module: str, name: str) -> type[Inert]:
    return type(name, (Inert,), {"__module__": module, "__qualname__": name})


def plain(value: Any, depth: int = _DEEPEST) -> Any:
    """A setting as JSON has it: objects as their fields, classes and types as their names.

    Parameters
    ----------
    value
        From `read_checkpoint`.
    depth
        Levels below which only the kind of a value is told.
    """
    if isinstance(value, str):
        return value.encode(errors="replace").decode()  # a pickle can hold halves of characters, JSON cannot
    if value is None or isinstance(value, bool | int | float):
        return value
    if isinstance(value, type) and issubclass(value, Inert):
        return class_name(value)
    if isinstance(value, torch.dtype | torch.device):
        return str(value).removeprefix("torch.")
    if isinstance(value, Tensor):
        return value.item() if value.numel() == 1 else f"tensor {tuple(value.shape)}"
    if depth == 0:
        return type(value).__name__
    if isinstance(value, Inert):
        return plain(value.fields, depth - 1)
    if isinstance(value, Mapping):
        return {plain(str(key)): plain(one, depth - 1) for key, one in value.items()}
    if isinstance(value, list | tuple | set | frozenset):
        return [plain(one, depth - 1) for one in value]
    return str(value)
