"""``ae.pt`` of dictionary_learning, with the trainer's ``config.json`` beside it where there is one.

Read after ``dictionary_learning/dictionary.py`` of version 0.1.0. The matrices are those of ``torch.nn.Linear``, transposed
with respect to ours: ``encoder.weight (n_latents, d)``, ``decoder.weight (d, n_latents)``.

    AutoEncoder      h = ReLU(E (x - bias) + e),   xhat = D h + bias
    AutoEncoderNew   h = ReLU(E x + e),            xhat = D h + d
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from cytosae.artefacts import read_json
from cytosae.errors import CytosaeError
from cytosae.sae.foreign.equations import Found, refuse, take
from cytosae.sae.foreign.inert import plain

FILE, CONFIG = "ae.pt", "config.json"
_LINEAR = ("encoder.weight", "encoder.bias", "decoder.weight")
_OURS = ("AutoEncoder", "AutoEncoderNew")
_OTHERS = {  # a key that only this class has, and what it computes
    "gate_bias": ("GatedAutoEncoder", "multiplies with a gate of its own"),
    "k": ("a TopK dictionary (AutoEncoderTopK, BatchTopKSAE, MatryoshkaBatchTopKSAE)", "keeps the k largest latents"),
    "threshold": ("JumpReluAutoEncoder", "sets latents below learned thresholds to 0"),
    "b_dec": ("AutoEncoderTopK", "keeps the k largest latents"),
}


def matches(content: Any) -> bool:
    """Whether the content of a checkpoint looks like this."""
    if not isinstance(content, Mapping):
        return False
    return {"encoder.weight", "decoder.weight"} <= set(content) or {"W_enc", "W_dec", "threshold"} <= set(content)


def read(path: Path, content: Any) -> Found:
    """The arrays, transposed; the encoder of AutoEncoderNew is given its centring."""
    config = read_json(path.with_name(CONFIG)) if path.with_name(CONFIG).is_file() else {}
    if not isinstance(content, Mapping):
        raise CytosaeError(f"{path}: holds a {type(content).__name__}; expected the dictionary of tensors of {FILE}.")
    for key, (name, why) in _OTHERS.items():
        if key in content:
            raise refuse(path, name, why)
    trainer = config.get("trainer") if isinstance(config, dict) else None
    kind = trainer.get("dict_class", "AutoEncoder") if isinstance(trainer, dict) else "AutoEncoder"
    if kind not in _OURS:
        raise refuse(path, f"{kind} (so {CONFIG} says)", "computes something else")
    bias = "bias" if "bias" in content else "decoder.bias"
    encoder, b_enc, decoder, b_dec = take(path, content, (*_LINEAR, bias), "an AutoEncoder of dictionary_learning")
    found = Found(path, encoder.T, b_enc, decoder.T, b_dec, plain(config))
    return found if bias == "bias" else found.shifted()
