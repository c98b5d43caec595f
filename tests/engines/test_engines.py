"""Engines: the same bytes from one process, several, a Ray cluster or partitions; a lost worker costs what it worked on."""

from __future__ import annotations

import importlib.util
import multiprocessing
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pandas as pd
import psutil
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cytosae.artefacts import LEDGER
from cytosae.cells import write_cells
from cytosae.concepts import encode, read_concepts, read_maps
from cytosae.engines import Engine, LocalEngine, Partition, open_engine
from cytosae.engines.processes import AHEAD, ATTEMPTS
from cytosae.errors import CytosaeError
from cytosae.settings import EngineConfig
from cytosae.tokens import LiveTokens, TokenStore, embed
from support.commands import assert_user_error, cytosae, figures
from support.engine_squares import Squares
from support.engine_work import LAYOUT, Drawn, Other, Watching, encode_partition, make_partition, some_sae
from support.paths import ROOT, importing_from
from support.planted import numbered_cells

CELLS = 30  # eight shards of four, the last of two
SHARDS = 8
FATAL = 2


@pytest.fixture(scope="module")
def cells(tmp_path_factory: pytest.TempPathFactory) -> pd.DataFrame:
    folder = tmp_path_factory.mktemp("engines")
    columns = {
        "dataset": ["marrow"] * 17 + ["blood"] * 13,
        "label": [("blast", "monocyte", None)[i % 3] for i in range(CELLS)],
        "patient": [f"p{i % 5}" for i in range(CELLS)],
    }
    return numbered_cells(folder / "images", CELLS, **columns)


@pytest.fixture(scope="module")
def expected(cells: pd.DataFrame, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What a single process leaves."""
    return made_by(LocalEngine(), cells, tmp_path_factory.mktemp("single"))


def made_by(engine: Engine, cells: pd.DataFrame, folder: Path, log: Path | None = None) -> Path:
    """Embed and encode; with a log ``tokens`` or ``concepts``, a worker is killed in the middle of a shard or a piece."""

    def watched(name: str) -> Engine:
        return engine if log is None or log.name != name else Watching(engine, log, FATAL)

    embed(cells, Drawn, folder / "tokens", LAYOUT, workers=0, engine=watched("tokens"))  # type: ignore[arg-type]
    store = TokenStore(folder / "tokens")
    encode(store, some_sae(), folder / "concepts", engine=watched("concepts"))
    return folder


def same_files(a: Path, b: Path) -> None:
    """The same files with the same bytes; the times of writing in manifests aside."""
    mine, theirs = (
        {path.relative_to(x): path.read_bytes() for stage in ("tokens", "concepts") for path in (x / stage).rglob("*")}
        for x in (a, b)
    )
    assert mine.keys() == theirs.keys()
    assert len(mine) == SHARDS + 2 + 5 + 2  # manifests and lists of own files
    assert [name for name in mine if name.name not in ("manifest.json", LEDGER) and mine[name] != theirs[name]] == []
    assert TokenStore(a / "tokens").fingerprint == TokenStore(b / "tokens").fingerprint


def begun(log: Path) -> Counter[int]:
    """How often each unit was begun."""
    return Counter(int(line.split()[0]) for line in log.read_text().splitlines())


ONCE = Counter(range(SHARDS))


def slowly(*values: str) -> object:
    return pytest.param(*values, marks=pytest.mark.slow)


@pytest.mark.parametrize(
    ("engine", "stage"),
    [("local", "tokens"), slowly("ray", "concepts"), slowly("local", "concepts"), slowly("ray", "tokens")],
)
def test_a_killed_worker_costs_its_shard_and_the_bytes_are_those_of_one_process(
    engine: str,
    stage: str,
    cells: pd.DataFrame,
    expected: Path,
    tmp_path: Path,
    capfd: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    if engine == "ray":
        _needs_ray()
        monkeypatch.setenv("PYTHONPATH", importing_from(ROOT / "tests"))  # workers import the tests' module
    with open_engine(EngineConfig(engine, replicas=2)) as two:
        assert two.replicas == 2
        made_by(two, cells, tmp_path / "two", tmp_path / stage)
        workers = [child.pid for child in psutil.Process().children(recursive=True) if child.pid != _tracker()]
        heard = {ip.removeprefix("::ffff:") for pid in workers for ip in _listening(pid)}
    same_files(tmp_path / "two", expected)
    log = tmp_path / stage
    assert begun(log) == ONCE + Counter([FATAL])
    assert len({line.split()[1] for line in log.read_text().splitlines()}) >= 2  # processes
    assert heard == ({"127.0.0.1"} if engine == "ray" else set())
    if engine == "local":
        assert capfd.readouterr().err.count("was killed by signal 9; what it worked on is made again") == 1
    deadline = time.monotonic() + 60
    while any(psutil.pid_exists(pid) for pid in workers) and time.monotonic() < deadline:
        time.sleep(0.1)
    assert not any(psutil.pid_exists(pid) for pid in workers)


def _needs_ray() -> None:
    if importlib.util.find_spec("ray") is None:  # not imported: that comes after the engine's settings for it
        pytest.skip("ray is not installed")


def _listening(pid: int) -> Iterator[str]:
    try:
        connections = psutil.Process(pid).net_connections("inet")
        yield from (one.laddr.ip for one in connections if one.status == psutil.CONN_LISTEN)
    except psutil.NoSuchProcess:
        return


def _tracker() -> int | None:
    """Python's own process that cleans up after spawned ones; it ends with this one."""
    from multiprocessing import resource_tracker

    return getattr(resource_tracker._resource_tracker, "_pid", None)


@pytest.mark.slow
def test_shares_by_processes_that_know_nothing_of_one_another(
    cells: pd.DataFrame, expected: Path, tmp_path: Path
) -> None:
    """Three tasks at once, two of which have the same partition; then the command without a partition finishes."""
    write_cells(cells, tmp_path / "cells.parquet")
    tasks = [(tmp_path, partition) for partition in (Partition(1, 2), Partition(2, 2), Partition(2, 2))]
    with multiprocessing.get_context("spawn").Pool(3) as pool:
        made = pool.starmap(make_partition, tasks)
        assert made[0]["shards_made"] == 4
        with pytest.raises(CytosaeError, match="not finished"):
            TokenStore(tmp_path / "tokens")
        assert make_partition(tmp_path, None)["shards_made"] == 0
        pieces = pool.starmap(encode_partition, tasks)
        assert pieces[0] == {"pieces": 4, "pieces_made": 4}
        assert not list((tmp_path / "concepts").glob("*.h5ad"))
        encode_partition(tmp_path, None)
    same_files(tmp_path, expected)


def test_tokens_made_on_the_fly_by_replicas(cells: pd.DataFrame, expected: Path, tmp_path: Path) -> None:
    """No store: each replica loads the backbone and makes the tokens of its pieces."""
    source = LiveTokens(cells, Drawn, LAYOUT, workers=0)  # type: ignore[arg-type]
    with open_engine(EngineConfig(replicas=2)) as two:
        encode(source, some_sae(), tmp_path / "live", engine=two)
    for dataset in ("marrow", "blood"):
        mine, theirs = (read_concepts(folder, dataset) for folder in (tmp_path / "live", expected / "concepts"))
        assert (mine.X != theirs.X).nnz == 0
        assert (mine.layers["mean_activation"] != theirs.layers["mean_activation"]).nnz == 0
        maps = (read_maps(folder, dataset)[1] for folder in (tmp_path / "live", expected / "concepts"))
        assert next(maps).tobytes() == next(maps).tobytes()


def test_a_share_that_comes_late_changes_nothing(cells: pd.DataFrame, expected: Path, tmp_path: Path) -> None:
    """A task that is started once more when all is finished, and a shard that is made twice."""
    write_cells(cells, tmp_path / "cells.parquet")
    make_partition(tmp_path, None)
    encode_partition(tmp_path, None)
    assert make_partition(tmp_path, Partition(1, 2))["shards_made"] == 0
    assert encode_partition(tmp_path, Partition(1, 2)) == {"pieces": 0, "pieces_made": 0}
    same_files(tmp_path, expected)
    (tmp_path / "tokens" / "shard-00002.safetensors").unlink()
    assert make_partition(tmp_path, Partition(2, 2))["shards_made"] == 0  # not of this partition
    assert make_partition(tmp_path, Partition(1, 2))["shards_made"] == 1
    assert make_partition(tmp_path, None)["shards_made"] == 0
    same_files(tmp_path, expected)


def test_damage_between_a_share_and_the_end_is_found(
    cells: pd.DataFrame, expected: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_cells(cells, tmp_path / "cells.parquet")
    for partition in (Partition(1, 2), Partition(2, 2)):
        make_partition(tmp_path, partition)
    path = tmp_path / "tokens" / "shard-00003.safetensors"
    data = bytearray(path.read_bytes())
    data[-3] ^= 1
    path.write_bytes(data)
    assert make_partition(tmp_path, None)["shards_made"] == 1
    assert "shard-00003.safetensors is made anew, shard is damaged" in capsys.readouterr().err
    encode_partition(tmp_path, None)
    same_files(tmp_path, expected)


def test_notes_of_another_layout_are_not_believed(cells: pd.DataFrame, tmp_path: Path) -> None:
    write_cells(cells, tmp_path / "cells.parquet")
    make_partition(tmp_path, Partition(1, 2))
    other = Other()
    layout = type(LAYOUT)(**{**vars(LAYOUT), "backbone": {**LAYOUT.backbone, "fingerprint": "g"}})
    made = embed(cells, other, tmp_path / "tokens", layout, workers=0)  # type: ignore[arg-type]
    assert made["shards_made"] == SHARDS


def test_a_replica_with_another_backbone_is_refused(cells: pd.DataFrame, tmp_path: Path) -> None:
    with pytest.raises(CytosaeError, match="fingerprint f -> g"):
        embed(cells, Other, tmp_path / "tokens", LAYOUT, workers=0)  # type: ignore[arg-type]


@given(n=st.integers(1, 9), units=st.integers(0, 60))
def test_every_unit_is_in_exactly_one_share(n: int, units: int) -> None:
    partitions = [Partition.parse(f"{i}/{n}") for i in range(1, n + 1)]
    assert all(sum(partition.has(unit) for partition in partitions) == 1 for unit in range(units))
    assert max(sum(map(partition.has, range(units))) for partition in partitions) <= -(-units // n)


@pytest.mark.parametrize("text", ["0/3", "4/3", "1", "a/b", "1/0", "-1/3", "1/3/5"])
def test_no_such_share(text: str) -> None:
    with pytest.raises(CytosaeError, match=r"--shard .*I/N"):
        Partition.parse(text)


def test_processes_take_units_as_they_can_and_survive_what_goes_wrong() -> None:
    asked: list[int] = []

    def units() -> Iterator[int]:
        for number in range(10_000):
            asked.append(number)
            yield number

    ticks: list[int] = []
    with open_engine(EngineConfig(replicas=2)) as engine:
        results = engine.map(Squares(), units(), ticks.append)
        for count in range(1, 20):
            next(results)
            assert len(asked) <= count + 2 * AHEAD  # back-pressure
        assert set(ticks) == {1}
    with open_engine(EngineConfig(replicas=2)) as engine:
        assert sorted(engine.map(Squares(), range(9), ticks.append)) == [n * n for n in range(9)]
        with pytest.raises(CytosaeError, match="3: wrong"):
            list(engine.map(Squares(wrong=3), range(9), ticks.append))


def test_a_unit_that_kills_every_process_ends_the_run(capfd: pytest.CaptureFixture[str]) -> None:
    with (
        open_engine(EngineConfig(replicas=2)) as engine,
        pytest.raises(CytosaeError, match=r"signal 9.*fewer --replicas"),
    ):
        list(engine.map(Squares(fatal=1), range(4), lambda _: None))
    assert capfd.readouterr().err.count("is made again") == ATTEMPTS - 1


def test_address_without_ray() -> None:
    with pytest.raises(CytosaeError, match=r"--address here:6379.*--engine ray"):
        EngineConfig(address="here:6379")


def test_ray_that_is_not_installed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "ray", None)
    with pytest.raises(CytosaeError, match=r"pip install 'cytosae\[ray\]'"), open_engine(EngineConfig("ray")):
        pass


@pytest.mark.slow
def test_commands(some_cells: Path, vit: Path, tmp_path: Path) -> None:
    """embed and encode by one process, by two, by partitions, by Ray, from tokens and from images; run by two."""
    _needs_ray()
    table = tmp_path / "cells.parquet"
    cytosae("cells", some_cells, "-o", table)
    store = ["--backbone", vit, "--cells-per-shard", 8, "--batch-size", 8]

    def embedded(name: str, *options: object) -> dict[str, bytes]:
        cytosae("embed", table, "-o", tmp_path / name, *store, *options)
        return {path.name: path.read_bytes() for path in (tmp_path / name).glob("shard-*.safetensors")}

    whole = embedded("tokens")
    assert len(whole) == 12
    assert embedded("two", "--replicas", 2) == whole
    assert embedded("ray", "--engine", "ray", "--replicas", 2) == whole
    assert len(embedded("partitions", "--shard", "1/2")) == 6
    assert embedded("partitions") == whole
    training = ["--expansion", 8, "--images", 960, "--batch-images", 16, "--learning-rate", "2e-3", "--l1", "2e-4"]
    cytosae("train", tmp_path / "tokens", "-o", tmp_path / "sae", *training)

    def encoded(name: str, *options: object) -> dict[str, bytes]:
        tokens = [] if "live" in name else ["--tokens", tmp_path / "tokens"]
        cytosae("encode", table, "--sae", tmp_path / "sae", *tokens, "-o", tmp_path / name, *options)
        return {
            path.name: path.read_bytes()
            for path in (tmp_path / name).iterdir()
            if path.suffix in {".h5ad", ".safetensors"}
        }

    whole = encoded("concepts")
    assert len(whole) == 8
    assert encoded("c-two", "--replicas", 2) == whole
    assert encoded("c-ray", "--engine", "ray", "--replicas", 2) == whole
    assert encoded("c-partitions", "--shard", "2/2") == {}
    assert encoded("c-partitions") == whole
    assert encoded("live-two", "--replicas", 2) == encoded("live")
    training = ["--preset", "paper", *training]
    run = ["run", some_cells, "--study", tmp_path / "study", *store, *training, "--replicas", 2, "--json"]
    assert figures(cytosae(*run))["stages"]["tokens"]["shards_made"] == 12
    assert all(stage["skipped"] for stage in figures(cytosae(*run))["stages"].values())
    refused = cytosae("encode", table, "--sae", tmp_path / "sae", "--shard", "3/2", check=False)
    assert_user_error(refused, "--shard 3/2")
