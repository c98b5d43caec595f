"""Weights and configuration as files, in the layout of the Hugging Face hub."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Self

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save, save_file
from torch import Tensor, nn

from cytosae import __version__
from cytosae.artefacts import CONFIG, WEIGHTS, make_folder, read_json, sha256_file, whole_file, write_json
from cytosae.errors import CytosaeError
from cytosae.sae.hub import fetch_from_hub, push_to_hub
from cytosae.sae.objectives import Activation, ReLU, restore_activation
from cytosae.storage import resolve_path

_FORMAT, _FORMAT_WITH_ACTIVATION, _FORMAT_CENTRED = "cytosae-sae", "cytosae-sae-2", "cytosae-sae-3"
"""The second has another activation, the third (or) takes centred tokens; whoever knows the first alone would take it for a
ReLU on plain tokens, so they have other names."""
OFFSET = "position_offset"
"""The name of what is taken from tokens, among the parameters."""


def stored_name(name: str) -> str:
    """Name under which a parameter is stored: those of the activation stand beside the autoencoder's."""
    return name.removeprefix("activation.")


class Pretrained(nn.Module):
    """An autoencoder that can be saved and loaded; see `cytosae.sae.SAE` for what it computes."""

    d_model: int
    n_latents: int
    metadata: dict[str, Any]
    activation: Activation
    W_dec: nn.Parameter
    position_offset: Tensor | None
    file: Path | None = None
    """The weights' file, where they were loaded from one."""

    def tensors(self) -> dict[str, Tensor]:
        """The parameters themselves and the offset of centred tokens, by the names under which they are stored."""
        named: dict[str, Tensor] = {stored_name(name): parameter for name, parameter in self.named_parameters()}
        return named if self.position_offset is None else {**named, OFFSET: self.position_offset}

    def take(self, tensors: Mapping[str, Tensor], *, assign: bool = False) -> None:
        """Copy these tensors, by the names under which they are stored, into the parameters.

        Parameters
        ----------
        assign
            Hold them as they are instead.

        Raises
        ------
        ValueError, RuntimeError
            One is missing, one too many, or one of another shape.
        """
        names = {stored_name(name): name for name in self.state_dict()}
        if names.keys() != tensors.keys():
            raise ValueError(f"expected {', '.join(sorted(names))}; found {', '.join(sorted(tensors))}")
        self.load_state_dict({names[name]: tensor for name, tensor in tensors.items()}, assign=assign)

    def weights_digest(self) -> str:
        """SHA-256 that identifies the weights as they are now.

        That of the file they were loaded from, as long as it holds the same numbers; otherwise that of the file which
        `save_pretrained` would write.
        """
        if self.file is not None and self._equal(self.file):
            return sha256_file(self.file)
        return hashlib.sha256(save(self._tensors())).hexdigest()

    def _equal(self, file: Path) -> bool:
        """Whether a file of weights holds the numbers that are in memory, but for a decoder that was not loaded."""
        own = {name: value for name, value in self.tensors().items() if name != "W_dec" or len(value) == self.n_latents}
        try:
            with safe_open(file, "pt") as stored:
                names = {*stored.keys()} - ({"W_dec"} - {*own})
                return names == {*own} and all(
                    torch.equal(stored.get_tensor(name).to(own[name].dtype), own[name].cpu()) for name in names
                )
        except (SafetensorError, OSError):
            return False

    def _tensors(self) -> dict[str, Tensor]:
        """The weights as they are written."""
        return {name: value.detach().cpu().contiguous() for name, value in self.tensors().items()}

    def save_pretrained(self, folder: str | Path) -> None:
        """Write ``model.safetensors`` and ``config.json``, the layout of the Hugging Face hub."""
        self._save(make_folder(resolve_path(folder)), self.metadata)

    def _save(self, folder: Path, metadata: Mapping[str, Any]) -> None:
        with whole_file(folder / WEIGHTS) as temporary:
            save_file(self._tensors(), temporary)
        described: dict[str, Any] = {"format": _FORMAT, "d_model": self.d_model, "n_latents": self.n_latents}
        if not isinstance(self.activation, ReLU):
            described |= {"format": _FORMAT_WITH_ACTIVATION, "activation": self.activation.described()}
        if self.position_offset is not None:
            described |= {"format": _FORMAT_CENTRED, "n_tokens": len(self.position_offset)}
        write_json(folder / CONFIG, {**described, "cytosae": __version__, "metadata": metadata})

    @classmethod
    def from_pretrained(cls, name: str | Path, *, revision: str | None = None, decoder: bool = True) -> Self:
        """Load an autoencoder.

        Parameters
        ----------
        name
            A folder written by `save_pretrained`, or a repository ``owner/name`` of the Hugging Face hub with the
            same two files. A folder of that name comes first; ``HF_HUB_OFFLINE`` is respected.
        revision
            Of the hub repository.
        decoder
            False leaves ``W_dec`` empty and half of the memory free, for one who only encodes.

        Raises
        ------
        CytosaeError
            Not found, no network, or not such files.
        """
        folder = resolve_path(name)
        if not folder.is_dir():
            folder = fetch_from_hub(str(name), revision)
        weights, config = folder / WEIGHTS, folder / CONFIG
        for path in (weights, config):
            if not path.is_file():
                raise CytosaeError(f"{path}: missing. An autoencoder is a folder with {WEIGHTS} and {CONFIG}.")
        described = read_json(config)
        if not isinstance(described, dict) or described.get("format") not in (
            _FORMAT,
            _FORMAT_WITH_ACTIVATION,
            _FORMAT_CENTRED,
        ):
            raise CytosaeError(f"{config}: not the configuration of an autoencoder of this program.")
        try:
            sizes = {name: described[name] for name in ("d_model", "n_latents")}
            if wrong := {name: size for name, size in sizes.items() if not isinstance(size, int) or size < 1}:
                listed = ", ".join(f"{name} {size!r}" for name, size in wrong.items())
                raise CytosaeError(f"{config}: says {listed}; expected whole numbers from 1. Copy the folder again.")
            activation = restore_activation(described.get("activation"))
            n_tokens = described.get("n_tokens", 0)
            offset = torch.zeros(n_tokens, described["d_model"]) if n_tokens else None
            model = cls(described["d_model"], described["n_latents"], described.get("metadata"), activation, offset)
            if not decoder:
                model.W_dec = nn.Parameter(torch.empty(0, model.d_model))
            with safe_open(weights, "pt") as file:
                state = {key: file.get_tensor(key) for key in file.keys() if decoder or key != "W_dec"}  # noqa: SIM118
            model.take(state if decoder else {**state, "W_dec": model.W_dec})
        except (SafetensorError, RuntimeError, KeyError, TypeError, ValueError) as error:
            first = str(error).splitlines()[0]
            raise CytosaeError(f"{weights}: does not fit {config.name} or is damaged ({first}).") from error
        for key, value in state.items():
            if not torch.isfinite(value).all():
                raise CytosaeError(f"{weights}: {key} holds NaN or infinite values; the training must have diverged.")
        model.file = weights.absolute()
        return model

    def push_to_hub(self, name: str, card: str, *, private: bool = False) -> str:
        """Upload weights, configuration and model card to the Hugging Face hub, see `cytosae.sae.hub.push_to_hub`."""
        return push_to_hub(name, card, self._save, self.metadata, private=private)
