"""Vision transformers in the format of the transformers library, from a folder."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from torch import nn

from cytosae.artefacts import parse_json
from cytosae.backbones.families import FAMILIES, Family
from cytosae.backbones.tower import Normalisation, Tower, fingerprint, fitting_patch
from cytosae.errors import CytosaeError, in_short

# Where the kinds, and releases of the library, keep the same thing.
_BLOCKS = ("encoder.layer", "encoder.layers", "layers", "model.layer", "layer")
_NORMS = ("layernorm", "post_layernorm", "norm")

_UNUSED = ("pooler.", "head.", "embeddings.mask_token")  # parts of a model that have no part in its tokens


def is_timm(folder: Path) -> bool:
    """Whether a folder holds a model of timm, whose ``config.json`` names an architecture and no model type."""
    config = _json(folder / "config.json")
    return "architecture" in config and "model_type" not in config


def read_model(folder: Path, name: str) -> Any:
    """A model of transformers from a folder with ``config.json`` and weights; nothing in it is run.

    Of a model of images and texts (CLIP, SigLIP) it is the vision tower alone.

    Parameters
    ----------
    folder
        As transformers saves it.
    name
        For messages.

    Raises
    ------
    CytosaeError
        A model of another kind, missing weights, damaged files.
    """
    import transformers
    from transformers.utils import logging

    if not (folder / "config.json").is_file():
        raise CytosaeError(f"{name}: holds no config.json; give a folder that transformers has saved.")
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    try:
        config = transformers.AutoConfig.from_pretrained(folder, trust_remote_code=False)
        kind = config.model_type
        if kind in FAMILIES:
            family = FAMILIES[kind]
            with_text = kind == family.with_text
            loader = getattr(transformers, family.vision_class if with_text else "AutoModel")
            model, loaded = loader.from_pretrained(
                folder,
                config=config.vision_config if with_text else config,
                trust_remote_code=False,
                weights_only=True,
                dtype=torch.float32,
                output_loading_info=True,
            )
    except Exception as error:  # transformers lets errors of many libraries through
        *most, last = FAMILIES
        raise CytosaeError(
            f"{name}: cannot be loaded ({in_short(error)}). Expected config.json and model.safetensors of a "
            f"{', '.join(most)} or {last} model."
        ) from error
    if kind not in FAMILIES:
        raise CytosaeError(f"{name}: is a {kind!r} model; supported are {', '.join(FAMILIES)}. Choose a ViT or DINOv2.")
    # transformers would go on with random numbers for what is missing.
    missing = [key for key in sorted(loaded["missing_keys"]) if _used(key)]
    wrong = [str(key) for key in loaded.get("mismatched_keys", ())]
    if missing or wrong:
        raise CytosaeError(f"{name}: weights are missing or do not fit: {', '.join((missing + wrong)[:4])}.")
    return getattr(model, "vision_model", model)  # some releases wrap the tower once more


def take_apart(model: Any, image_size: int, name: str, normalisation: Normalisation | None = None) -> Tower:
    """The parts of a model of transformers.

    Parameters
    ----------
    model
        As `read_model` gives it.
    image_size
        Edge of the images in pixels; position embeddings of another size are interpolated.
    name
        For messages.
    normalisation
        Mean and standard deviation that the checkpoint names; its family's if None.

    Raises
    ------
    CytosaeError
        Patches that are not square or do not fill the image, or images without three colours.
    """
    config, family = model.config, model_family(model)
    patch = fitting_patch(config.patch_size, config.num_channels, image_size, name)
    return Tower(
        embeddings=family.embeddings(model, patch),
        blocks=family.blocks(model, _first(model, _BLOCKS), image_size),
        norm=_first(model, _NORMS),
        has_cls=family.has_cls,
        n_registers=getattr(config, "num_register_tokens", 0),
        patch_size=patch,
        d_model=config.hidden_size,
        model_type=config.model_type,
        fingerprint=fingerprint(_about(config), model.state_dict(), _used),
        normalisation=normalisation or family.normalisation,
    )


def model_family(model: Any) -> Family:
    """The family of a model that `read_model` gave."""
    return FAMILIES[model.config.model_type]


def _json(path: Path) -> dict[str, Any]:
    """A JSON object from a file; empty where there is none to be read."""
    try:
        content = parse_json(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return content if isinstance(content, dict) else {}


def _used(name: str) -> bool:
    return not name.removeprefix("vision_model.").startswith(_UNUSED)


def _first(model: nn.Module, paths: tuple[str, ...]) -> Any:
    """The submodule at the first of some paths that a model has."""
    for path in paths:
        try:
            return model.get_submodule(path)
        except AttributeError:
            continue
    raise CytosaeError(f"{type(model).__name__}: this release of transformers has a layout that cytosae does not know.")


def _about(config: Any) -> dict[str, Any]:
    keys = ("model_type", "num_attention_heads", "layer_norm_eps")
    about = {key: getattr(config, key, None) for key in keys}
    if (activation := getattr(config, "hidden_act", "gelu")) != "gelu":
        about["hidden_act"] = activation
    if hasattr(config, "rope_theta"):
        about["rope_theta"] = config.rope_theta
    return about
