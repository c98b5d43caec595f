"""What a sweep varies: a YAML file with settings of the training, the layer, and the seeds."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, get_type_hints

import yaml  # type: ignore[import-untyped]

from cytosae.errors import CytosaeError
from cytosae.reproduction.paper import CHOSEN, DEPTH, VARIANTS
from cytosae.settings import SEED, TrainConfig, stored_names

LAYER = "layer"
MOST_SEEDS = 10_000
"""Of a sweep."""
THRESHOLDS = (-5.0, -4.0, -3.0, -2.0, -1.0)
_KEYS = ("base", "vary", "grid", "list", "seeds", "thresholds")
_SHOWN = 80  # characters
_HINTS = get_type_hints(TrainConfig)
_STORED = {name: stored for name, stored in stored_names(TrainConfig).items() if name != "seed"}
_NAMES = {stored: name for name, stored in _STORED.items()}


@dataclass(frozen=True)
class Setting:
    """One setting of the sweep, trained with every seed."""

    name: str
    """What it varies, by names on disk, such as ``expansion=8, l1=0.0008``; ``base`` if nothing differs."""
    config: TrainConfig
    layer: int | None
    """Block whose output is taken, from 1; None for the study's."""
    varied: Mapping[str, Any]
    """Where it differs from the base."""


@dataclass(frozen=True)
class Run:
    """One training of a sweep."""

    setting: Setting
    layer: int
    """Block, from 1."""
    config: TrainConfig
    folder: Path
    """Holds ``sae/`` and ``concepts/``."""

    @property
    def name(self) -> str:
        """Name of the folder."""
        return self.folder.name


@dataclass(frozen=True)
class Spec:
    """A sweep.

    Attributes
    ----------
    settings
        What is trained, without doubles.
    seeds
        Every setting is trained with each of them.
    thresholds
        Of log10 mean activation, at which concepts are counted.
    base
        What the settings differ from.
    """

    settings: tuple[Setting, ...]
    seeds: tuple[int, ...]
    thresholds: tuple[float, ...]
    base: TrainConfig

    def variant(self, setting: Setting, layer: int, base_layer: int, depth: int) -> str | None:
        """Name of the paper's variant (section 3.4) that changes the base as this setting does, if there is one.

        Parameters
        ----------
        layer, base_layer
            The setting's block and the base's, from 1.
        depth
            Blocks of the backbone; the paper's layers are taken in proportion.
        """
        if (setting.config, layer) == (self.base, base_layer):
            return CHOSEN
        for name, variant in reversed(list(VARIANTS.items())):  # in a small base a quarter may be no less than a half
            wanted = base_layer if variant.layer is None else max(1, round(variant.layer * depth / DEPTH))
            if layer == wanted and variant.change(self.base) == setting.config:
                return name
        return None


def read_spec(path: Path) -> Spec:
    """Read a sweep.

    ``base`` has settings of `TrainConfig` that all share, and ``layer``. ``vary`` changes one of them at a time, ``grid``
    takes every combination, ``list`` names single settings; they can stand together. ``seeds`` is a list or a number.

    Raises
    ------
    CytosaeError
        Not such a file; an unknown setting, or a value that it cannot have.
    """
    try:
        raw = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError, yaml.YAMLError) as error:
        raise CytosaeError(f"{path}: not a YAML file that can be read ({error}).") from error
    if not isinstance(raw, dict):
        raise CytosaeError(f"{path}: must be a mapping with some of {', '.join(_KEYS)}.")
    if unknown := [key for key in raw if key not in _KEYS]:
        raise CytosaeError(f"{path}: {unknown[0]!r} is unknown; there are {', '.join(_KEYS)}.")
    base = _settings(path, "base", raw.get("base") or {})
    seeds = _seeds(path, raw.get("seeds", 1))
    config = _config(path, base)
    settings: dict[tuple[Any, ...], Setting] = {}
    for varied in _varied(path, raw):
        changed = {key: value for key, value in varied.items() if value != {**asdict(config), **base}.get(key)}
        name = ", ".join(f"{_STORED.get(key, key)}={value}" for key, value in changed.items()) or "base"
        setting = Setting(name, _config(path, {**base, **changed}), {**base, **changed}.get(LAYER), changed)
        settings.setdefault((setting.config, setting.layer), setting)
    thresholds = raw.get("thresholds", list(THRESHOLDS))
    if not isinstance(thresholds, list) or not all(_is_number(value) for value in thresholds):
        raise CytosaeError(f"{path}: thresholds {_shown(thresholds)}: a list of finite numbers is expected.")
    return Spec(tuple(settings.values()), seeds, tuple(sorted(map(float, thresholds))), config)


def _varied(path: Path, raw: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    """What each setting changes; the base itself first, but for a sweep that is a grid alone."""
    if "vary" in raw or "list" in raw or "grid" not in raw:
        yield {}
    for key, values in _lists(path, "vary", raw.get("vary") or {}).items():
        for value in values:
            yield {key: value}
    if raw.get("grid"):
        lists = _lists(path, "grid", raw["grid"])
        for combination in itertools.product(*lists.values()):
            yield dict(zip(lists, combination, strict=True))
    entries = raw.get("list") or []
    if not isinstance(entries, list):
        raise CytosaeError(f"{path}: list: a list of mappings is expected.")
    for number, one in enumerate(entries, 1):
        yield _settings(path, f"list, entry {number}", one)


def _lists(path: Path, where: str, raw: Any) -> dict[str, list[Any]]:
    if not isinstance(raw, dict):
        raise CytosaeError(f"{path}: {where}: a list of values by setting is expected.")
    lists = {}
    for key, values in raw.items():
        if not isinstance(values, list) or not values:
            raise CytosaeError(f"{path}: {where}: {key}: a list of values is expected, not {values!r}.")
        settings = [_settings(path, where, {key: value}) for value in values]
        lists[next(iter(settings[0]))] = [value for one in settings for value in one.values()]
    return lists


def _settings(path: Path, where: str, raw: Any) -> dict[str, Any]:
    """Settings with values of their types; YAML reads 8e-5 as text, where 8.0e-5 is a number."""
    if not isinstance(raw, dict):
        raise CytosaeError(f"{path}: {where}: settings with their values are expected, not {raw!r}.")
    settings: dict[str, Any] = {}
    for written, value in raw.items():
        key = _NAMES.get(written, written)
        if key != LAYER and key not in _STORED:
            raise CytosaeError(f"{path}: {where}: {key!r} is unknown; there are {LAYER}, {', '.join(_STORED)}.")
        if key in settings:
            raise CytosaeError(
                f"{path}: {where}: {key} and its earlier name {_STORED[key]} are both there. Remove one."
            )
        kind = int if key == LAYER else _HINTS[key]
        settings[key] = value
        if kind is float:
            try:
                settings[key] = float(value)
            except (TypeError, ValueError):
                raise CytosaeError(f"{path}: {where}: {key}: {_shown(value)} is not a number.") from None
            except OverflowError:
                settings[key] = math.inf
            if not math.isfinite(settings[key]):
                raise CytosaeError(f"{path}: {where}: {key}: {_shown(value)} is not a finite number.")
        elif isinstance(kind, type) and type(value) is not kind:
            raise CytosaeError(f"{path}: {where}: {key}: {_shown(value)} is not of the kind {kind.__name__}.")
    return settings


def _config(path: Path, settings: Mapping[str, Any]) -> TrainConfig:
    try:
        return replace(TrainConfig(), **{key: value for key, value in settings.items() if key != LAYER})
    except CytosaeError as error:
        raise CytosaeError(f"{path}: {error}") from error


def _seeds(path: Path, raw: Any) -> tuple[int, ...]:
    seeds = list(range(min(raw, MOST_SEEDS + 1))) if type(raw) is int else raw
    if not isinstance(seeds, list) or not seeds or not all(type(seed) is int and 0 <= seed <= SEED for seed in seeds):
        raise CytosaeError(
            f"{path}: seeds: {_shown(raw)}: a list of whole numbers from 0 to {SEED}, or how many, is expected."
        )
    if len(seeds) > MOST_SEEDS:
        raise CytosaeError(f"{path}: seeds: {_shown(raw)}: at most {MOST_SEEDS:,} can be trained.")
    return tuple(dict.fromkeys(seeds))


def _is_number(value: Any) -> bool:
    try:
        return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
    except OverflowError:
        return False


def _shown(value: Any) -> str:
    """A value as a message has it, cut where it is long."""
    try:
        text = repr(value)
    except ValueError:  # a number of thousands of digits
        return "a number that is too long"
    return text if len(text) <= _SHOWN else f"{text[:_SHOWN]}..."
