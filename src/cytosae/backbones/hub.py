"""Files of the Hugging Face hub, and a quick answer where there is no network."""

from __future__ import annotations

from pathlib import Path

from cytosae.backbones.preprocessing import IMAGE_PROCESSOR, PROCESSOR
from cytosae.errors import CytosaeError, in_short

PATIENCE = 5.0
"""Seconds that the hub has for its first answer. Its own client tries for 23 seconds and longer."""

_SAFE = ("model.safetensors", "model-*.safetensors", "model.safetensors.index.json")
_PICKLED = ("pytorch_model.bin", "pytorch_model-*.bin", "pytorch_model.bin.index.json")


def hub_file(repository: str, file: str, revision: str | None, otherwise: str) -> tuple[Path, str]:
    """A file of the hub from the local cache or the network, and the commit that it is from.

    Where the hub cannot be reached (also with ``HF_HUB_OFFLINE=1``), the cache alone is asked.

    Parameters
    ----------
    repository, file, revision
        As the hub names them; without a revision its newest.
    otherwise
        What to do where it cannot be had, for the message.

    Raises
    ------
    CytosaeError
        Neither cached nor to be had.
    """
    path, _ = _fetch(repository, file, revision, otherwise)
    return path, path.parent.name  # the cache keeps files in a folder named after their commit


def hub_model(repository: str, revision: str | None) -> tuple[Path, str]:
    """Folder with the configuration, normalisation and weights of a model of the hub, and its commit.

    Safetensors are preferred; pickled weights are fetched only where there are no others.

    Raises
    ------
    CytosaeError
        Neither cached nor to be had.
    """
    from huggingface_hub import snapshot_download

    config, online = _fetch(repository, "config.json", revision, ", or give a local folder")
    folder, commit = config.parent, config.parent.name
    if online:
        for file in (IMAGE_PROCESSOR, PROCESSOR):
            _fetch_optional(repository, file, commit)
    for patterns in (_SAFE, _PICKLED):
        if online and not (folder / patterns[0]).is_file():
            try:
                snapshot_download(repository, revision=commit, allow_patterns=list(patterns))
            except Exception as error:
                raise CytosaeError(
                    f"{repository}: the Hugging Face hub did not give its weights ({in_short(error)}). Check the "
                    "network and HF_HUB_OFFLINE, or give a local folder."
                ) from error
        if any(file for pattern in patterns for file in folder.glob(pattern)):
            return folder, commit
    raise CytosaeError(
        f"{repository}: holds (or its cached copy holds) no {_SAFE[0]} and no {_PICKLED[0]}. Check the name, the network "
        "and HF_HUB_OFFLINE."
    )


def is_cached(repository: str, file: str | None) -> bool:
    """Whether the local cache has a file of a repository, or the weights of its model if none is named."""
    from huggingface_hub import try_to_load_from_cache

    files = [file] if file else [_SAFE[0], _SAFE[2], _PICKLED[0], _PICKLED[2]]
    return any(isinstance(try_to_load_from_cache(repository, one), str) for one in files)


def _fetch_optional(repository: str, file: str, commit: str) -> None:
    """Fetch a file that not every repository has; the hub is asked once per commit."""
    from huggingface_hub import hf_hub_download, try_to_load_from_cache
    from huggingface_hub.errors import EntryNotFoundError

    if try_to_load_from_cache(repository, file, revision=commit) is not None:
        return  # it is there, or known not to be
    try:
        hf_hub_download(repository, file, revision=commit)
    except EntryNotFoundError:
        return
    except Exception as error:
        raise CytosaeError(
            f"{repository}: the Hugging Face hub did not give its {file} ({in_short(error)}). Run the same command again."
        ) from error


def _fetch(repository: str, file: str, revision: str | None, otherwise: str) -> tuple[Path, bool]:
    """Path of a file in the cache, and whether the hub could be reached."""
    from huggingface_hub import hf_hub_download

    commit, problem = _ask(repository, file, revision)
    online = commit is not None
    try:
        # By the name of the revision, not by its commit: only so does the cache learn what the name stands for.
        return Path(hf_hub_download(repository, file, revision=revision, local_files_only=not online)), online
    except Exception as error:  # the client lets the errors of its HTTP library through
        if "GatedRepo" in problem:
            raise CytosaeError(
                f"{repository}: its authors ask for an agreement first. Accept it at https://huggingface.co/{repository}, "
                "then log in with `hf auth login`, and run the same command again."
            ) from error
        raise CytosaeError(
            f"{repository}: {file} is not in the local cache and the Hugging Face hub did not give it "
            f"({problem or in_short(error)}). Check the name, the network and HF_HUB_OFFLINE{otherwise}."
        ) from error


def _ask(repository: str, file: str, revision: str | None) -> tuple[str | None, str]:
    """The commit in question, asked once and with little patience; or none, and why."""
    from huggingface_hub import get_hf_file_metadata, hf_hub_url

    try:
        url = hf_hub_url(repository, file, revision=revision)
        commit = get_hf_file_metadata(url, timeout=PATIENCE).commit_hash
    except Exception as error:
        return None, in_short(error)
    return commit, "" if commit else "what answered is not the hub"
