"""The sparse autoencoder, as the equations read."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save, save_file
from torch import Tensor, nn

from cytosae import __version__
from cytosae.artefacts import CONFIG, WEIGHTS, make_folder, read_json, sha256_file, whole_file, write_json
from cytosae.errors import CytosaeError, in_short
from cytosae.sae.activations import Activation, ReLU, activation_of
from cytosae.sae.split import Split
from cytosae.storage import place

_FORMAT, _FORMAT_WITH_ACTIVATION = "cytosae-sae", "cytosae-sae-2"
"""The second has another activation; whoever knows the first alone would take it for a ReLU, so it has another name."""
CARD = "README.md"
PUBLISHED = (WEIGHTS, CONFIG, CARD)
"""Files of an autoencoder on the hub."""


class SAE(nn.Module):
    r"""Sparse autoencoder with one hidden layer (CytoSAE, section 2).

    .. math::
        h = \mathrm{ReLU}(W_{enc} (x - b_{dec}) + b_{enc}), \qquad \hat x = W_{dec} h + b_{dec}

    Parameters
    ----------
    d_model
        Width of a token.
    n_latents
        Number of latents: expansion factor times `d_model`.
    metadata
        What is known of its making; kept in ``config.json``.
    activation
        What takes the place of the ReLU (`cytosae.sae.activations`), with parameters of its own beside those below; kept in
        ``config.json``. `encode` computes what it does after training.

    Attributes
    ----------
    W_enc : ``(d_model, n_latents)``
    b_enc : ``(n_latents,)``
    W_dec : ``(n_latents, d_model)``, one direction of unit norm per latent
    b_dec : ``(d_model,)``
    """

    log_threshold: Tensor
    r_mag: Tensor
    b_mag: Tensor
    file: Path | None = None
    """The weights' file, where they were loaded from one."""
    split = Split()
    """In training, which part of tokens and latents is here; everything, unless several processes train."""

    def __init__(
        self,
        d_model: int,
        n_latents: int,
        metadata: Mapping[str, Any] | None = None,
        activation: Activation | None = None,
    ) -> None:
        super().__init__()
        self.d_model, self.n_latents = d_model, n_latents
        self.metadata = dict(metadata or {})
        self.activation = activation or ReLU()
        self.W_enc = nn.Parameter(torch.zeros(n_latents, d_model).T)  # in memory a row is a latent
        self.b_enc = nn.Parameter(torch.zeros(n_latents))
        self.W_dec = nn.Parameter(torch.zeros(n_latents, d_model))
        self.b_dec = nn.Parameter(torch.zeros(d_model))
        for name, start in self.activation.parameters(n_latents).items():
            self.register_parameter(name, nn.Parameter(start))

    def pre_activations(self, x: Tensor) -> Tensor:
        """``W_enc (x - b_dec) + b_enc``: ``(n_tokens, d_model)`` to ``(n_tokens, n_latents)``."""
        return (x - self.b_dec) @ self.W_enc + self.b_enc

    def encode(self, x: Tensor) -> Tensor:
        """Latent activations h: ``(n_tokens, d_model)`` to ``(n_tokens, n_latents)``."""
        return self.activation.infer(self, self.pre_activations(x))

    def encode_some(self, x: Tensor, latents: Tensor) -> Tensor:
        """Activations of some latents: ``(..., d_model)`` to ``(..., n_chosen)``; `latents` are indices ``(n_chosen,)``."""
        if not self.activation.of_each:
            return self.encode(x)[..., latents]
        pre = (x - self.b_dec) @ self.W_enc[:, latents] + self.b_enc[latents]
        return self.activation.infer(self, pre, latents)

    def decode(self, h: Tensor) -> Tensor:
        """Reconstructed tokens: ``(n_tokens, n_latents)`` to ``(n_tokens, d_model)``."""
        return h @ self.W_dec + self.b_dec

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Reconstruction and latents."""
        h = self.encode(x)
        return self.decode(h), h

    @torch.no_grad()
    def initialise(self, generator: torch.Generator) -> None:
        """Draw the weights; biases stay zero.

        Both matrices are uniform, the rows of the decoder then of unit norm. The encoder's standard deviation is
        ``sqrt(2 / n_latents)``: with half of the latents firing, the first reconstruction then has about the norm
        of the token.
        """
        bound = (6 / self.n_latents) ** 0.5
        self.W_enc.uniform_(-bound, bound, generator=generator)
        self.W_dec.uniform_(-1, 1, generator=generator)
        self.normalise_decoder()

    @torch.no_grad()
    def normalise_decoder(self) -> None:
        """Bring every direction back to unit norm."""
        self.W_dec.div_(self.W_dec.norm(dim=1, keepdim=True))

    @torch.no_grad()
    def remove_parallel_gradient(self) -> None:
        """Remove from the decoder's gradient what would only change the directions' norms."""
        gradient = self.W_dec.grad
        if gradient is not None:
            gradient -= (gradient * self.W_dec).sum(dim=1, keepdim=True) * self.W_dec

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
        own = {
            name: value for name, value in self.state_dict().items() if name != "W_dec" or len(value) == self.n_latents
        }
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
        return {name: value.detach().cpu().contiguous() for name, value in self.state_dict().items()}

    def save_pretrained(self, folder: str | Path) -> None:
        """Write ``model.safetensors`` and ``config.json``, the layout of the Hugging Face hub."""
        self._save(make_folder(place(folder)), self.metadata)

    def _save(self, folder: Path, metadata: Mapping[str, Any]) -> None:
        with whole_file(folder / WEIGHTS) as partial:
            save_file(self._tensors(), partial)
        described: dict[str, Any] = {"format": _FORMAT, "d_model": self.d_model, "n_latents": self.n_latents}
        if not isinstance(self.activation, ReLU):
            described |= {"format": _FORMAT_WITH_ACTIVATION, "activation": self.activation.described()}
        write_json(folder / CONFIG, {**described, "cytosae": __version__, "metadata": metadata})

    @classmethod
    def from_pretrained(cls, name: str | Path, *, revision: str | None = None, decoder: bool = True) -> SAE:
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
        folder = place(name)
        if not folder.is_dir():
            folder = _from_hub(str(name), revision)
        weights, config = folder / WEIGHTS, folder / CONFIG
        for path in (weights, config):
            if not path.is_file():
                raise CytosaeError(f"{path}: missing. An autoencoder is a folder with {WEIGHTS} and {CONFIG}.")
        described = read_json(config)
        if not isinstance(described, dict) or described.get("format") not in (
            _FORMAT,
            _FORMAT_WITH_ACTIVATION,
        ):
            raise CytosaeError(f"{config}: not the configuration of an autoencoder of this program.")
        try:
            sizes = {name: described[name] for name in ("d_model", "n_latents")}
            if wrong := {name: size for name, size in sizes.items() if not isinstance(size, int) or size < 1}:
                said = ", ".join(f"{name} {size!r}" for name, size in wrong.items())
                raise CytosaeError(f"{config}: says {said}; expected whole numbers from 1. Copy the folder again.")
            activation = activation_of(described.get("activation"))
            model = cls(described["d_model"], described["n_latents"], described.get("metadata"), activation)
            if not decoder:
                model.W_dec = nn.Parameter(torch.empty(0, model.d_model))
            with safe_open(weights, "pt") as file:
                state = {key: file.get_tensor(key) for key in file.keys() if decoder or key != "W_dec"}  # noqa: SIM118
            model.load_state_dict(state if decoder else {**state, "W_dec": model.W_dec})
        except (SafetensorError, RuntimeError, KeyError, TypeError, ValueError) as error:
            first = str(error).splitlines()[0]
            raise CytosaeError(f"{weights}: does not fit {config.name} or is damaged ({first}).") from error
        for key, value in state.items():
            if not torch.isfinite(value).all():
                raise CytosaeError(f"{weights}: {key} holds NaN or infinite values; the training must have diverged.")
        model.file = weights.absolute()
        return model

    def push_to_hub(self, name: str, card: str, *, private: bool = False) -> str:
        """Upload weights, configuration and model card to the Hugging Face hub, in one commit.

        Folders of this machine in the description of the backbone become their last part.

        Parameters
        ----------
        name
            Repository ``owner/name``; made where it does not exist.
        card
            Its README, see `cytosae.sae.card.card`.
        private
            Where the repository is made, only for its owner.

        Returns
        -------
        Address of the commit.

        Raises
        ------
        CytosaeError
            ``HF_HUB_OFFLINE`` is set, or the hub refuses.
        """
        from huggingface_hub import CommitOperationAdd, HfApi, constants

        if constants.HF_HUB_OFFLINE:
            raise CytosaeError(f"{name}: nothing is uploaded while HF_HUB_OFFLINE is set. Unset it to publish.")
        with TemporaryDirectory() as folder:
            self._save(Path(folder), published(self.metadata))
            (Path(folder) / CARD).write_text(card, encoding="utf-8")
            files = [CommitOperationAdd(file, Path(folder) / file) for file in PUBLISHED]
            api = HfApi(library_name="cytosae", library_version=__version__)
            try:
                api.create_repo(name, private=private, exist_ok=True)
                commit = api.create_commit(name, files, commit_message=f"Autoencoder of cytosae {__version__}")
            except Exception as error:  # the client lets the errors of its HTTP library through
                raise CytosaeError(
                    f"{name}: the Hugging Face hub did not take it ({in_short(error)}). Check the name, "
                    "the network, and with `hf auth whoami` that you are logged in with a token that can write."
                ) from error
        return str(commit.commit_url)


def published(metadata: Mapping[str, Any]) -> dict[str, Any]:
    """What others get to see of the metadata: of folders and files on this machine the name alone."""
    backbone = metadata.get("backbone")
    if not backbone or backbone.get("revision"):
        return dict(metadata)
    names = {key: Path(backbone[key]).name for key in ("name", "source") if backbone.get(key)}
    return {**metadata, "backbone": {**backbone, **names}}


def _from_hub(name: str, revision: str | None) -> Path:
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError, LocalEntryNotFoundError

    if name.count("/") != 1 or name.startswith((".", "/")):
        raise CytosaeError(f"{name}: no such folder, and not the name of a hub repository (owner/name).")
    try:
        return Path(snapshot_download(name, revision=revision, allow_patterns=[WEIGHTS, CONFIG]))
    except (HFValidationError, HfHubHTTPError, LocalEntryNotFoundError, OSError) as error:
        raise CytosaeError(
            f"{name}: no such folder, and the Hugging Face hub did not give it ({type(error).__name__}). Check the "
            "name and the network, or download the repository and give its folder."
        ) from error
