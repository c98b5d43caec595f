"""Studies, tokens and images at URLs: against an S3-compatible server of this machine that fails now and then."""

from __future__ import annotations

import hashlib
import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("moto", reason="needs moto[server], of the extra dev")
pytest.importorskip("s3fs", reason="needs s3fs, of the extra s3")

import fsspec
from moto.moto_server.werkzeug_app import DomainDispatcherApplication, create_backend_app
from werkzeug.serving import make_server

from cytosae.artefacts import LEDGER, MANIFEST, write_json
from cytosae.cells import decoded, list_cells, read_cells, write_cells
from cytosae.errors import CytosaeError
from cytosae.locks import LOCK
from cytosae.report import write_report
from cytosae.sae import SAE, train
from cytosae.settings import BackboneConfig, StoreConfig, TrainConfig
from cytosae.storage import objects, resolve_path
from cytosae.study import RunConfig, Study, rendered
from cytosae.tokens import TokenStore, shuffled_batches
from support.commands import assert_user_error, cytosae, figures
from support.folders import contents
from support.object_store import FAILURES, Faulty, Quiet, machine, requested_files, s3, tree, without_retries


@pytest.fixture(scope="module")
def server() -> Iterator[Faulty]:
    """An S3-compatible server of this machine with an empty bucket."""
    faulty = Faulty(DomainDispatcherApplication(create_backend_app))
    httpd = make_server("127.0.0.1", 0, faulty, threaded=True, request_handler=Quiet)
    threading.Thread(target=httpd.serve_forever, daemon=True).start()
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("AWS_ENDPOINT_URL", f"http://127.0.0.1:{httpd.server_port}")
        patch.setenv("AWS_ACCESS_KEY_ID", "test-key")
        patch.setenv("AWS_SECRET_ACCESS_KEY", "test-secret")
        patch.setenv("AWS_DEFAULT_REGION", "us-east-1")
        s3().mkdir("bucket")
        yield faulty
    httpd.shutdown()
    httpd.server_close()


TIMES = {"mtime_ns", "seconds", "page", "barcodes", "digest", "logs"}
"""What two runs of one study differ in: when, how long, and where; with it the digest of what says so."""


def lasting(value: Any) -> Any:
    """JSON without times and places, and without the report's figures, which its manifest does not name at a URL."""
    if isinstance(value, dict):
        return {key: lasting(one) for key, one in value.items() if key not in TIMES and not key.startswith("figures/")}
    return [lasting(one) for one in value] if isinstance(value, list) else value


def comparable(name: str, data: bytes) -> Any:
    """What has to be equal in a file of two runs of one study: every byte but for times and places."""
    if name.endswith((".json", ".jsonl")):
        return [lasting(json.loads(line)) for line in ([data] if name.endswith(".json") else data.splitlines())]
    return hashlib.sha256(data).hexdigest()


@pytest.fixture(scope="module")
def cohort(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A table of drawn cells with their patients, on this machine."""
    return rendered(Path("synthetic:patients=5,cells=5,seed=1"), tmp_path_factory.mktemp("cohort"))


def small() -> RunConfig:
    """Settings of a small study."""
    training = TrainConfig(
        expansion=2, images=96, batch_images=8, l1=4e-5, directions_init="tokens", dead_latent_loss="none"
    )
    return RunConfig(BackboneConfig("tiny"), StoreConfig(cells_per_shard=8, batch_size=4), training)


@pytest.fixture(scope="module")
def here(cohort: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The study on a local disk."""
    folder = tmp_path_factory.mktemp("here") / "study"
    Study(folder, small()).run(cohort)
    return folder


@pytest.fixture(scope="module")
def there(cohort: Path, server: Faulty, tmp_path_factory: pytest.TempPathFactory) -> tuple[str, list[str]]:
    """The same study at a URL, made while every seventh request failed, and what was uploaded in which order."""
    with pytest.MonkeyPatch.context() as patch:
        machine(tmp_path_factory.mktemp("there"), patch)
        patch.setattr(objects, "PAUSE", 0.01)
        without_retries(patch)
        server.every = 7
        Study(resolve_path("s3://bucket/study"), small()).run(cohort)
    assert set(server.failed) == set(FAILURES)
    return "s3://bucket/study", [
        path.removeprefix("/bucket/study/") for method, path, _ in server.requests if method == "PUT"
    ]


def test_a_study_at_a_url_is_the_local_one(here: Path, there: tuple[str, list[str]]) -> None:
    expected, found = contents(here), tree("study")
    expected = {name: data for name, data in expected.items() if name.rpartition("/")[2] != LOCK}
    assert found.keys() == expected.keys()
    for name in expected:
        assert comparable(name, found[name]) == comparable(name, expected[name]), name


def test_a_manifest_is_sent_after_its_files(there: tuple[str, list[str]]) -> None:
    _, sent = there
    for stage in ("tokens", "sae", "concepts", "cohort", "report"):
        of_stage = [name for name in sent if name.startswith(f"{stage}/") and not name.endswith(LEDGER)]
        assert len(of_stage) > 1
        assert of_stage[-1] == f"{stage}/{MANIFEST}"
    last = {name: position for position, name in enumerate(sent)}
    for name in json.loads(tree("study")[f"sae/{MANIFEST}"])["outputs"]:
        assert last[f"sae/{name}"] < sent.index(f"sae/{MANIFEST}")


def test_another_machine_fetches_what_it_reads(there: tuple[str, list[str]], server: Faulty) -> None:
    folder = resolve_path(there[0])
    before = tree("study")
    server.requests.clear()
    write_report(folder)
    fetched = set(requested_files(server, "GET"))
    assert "concepts/synthetic.h5ad" in fetched
    assert not {name for name in fetched if name.startswith("tokens/shard") or name.endswith("sae/model.safetensors")}
    assert "sae/checkpoint.safetensors" not in fetched
    assert comparable("", tree("study")["report/index.html"]) == comparable("", before["report/index.html"])
    server.requests.clear()
    SAE.from_pretrained(folder / "sae")  # config.json is here since the report
    fetched = set(requested_files(server, "GET"))
    assert "sae/model.safetensors" in fetched
    assert "sae/config.json" not in fetched


def test_a_run_elsewhere_finds_everything_up_to_date(
    cohort: Path, there: tuple[str, list[str]], server: Faulty
) -> None:
    folder = resolve_path(there[0])
    server.requests.clear()
    stages = Study(folder, small()).run(cohort)
    assert all(stage["skipped"] for stage in stages.values())
    assert not requested_files(server, "PUT")
    fetched = set(requested_files(server, "GET"))
    sizes = {path: len(data) for path, data in tree("study").items()}
    assert sum(sizes.get(name, 0) for name in fetched) < sum(sizes.values()) / 20, {n: sizes.get(n) for n in fetched}


def test_a_file_that_its_manifest_does_not_know_is_refused(there: tuple[str, list[str]]) -> None:
    folder = resolve_path(there[0])
    name = "bucket/study/sae/model.safetensors"
    whole = s3().cat_file(name)
    s3().pipe_file(name, whole[:-1] + bytes([whole[-1] ^ 1]))
    with pytest.raises(CytosaeError, match=r"s3://bucket/study/sae/model\.safetensors: not the file that"):
        SAE.from_pretrained(folder / "sae")
    assert not list(Path(str(folder / "sae")).glob("*model*"))
    s3().pipe_file(name, whole)
    SAE.from_pretrained(folder / "sae")


def test_training_reads_the_cells_that_it_wants(
    here: Path, there: tuple[str, list[str]], server: Faulty, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = resolve_path(there[0])
    without_retries(monkeypatch)
    server.every = 5
    remote, local = TokenStore(folder / "tokens"), TokenStore(here / "tokens")
    assert remote.fingerprint == local.fingerprint
    assert remote.untouched()
    remote.verify()
    order = shuffled_batches(np.arange(remote.n_cells), 6, seed=3)
    chosen = [next(order) for _ in range(9)]
    for found, expected in zip(remote.stream(chosen), local.stream(chosen), strict=True):
        assert found.equal(expected)
    train(remote, tmp_path / "sae", small().train)
    assert (tmp_path / "sae" / "model.safetensors").read_bytes() == (here / "sae" / "model.safetensors").read_bytes()
    spans = [span for method, path, span in server.requests if method == "GET" and "/tokens/shard-" in path]
    assert spans
    assert all(span.startswith("bytes=") for span in spans)
    assert not list(Path(str(folder / "tokens")).glob("*.safetensors"))


def test_neighbours_are_one_request(there: tuple[str, list[str]], server: Faulty) -> None:
    store = TokenStore(resolve_path(there[0]) / "tokens")
    server.requests.clear()
    store.read(np.arange(store.n_cells))
    assert len(server.requests) == len(store.shards)
    server.requests.clear()
    store.read(np.array([5, 2, 3, 4, 7, 8]))  # 7 and 8 lie in two shards
    assert len(server.requests) == 4


def test_a_shard_that_has_gone_is_made_again(
    cohort: Path, here: Path, there: tuple[str, list[str]], server: Faulty
) -> None:
    folder = resolve_path(there[0])
    s3().rm_file("bucket/study/tokens/shard-00001.safetensors")
    with pytest.raises(CytosaeError, match="shard is missing"):
        TokenStore(folder / "tokens").verify()
    server.requests.clear()
    stages = Study(folder, small()).run(cohort)
    assert stages["tokens"]["shards_made"] == 1
    assert stages["sae"]["skipped"]
    name = "tokens/shard-00001.safetensors"
    assert tree("study")[name] == (here / name).read_bytes()


def test_images_are_listed_and_read_by_url(
    cohort: Path, server: Faulty, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    without_retries(monkeypatch)
    s3().put(str(cohort.parent / "images"), "bucket/images", recursive=True)
    s3().pipe("bucket/images/P000/empty.jpg", b"")
    s3().pipe("bucket/images/P000/torn.jpg", s3().cat(s3().find("bucket/images/P001")[0])[:900])
    s3().pipe("bucket/images/.hidden/a.jpg", b"")
    server.every = 6
    local, stored = list_cells(cohort.parent / "images"), list_cells(resolve_path("s3://bucket/images"))
    for column in ("cell_id", "label", "width", "height", "file_bytes", "file_sha256"):
        assert stored.cells[column].tolist() == local.cells[column].tolist(), column
    assert stored.cells["path"][0] == f"s3://bucket/images/{stored.cells['cell_id'][0]}"
    assert sorted(stored.rejected["cell_id"]) == [".hidden/a.jpg", "P000/empty.jpg", "P000/torn.jpg"]
    batches = [np.array([3, 0, 7]), np.array([5])]
    for workers in (0, 1):
        pairs = zip(*(decoded(t.cells["path"].tolist(), batches, 64, workers) for t in (local, stored)), strict=True)
        assert all(ours.equal(theirs) for ours, theirs in pairs)
    server.every = 0
    again = list_cells(resolve_path("s3://bucket/images"), previous=stored.cells)
    assert again.inspected == 2  # those that cannot be read
    s3().cp_file(stored.cells["path"][0], stored.cells["path"].iloc[-1])
    machine(tmp_path / "other", monkeypatch)
    assert list_cells(resolve_path("s3://bucket/images"), previous=stored.cells).inspected == 3
    s3().rm_file(stored.cells["path"][0])
    with pytest.raises(CytosaeError, match="file is missing"):
        list(decoded(stored.cells["path"].tolist(), batches, 64, 0))


def test_tables_at_urls_name_their_images(cohort: Path, server: Faulty) -> None:
    s3().put(str(cohort.parent / "images"), "bucket/cohort/images", recursive=True)
    s3().put(str(cohort.parent / "masks"), "bucket/cohort/masks", recursive=True)
    s3().put_file(str(cohort), "bucket/cohort/cohort.csv")
    listing = list_cells(resolve_path("s3://bucket/cohort/cohort.csv"))
    assert listing.cells["path"].str.startswith("s3://bucket/cohort/images/").all()
    assert listing.cells["file_sha256"].tolist() == list_cells(cohort).cells["file_sha256"].tolist()
    table = resolve_path("s3://bucket/cohort/cells.parquet")
    write_cells(listing.cells, table)
    read = read_cells(table)
    assert read["path"].tolist() == listing.cells["path"].tolist()
    assert read["mask"].tolist() == listing.cells["mask"].tolist()
    above = Path(os.environ["CYTOSAE_CACHE"]).parent / "cells.parquet"  # of the working copy of the bucket
    write_cells(listing.cells, above)
    assert read_cells(above)["path"].tolist() == listing.cells["path"].tolist()
    s3().cp("bucket/cohort/", "bucket/moved/", recursive=True)
    assert read_cells(resolve_path("s3://bucket/moved/cells.parquet"))["path"][0].startswith(
        "s3://bucket/moved/images/"
    )


@pytest.mark.slow  # kills at local stages are tried in every run
def test_a_killed_upload_goes_on(cohort: Path, here: Path, server: Faulty, tmp_path: Path) -> None:
    table = tmp_path / "cells.parquet"
    write_cells(list_cells(cohort).cells, table)
    server.hold = 0.3
    command = ["embed", str(table), "-o", "s3://bucket/killed", "--backbone", "tiny"]
    command += ["--cells-per-shard", "8", "--batch-size", "4", "--json"]
    process = subprocess.Popen([sys.executable, "-m", "cytosae", *command], stderr=subprocess.DEVNULL)
    while not any(path.endswith("00001.safetensors") for _, path, _ in list(server.requests)):
        time.sleep(0.01)
        assert process.poll() is None
    process.send_signal(signal.SIGKILL)
    process.wait()
    server.hold = 0.0
    left = tree("killed")
    manifest = json.loads(left[MANIFEST])
    assert not manifest["complete"]
    assert {shard["file"] for shard in manifest["shards"]} <= left.keys()
    assert figures(cytosae(*command))["shards_made"] == 3
    found = tree("killed")
    for name, data in contents(here / "tokens").items():
        if name.startswith("shard-"):
            assert found[name] == data
    assert json.loads(found[MANIFEST])["complete"]


def test_no_secret_is_written(there: tuple[str, list[str]]) -> None:
    for name, data in tree("study").items():
        assert b"test-secret" not in data, name
        assert b"test-key" not in data, name


def test_the_command_line_says_what_is_wrong(server: Faulty, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert_user_error(cytosae("report", "s3://k:sekret@bucket/study", check=False), "credentials")
    assert_user_error(cytosae("datasets", "prepare", "bmc", "s3://bucket/bmc", "-o", tmp_path, check=False), "no URL")
    assert not (tmp_path / "s3:").exists()


def test_no_permission_and_no_bucket(server: Faulty, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(CytosaeError, match=r"s3://nowhere/a\.json: cannot be written, there is no such bucket"):
        write_json(resolve_path("s3://nowhere/a.json"), 1)
    fs = fsspec.filesystem("memory")
    monkeypatch.setattr(type(fs), "info", lambda *_, **__: (_ for _ in ()).throw(PermissionError("Forbidden")))
    with pytest.raises(CytosaeError, match=r"memory://b/a\.json: may not be looked at \(Forbidden\)"):
        resolve_path("memory://b/a.json").exists()


def test_local_work_loads_no_fsspec(here: Path) -> None:
    script = (
        "import sys; from pathlib import Path; from cytosae.cli.commands import app; from cytosae.artefacts import Manifest;"
        f"assert Manifest.load(Path({str(here / 'sae')!r})); assert not {{'s3fs', 'fsspec'}} & {{*sys.modules}}"
    )
    subprocess.run([sys.executable, "-c", script], check=True)


@pytest.mark.slow
def test_a_study_killed_again_and_again_on_other_machines(
    cohort: Path, here: Path, server: Faulty, tmp_path: Path
) -> None:
    server.every = 23
    settings = (
        "--preset paper --backbone tiny --cells-per-shard 8 --batch-size 4 --expansion 2 --images 96 --batch-images 8 "
        "--l1 4e-5 --directions-init tokens --dead-latent-loss none --checkpoint-seconds 0"
    )
    command = [
        sys.executable,
        "-m",
        "cytosae",
        "run",
        str(cohort),
        "--study",
        "s3://bucket/again",
        *settings.split(" "),
    ]
    for uploads in (4, 7, 9, 12, 15):
        server.requests.clear()
        process = subprocess.Popen(
            command,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            env={**os.environ, "CYTOSAE_CACHE": str(tmp_path / f"machine-{uploads}")},
        )
        while len(requested_files(server, "PUT")) < uploads and process.poll() is None:
            time.sleep(0.01)
        process.send_signal(signal.SIGKILL)
        process.wait()
    assert not s3().exists("bucket/again/report/manifest.json")
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL, env={**os.environ, "CYTOSAE_CACHE": str(tmp_path)})
    expected, found = contents(here), tree("again")
    assert found.keys() == expected.keys()
    for name in expected:
        # The log of a killed training has lines twice, and so has what the report draws of it.
        logged = "metrics.jsonl", "training.png", "training.svg", "index.html", "report/manifest.json"
        if not name.endswith((*logged, "checkpoint.safetensors")):
            assert comparable(name, found[name]) == comparable(name, expected[name]), name
