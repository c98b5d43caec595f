"""Find a backbone by name and load it."""

from __future__ import annotations

import difflib
from importlib.resources import files
from pathlib import Path
from typing import Any

from torch import nn

from cytosae.backbones import transformer
from cytosae.backbones.backbone import INPUT_SIZE, MEAN, STD, Backbone, BackboneInfo, resolve_layer
from cytosae.backbones.dinobloom import (
    HUB_FILES,
    HUB_REPOSITORY,
    SHAPES,
    ZENODO_FILES,
    ZENODO_RECORD,
    build,
)
from cytosae.backbones.hub import hub_file, hub_model
from cytosae.backbones.precision import choose_device, choose_precision
from cytosae.backbones.weights import SUFFIXES, read_weights
from cytosae.errors import CytosaeError

NAMES = (*HUB_FILES, "tiny")
"""Backbones with a name of their own."""

TINY = Path(str(files("cytosae.backbones") / "tiny"))
"""Folder of the built-in backbone."""


def load(
    name: str,
    *,
    layer: int | str = -2,
    dtype: str = "auto",
    device: str = "auto",
    revision: str | None = None,
    weights: Path | None = None,
    whole: bool = False,
) -> Backbone:
    """Load a vision transformer, cut after one block.

    Parameters
    ----------
    name
        ``dinobloom-s|b|l|g``; ``tiny``, the built-in one; a folder of a DINOv2 (also with registers) or ViT model of
        transformers; a file of DinoBloom weights (.pth, .bin, .safetensors); or a hub repository ``owner/name`` of such
        a model, also DinoBloom in timm's form. What exists on disk comes before the hub.
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

    Raises
    ------
    CytosaeError
        Unknown name, no such layer, damaged or foreign weights, no network, a device that is not there.
    """
    where = choose_device(device, mps=True)
    precision = choose_precision(dtype, where)
    model, source, commit = _find(name, revision, weights)
    patch = transformer.patch_size(model, INPUT_SIZE, source)
    blocks = transformer.blocks(model)
    index = resolve_layer(layer, len(blocks))
    side = INPUT_SIZE // patch
    info = BackboneInfo(
        name=name,
        source=source,
        revision=commit,
        fingerprint=transformer.fingerprint(model),
        model_type=model.config.model_type,
        d_model=model.config.hidden_size,
        depth=len(blocks),
        patch_size=patch,
        image_size=INPUT_SIZE,
        grid=(side, side),
        n_tokens=1 + side * side,
        layer=index,
        dtype=precision,
        mean=MEAN,
        std=STD,
    )
    kept = nn.ModuleList(blocks[: index + 1])  # later blocks cost neither time nor memory
    rest = nn.ModuleList([*blocks[index + 1 :], model.layernorm]) if whole else None
    registers = getattr(model.config, "num_register_tokens", 0)
    return Backbone(transformer.embeddings(model), kept, registers, info, where, rest)


def _find(name: str, revision: str | None, weights: Path | None) -> tuple[Any, str, str | None]:
    """The model that a name stands for, where it came from, and the commit if that was the hub."""
    if weights is not None:
        if name not in HUB_FILES:
            raise CytosaeError(
                f"--weights belongs to {', '.join(HUB_FILES)}; for a file of weights give it as --backbone."
            )
        return _dinobloom(name, Path(weights).expanduser()), str(weights), None
    if name in HUB_FILES:
        by_hand = (
            f", or download {ZENODO_FILES[name]} by hand (https://zenodo.org/records/{ZENODO_RECORD}) and pass it: "
            f"--backbone {name} --weights {ZENODO_FILES[name]}"
        )
        file, commit = hub_file(HUB_REPOSITORY, HUB_FILES[name], revision, by_hand)
        return _dinobloom(name, file), f"{HUB_REPOSITORY}/{HUB_FILES[name]}", commit
    if name == "tiny":
        if not (TINY / "config.json").is_file():
            raise CytosaeError("tiny: this installation has no built-in backbone. Give a folder of a model instead.")
        return transformer.read_model(TINY, name), "cytosae", None
    path = Path(name).expanduser()
    if name and path.is_dir():
        return _folder(path, name), name, None
    if path.is_file() or path.suffix in SUFFIXES:
        return build(read_weights(path), path, INPUT_SIZE), name, None
    if name.count("/") == 1 and not name.startswith((".", "/", "~")):
        folder, commit = hub_model(name, revision)
        return _folder(folder, name), name, commit
    close = difflib.get_close_matches(name.lower().replace("_", "-"), NAMES, n=1)
    raise CytosaeError(
        f"{name!r}: unknown backbone{f', did you mean {close[0]}?' if close else '.'} Known are {', '.join(NAMES)}, an "
        "existing folder or file of weights, or a repository of the Hugging Face hub (owner/name)."
    )


def _folder(folder: Path, name: str) -> Any:
    if not transformer.is_timm(folder):
        return transformer.read_model(folder, name)
    found = [path for path in (folder / "model.safetensors", folder / "pytorch_model.bin") if path.is_file()]
    if not found:
        raise CytosaeError(f"{name}: a model of timm without model.safetensors; give a whole copy of its repository.")
    return build(read_weights(found[0]), found[0], INPUT_SIZE)


def _dinobloom(name: str, path: Path) -> Any:
    model = build(read_weights(path), path, INPUT_SIZE)
    found = (model.config.hidden_size, model.config.num_hidden_layers)
    if found != SHAPES[name]:
        fitting = [other for other, shape in SHAPES.items() if shape == found]
        raise CytosaeError(
            f"{path}: holds a model of width {found[0]} and {found[1]} blocks{f' ({fitting[0]})' if fitting else ''}, but "
            f"{name} has {SHAPES[name][0]} and {SHAPES[name][1]}. Give the file that belongs to this size, or give the "
            "file itself as --backbone."
        )
    return model
