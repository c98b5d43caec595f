"""Tokens: the store on disk, its order, its damages."""

from __future__ import annotations

import ctypes
import errno
import os
import subprocess
from collections import Counter
from itertools import islice
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors import safe_open

from cytosae.artefacts import LEDGER, claim
from cytosae.errors import CytosaeError
from cytosae.settings import StoreConfig
from cytosae.tokens import TokenStore, embed, in_order, shuffled_batches, store_layout
from cytosae.tokens.store import read_records, write_record
from support.planted import MakeStore, PlantedBackbone, live, numbered_cells, tiny_info
from support.studies import edit_manifest


def planted(cells: int = 40, tokens: int = 7, width: int = 8) -> torch.Tensor:
    return torch.randn(cells, tokens, width, generator=torch.Generator().manual_seed(0)).half().float()


def test_store_gives_back_what_the_backbone_made(make_store: MakeStore) -> None:
    tokens = planted()
    store = make_store(tokens)
    assert [shard.stop - shard.start for shard in store.shards] == [16, 16, 8]
    rows = np.array([39, 0, 17, 17, 15, 16])
    assert torch.equal(store.read(rows).float(), tokens[rows])
    with safe_open(store.folder / "shard-00001.safetensors", "pt") as file:  # any other program reads it too
        assert torch.equal(file.get_tensor("tokens").float(), tokens[16:32])


def test_bfloat16_store(tmp_path: Path) -> None:
    tokens, info = planted(5), tiny_info()
    table = numbered_cells(tmp_path / "images", 5)
    layout = store_layout(info, StoreConfig(store_dtype="bfloat16"))
    embed(table, PlantedBackbone(tokens, info), tmp_path / "t", layout, workers=0)  # type: ignore[arg-type]
    assert torch.equal(TokenStore(tmp_path / "t").read(np.arange(5)), tokens.bfloat16())


@settings(max_examples=60, deadline=None)
@given(
    n=st.integers(1, 50),
    batch=st.integers(1, 20),
    seed=st.integers(0, 2**31),
    start=st.integers(0, 40),
)
def test_order_is_a_function_of_the_seed_and_can_be_entered_anywhere(n: int, batch: int, seed: int, start: int) -> None:
    cells = np.arange(100, 100 + n)
    whole = list(islice(shuffled_batches(cells, batch, seed), start + 5))
    entered = list(islice(shuffled_batches(cells, batch, seed, start), 5))
    assert all(np.array_equal(a, b) for a, b in zip(whole[start:], entered, strict=True))
    sequence = np.concatenate(whole)
    for epoch in range(len(sequence) // n):
        assert sorted(sequence[epoch * n : (epoch + 1) * n]) == cells.tolist()  # every cell once in an epoch


def test_order_shuffles_the_whole_store() -> None:
    """A batch mixes many places: its cells are spread as a uniform draw is, and epochs differ."""
    first, *_ = batches = list(islice(shuffled_batches(np.arange(6400), 64, 1), 200))
    spread = np.mean([np.std(batch) for batch in batches])
    assert spread == pytest.approx(6400 / 12**0.5, rel=0.05)
    assert not np.array_equal(first, batches[100])
    assert not np.array_equal(first, next(shuffled_batches(np.arange(6400), 64, 2)))
    counts = Counter(np.concatenate(batches).tolist())
    assert set(counts.values()) == {2}


def test_any_number_of_readers_gives_the_same(make_store: MakeStore) -> None:
    store = make_store(planted())
    order = list(islice(shuffled_batches(np.arange(40), 6, 0), 12))
    streams = [list(store.stream(order, readers=readers, ahead=ahead)) for readers, ahead in ((1, 1), (4, 3))]
    assert all(torch.equal(a, b) for a, b in zip(*streams, strict=True))
    assert torch.equal(streams[0][3].float(), planted()[order[3]])


def test_reading_ahead_is_bounded(make_store: MakeStore) -> None:
    store = make_store(planted())
    asked = []

    def order() -> object:
        for batch in shuffled_batches(np.arange(40), 4, 0):
            asked.append(batch)
            yield batch

    stream = store.stream(order(), ahead=3)  # type: ignore[arg-type]
    for done in range(1, 6):
        next(stream)
        assert len(asked) <= done + 3
    stream.close()


def test_live_tokens_equal_stored_ones(make_store: MakeStore, tmp_path: Path) -> None:
    tokens = planted(20)
    store, source = make_store(tokens), live(tokens, tmp_path / "live")
    order = list(islice(shuffled_batches(np.arange(20), 6, 0), 5)) + list(in_order(20, 7))
    for a, b in zip(store.stream(order), source.stream(order), strict=True):
        assert torch.equal(a, b)


def _remake(store: TokenStore, tokens: torch.Tensor) -> PlantedBackbone:
    backbone = PlantedBackbone(tokens, tiny_info(tokens.shape[2], tuple(store.layout.backbone["grid"])))
    embed(store.cells, backbone, store.folder, store.layout, workers=0)  # type: ignore[arg-type]
    return backbone


def test_flipped_byte_is_found_named_and_only_that_shard_made_anew(
    make_store: MakeStore, capsys: pytest.CaptureFixture[str]
) -> None:
    tokens = planted()
    store = make_store(tokens)
    path = store.folder / "shard-00001.safetensors"
    before = [p.read_bytes() for p in sorted(store.folder.glob("shard-*"))]
    stat, data = path.stat(), bytearray(path.read_bytes())
    data[-100] ^= 1
    path.write_bytes(data)
    os.utime(path, ns=(stat.st_atime_ns, stat.st_mtime_ns))  # as a failing disk does it: size and time tell nothing
    with pytest.raises(CytosaeError, match=r"shard-00001\.safetensors: shard is damaged"):
        store.verify()
    backbone = _remake(store, tokens)
    assert "shard-00001.safetensors is made anew, shard is damaged" in capsys.readouterr().err
    assert sorted(backbone.seen) == list(range(16, 32))
    assert [p.read_bytes() for p in sorted(store.folder.glob("shard-*"))] == before
    TokenStore(store.folder).verify()


def test_missing_and_cut_shards(make_store: MakeStore) -> None:
    store = make_store(planted())
    path = store.folder / "shard-00002.safetensors"
    path.write_bytes(path.read_bytes()[:-50])
    with pytest.raises(CytosaeError, match=r"shard-00002.*too few"):
        store.read(np.array([35]))
    path.unlink()
    with pytest.raises(CytosaeError, match=r"shard-00002.*missing"):
        store.read(np.array([35]))
    assert sorted(_remake(store, planted()).seen) == list(range(32, 40))


def test_no_store_and_unfinished_store(make_store: MakeStore, tmp_path: Path) -> None:
    with pytest.raises(CytosaeError, match="no token store"):
        TokenStore(tmp_path / "absent")
    store = make_store(planted())
    edit_manifest(store.folder / "manifest.json", lambda manifest: manifest.update(complete=False))
    with pytest.raises(CytosaeError, match="not finished"):
        TokenStore(store.folder)


def test_nan_in_stored_tokens_names_cell_and_shard(make_store: MakeStore) -> None:
    store = make_store(planted())
    path = store.folder / "shard-00001.safetensors"
    data = bytearray(path.read_bytes())
    data[-2:] = np.array([np.nan], dtype=np.float16).tobytes()
    path.write_bytes(data)
    with pytest.raises(CytosaeError, match=r"shard-00001.*NaN.*00031\.bmp \(row 31\)"):
        list(store.stream([np.arange(40)]))


@pytest.mark.parametrize("value", [float("nan"), 1e6])
def test_backbone_that_gives_nan_or_overflows(tmp_path: Path, value: float) -> None:
    tokens = planted(10)
    tokens[6, 2, 1] = value
    table, info = numbered_cells(tmp_path / "images", 10), tiny_info()
    with pytest.raises(CytosaeError, match=r"00006\.bmp: backbone planted gives tokens that are NaN or too large"):
        embed(table, PlantedBackbone(tokens, info), tmp_path / "t", store_layout(info), workers=0)  # type: ignore[arg-type]


def test_another_backbone_starts_anew_and_says_so(make_store: MakeStore, capsys: pytest.CaptureFixture[str]) -> None:
    store = make_store(planted())
    info = tiny_info(8, (2, 3), layer=0)
    backbone = PlantedBackbone(planted() + 1, info)
    layout = store_layout(info, StoreConfig(cells_per_shard=16, batch_size=8))
    embed(store.cells, backbone, store.folder, layout, workers=0)  # type: ignore[arg-type]
    assert "all shards are made anew, setting changed: layer 1 -> 0" in capsys.readouterr().err
    assert len(backbone.seen) == 40


@pytest.mark.parametrize("word", ["layout", "shard", "start", "bytes"])
def test_a_damaged_note_of_a_shard_is_named(make_store: MakeStore, word: str) -> None:
    store = make_store(planted())
    note = "shard-00000.json"
    claim(store.folder, "tokens", [note])
    write_record(store.folder, store.layout, store.shards[0])
    assert read_records(store.folder, store.layout) == store.shards[:1]
    path = store.folder / note
    path.write_text(path.read_text().replace(f'"{word}"', f'"x{word}"'))
    with pytest.raises(
        CytosaeError, match=r"shard-00000\.json: (not the note of a shard, or damaged|damaged, or changed)"
    ):
        read_records(store.folder, store.layout)


def test_fewer_cells_leave_no_old_shards(make_store: MakeStore) -> None:
    store = make_store(planted())
    backbone = PlantedBackbone(planted(), tiny_info())
    embed(store.cells.head(20), backbone, store.folder, store.layout, workers=0)  # type: ignore[arg-type]
    assert sorted(p.name for p in store.folder.glob("shard-*")) == [
        "shard-00000.safetensors",
        "shard-00001.safetensors",
    ]
    assert sorted(backbone.seen) == list(range(16, 20))


def test_disk_full_in_the_middle_of_a_shard_loses_nothing(tmp_path: Path) -> None:
    """On a real file system that runs full; finished shards stay, nothing half-written does, and it goes on."""
    disk = tmp_path / "disk"
    disk.mkdir()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", disk], capture_output=True, check=False)
    if mounted.returncode:
        pytest.skip("needs the right to mount a small file system")
    try:
        tokens, info = planted(64, 257, 16), tiny_info(16, (16, 16))  # 8 KiB a cell: about 7 shards of 16 fit
        table = numbered_cells(tmp_path / "images", 64)
        layout = store_layout(info, StoreConfig(cells_per_shard=16, batch_size=8))
        backbone = PlantedBackbone(tokens, info)
        filler = disk / "filler"
        filler.write_bytes(bytes(700_000))
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr("shutil.disk_usage", lambda _: type("Usage", (), {"free": 10**9}))  # another program fills it
            with pytest.raises(CytosaeError, match="disk is full"):
                embed(table, backbone, disk / "t", layout, workers=0)  # type: ignore[arg-type]
        made = ["shard-00000.safetensors", "shard-00001.safetensors"]
        assert [shard.file for shard in read_records(disk / "t", layout)] == made
        noted = [name.replace(".safetensors", ".json") for name in made]
        assert sorted(p.name for p in (disk / "t").iterdir()) == sorted(["manifest.json", LEDGER, *made, *noted])
        filler.unlink()
        again = PlantedBackbone(tokens, info)
        embed(table, again, disk / "t", layout, workers=0)  # type: ignore[arg-type]
        assert sorted(again.seen) == list(range(32, 64))
        store = TokenStore(disk / "t")
        assert torch.equal(store.read(np.arange(64)).float(), tokens)
        store.close()
    finally:
        subprocess.run(["umount", "--lazy", disk], check=True)


def test_too_little_disk_is_said_before_the_work(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("shutil.disk_usage", lambda _: type("Usage", (), {"free": 1000}))
    table, info = numbered_cells(tmp_path / "images", 10), tiny_info()
    backbone = PlantedBackbone(planted(10), info)
    with pytest.raises(CytosaeError, match="--no-store"):
        embed(table, backbone, tmp_path / "t", store_layout(info), workers=0)  # type: ignore[arg-type]
    assert not backbone.seen


def test_folder_without_write_permission(tmp_path: Path) -> None:
    """In a child process that has given up root's right to write anywhere."""
    table, info = numbered_cells(tmp_path / "images", 2), tiny_info()
    forbidden = tmp_path / "forbidden"
    forbidden.mkdir(mode=0o555)
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        if os.geteuid() == 0:
            _drop_dac_override()
        try:
            embed(table, PlantedBackbone(planted(2), info), forbidden / "t", store_layout(info), workers=0)  # type: ignore[arg-type]
            message = "no error"
        except CytosaeError as error:
            message = str(error)
        except BaseException as error:
            message = repr(error)
        os.write(writer, message.encode())
        os._exit(0)
    os.waitpid(child, 0)
    message = os.read(reader, 4096).decode()
    assert "no permission to write" in message
    assert str(forbidden) in message
    assert not list(forbidden.iterdir())


def _drop_dac_override() -> None:
    """Give up CAP_DAC_OVERRIDE (1), CAP_DAC_READ_SEARCH (2) and CAP_FOWNER (3) for this process."""
    libc = ctypes.CDLL(None, use_errno=True)
    header = (ctypes.c_uint32 * 2)(0x20080522, 0)
    data = (ctypes.c_uint32 * 6)()
    assert libc.capget(header, data) == 0, os.strerror(ctypes.get_errno())
    for word in range(3):
        data[word] &= ~0b1110
    assert libc.capset(header, data) == 0, errno.errorcode[ctypes.get_errno()]
