"""Folders of SAELens: ``cfg.json`` and ``sae_weights.safetensors``; read by `cytosae.sae.foreign.lens`, written here."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from cytosae import __version__
from cytosae.artefacts import claim, read_json, whole_file, write_json
from cytosae.errors import CytosaeError
from cytosae.sae.foreign.equations import ForeignSAE
from cytosae.sae.foreign.inert import plain
from cytosae.sae.foreign.lens import convert_lens
from cytosae.sae.model import SAE
from cytosae.sae.objectives import BatchTopK, Gated, JumpReLU, ReLU, TopK

CONFIG, WEIGHTS = "cfg.json", "sae_weights.safetensors"
_LAYOUT = "6.0.0"
"""Version of SAELens whose layout `write` writes."""


def matches(path: Path) -> bool:
    """Whether a folder looks like this."""
    return (path / CONFIG).is_file() and (path / WEIGHTS).is_file()


def read(path: Path) -> ForeignSAE:
    """What a folder holds."""
    for name in (CONFIG, WEIGHTS):
        if not (path / name).is_file():
            raise CytosaeError(f"{path / name}: missing. A folder of SAELens has {CONFIG} and {WEIGHTS}.")
    config = read_json(path / CONFIG)
    if not isinstance(config, dict):
        raise CytosaeError(f"{path / CONFIG}: not the configuration of an autoencoder of SAELens.")
    try:
        state = load_file(path / WEIGHTS)
    except (SafetensorError, OSError) as error:
        raise CytosaeError(f"{path / WEIGHTS}: damaged or cut off ({error}). Copy it again.") from error
    return convert_lens(path, plain(config), state)


def _is_own_export(path: Path) -> bool:
    """Whether a configuration is one of `write`."""
    try:
        return path.is_file() and "cytosae" in read_json(path)["metadata"]
    except (CytosaeError, KeyError, TypeError):
        return False


def write(sae: SAE, folder: Path) -> dict[str, Any]:
    """Write a folder that ``SAE.load_from_disk`` of SAELens 6 reads.

    BatchTopK goes out as SAELens saves its own for use: as a jumprelu with the threshold that the training learned. What was
    trained is under ``training_architecture``.

    Returns
    -------
    Folder, architecture, sizes and layout.

    Raises
    ------
    CytosaeError
        An activation that SAELens does not have, or tokens centred by position.
    """
    if sae.position_offset is not None:
        raise CytosaeError(
            "This autoencoder takes tokens that are centred by position (--centring position): each place in the "
            "picture has an offset of its own, which SAELens cannot hold. You can share its own folder instead, or "
            "train one with --centring none."
        )
    architecture, settings, arrays, training = _export_fields(sae)
    claim(folder, "export", (CONFIG, WEIGHTS), proven=(CONFIG, WEIGHTS) if _is_own_export(folder / CONFIG) else ())
    with whole_file(folder / WEIGHTS) as temporary:
        save_file({name: value.detach().cpu().float().contiguous() for name, value in arrays.items()}, temporary)
    backbone = sae.metadata.get("backbone") or {}
    about = {
        "sae_lens_version": _LAYOUT,  # without it SAELens takes the file for one of an earlier layout
        "sae_lens_training_version": None,
        "model_name": backbone.get("name"),
        "hook_name": f"blocks.{backbone['layer']}.hook_resid_post" if "layer" in backbone else None,
        **training,
        "cytosae": {"version": __version__, **sae.metadata},
    }
    config = {
        "architecture": architecture,
        "d_in": sae.d_model,
        "d_sae": sae.n_latents,
        "dtype": "float32",
        "device": "cpu",
        "apply_b_dec_to_input": True,
        "normalize_activations": "none",
        "reshape_activations": "none",
        **settings,
        "metadata": about,
    }
    write_json(folder / CONFIG, config)
    return {
        "folder": str(folder),
        "architecture": architecture,
        "d_model": sae.d_model,
        "n_latents": sae.n_latents,
        "layout": f"SAELens {_LAYOUT}",
    }


def _export_fields(sae: SAE) -> tuple[str, dict[str, Any], dict[str, Tensor], dict[str, Any]]:
    """The architecture that has the same equations there, its settings and arrays, and what to say of its training."""
    activation = sae.activation
    arrays: dict[str, Tensor] = {"W_enc": sae.W_enc, "b_enc": sae.b_enc, "W_dec": sae.W_dec, "b_dec": sae.b_dec}
    if isinstance(activation, ReLU):
        return "standard", {}, arrays, {}
    if isinstance(activation, TopK):
        k = min(activation.k, sae.n_latents)
        return "topk", {"k": k, "rescale_acts_by_decoder_norm": False}, arrays, {}
    if isinstance(activation, BatchTopK | JumpReLU):
        details = (
            {"k": activation.k} if isinstance(activation, BatchTopK) else {"jumprelu_bandwidth": activation.bandwidth}
        )
        training = {"training_architecture": activation.name, "training_architecture_details": details}
        return "jumprelu", {}, {**arrays, "threshold": activation.log_threshold.exp()}, training
    if isinstance(activation, Gated):
        gate = {"b_gate": arrays.pop("b_enc"), "r_mag": activation.r_mag, "b_mag": activation.b_mag}
        return "gated", {}, {**arrays, **gate}, {}
    raise CytosaeError(
        f"This autoencoder computes {activation.equation} ({activation.name}), which SAELens does not have. Its own "
        "folder can be given on as it is."
    )
