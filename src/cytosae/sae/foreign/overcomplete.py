"""Autoencoders of overcomplete: a module saved whole by ``torch.save(sae.eval(), ...)``, or its ``state_dict``.

Read after ``overcomplete/sae/base.py``, ``modules.py`` and ``dictionary.py`` of version 0.3.0. ``SAE`` with a linear encoder
("linear", the default, or "mlp_bn_1", which adds a batch norm) computes

    h = ReLU(BN(A x + a)),   xhat = h D

There is no bias of the decoder and no centring; BN is affine once the training is over. D is what ``get_dictionary`` makes
of ``dictionary._weights``: normalised (L2 by default) and multiplied by ``exp(multiplier)``.

A saved module is read without overcomplete, as fields, and says which class it is. A `state_dict` does not: that of
``TopKSAE`` has the same keys as that of ``SAE``.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from cytosae.errors import CytosaeError
from cytosae.sae.foreign.equations import ForeignSAE, check_kind, refuse, take
from cytosae.sae.foreign.inert import Inert, class_name, plain

_EPS = 1e-5
"""Of ``torch.nn.BatchNorm1d``; overcomplete does not change it."""
_ENCODER = ("encoder.final_block.0.weight", "encoder.final_block.0.bias")
_NORM = tuple(f"encoder.final_block.1.{name}" for name in ("weight", "bias", "running_mean", "running_var"))
_DICTIONARY = ("dictionary._weights", "dictionary.multiplier")
_DEEPEST = 12
"""Levels of parts in parts that are looked at; a hostile module can contain itself."""
_PACKAGE = "overcomplete."
_OTHERS = {
    "TopKSAE": "keeps the k largest latents of a token",
    "BatchTopKSAE": "keeps the largest latents of a batch",
    "JumpSAE": "sets latents below learned thresholds to 0",
    "QSAE": "rounds its latents",
}


def is_module(content: Any) -> bool:
    """Whether a checkpoint holds a whole module of overcomplete."""
    return isinstance(content, Inert) and class_name(type(content)).startswith(_PACKAGE)


def is_state(content: Any) -> bool:
    """Whether a checkpoint holds the tensors of one."""
    return isinstance(content, Mapping) and "dictionary._weights" in content


def read(path: Path, content: Any) -> ForeignSAE:
    """The arrays; batch norm and multiplier are folded in."""
    if is_module(content):
        return _convert_module(path, content)
    if not is_state(content):
        raise CytosaeError(f"{path}: neither a module of overcomplete nor its state_dict.")
    dictionary, factor = take(path, {k: v for k, v in content.items() if k in _DICTIONARY}, _DICTIONARY, "overcomplete")
    if dictionary.ndim != 2 or not dictionary.numel() or factor.numel() != 1:
        raise CytosaeError(
            f"{path}: dictionary._weights has the shape {tuple(dictionary.shape)} and dictionary.multiplier "
            f"{tuple(factor.shape)}; expected a matrix and one value."
        )
    norms = dictionary.norm(dim=1, keepdim=True)
    if (norms - 1).abs().max() > 0.1:  # after a step of training it is normalised but for the step
        raise CytosaeError(
            f"{path}: the rows of dictionary._weights are not of unit norm, so the dictionary is normalised in another "
            "way than overcomplete's default, which a state_dict does not tell. Save the module: "
            "torch.save(sae.eval(), file)."
        )
    change = "W_dec: dictionary._weights brought to unit norm, the default of overcomplete, times exp(multiplier)"
    return _foreign_sae(path, content, dictionary / (norms + 1e-8) * factor.reshape(()).exp(), (change,))


def _convert_module(path: Path, module: Inert) -> ForeignSAE:
    kind = type(module).__qualname__
    if kind != "SAE":
        raise refuse(path, f"{kind} of overcomplete", _OTHERS.get(kind, "computes something else"))
    modules = _fields(module, "_modules")
    dictionary = _fields(modules.get("dictionary"))
    fused = dictionary.get("_fused_dictionary")
    if module.fields.get("training") is not False or not isinstance(fused, Tensor):
        raise CytosaeError(f"{path}: was saved while it trained. Save it ready for use: torch.save(sae.eval(), file).")
    encoder = modules.get("encoder")
    activation = _fields(encoder, "_modules").get("final_activation")
    if type(encoder).__qualname__ != "MLPEncoder" or type(activation).__qualname__ != "ReLU":
        name = f"an encoder {type(encoder).__qualname__} with {type(activation).__qualname__}"
        raise refuse(path, name, "is not one linear map and a ReLU")
    check_kind(path, "the dictionary", fused)
    imported = _foreign_sae(path, _tensors(path, module), fused.detach(), ())
    imported.check_sizes(path, plain(dictionary), ("in_dimensions", "dimensions"), ("nb_concepts", "nb_components"))
    return imported


def _fields(module: Any, name: str | None = None) -> Mapping[str, Any]:
    """The fields of a module, or one of them that holds others; empty where there are none."""
    fields = getattr(module, "fields", {})
    fields = fields if name is None else fields.get(name)
    return fields if isinstance(fields, Mapping) else {}


def _tensors(path: Path, module: Any, prefix: str = "") -> dict[str, Tensor]:
    """The ``state_dict`` of a module that is there as fields only."""
    if prefix.count(".") > _DEEPEST:
        raise CytosaeError(
            f"{path}: its parts contain each other without end ({prefix[:60]}...), as in no autoencoder."
        )
    fields = _fields(module)
    own = {**_fields(module, "_parameters"), **_fields(module, "_buffers")}
    if fields.get("_forward_hooks") or fields.get("_forward_pre_hooks"):
        raise CytosaeError(f"{path}: its part {prefix or 'itself'} has hooks, which can change what it computes.")
    tensors = {f"{prefix}{name}": value for name, value in own.items() if isinstance(value, Tensor)}
    for name, submodule in _fields(module, "_modules").items():
        tensors |= _tensors(path, submodule, f"{prefix}{name}.")
    return tensors


def _foreign_sae(path: Path, state: Mapping[str, Any], dictionary: Tensor, changes: tuple[str, ...]) -> ForeignSAE:
    rest = {k: v for k, v in state.items() if k not in _DICTIONARY and not str(k).endswith("num_batches_tracked")}
    normed = any(name in rest for name in _NORM)
    expected = "an SAE of overcomplete with a linear encoder"
    weight, bias, *norm = take(path, rest, _ENCODER + (_NORM if normed else ()), expected)
    if norm and (weight.ndim != 2 or any(value.shape != weight.shape[:1] for value in (bias, *norm))):
        shapes = ", ".join(str(tuple(value.shape)) for value in (weight, bias, *norm))
        raise CytosaeError(
            f"{path}: the encoder and its batch norm have the shapes {shapes}, which do not belong together."
        )
    if norm:
        gain, shift, mean, variance = (value.double() for value in norm)
        gain = gain / (variance + _EPS).sqrt()
        weight, bias = (weight.double() * gain[:, None]).float(), ((bias.double() - mean) * gain + shift).float()
        changes += ("W_enc and b_enc: batch norm folded in, with the mean and variance of the training",)
    centre = torch.zeros(dictionary.shape[-1:])  # and so there is nothing to shift
    return ForeignSAE(path, weight.T, bias, dictionary, centre, changes=changes)
