"""What the explorer keeps: bounded, and made once for all threads."""

from __future__ import annotations

import threading
import time
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
import torch

from cytosae.concepts import concept_files, read_activations, read_rows
from cytosae.explorer import activations
from cytosae.explorer.activations import Activations
from cytosae.explorer.caching import bounded, once
from cytosae.explorer.images import CellImages
from cytosae.explorer.reader import StudyReader
from support.studies import SET


def test_rows_on_disk(study: Path) -> None:
    path, _ = concept_files(study / "concepts", SET)
    with h5py.File(path) as file:
        for rows in ([5, 3, 4, 100, 3], [0], [169], list(range(40, 60)), []):
            mine, theirs = read_rows(file, rows), read_activations(study / "concepts", SET, rows)
            for a, b in zip(mine, theirs, strict=True):
                assert a.shape == (len(rows), 384)
                if rows:
                    assert a.dtype == b.dtype
                    assert (a != b).nnz == 0


def test_what_is_kept_is_bounded_and_madeonce() -> None:
    made = []

    @bounded(10)
    def make(name: str, length: int = 4) -> bytes:
        made.append(name)
        time.sleep(0.05)
        if name == "d":
            raise ValueError("no")
        return name.encode() * length

    threads = [threading.Thread(target=make, args=("a",)) for _ in range(5)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert made == ["a"]
    assert make("b") == b"bbbb"
    assert make("a") == b"aaaa"  # now b is the longest unused
    make("c")
    assert make.cache.currsize == 8
    make("a")
    make("b")
    assert made == ["a", "b", "c", "b"]
    for _ in range(2):
        assert make("large", 3) == b"large" * 3  # not kept, and nothing else is given up for it
    assert made[4:] == ["large", "large"]
    assert make.cache.currsize == 8
    for _ in range(2):
        with pytest.raises(ValueError, match="no"):
            make("d")


def test_what_is_heavy_is_made_once_for_all_threads() -> None:
    made: list[int] = []

    def slow() -> int:
        time.sleep(0.05)
        made.append(1)
        return len(made)

    get = once(slow)
    found: list[int] = []
    threads = [threading.Thread(target=lambda: found.append(get())) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert (made, found) == ([1], [1] * 8)


def test_a_map_that_is_asked_for_while_the_autoencoder_is_loaded_is_answered(
    study: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The server loads the autoencoder some seconds after it began, and a first request may come at the same moment."""
    reader = StudyReader(study)
    asked = Activations(reader, CellImages(reader))
    answers: list[Any] = []
    warming = threading.Thread(target=lambda: answers.append(asked.sae), daemon=True)
    embed_batch = activations.embed_batch

    def embed_meanwhile(*arguments: Any) -> torch.Tensor:
        warming.start()
        warming.join(0.3)  # long enough to begin
        return embed_batch(*arguments)

    monkeypatch.setattr(activations, "embed_batch", embed_meanwhile)
    image = np.zeros((asked.size, asked.size, 3), np.uint8)
    asking = threading.Thread(target=lambda: answers.append(asked.embed(image, "black")), daemon=True)
    asking.start()
    for thread in (asking, warming):
        thread.join(120)
        assert not thread.is_alive()
    assert len(answers) == 2
