"""The checkpoint of a training: one file from which it resumes to the same result."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from cytosae.artefacts import parse_json, whole_file
from cytosae.errors import CytosaeError
from cytosae.sae.state import TrainState

CHECKPOINT = "checkpoint.safetensors"
CHECKPOINT_BEFORE = "checkpoint-before-jump.safetensors"
"""The one from before many latents died."""


def save_checkpoint(path: Path, state: TrainState, identity: dict[str, Any]) -> None:
    """Write weights, optimiser, bookkeeping and random state, whole or not at all.

    Parameters
    ----------
    identity
        Parameters and inputs of the training, compared when it is continued.
    """
    tensors = {**state.tensors(), "random_state": torch.get_rng_state()}
    # One entry: safetensors writes several in an order that changes from run to run.
    progress = {"step": state.step, "l0": str(state.l0), "identity": identity}
    stored = {key: value.cpu().contiguous() for key, value in tensors.items()}
    checksum = _checksum(progress)
    for name in sorted(stored):
        _add(checksum, name, stored[name])
    about = {"cytosae": json.dumps({**progress, "sha256": checksum.hexdigest()})}
    with whole_file(path) as temporary:
        save_file(stored, temporary, metadata=about)


def _checksum(progress: Mapping[str, Any]) -> hashlib._Hash:
    return hashlib.sha256(json.dumps(progress).encode())


def _add(checksum: hashlib._Hash, name: str, tensor: Tensor) -> None:
    checksum.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}".encode())
    checksum.update(tensor.reshape(-1).view(torch.uint8).numpy().data)


def read_identity(path: Path) -> tuple[dict[str, Any], int, float]:
    """Identity, step and L0 of a checkpoint, without its tensors."""
    with _reading(path) as (_, about):
        return about["identity"], int(about["step"]), float(about.get("l0", "inf"))


def read_silence(path: Path) -> tuple[int, Tensor]:
    """Step of a checkpoint, and for how many tokens each latent had been silent, ``(n_latents,)``."""
    with _reading(path) as (file, about):
        return int(about["step"]), file.get_tensor("since_fired")


@contextmanager
def _reading(path: Path) -> Iterator[tuple[Any, dict[str, Any]]]:
    """An open checkpoint and what it says of itself."""
    try:
        with safe_open(path, framework="pt") as file:
            yield file, parse_json(file.metadata()["cytosae"])
    except (SafetensorError, KeyError, TypeError, ValueError, OSError, RuntimeError) as error:
        raise CytosaeError(
            f"{path}: not a checkpoint, or damaged ({error}). Remove it to train from the start."
        ) from error


def is_checkpoint(path: Path) -> bool:
    """Whether a file is a checkpoint of a training."""
    try:
        read_identity(path)
    except CytosaeError:
        return False
    return True


def load_checkpoint(path: Path, state: TrainState) -> None:
    """Bring `state`, and torch's random state, to where the checkpoint was written."""
    _, step, l0 = read_identity(path)
    with _reading(path) as (file, about):
        recorded = about.pop("sha256", None)  # earlier versions did not record it
        checksum, wanted = _checksum(about), state.tensors()
        for name in sorted(file.keys()):
            tensor = file.get_tensor(name)
            _add(checksum, name, tensor)
            if name in wanted:
                wanted.pop(name).copy_(tensor)
        if missing := wanted.keys() - {"rested"}:  # nor count this
            raise ValueError(f"without {min(missing)}")
        if recorded not in (None, checksum.hexdigest()):
            raise ValueError("its checksum differs")
        state.move_to(step, l0)
        torch.set_rng_state(file.get_tensor("random_state"))
