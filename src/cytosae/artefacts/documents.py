"""JSON: read from outside with limits, written whole, and sealed with the digest of its content."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from cytosae.artefacts.files import whole_file
from cytosae.errors import CytosaeError

_DEEPEST = 100
"""Levels of lists and objects in each other that a JSON file may have."""

_TOO_DEEP = f"its lists and objects lie in each other deeper than {_DEEPEST} levels"


def digest(value: Any) -> str:
    """SHA-256 of a JSON-like value; equal values have equal digests whatever the order of their keys."""
    text = json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    return hashlib.sha256(text.encode()).hexdigest()


def without_nan(value: Any) -> Any:
    """The same value with null in place of NaN and infinity, which JSON does not have."""
    if isinstance(value, Mapping):
        return {str(k): without_nan(v) for k, v in value.items()}
    if isinstance(value, list | tuple):
        return [without_nan(v) for v in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def write_json(path: Path, value: Any, *, shared: bool = False) -> None:
    """Write a JSON file whole or not at all; see `whole_file`."""
    with whole_file(path, shared=shared) as temporary:
        temporary.write_text(json.dumps(without_nan(value), indent=1, ensure_ascii=False) + "\n", encoding="utf-8")


def parse_json(text: str | bytes) -> Any:
    """The value of a JSON text from outside.

    Raises
    ------
    ValueError
        It is no JSON, or lists and objects lie in each other deeper than `_DEEPEST` levels: what reads them further would
        exceed Python's limit of recursion.
    """
    try:
        value = json.loads(text)
    except RecursionError:
        raise ValueError(_TOO_DEEP) from None
    level = [value]
    for _ in range(_DEEPEST + 1):
        inside = (one.values() if isinstance(one, dict) else one for one in level if isinstance(one, dict | list))
        if not (level := [one for values in inside for one in values]):
            return value
    raise ValueError(_TOO_DEEP)


def read_json(path: Path) -> Any:
    """Read a JSON file; a clear error if it is not one."""
    try:
        return parse_json(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise CytosaeError(
            f"{path}: not a JSON file ({error}). If a stage of cytosae wrote it, move it away and run the "
            "stage again; otherwise get it again from where it was made."
        ) from error


SEAL = "digest"
"""Where a manifest says what the rest of it is."""


def write_sealed(path: Path, content: Mapping[str, Any], *, shared: bool = False) -> None:
    """Write a JSON object with the digest of its content: by that `read_sealed` knows when it was damaged."""
    content = json.loads(json.dumps(without_nan(content)))
    write_json(path, {**content, SEAL: digest(content)}, shared=shared)


def read_sealed(path: Path) -> Any:
    """Read what `write_sealed` wrote, without the digest; what earlier versions wrote has none and is read as it is."""
    raw = read_json(path)
    if isinstance(raw, dict) and SEAL in raw and raw.pop(SEAL) != digest(raw):
        raise CytosaeError(
            f"{path}: damaged, or changed by hand: its digest is not that of its content. Move it away and run the stage "
            "again."
        )
    return raw
