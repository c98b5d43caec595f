"""Folders of SAELens: ``cfg.json`` and ``sae_weights.safetensors``.

Read after ``sae_lens/sae.py`` of versions 3.22, 4.4 and 5.10 and ``sae_lens/saes/standard_sae.py`` of 6.54. All compute

    h = act(W_enc (x - apply_b_dec_to_input b_dec) + b_enc),   xhat = W_dec (s h) + b_dec

with s of ones unless ``finetuning_scaling_factor`` is set (3 to 5). ``architecture`` is "standard" where it is missing.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from cytosae import __version__
from cytosae.artefacts import claim, read_json, whole_file, write_json
from cytosae.errors import CytosaeError
from cytosae.sae.activations import ReLU
from cytosae.sae.foreign.equations import Found, refuse, take
from cytosae.sae.foreign.inert import plain
from cytosae.sae.foreign.release import ARRAYS
from cytosae.sae.model import SAE

CONFIG, WEIGHTS = "cfg.json", "sae_weights.safetensors"
_LAYOUT = "6.0.0"
"""Version of SAELens whose layout `write` writes."""
_WHY = {
    "gated": "multiplies with a gate of its own",
    "jumprelu": "sets latents below learned thresholds to 0",
    "topk": "keeps the k largest latents of a token",
    "batchtopk": "keeps the largest latents of a batch",
    "matryoshka_batchtopk": "keeps the largest latents of a batch",
}


def matches(path: Path) -> bool:
    """Whether a folder looks like this."""
    return (path / CONFIG).is_file() and (path / WEIGHTS).is_file()


def read(path: Path) -> Found:
    """The arrays of a folder; a scaling factor and a missing centring are folded in."""
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
    _check_architecture(path, config, state)
    scale = _scale(path, config, state)
    W_enc, b_enc, W_dec, b_dec = take(path / WEIGHTS, state, ARRAYS, "a standard autoencoder of SAELens")
    found = Found(W_enc, b_enc, W_dec, b_dec, plain(config))
    if scale is not None:
        said = "W_dec: rows multiplied by finetuning_scaling_factor"
        found = Found(W_enc, b_enc, W_dec * scale[:, None], b_dec, plain(config), (said,))
    return found if config.get("apply_b_dec_to_input", True) else found.shifted()


def _check_architecture(path: Path, config: dict[str, Any], state: dict[str, Tensor]) -> None:
    architecture = config.get("architecture", "standard")
    if architecture == "jumprelu" and "threshold" in state and not (state["threshold"] > 0).any():
        del state["threshold"]  # without a threshold above 0 it is a ReLU
        architecture = "standard"
    if architecture != "standard":
        raise refuse(path, f"the architecture {architecture!r}", _WHY.get(architecture, "computes something else"))
    activation = config.get("activation_fn_str") or config.get("activation_fn") or "relu"
    if activation != "relu":
        raise refuse(path, f"the activation {activation!r}", "takes the place of the ReLU")
    normalised = config.get("normalize_activations") or "none"
    if normalised == "expected_average_only_in" or normalised is True:
        raise refuse(
            path,
            "normalize_activations 'expected_average_only_in'",
            "means that tokens are multiplied by a factor that this folder does not hold; fold it in with "
            "fold_activation_norm_scaling_factor of SAELens and save again",
        )
    if normalised != "none":
        raise refuse(path, f"normalize_activations {normalised!r}", "changes every token before it is encoded")


def _scale(path: Path, config: dict[str, Any], state: dict[str, Tensor]) -> Tensor | None:
    """Factor of each latent before the decoder; it is in the file under either name, even where it is not used."""
    factors = [state.pop(name) for name in ("finetuning_scaling_factor", "scaling_factor") if name in state]
    if not factors or bool((factors[0] == 1).all()):
        return None
    if not config.get("finetuning_scaling_factor"):
        raise CytosaeError(
            f"{path}: holds a scaling factor, but {CONFIG} says that none is used (finetuning_scaling_factor). Correct "
            "whichever is wrong."
        )
    return factors[0]


def _is_written_here(path: Path) -> bool:
    """Whether a configuration is one of `write`."""
    try:
        return path.is_file() and "cytosae" in read_json(path)["metadata"]
    except (CytosaeError, KeyError, TypeError):
        return False


def write(sae: SAE, folder: Path) -> dict[str, Any]:
    """Write a folder that ``SAE.load_from_disk`` of SAELens 6 reads.

    Returns
    -------
    Folder, sizes and layout.

    Raises
    ------
    CytosaeError
        Another activation than ReLU.
    """
    if not isinstance(sae.activation, ReLU):
        raise CytosaeError(
            f"This autoencoder computes {sae.activation.equation} ({sae.activation.name}); only those with ReLU are "
            "exported for SAELens. Its own folder can be given on as it is."
        )
    claim(folder, "export", (CONFIG, WEIGHTS), proven=(CONFIG, WEIGHTS) if _is_written_here(folder / CONFIG) else ())
    arrays = {name: getattr(sae, name).detach().to("cpu", torch.float32).contiguous() for name in ARRAYS}
    with whole_file(folder / WEIGHTS) as partial:
        save_file(arrays, partial)
    backbone = sae.metadata.get("backbone") or {}
    about = {
        "sae_lens_version": _LAYOUT,  # without it SAELens takes the file for one of an earlier layout
        "sae_lens_training_version": None,
        "model_name": backbone.get("name"),
        "hook_name": f"blocks.{backbone['layer']}.hook_resid_post" if "layer" in backbone else None,
        "cytosae": {"version": __version__, **sae.metadata},
    }
    config = {
        "architecture": "standard",
        "d_in": sae.d_model,
        "d_sae": sae.n_latents,
        "dtype": "float32",
        "device": "cpu",
        "apply_b_dec_to_input": True,
        "normalize_activations": "none",
        "reshape_activations": "none",
        "metadata": about,
    }
    write_json(folder / CONFIG, config)
    return {"folder": str(folder), "d_model": sae.d_model, "n_latents": sae.n_latents, "layout": f"SAELens {_LAYOUT}"}
