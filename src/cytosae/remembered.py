"""The settings of a study, kept in its folder: what a later run leaves out stays as it was."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

from cytosae import __version__
from cytosae.artefacts import WEIGHTS, Manifest, read_json, whole_file, write_json
from cytosae.errors import CytosaeError
from cytosae.sae.former import TrainedWork
from cytosae.settings import (
    BackboneConfig,
    BarcodeConfig,
    EncodeConfig,
    FrameConfig,
    HarmoniseConfig,
    ImageConfig,
    StoreConfig,
    TrainConfig,
    from_stored,
    readable,
    to_stored,
)
from cytosae.settings.yaml_files import settings_text
from cytosae.tokens.store import read_manifest

FILE = "study.json"
READABLE_HEAD = "# Settings of the last run of this study"
READABLE = "study.yaml"
"""The same settings, for people and for ``--settings``; what the program remembers is `FILE`."""
_CONFIGS = {
    "backbone": BackboneConfig,
    "store": StoreConfig,
    "train": TrainConfig,
    "encode": EncodeConfig,
    "barcodes": BarcodeConfig,
    "images": ImageConfig,
    "harmonise": HarmoniseConfig,
    "framing": FrameConfig,
}
_MACHINE_SETTINGS = ("device",)
"""Settings that belong to a machine, not to a study."""


@dataclass(frozen=True)
class StudySettings:
    """What a study was made with.

    Attributes
    ----------
    configs
        Settings by class and name; empty where nothing is known.
    store
        Whether tokens are kept on disk; None where that is not known.
    sae
        Folder of the autoencoder that was given instead of training one.
    columns
        Columns of the source that stand for known ones, see `cytosae.cells.chosen_columns`.
    describe
        Whether cells are measured and concepts described; None where that is not known.
    """

    configs: Mapping[type, Mapping[str, Any]] = field(default_factory=dict)
    store: bool | None = None
    sae: Path | None = None
    columns: Mapping[str, str] = field(default_factory=dict)
    describe: bool | None = None


def read_settings(study: Path) -> StudySettings:
    """The settings of a study's last run; of a study without ``study.json`` those that its stages have recorded.

    Raises
    ------
    CytosaeError
        The file is damaged.
    """
    path = study / FILE
    if not path.is_file():
        return _recorded(study)
    raw = read_json(path)
    try:
        configs = {config: _known(config, raw["settings"].get(name, {})) for name, config in _CONFIGS.items()}
        for config, values in configs.items():
            config(**values)
        sae, describe = Path(raw["sae"]) if raw["sae"] else None, raw.get("describe")
        return StudySettings(configs, bool(raw["store"]), sae, dict(raw["columns"]), describe)
    except (AttributeError, KeyError, TypeError) as error:
        raise CytosaeError(
            f"{path}: not the settings of a study ({type(error).__name__}: {error}). Remove the file: the settings are then "
            "taken from the manifests of the stages."
        ) from error


def described(settings: StudySettings) -> str:
    """The remembered settings that are not the program's defaults, for people."""
    changed = [
        f"{name} {readable(config, name, value)}"
        for config, values in settings.configs.items()
        for name, value in values.items()
        if value != getattr(config(), name)
    ]
    changed += [f"column {known}={given}" for known, given in settings.columns.items()]
    if settings.sae is not None:
        changed.append(f"sae {settings.sae}")
    if settings.describe is False:
        changed.append("no-describe")
    return "settings of the last run: " + (", ".join(changed) or "the defaults")


def write_settings(
    study: Path,
    configs: Mapping[str, Any],
    store: bool,
    sae: Path | None,
    columns: Mapping[str, str],
    describe: bool = True,
) -> None:
    """Keep the settings of a run in ``study.json``.

    Parameters
    ----------
    configs
        Settings (dataclasses) by the names ``backbone``, ``store``, ``train``, ``encode``, ``barcodes``, ``images`` and
        ``harmonise``.
    store, sae, columns, describe
        See `StudySettings`.
    """
    settings = {
        name: {key: value for key, value in to_stored(configs[name]).items() if key not in _MACHINE_SETTINGS}
        for name in _CONFIGS
    }
    content = {
        "cytosae": __version__,
        "settings": settings,
        "store": store,
        "sae": None if sae is None else f"{sae}",
        "columns": dict(columns),
        "describe": describe,
    }
    if not (study / FILE).is_file() or {**read_json(study / FILE), "cytosae": __version__} != content:
        write_json(study / FILE, content)
        with whole_file(study / READABLE) as temporary:
            head = f"{READABLE_HEAD}; cytosae {__version__}. `cytosae run --settings` reads them.\n\n"
            temporary.write_text(head + settings_text(configs.values(), active=True), encoding="utf-8")


def _known(config: type, values: Mapping[str, Any]) -> dict[str, Any]:
    """The settings that this version has."""
    names = {spec.name for spec in fields(config)} - set(_MACHINE_SETTINGS)
    return {name: value for name, value in from_stored(config, values).items() if name in names}


def _recorded(study: Path) -> StudySettings:
    """What manifests and ``backbone.json`` say of a study that was made before its settings were kept."""
    configs: dict[type, Mapping[str, Any]] = {}
    if (study / "backbone.json").is_file():
        configs[BackboneConfig] = _known(BackboneConfig, read_json(study / "backbone.json")["request"]["settings"])
    tokens = read_manifest(study / "tokens")
    if tokens is not None:
        layout = tokens[0]
        shape = {"cells_per_shard": layout.cells_per_shard, "batch_size": layout.batch_size}
        configs[StoreConfig] = {"store_dtype": layout.dtype, **shape}
    work, sae = TrainedWork.load(study / "sae", fetch=False), None
    if work is not None:
        if work.parameters.get("given"):
            sae = study / "sae"
        else:
            configs[TrainConfig] = _known(TrainConfig, work.parameters)
    for stage, config in (("concepts", EncodeConfig), ("cohort", BarcodeConfig)):
        manifest = Manifest.load(study / stage)
        if manifest is not None:
            configs[config] = _known(config, manifest.parameters)
    known = tokens is not None or (study / "sae" / WEIGHTS).is_file()
    return StudySettings(configs, tokens is not None if known else None, sae)
