"""Files of HDF5: open elsewhere, and with more entries than 32 bits can count."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import h5py
import numpy as np
import pytest
import scipy.sparse as sp
import torch
from anndata.io import sparse_dataset

from cytosae.cohort import make_barcodes, read_barcodes, why_other_concepts
from cytosae.concepts import encode, read_activations, read_concepts, read_rows, stream_concepts
from cytosae.errors import CytosaeError
from cytosae.explorer.annotations import name_latents, open_database
from cytosae.explorer.reader import StudyReader
from cytosae.sae import SAE
from cytosae.settings import BarcodeConfig
from cytosae.study import stages
from cytosae.tokens import TokenStore
from cytosae.tokens.foreign import open_foreign

HOLDER = """
import sys, h5py
with h5py.File(sys.argv[1], "r+") as file:
    print("open", flush=True)
    sys.stdin.read()
"""


@contextmanager
def open_elsewhere(path: Path) -> Iterator[None]:
    """Another process that has the file open for writing."""
    with subprocess.Popen(
        [sys.executable, "-c", HOLDER, str(path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as other:
        assert other.stdout is not None
        assert other.stdin is not None
        assert other.stdout.readline() == "open\n"
        try:
            yield
        finally:
            other.stdin.close()
            other.wait()


@pytest.fixture
def study(make_store: Callable[..., TokenStore]) -> Path:
    tokens = torch.randn(40, 7, 8, generator=torch.Generator().manual_seed(0))
    store = make_store(tokens, dataset=["pbc"] * 40, patient=[f"p{number % 4}" for number in range(40)])
    sae, folder = SAE(8, 24), store.folder.parent
    sae.initialise(torch.Generator().manual_seed(0))
    sae.save_pretrained(folder / "sae")
    store.cells.to_parquet(folder / "cells.parquet")
    encode(store, sae, folder / "concepts")
    stages.barcodes(folder, BarcodeConfig()).update()
    return folder


def test_a_file_that_another_program_has_open_is_not_called_damaged(study: Path) -> None:
    concepts, barcodes = study / "concepts" / "pbc.h5ad", study / "cohort" / "barcodes.h5ad"
    readers: list[tuple[Path, Callable[[], object]]] = [
        (concepts, lambda: read_concepts(study / "concepts", "pbc")),
        (concepts, lambda: list(stream_concepts(study / "concepts", "pbc"))),
        (concepts, lambda: read_activations(study / "concepts", "pbc", [1])),
        (concepts, lambda: StudyReader(study).first.var),
        (concepts, lambda: name_latents(study, {})),
        (concepts, lambda: open_database(study)),
        (concepts, lambda: make_barcodes([study / "concepts"], study / "b.h5ad")),
        (barcodes, lambda: read_barcodes(barcodes)),
        (barcodes, lambda: why_other_concepts(barcodes, study / "concepts")),
        (barcodes, lambda: StudyReader(study).groups),
    ]
    for path in (concepts, barcodes):
        with open_elsewhere(path):
            for read in (read for file, read in readers if file == path):
                with pytest.raises(CytosaeError, match=r"open for writing in another program.*not damaged"):
                    read()
    read_concepts(study / "concepts", "pbc")
    with h5py.File(concepts):  # open for reading is no obstacle
        read_concepts(study / "concepts", "pbc")
    concepts.write_bytes(concepts.read_bytes()[:3000])
    with pytest.raises(CytosaeError, match="not a readable AnnData"):
        read_concepts(study / "concepts", "pbc")


def test_foreign_tokens_that_are_open_elsewhere(tmp_path: Path) -> None:
    path = tmp_path / "tokens.h5"
    with h5py.File(path, "w") as file:
        file["features"] = np.zeros((3, 4), np.float32)
    with open_elsewhere(path), pytest.raises(CytosaeError, match="open for writing in another program"):
        open_foreign(path)


def test_row_pointers_are_of_64_bits_from_the_first_piece_on(study: Path) -> None:
    with h5py.File(study / "concepts" / "pbc.h5ad") as file:
        for group in (file["X"], file["layers/mean_activation"]):
            assert group["indptr"].dtype == np.int64
            assert len(group["indptr"]) == 41


def test_cells_beyond_32_bits_of_entries_are_written_and_read(study: Path) -> None:
    """Two to the 31 entries, which HDF5 does not store where nobody wrote any, in the row before the last ones."""
    path, beyond = study / "concepts" / "pbc.h5ad", 2**31 + 10
    expected, _ = read_activations(study / "concepts", "pbc", [3, 4])
    with h5py.File(path, "r+") as file:
        for group in (file["X"], file["layers/mean_activation"]):
            piece = sparse_dataset(group)[3:5]
            assert piece.indptr.dtype == np.int32  # what scipy makes of a few rows
            for name in ("data", "indices"):
                group[name].resize((beyond,))
            group["indptr"].resize((42,))
            group["indptr"][41] = beyond
            group.attrs["shape"] = (41, 24)
            sparse_dataset(group).append(piece)
            assert group["indptr"][-1] == beyond + piece.nnz
    with h5py.File(path) as file:
        counts, means = read_rows(file, [42, 41, 4])
        assert (counts != sp.vstack([expected[[1, 0]], expected[[1]]])).nnz == 0
        assert means.shape == (3, 24)
    counts, _ = read_activations(study / "concepts", "pbc", [41, 42], cells=41)
    assert (counts != expected).nnz == 0


FULL = """
import resource, signal, sys
from pathlib import Path
import numpy as np
from anndata.io import write_elem
from cytosae.artefacts import writing_hdf5
from cytosae.errors import CytosaeError

signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (int(sys.argv[2]),) * 2)
try:
    with writing_hdf5(Path(sys.argv[1])) as file:
        for number in range(6):
            write_elem(file, f"part{number}", np.random.default_rng(0).random((200, 10)))
except CytosaeError as error:
    sys.exit(str(error))
"""


@pytest.mark.parametrize("limit", [1, 3000, 20_000, 90_000])
def test_a_full_disk_is_told_and_does_not_crash_the_process(tmp_path: Path, limit: int) -> None:
    path = tmp_path / "a.h5ad"
    path.write_bytes(b"as it was")
    done = subprocess.run([sys.executable, "-c", FULL, path, str(limit)], capture_output=True, text=True, check=False)
    assert done.returncode == 1, done.stderr
    assert "a.h5ad: the disk is full or a size limit was reached" in done.stderr
    assert [(found.name, found.read_bytes()) for found in tmp_path.iterdir()] == [("a.h5ad", b"as it was")]
