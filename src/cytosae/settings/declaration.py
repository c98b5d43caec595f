"""How a setting is declared, checked, and named on disk. Imports nothing heavy: the command line shows settings."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, field, fields
from pathlib import Path
from typing import Any

from cytosae.errors import CytosaeError

SEED = 2**63 - 1
"""Largest seed of a training."""
SHORT_SEED = 2**32 - 1
"""Largest seed that scikit-learn takes."""


def setting(
    default: Any,
    text: str,
    choices: tuple[str, ...] = (),
    minimum: float | None = None,
    maximum: float | None = None,
    stored: str | None = None,
    automatic: Any = None,
) -> Any:
    """A field of a settings dataclass.

    Parameters
    ----------
    default, text
        Its default, and the help text of its option.
    choices, minimum, maximum
        Values that it may have (`check`).
    stored
        Its name in files and, as a hidden alias, on the command line, if that is an earlier one.
    automatic
        The value that leaves the choice to the program; None if there is none.
    """
    metadata = {"help": text, "choices": choices, "minimum": minimum, "maximum": maximum, "stored": stored}
    return field(default=default, metadata={**metadata, "automatic": automatic})


def readable(kind: type, name: str, value: Any) -> str:
    """A value of a setting for people; *automatic* where it leaves the choice to the program.

    Examples
    --------
    >>> from cytosae.settings import TrainConfig
    >>> readable(TrainConfig, "images", 0), readable(TrainConfig, "images", 40)
    ('automatic', '40')
    """
    (spec,) = (spec for spec in fields(kind) if spec.name == name)
    leaves = spec.metadata.get("automatic")
    return "automatic" if leaves is not None and value == leaves else str(value)


def check(settings: Any) -> None:
    """Raise a CytosaeError for the first value out of its range."""
    for spec in fields(settings):
        value, option = getattr(settings, spec.name), "--" + spec.name.replace("_", "-")
        choices, minimum, maximum = (spec.metadata[key] for key in ("choices", "minimum", "maximum"))
        if choices and value not in choices:
            raise CytosaeError(f"{option} {value}: unknown; choose one of {', '.join(choices)}.")
        if isinstance(value, float) and not math.isfinite(value):
            raise CytosaeError(f"{option} {value}: must be a finite number.")
        if minimum is not None and not value >= minimum:
            raise CytosaeError(f"{option} {value}: must be at least {minimum}.")
        if maximum is not None and value > maximum:
            raise CytosaeError(f"{option} {value}: must be at most {maximum}.")


def stored_names(kind: type) -> dict[str, str]:
    """The name on disk of every setting of a dataclass, by its own name."""
    return {spec.name: spec.metadata.get("stored") or spec.name for spec in fields(kind)}


def to_stored(config: Any) -> dict[str, Any]:
    """A configuration as it is stored: JSON values by their names on disk."""
    names = stored_names(type(config))
    return {names[name]: str(value) if isinstance(value, Path) else value for name, value in asdict(config).items()}


def from_stored(kind: type, stored: Mapping[str, Any]) -> dict[str, Any]:
    """Arguments of a settings dataclass from what is stored; entries that it does not have are left as they are."""
    names = {old: name for name, old in stored_names(kind).items()}
    paths = {spec.name for spec in fields(kind) if "Path" in str(spec.type)}
    settings = {names.get(name, name): value for name, value in stored.items()}
    return {name: Path(value) if name in paths and value else value for name, value in settings.items()}
