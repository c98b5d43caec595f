"""Settings of a run in one YAML file: written with an explanation of each, and read back."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from contextlib import suppress
from dataclasses import fields
from pathlib import Path
from typing import Any, get_type_hints

from cytosae.errors import CytosaeError

PRESET = "preset"
"""Key of the preset, beside those of the settings."""
_WIDTH = 110  # characters of a comment


def settings_text(settings: Iterable[Any], *, active: bool) -> str:
    """The YAML of settings, one key an option without its dashes, each below its explanation.

    Parameters
    ----------
    settings
        Instances of settings dataclasses.
    active
        Whether the values count; else every line is a comment, to be changed by whoever needs it.
    """
    import textwrap

    import yaml  # type: ignore[import-untyped]

    lines: list[str] = []
    for one in settings:
        lines += ["", f"# {(type(one).__doc__ or '').splitlines()[0]}"]
        for spec in fields(one):
            value = getattr(one, spec.name)
            plain = {_key(spec.name): f"{value}" if isinstance(value, Path) else value}
            line = yaml.safe_dump(plain, default_flow_style=False, width=10_000).rstrip("\n")
            lines += ["", *textwrap.wrap(spec.metadata["help"], _WIDTH, initial_indent="# ", subsequent_indent="#   ")]
            lines.append(line if active else f"#{line}")
    return "\n".join(lines[1:]) + "\n"


def read_settings_file(path: Path, kinds: Iterable[type]) -> tuple[str | None, dict[type, dict[str, Any]]]:
    """The preset that a file names, if any, and its settings by class and name.

    Raises
    ------
    CytosaeError
        The file is not there, is no YAML, or has a key or a value that no setting has.
    """
    import yaml

    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        reason = " ".join(str(error).split())
        raise CytosaeError(
            f"{path}: cannot be read as settings ({reason}). `cytosae init` writes such a file."
        ) from error
    if content is not None and not isinstance(content, Mapping):
        raise CytosaeError(
            f"{path}: holds no settings but {type(content).__name__}. Write lines such as `expansion: 8`."
        )
    values = {str(key).replace("-", "_"): value for key, value in (content or {}).items()}
    preset = values.pop(PRESET, None)
    settings: dict[type, dict[str, Any]] = {}
    for kind in kinds:
        hints = get_type_hints(kind)
        settings[kind] = {
            spec.name: _value(path, spec.name, values.pop(spec.name), hints[spec.name])
            for spec in fields(kind)
            if spec.name in values
        }
    if values:
        raise CytosaeError(f"{path}: {_key(next(iter(values)))} is no setting of this command. Options of --help are.")
    return None if preset is None else str(preset), settings


def _value(path: Path, name: str, value: Any, hint: Any) -> Any:
    """A value of the type that a setting has; PyYAML reads 8e-5, without a dot, as text."""
    kinds = {*getattr(hint, "__args__", ()), hint} & {bool, int, float, str, Path, type(None)}
    if value is None and type(None) in kinds:
        return None
    if isinstance(value, bool) or value is None:
        fits = isinstance(value, bool) and bool in kinds
    else:
        if float in kinds and isinstance(value, int | str):
            with suppress(ValueError):
                value = float(value)
        elif Path in kinds and isinstance(value, str):
            value = Path(value)
        fits = isinstance(value, tuple(kinds - {type(None)}))
    if not fits:
        wanted = " or ".join(sorted(kind.__name__ for kind in kinds if kind is not type(None)))
        raise CytosaeError(f"{path}: {_key(name)}: {value!r} is not {wanted}.")
    return value


def _key(name: str) -> str:
    return name.replace("_", "-")
