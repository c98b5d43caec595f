"""Checkpoints: damaged, of an earlier version, on a full disk."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import save_file

from cytosae.errors import CytosaeError
from cytosae.sae import SAE, train
from cytosae.sae.checkpoint import load_checkpoint, save_checkpoint
from cytosae.sae.former import TrainedWork
from cytosae.sae.state import new_state
from support.planted import MakeStore
from support.training import SHORT_TRAINING, dictionary_tokens


def flipped(data: bytes, place: int) -> bytes:
    return data[:place] + bytes([data[place] ^ 1]) + data[place + 1 :]


def test_a_damaged_checkpoint_is_not_continued(make_store: MakeStore, tmp_path: Path) -> None:
    train(make_store(dictionary_tokens()), tmp_path / "sae", SHORT_TRAINING)
    path = tmp_path / "sae" / "checkpoint.safetensors"
    good = path.read_bytes()
    state = new_state(SHORT_TRAINING, 12, torch.device("cpu"))
    for place in (
        len(good) - 1,
        len(good) // 2,
        good.index(b"random_state"),
        good.index(b"W_enc"),
        good.index(b'step\\"') + 8,
    ):
        path.write_bytes(flipped(good, place))
        with pytest.raises(CytosaeError, match=r"checkpoint\.safetensors: not a checkpoint, or damaged"):
            load_checkpoint(path, state)
    path.write_bytes(good.replace(b"parameters", b"pasameters"))
    with pytest.raises(CytosaeError, match=r"checkpoint\.safetensors: does not say of which training"):
        TrainedWork.load(tmp_path / "sae")
    path.write_bytes(good)
    load_checkpoint(path, state)


def test_a_checkpoint_without_a_checksum_is_read(tmp_path: Path) -> None:
    state = new_state(SHORT_TRAINING, 12, torch.device("cpu"))
    save_checkpoint(tmp_path / "c", state, {})
    with safe_open(tmp_path / "c", "pt") as file:
        about = json.loads(file.metadata()["cytosae"])
        tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    del about["sha256"]
    save_file(tensors, tmp_path / "c", metadata={"cytosae": json.dumps(about)})
    load_checkpoint(tmp_path / "c", state)


def test_a_checkpoint_on_a_full_disk_is_told(tmp_path: Path) -> None:
    import resource
    import signal

    sae = SAE(8, 64)
    sae.initialise(torch.Generator().manual_seed(0))
    sae.save_pretrained(tmp_path)
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    limits, handler = resource.getrlimit(resource.RLIMIT_FSIZE), signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    try:
        resource.setrlimit(resource.RLIMIT_FSIZE, (2000, limits[1]))
        with pytest.raises(CytosaeError, match=r"model\.safetensors: the disk is full or a size limit was reached"):
            sae.save_pretrained(tmp_path)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
        signal.signal(signal.SIGXFSZ, handler)
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == before
