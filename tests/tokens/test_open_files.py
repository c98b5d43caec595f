"""A system allows a process few open files: a store has as many shards as it likes all the same."""

from __future__ import annotations

import os
import pickle
import subprocess
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from cytosae.cells import list_cells
from cytosae.concepts import encode
from cytosae.sae import SAE, train
from cytosae.settings import StoreConfig, TrainConfig
from cytosae.tokens import TokenStore, embed, store_layout
from cytosae.tokens.descriptors import Descriptors
from support.paths import ROOT, importing_from
from support.planted import PlantedBackbone, tiny_info

CELLS = 150
LIMIT = 64


def under_a_limit(folder: Path) -> None:
    """Run in a process of its own: from images to concepts, with a shard and a piece for every cell."""
    import resource

    resource.setrlimit(resource.RLIMIT_NOFILE, (LIMIT, LIMIT))
    torch.set_num_threads(1)
    table = list_cells(folder / "images").cells
    tokens = torch.randn(CELLS, 7, 8, generator=torch.Generator().manual_seed(0))
    backbone = PlantedBackbone(tokens, tiny_info())
    layout = store_layout(backbone.info, StoreConfig(cells_per_shard=1, batch_size=8))
    embed(table, backbone, folder / "tokens", layout, workers=1)  # type: ignore[arg-type]
    store = TokenStore(folder / "tokens")
    train(store, folder / "sae", TrainConfig(expansion=2, images=800, batch_images=64, init_images=150), readers=8)
    encode(store, SAE.from_pretrained(folder / "sae"), folder / "concepts")
    assert torch.equal(store.read(np.arange(CELLS)), tokens.half())


def test_a_store_with_more_shards_than_files_may_be_open(tmp_path: Path) -> None:
    (tmp_path / "images").mkdir()
    for number in range(CELLS):
        Image.new("RGB", (1, 1), (number // 256, number % 256, 7)).save(tmp_path / "images" / f"{number:03}.png")
    done = subprocess.run(
        [sys.executable, __file__, tmp_path],
        capture_output=True,
        text=True,
        env={**os.environ, "PYTHONPATH": importing_from(ROOT / "tests")},
        check=False,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    assert len(TokenStore(tmp_path / "tokens").shards) == CELLS > 2 * LIMIT
    assert (tmp_path / "concepts" / "images.h5ad").is_file()


def test_files_stay_open_up_to_a_limit_and_those_in_use_beyond_it(tmp_path: Path) -> None:
    paths = [tmp_path / str(number) for number in range(5)]
    for number, path in enumerate(paths):
        path.write_bytes(bytes([number]))
    files = Descriptors(2)
    for path in paths:
        with files.reading(path):
            pass
    assert len(files) == 2
    with files.reading(paths[3]) as kept, files.reading(paths[4]) as other:
        before = set(Path("/dev/fd").iterdir())
        for number, path in enumerate(paths[:3]):
            with files.reading(path) as descriptor:
                assert os.pread(descriptor, 1, 0) == bytes([number])
        assert len(set(Path("/dev/fd").iterdir()) - before) == 0
        files.close()
        assert (os.pread(kept, 1, 0), os.pread(other, 1, 0)) == (b"\3", b"\4")
    assert len(files) == 2
    files.close()
    assert len(files) == 0
    with files.reading(paths[0]) as descriptor:  # also after it was closed
        assert os.pread(descriptor, 1, 0) == b"\0"
    files.close()


def test_many_threads_read_through_few_files(tmp_path: Path) -> None:
    paths = [tmp_path / str(number) for number in range(20)]
    for number, path in enumerate(paths):
        path.write_bytes(bytes([number]) * 64)
    files = Descriptors(3)

    def read(seed: int) -> bool:
        for number in np.random.default_rng(seed).integers(0, 20, 500).tolist():
            with files.reading(paths[number]) as descriptor:
                if os.pread(descriptor, 64, 0) != bytes([number]) * 64:
                    return False
        return True

    with ThreadPoolExecutor(8) as pool:
        assert all(pool.map(read, range(8)))
    assert len(files) <= 3
    files.close()


@pytest.mark.skipif(not hasattr(os, "fork"), reason="there is no fork here")
@pytest.mark.filterwarnings("ignore:This process:DeprecationWarning")
def test_a_store_goes_to_a_process_that_was_forked_or_sent_it(make_store: Callable[..., TokenStore]) -> None:
    tokens = torch.randn(40, 7, 8, generator=torch.Generator().manual_seed(0)).half()
    store, rows = make_store(tokens.float()), np.array([0, 39, 17])
    assert torch.equal(store.read(rows), tokens[rows])
    store._files._lock.acquire()  # as another thread may have at that moment
    child = os.fork()
    if not child:
        os._exit(0 if np.array_equal(store.read(rows).numpy(), tokens[rows].numpy()) else 1)
    assert os.waitpid(child, 0)[1] == 0
    store._files._lock.release()
    assert torch.equal(pickle.loads(pickle.dumps(store)).read(rows), tokens[rows])
    store.close()
    assert torch.equal(store.read(rows), tokens[rows])


if __name__ == "__main__":
    under_a_limit(Path(sys.argv[1]))
