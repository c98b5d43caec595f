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
from cytosae.sae.foreign.equations import ForeignSAE, refuse, take
from cytosae.sae.foreign.inert import plain
from cytosae.sae.foreign.settings import not_understood, short

FILE, CONFIG = "ae.pt", "config.json"
_LINEAR = ("encoder.weight", "encoder.bias", "decoder.weight")
_OURS = ("AutoEncoder", "AutoEncoderNew")
_OTHERS = {  # a key that only this class has, and what it computes
    "gate_bias": ("GatedAutoEncoder", "multiplies with a gate of its own"),
    "k": ("a TopK dictionary (AutoEncoderTopK, BatchTopKSAE, MatryoshkaBatchTopKSAE)", "keeps the k largest latents"),
    "threshold": ("JumpReluAutoEncoder", "sets latents below learned thresholds to 0"),
    "b_dec": ("AutoEncoderTopK", "keeps the k largest latents"),
}


_KNOWN = set(
    """
    activation_dim aux_coeff auxk_alpha batch_size buffer compile ctx_len d_submodule decay_start device dict_class dict_size
    dtype expansion_factor ghost_threshold grad_clip_norm initial_sparsity_penalty io l1_penalty layer layers lm_name lr
    max_grad_norm n_ctxs out_batch_size p_end p_start recon_batch_size refresh_batch_size resample_steps save_dir save_steps
    seed sparsity_function sparsity_penalty sparsity_warmup_steps steps submodule submodule_name total_steps trainer
    trainer_class wandb_name warmup_steps
    """.split()  # noqa: SIM905 - so many names in quotes are hard to read
)
"""Settings that are honoured, or tell what was trained on what and how."""


def matches(content: Any) -> bool:
    """Whether the content of a checkpoint looks like this."""
    if not isinstance(content, Mapping):
        return False
    return {"encoder.weight", "decoder.weight"} <= set(content) or {"W_enc", "W_dec", "threshold"} <= set(content)


def read(path: Path, content: Any) -> ForeignSAE:
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
        raise refuse(path, f"{short(kind)} (so {CONFIG} says)", "computes something else")
    bias = "bias" if "bias" in content else "decoder.bias"
    encoder, b_enc, decoder, b_dec = take(path, content, (*_LINEAR, bias), "an AutoEncoder of dictionary_learning")
    settings = plain(config)
    merged = _merged(settings)
    ignored = not_understood(path.with_name(CONFIG), merged, _KNOWN)
    imported = ForeignSAE(path, encoder.T, b_enc, decoder.T, b_dec, settings, ignored=ignored)
    imported.check_sizes(path.with_name(CONFIG), merged, ("activation_dim", "d_submodule"), ("dict_size",))
    return imported if bias == "bias" else imported.shifted()


def _merged(settings: Any) -> dict[str, Any]:
    """Settings of all parts of the file together."""
    if not isinstance(settings, dict):
        return {}
    sections = [settings.get(section) for section in ("trainer", "buffer")]
    return {**settings, **{k: v for section in sections if isinstance(section, dict) for k, v in section.items()}}
