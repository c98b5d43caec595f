"""Read what ``torch.save`` wrote without running anything in it.

A pickle is a program: it names classes and functions and has them called. `torch.load` with ``weights_only=True`` is an
interpreter of that program that knows tensors and plain containers and refuses every other name, so it also refuses a
checkpoint with a configuration object. Here each such name is given to it as a class that does nothing: the interpreter
finds `Inert` where the file says ``src.sae_training.config.ViTSAERunnerConfig``, makes an empty object and hangs the fields
on it. No module that the file names is imported. A file that wants one of its names *called* (``REDUCE`` of ``os.system``,
``builtins.eval``, ``torch.hub.load``, ...) calls `Inert` instead, which refuses, and the whole file with it.

Some values of a configuration are written as calls too: a path, a number or an array of numpy, a date, a member of an
enum. These are written down as what they are called with, again without calling anything: those of `_VALUES` by their
names, and a member of an enum as one plain value given to a class of a module outside Python, torch and numpy.

This is simpler and safer than an unpickler of our own: tensors are rebuilt by torch, which checks their storages, and
opcodes that torch does not know are refused. It needs torch 2.6: before, ``weights_only`` could be broken out of
(CVE-2025-32434) and did not list the names in a file.
"""

from __future__ import annotations

import _compat_pickle
import io
import pickle
import sys
import warnings
from collections.abc import Mapping
from contextlib import suppress
from datetime import date, datetime
from pathlib import Path, PurePosixPath, PureWindowsPath
from typing import Any

import numpy as np
import torch
from torch import Tensor

from cytosae.errors import CytosaeError, in_short

_ZIP = b"PK\x03\x04"
_DEEPEST = 12
"""Levels of a configuration that are kept; a hostile one can contain itself."""
_MOST = 20_000
"""Values of a configuration that are kept; a hostile one can contain itself many times."""
_LONGEST = 1000
"""Bits of a whole number that is kept: longer ones are no float, and some cannot be written as text."""
_NUMPY = ("numpy.core.multiarray", "numpy._core.multiarray")
_VALUES = (
    *(f"pathlib{local}.{kind}Path" for local in ("", "._local") for kind in ("", "Posix", "Windows", "PurePosix")),
    *(f"pathlib{local}.Pure{kind}Path" for local in ("", "._local") for kind in ("", "Windows")),
    *(f"{module}.{name}" for module in _NUMPY for name in ("scalar", "_reconstruct")),
    "numpy.dtype",
    *(f"datetime.{kind}" for kind in ("date", "datetime", "time", "timedelta", "timezone")),
    "decimal.Decimal",
    "fractions.Fraction",
    *(f"builtins.{kind}" for kind in ("bytes", "frozenset", "range", "slice")),
    "types.SimpleNamespace",
)
"""What is called for a value, and does nothing else."""
_LARGEST = 1 << 12
"""Bytes of an array of numpy whose values are kept."""
_DATES = {"datetime.date": date, "datetime.datetime": datetime}
_PLAIN_KINDS = "biufcSU"
"""Of the types of numpy, those that hold numbers and text."""


class Inert:
    """An object of a class that is not here: its fields and nothing else."""

    fields: Mapping[str, Any] = {}
    arguments: tuple[Any, ...] = ()
    """What it was made with."""
    known_as = ""
    """Full name of its class in the Python of today."""

    def __new__(cls, *arguments: Any) -> Inert:
        """An empty object; what ``NEWOBJ`` asks for."""
        made = super().__new__(cls)
        made.arguments = arguments
        return made

    def __init__(self, *arguments: Any) -> None:
        """What ``REDUCE`` asks for, and no other opcode: refuse, unless it only stands for a value."""
        is_enum_member = _is_foreign_class(self.known_as) and len(arguments) == 1 and _is_plain(arguments[0])
        if self.known_as not in _VALUES and not is_enum_member:
            raise _Called(class_name(type(self)))

    def __setstate__(self, state: Any) -> None:
        if isinstance(state, tuple) and len(state) == 2 and state[0] is None:
            state = state[1]  # of a class with slots
        self.fields = state if isinstance(state, dict) else {"state": state}


def _is_foreign_class(name: str) -> bool:
    """Whether this is a name as classes have, and not of Python, torch or numpy, whose classes can act."""
    module, _, kind = name.rpartition(".")
    package = module.partition(".")[0]
    return kind.lstrip("_")[:1].isupper() and package not in {*sys.stdlib_module_names, "torch", "numpy"}


def _is_plain(value: Any) -> bool:
    if isinstance(value, tuple):
        return all(map(_is_plain, value))
    return value is None or isinstance(value, bool | int | float | str | Inert)


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
    except Exception as error:  # of a damaged file torch raises whatever comes
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
    # Checkpoints name modules as Python 2 did, such as __builtin__ for builtins and commands for subprocess.
    today = _compat_pickle.NAME_MAPPING.get((module, name), (_compat_pickle.IMPORT_MAPPING.get(module, module), name))
    return type(name, (Inert,), {"__module__": module, "__qualname__": name, "known_as": ".".join(today)})


def plain(value: Any) -> Any:
    """A setting as JSON has it: objects as their fields, paths and members of an enum as text, classes as their names.

    Of what lies deeper than `_DEEPEST` levels, or comes after `_MOST` values, only the kind is shown.

    Parameters
    ----------
    value
        From `read_checkpoint`.
    """
    return _plain(value, _DEEPEST, [_MOST])


def _plain(value: Any, depth: int, left: list[int]) -> Any:
    left[0] -= 1
    if isinstance(value, str):
        return value.encode(errors="replace").decode()  # a pickle can hold halves of characters, JSON cannot
    if isinstance(value, int) and value.bit_length() > _LONGEST:
        return f"a whole number of {value.bit_length():,} bits"
    if value is None or isinstance(value, bool | int | float):
        return value
    if isinstance(value, type) and issubclass(value, Inert):
        return class_name(value)
    if isinstance(value, torch.dtype | torch.device):
        return str(value).removeprefix("torch.")
    if isinstance(value, Tensor):
        known = not (value.is_meta or value.is_nested or value.is_quantized or value.is_complex())
        if known and value.layout == torch.strided and value.numel() == 1:
            return value.item()
        return "nested tensor" if value.is_nested else f"tensor {tuple(value.shape)}"
    if depth == 0 or left[0] < 0:
        return type(value).__name__
    if isinstance(value, Inert):
        return _plain_value(value, depth, left)
    if isinstance(value, Mapping):
        return {_plain(str(key), depth, left): _plain(one, depth - 1, left) for key, one in value.items()}
    if isinstance(value, list | tuple | set | frozenset):
        return [_plain(one, depth - 1, left) for one in value]
    if isinstance(value, bytes | bytearray):
        return value[:100].hex()
    return str(value)


def _plain_value(value: Inert, depth: int, left: list[int]) -> Any:
    """A number or text where an object stands for one; otherwise its fields, or what it was made with."""
    name, arguments = value.known_as, value.arguments
    if name.startswith("pathlib.") and all(isinstance(argument, str) for argument in arguments):
        kind = PureWindowsPath if "Windows" in name else PurePosixPath
        return str(kind(*arguments))
    if name.startswith(_NUMPY):
        return _plain(_numbers(value), depth, left)
    if name == "numpy.dtype":
        return str(arguments[0]) if arguments else name
    if name in _DATES and len(arguments) == 1 and isinstance(arguments[0], bytes):
        with suppress(TypeError, ValueError):
            return str(_DATES[name](arguments[0]))  # type: ignore[call-arg, arg-type]
    if value.fields or not arguments:
        return _plain(dict(value.fields), depth - 1, left)
    values = [_plain(one, depth - 1, left) for one in arguments]
    if len(values) == 1 and _is_foreign_class(name):
        return values[0]  # a member of an enum, by its value
    return f"{type(value).__qualname__}({', '.join(map(str, values))})"


def _numbers(value: Inert) -> Any:
    """What a number or an array of numpy holds; its kind where that is neither numbers nor text."""
    try:
        if type(value).__qualname__ == "scalar":
            dtype, raw = value.arguments
            return np.frombuffer(raw, _dtype(dtype))[0].item()
        _, shape, dtype, fortran, raw = value.fields["state"]
        if isinstance(raw, Inert):
            return []  # of no bytes, which are written as a call
        if len(raw) > _LARGEST:
            return f"array {shape}"
        return np.frombuffer(raw, _dtype(dtype)).reshape(shape, order="F" if fortran else "C").tolist()
    except (AttributeError, KeyError, TypeError, ValueError, IndexError):
        return "array of numpy"


def _dtype(described: Inert) -> np.dtype[Any]:
    name, order = described.arguments[0], described.fields["state"][1]
    dtype = np.dtype(str(name))
    if dtype.kind not in _PLAIN_KINDS:
        raise TypeError(f"numpy's {name}")
    return dtype.newbyteorder(order)
