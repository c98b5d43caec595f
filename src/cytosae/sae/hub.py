"""Autoencoders on the Hugging Face hub."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from cytosae import __version__
from cytosae.artefacts import CONFIG, WEIGHTS
from cytosae.errors import CytosaeError, in_short

CARD = "README.md"
PUBLISHED = (WEIGHTS, CONFIG, CARD)
"""Files of an autoencoder on the hub."""


def push_to_hub(
    name: str,
    card: str,
    save: Callable[[Path, Mapping[str, Any]], None],
    metadata: Mapping[str, Any],
    *,
    private: bool = False,
) -> str:
    """Upload weights, configuration and model card to the Hugging Face hub, in one commit.

    Folders of this machine in the description of the backbone become their last part.

    Parameters
    ----------
    name
        Repository ``owner/name``; made where it does not exist.
    card
        Its README, see `cytosae.sae.card.card`.
    save
        Writes weights and configuration with some metadata into a folder.
    metadata
        What is known of its making.
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
        save(Path(folder), published(metadata))
        (Path(folder) / CARD).write_text(card, encoding="utf-8")
        files = [CommitOperationAdd(file, Path(folder) / file) for file in PUBLISHED]
        api = HfApi(library_name="cytosae", library_version=__version__)
        try:
            api.create_repo(name, private=private, exist_ok=True)
            commit = api.create_commit(name, files, commit_message=f"Autoencoder of cytosae {__version__}")
        except Exception as error:  # the client lets the errors of its HTTP library through
            raise CytosaeError(
                f"{name}: the Hugging Face hub refused it ({in_short(error)}). Check the name, "
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


def fetch_from_hub(name: str, revision: str | None) -> Path:
    """Folder with the weights and configuration of a repository ``owner/name``; ``HF_HUB_OFFLINE`` is respected."""
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
