"""``sae.pt`` of saev: one line of JSON, then a ``state_dict`` of ``torch.save``.

Read after ``saev/nn.py`` of version 0.1.0 (no ``schema`` in the header) and ``saev/nn/modeling.py`` of schemas 1 to 5. The
arrays have our names and shapes. What differs is the centring:

    no schema        h = ReLU(W_enc (x - b_dec) + b_enc)
    schema 2 to 5    h = act(W_enc x + b_enc)
    schema 1         either: the centring was dropped while it lasted
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from cytosae.artefacts import parse_json
from cytosae.errors import CytosaeError
from cytosae.sae.foreign.equations import ForeignSAE, refuse, take
from cytosae.sae.foreign.inert import plain, read_checkpoint
from cytosae.sae.foreign.lens import ARRAYS
from cytosae.sae.foreign.settings import not_understood, short

_LONGEST = 1 << 20
"""Bytes of a header, at most."""
_SCHEMAS = range(1, 6)
_KNOWN = set(
    """
    activation cfg cls commit d_model d_sae d_vit exp_factor ghost_grads l1_coeff lib n_reinit_samples normalize_w_dec
    reinit_blend remove_parallel_grads schema seed sparsity_coeff use_ghost_grads
    """.split()  # noqa: SIM905 - so many names in quotes are hard to read
)
"""Settings that are honoured, or tell how it was trained."""
_WHY = {"TopK": "keeps the k largest latents of a token", "BatchTopK": "keeps the largest latents of a batch"}


def matches(path: Path) -> bool:
    """Whether a file begins with a line of JSON."""
    with path.open("rb") as file:
        return file.read(1) == b"{"


def read(path: Path, *, centred: bool | None = None) -> ForeignSAE:
    """The arrays; where the encoder is given x itself, that is folded into `b_enc`.

    Parameters
    ----------
    centred
        Whether the encoder subtracts `b_dec`; None where the schema is to say it.
    """
    with path.open("rb") as file:
        line = file.readline(_LONGEST)
    try:
        header = parse_json(line)
    except ValueError as error:
        raise CytosaeError(f"{path}: does not begin with a line of JSON, as a checkpoint of saev does.") from error
    if not isinstance(header, dict):
        raise CytosaeError(f"{path}: begins with a line of JSON that holds no settings, as a checkpoint of saev does.")
    schema = header.get("schema")
    if schema is not None and (isinstance(schema, bool) or schema not in _SCHEMAS):
        raise CytosaeError(
            f"{path}: saev's schema {short(schema)} is not known here (none, and 1 to {_SCHEMAS[-1]}, are)."
        )
    activation = _activation(header)
    if activation != "Relu":
        raise refuse(path, f"the activation {activation} of saev", _WHY.get(activation, "takes the place of the ReLU"))
    content = read_checkpoint(path, after=len(line))
    W_enc, b_enc, W_dec, b_dec = take(path, content, ARRAYS, "a ReLU autoencoder of saev")
    config = header.get("cfg")
    settings = {**header, **config} if isinstance(config, dict) else header
    ignored = not_understood(path, settings, _KNOWN)
    imported = ForeignSAE(path, W_enc, b_enc, W_dec, b_dec, plain(header), ignored=ignored)
    imported.check_sizes(path, settings, ("d_model", "d_vit"), ("d_sae",))
    if centred is None:
        if schema == 1 and b_dec.any():
            raise CytosaeError(
                f"{path}: has saev's schema 1, under which encoders with and without centring were saved alike. If the "
                "saev that trained it computes W_enc (x - b_dec), add --format saev-centred; if W_enc x, add --format "
                "saev-uncentred."
            )
        centred = schema is None
    return imported if centred else imported.shifted()


def _activation(header: dict[str, Any]) -> str:
    """Name of the activation: in the configuration since schema 2, before it as the class; ReLU at first."""
    config = header.get("cfg", {})
    if isinstance(config, dict) and isinstance(config.get("activation"), dict):
        return str(config["activation"].get("cls"))
    kind = str(header.get("cls", "Relu"))
    return "Relu" if kind == "SparseAutoencoderConfig" else kind
