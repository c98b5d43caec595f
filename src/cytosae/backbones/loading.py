"""Find a backbone by name and load it."""

from __future__ import annotations

import difflib
from importlib.resources import files
from pathlib import Path
from types import MappingProxyType

from cytosae.backbones import preprocessing, transformer
from cytosae.backbones.backbone import INPUT_SIZE, Backbone, BackboneInfo, resolve_layer
from cytosae.backbones.dinobloom import (
    HUB_FILES,
    HUB_REPOSITORY,
    SHAPES,
    ZENODO_FILES,
    ZENODO_RECORD,
)
from cytosae.backbones.hub import hub_file, hub_model
from cytosae.backbones.layout import build
from cytosae.backbones.precision import choose_device, choose_precision
from cytosae.backbones.timm_models import PREFIX, read_timm
from cytosae.backbones.tower import IMAGENET, Normalisation, Tower
from cytosae.backbones.untrained import reinitialised
from cytosae.backbones.weights import SUFFIXES, read_weights
from cytosae.backbones.zenodo import zenodo_path
from cytosae.errors import CytosaeError

IMPORTED = "imported:"
"""Begins what stands in place of a backbone's name where tokens were made elsewhere."""

BUILT_IN = MappingProxyType(
    {name: Path(str(files("cytosae.backbones") / name.replace("-", "_"))) for name in ("tiny", "tiny-stains")}
)
"""Folders of the built-in backbones."""

TINY = BUILT_IN["tiny"]
"""Folder of the first of them."""

NAMES = (*HUB_FILES, *BUILT_IN)
"""Backbones with a name of their own."""


def load(
    name: str,
    *,
    layer: int | str = -2,
    dtype: str = "auto",
    device: str = "auto",
    revision: str | None = None,
    weights: Path | None = None,
    whole: bool = False,
    untrained: int | None = None,
) -> Backbone:
    """Load a vision transformer, cut after one block.

    Parameters
    ----------
    name
        ``dinobloom-s|b|l|g``; ``tiny`` and ``tiny-stains``, built in; a folder of a model of transformers of one of the
        kinds in `cytosae.backbones.families.FAMILIES`; a file of DinoBloom weights (.pth, .bin, .safetensors); a hub
        repository ``owner/name`` of such a model, also DinoBloom in timm's form; or ``timm:NAME``, a vision transformer
        of timm.
        What exists on disk comes before the hub.
    layer
        Block whose output is taken: from 1, or from the end if negative. -2 is the paper's.
    dtype
        Precision of the matrix products, see `cytosae.backbones.choose_precision`.
    device
        ``auto``, ``cpu``, ``cuda``, ``cuda:NUMBER`` or ``mps``.
    revision
        Branch, tag or commit of a hub repository.
    weights
        Local weights for a ``dinobloom-*`` name, in any of their published forms.
    whole
        Keep the later blocks too, for `Backbone.output`.
    untrained
        Seed of initial weights that take the place of the trained ones: the same shape, nothing learnt.

    Raises
    ------
    CytosaeError
        Unknown name, no such layer, damaged or foreign weights, no network, a device that is not there.

    Examples
    --------
    >>> backbone = load("tiny", dtype="float32", device="cpu")
    >>> backbone.info.grid, backbone.info.d_model
    ((16, 16), 192)
    """
    where = choose_device(device, mps=True)
    precision = choose_precision(dtype, where)
    tower, source, commit = _find(name, revision, weights)
    if untrained is not None:
        tower, source = reinitialised(tower, untrained), f"untrained, shape of {name}"
    side = INPUT_SIZE // tower.patch_size
    mean, std = tower.normalisation
    info = BackboneInfo(
        name=name,
        source=source,
        revision=commit,
        fingerprint=tower.fingerprint,
        model_type=tower.model_type,
        d_model=tower.d_model,
        depth=len(tower.blocks),
        patch_size=tower.patch_size,
        image_size=INPUT_SIZE,
        grid=(side, side),
        n_tokens=1 + side * side,
        layer=resolve_layer(layer, len(tower.blocks)),
        dtype=precision,
        mean=mean,
        std=std,
    )
    return Backbone(tower, info, where, whole=whole)


def _find(name: str, revision: str | None, weights: Path | None) -> tuple[Tower, str, str | None]:
    """The model that a name stands for, where it came from, and the commit if that was the hub."""
    if weights is not None:
        if name not in HUB_FILES:
            raise CytosaeError(
                f"--weights belongs to {', '.join(HUB_FILES)}; for a file of weights give it as --backbone."
            )
        return _dinobloom(name, Path(weights).expanduser()), str(weights), None
    if name in HUB_FILES:
        return _named(name, revision)
    if name in BUILT_IN:
        if not (BUILT_IN[name] / "config.json").is_file():
            raise CytosaeError(f"{name}: this installation has no built-in backbone. Give a folder of a model instead.")
        return _folder(BUILT_IN[name], name), "cytosae", None
    if name.startswith(IMPORTED):
        raise CytosaeError(
            f"{name}: these tokens were made elsewhere, so there is no backbone to make others. Give the tokens of "
            "your cells with --tokens; `cytosae tokens import` makes them."
        )
    if name.startswith(PREFIX):
        return read_timm(name.removeprefix(PREFIX), INPUT_SIZE, revision)
    path = Path(name).expanduser()
    if name and path.is_dir():
        return _folder(path, name), name, None
    if path.is_file() or path.suffix in SUFFIXES:
        return _file(path), name, None
    if name.count("/") == 1 and not name.startswith((".", "/", "~")):
        folder, commit = hub_model(name, revision)
        return _folder(folder, name), name, commit
    close = difflib.get_close_matches(name.lower().replace("_", "-"), NAMES, n=1)
    raise CytosaeError(
        f"{name!r}: unknown backbone{f', did you mean {close[0]}?' if close else '.'} Known are {', '.join(NAMES)}, an "
        f"existing folder or file of weights, a repository of the Hugging Face hub (owner/name), or {PREFIX}NAME."
    )


def _named(name: str, revision: str | None) -> tuple[Tower, str, str | None]:
    """DinoBloom by its name: the file of Zenodo where that was fetched, otherwise the hub's."""
    if revision is None and (fetched := zenodo_path(name)).is_file():
        return _dinobloom(name, fetched), f"zenodo:{ZENODO_RECORD}/{fetched.name}", None
    by_hand = (
        f", or download {ZENODO_FILES[name]} by hand (https://zenodo.org/records/{ZENODO_RECORD}) and pass it: "
        f"--backbone {name} --weights {ZENODO_FILES[name]}"
    )
    file, commit = hub_file(HUB_REPOSITORY, HUB_FILES[name], revision, by_hand)
    return _dinobloom(name, file), f"{HUB_REPOSITORY}/{HUB_FILES[name]}", commit


def _folder(folder: Path, name: str) -> Tower:
    if not transformer.is_timm(folder):
        model = transformer.read_model(folder, name)
        stated = preprocessing.from_transformers(folder, name, transformer.model_family(model).normalisation)
        return transformer.take_apart(model, INPUT_SIZE, name, stated)
    weights = [path for path in (folder / "model.safetensors", folder / "pytorch_model.bin") if path.is_file()]
    if not weights:
        raise CytosaeError(f"{name}: a model of timm without model.safetensors; give a whole copy of its repository.")
    return _file(weights[0], preprocessing.from_timm(folder, name, IMAGENET))


def _file(path: Path, normalisation: Normalisation = IMAGENET) -> Tower:
    model = build(read_weights(path), path, INPUT_SIZE)
    return transformer.take_apart(model, INPUT_SIZE, str(path), normalisation)


def _dinobloom(name: str, path: Path) -> Tower:
    tower = _file(path)
    shape = (tower.d_model, len(tower.blocks))
    if shape != SHAPES[name]:
        fitting = [other for other, known in SHAPES.items() if known == shape]
        raise CytosaeError(
            f"{path}: holds a model of width {shape[0]} and {shape[1]} blocks{f' ({fitting[0]})' if fitting else ''}, "
            f"but {name} has {SHAPES[name][0]} and {SHAPES[name][1]}. Give the file that belongs to this size, or give "
            "the file itself as --backbone."
        )
    return tower
