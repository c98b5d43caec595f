"""Training in several processes under torchrun, against the same training in one: the same weights, logs and checkpoints."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil
import pytest
import torch
from safetensors.torch import load_file, save_file

from cytosae.errors import CytosaeError
from cytosae.sae import distributed, read_metrics, train
from cytosae.sae.checkpoint import CHECKPOINT
from cytosae.sae.distributed import _own_device
from cytosae.settings import StoreConfig, TrainConfig
from cytosae.tokens import TokenStore, embed, store_layout
from cytosae.tokens.store import FileRecord, read_manifest, write_manifest
from support.paths import ROOT
from support.planted import PlantedBackbone, numbered_cells, tiny_info

D, N_TOKENS, CELLS, STEPS, BATCH = 16, 7, 96, 50, 8
TOLERANCE = 2e-5
"""Of a weight, after 50 steps of up to 0.03 each: sums in another order, which Adam's quotient of small numbers enlarges."""

BASE = {
    "expansion": 16, "images": STEPS * BATCH, "batch_images": BATCH, "encoder": "float32", "learning_rate": 3e-2, "l1": 3e-2,
    "warmup_steps": 5, "dead_after_tokens": 5 * BATCH * N_TOKENS, "evaluate_every": 25, "log_every": 5, "init_images": 8,
    "centring": "position",
}  # fmt: skip
CONFIGS: dict[str, dict[str, Any]] = {
    # From dense to sparse steps within the fifty, with up to half of the latents dead.
    "ghost": {},
    "uneven": {"batch_images": 7, "images": 7 * STEPS},
    "matryoshka": {"matryoshka_levels": 4},
    "auxk": {"dead_latent_loss": "auxk"},
    "squared": {"objective": "squared", "l1": 0.3},
    "bfloat16": {"encoder": "bfloat16", "dead_latent_loss": "none"},
    "topk": {"objective": "topk", "k": 4, "learning_rate": 1e-2},
    "batchtopk": {"objective": "batchtopk", "k": 4, "learning_rate": 1e-2},
    "jumprelu": {"objective": "jumprelu", "l1": 0.1, "learning_rate": 1e-2},
    "gated": {"objective": "gated", "l1": 0.3},
    "archetypal": {"objective": "archetypal", "k": 4, "archetypes": 40, "relaxation": 0.1, "learning_rate": 1e-3},
    "rarely": {"dead_latent_loss": "none", "dead_every": 4},
}
WITHOUT_DEAD = {"bfloat16", "jumprelu", "rarely"}  # or none that are revived
QUICK = {
    "data": ("ghost",),
    "latents": ("ghost", "batchtopk", "rarely"),
}
SLOW = {
    "data": (
        "uneven",
        "matryoshka",
        "topk",
        "batchtopk",
        "auxk",
        "squared",
        "bfloat16",
        "jumprelu",
        "gated",
        "archetypal",
    ),
    "latents": ("uneven", "matryoshka", "topk", "auxk", "squared", "bfloat16", "jumprelu", "gated", "archetypal"),
}


def pairs(divisions: dict[str, tuple[str, ...]]) -> list[tuple[str, str]]:
    return [(name, way) for way, names in divisions.items() for name in names]


def config(name: str) -> TrainConfig:
    return TrainConfig(**{**BASE, **CONFIGS[name]})


def case(name: str, way: str, **more: Any) -> dict[str, Any]:
    return {"name": f"{name}-{way}", "config": {**BASE, **CONFIGS[name]}, "parallel": way, **more}


@dataclass
class Launch:
    """What a launch of torchrun left."""

    folder: Path
    processes: int
    code: int
    stderr: str

    def seen(self, name: str, rank: int = 0) -> dict[str, Any]:
        path = self.folder / f"{name}.{rank}.json"
        assert path.is_file(), self.stderr[-3000:]
        return dict(json.loads(path.read_text()))


def torchrun(processes: int, *arguments: object) -> list[str]:
    return [
        *(sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", str(processes)),
        *map(str, arguments),
    ]


ENVIRONMENT = {**os.environ, "OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1"}


def launch(processes: int, store: Path, folder: Path, cases: list[dict[str, Any]], **environment: str) -> Launch:
    folder.mkdir(exist_ok=True)
    (folder / "cases.json").write_text(json.dumps(cases))
    script = ROOT / "tests" / "support" / "torchrun_cases.py"
    started = subprocess.Popen(
        torchrun(processes, script, store, folder),
        stderr=subprocess.PIPE,
        text=True,
        env={**ENVIRONMENT, **environment},
    )
    try:
        _, stderr = started.communicate(timeout=500)
    finally:
        started.terminate()  # where it hangs; torchrun ends its processes
        started.wait()
    return Launch(folder, processes, started.returncode, stderr)


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two stores of tokens made of planted directions; in ``broken`` one cell is NaN."""
    folder = tmp_path_factory.mktemp("distributed")
    generator = torch.Generator().manual_seed(0)
    axes = torch.nn.functional.normalize(torch.randn(40, D, generator=generator), dim=1)
    size = (CELLS, N_TOKENS, 40)
    active = torch.rand(size, generator=generator) * (torch.rand(size, generator=generator) < 0.1)
    noise = torch.randn(CELLS, N_TOKENS, D, generator=generator) * 0.05
    tokens = (3 * active @ axes + torch.randn(D, generator=generator) + noise).half()
    table, info = numbered_cells(folder / "images", CELLS), tiny_info(D, (2, 3))
    for name in ("tokens", "broken"):
        layout = store_layout(info, StoreConfig(cells_per_shard=16, batch_size=8))
        embed(table, PlantedBackbone(tokens, info), folder / name, layout, workers=0)  # type: ignore[arg-type]
    layout, shards, _ = read_manifest(folder / "broken") or pytest.fail("no store was written")
    file = folder / "broken" / shards[2].file
    spoiled = load_file(file)
    spoiled["tokens"][3] = torch.nan
    save_file(spoiled, file)
    shards[2] = type(shards[2])(**{**vars(shards[2]), "record": FileRecord.from_file(file)})
    write_manifest(folder / "broken", layout, shards, complete=True)
    return folder


@pytest.fixture(scope="module")
def alone(store: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Every training in one process."""
    folder, threads = tmp_path_factory.mktemp("alone"), torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        for name in {name for name, _ in pairs(QUICK)} | {"uneven"}:
            train(TokenStore(store / "tokens"), folder / name, config(name), device="cpu")
    finally:
        torch.set_num_threads(threads)
    return folder


@pytest.fixture(scope="module")
def of_four(store: Path, alone: Path, tmp_path_factory: pytest.TempPathFactory) -> Launch:
    """Two trainings, and a third in whose middle the last process is killed."""
    killed = case("ghost", "latents", at=10, rank=3, signal="SIGKILL", checkpoint_seconds=0.0)
    cases = [case("uneven", "data"), case("ghost", "latents"), {**killed, "name": "killed"}]
    return launch(4, store, tmp_path_factory.mktemp("four"), cases)


@pytest.fixture(scope="module")
def of_two(store: Path, tmp_path_factory: pytest.TempPathFactory) -> Launch:
    """Every training, one is stopped and goes on, and one finds a broken cell."""
    folder = tmp_path_factory.mktemp("two")
    cases = [case(*division) for division in pairs(QUICK)]
    cases.append({**case("ghost", "latents", at=30, rank=1, signal="SIGTERM"), "name": "stopped"})
    cases.append({**case("ghost", "data"), "name": "broken", "store": "broken"})
    cases += [case("rarely", "data"), {**case("ghost", "weights"), "name": "weights"}]
    small = case("ghost", "data")
    cases.append({**small, "name": "small", "config": {**small["config"], "batch_images": 1}})
    found = launch(2, store, folder, cases)
    assert found.code == 0, found.stderr[-3000:]
    return found


def assert_same(folder: Path, expected: Path) -> None:
    """The same checkpoint, autoencoder, manifest figures and log, within the tolerance."""
    ours, theirs = load_file(folder / CHECKPOINT), load_file(expected / CHECKPOINT)
    assert ours.keys() == theirs.keys()
    assert torch.equal(ours["since_fired"], theirs["since_fired"])
    for name in theirs.keys() - {"since_fired", "random_state"}:
        assert (ours[name] - theirs[name]).abs().max() < TOLERANCE, name
    saved = load_file(folder / "model.safetensors")
    for name, value in saved.items():
        assert torch.equal(value, ours[f"sae.{name}"]), name
    lines, wanted = read_metrics(folder), read_metrics(expected)
    assert [line["step"] for line in lines] == [line["step"] for line in wanted]
    for line, other in zip(lines, wanted, strict=True):
        for name in other.keys() - {"seconds"}:
            assert line[name] == pytest.approx(other[name], rel=1e-3, abs=1e-6), (line["step"], name)


@pytest.mark.parametrize(("name", "way"), pairs(QUICK))
def test_two_processes_take_the_steps_of_one(name: str, way: str, of_two: Launch, alone: Path) -> None:
    assert_same(of_two.folder / f"{name}-{way}", alone / name)
    dead = [line["dead"] for line in read_metrics(alone / name) if "dead" in line]
    assert max(dead) > 0.05 or name in WITHOUT_DEAD  # their term was at work
    assert not of_two.seen(f"{name}-{way}", 1)["figures"]  # the first process alone has an answer


@pytest.mark.slow
def test_four_processes_take_the_steps_of_one(of_four: Launch, alone: Path) -> None:
    for name, way in (("uneven", "data"), ("ghost", "latents")):
        assert_same(of_four.folder / f"{name}-{way}", alone / name)


@pytest.mark.slow
def test_a_killed_process_ends_all_and_another_number_goes_on(
    of_four: Launch, store: Path, alone: Path, tmp_path: Path
) -> None:
    assert of_four.code != 0
    for rank in range(3):
        error = of_four.seen("killed", rank)["error"]
        assert "goes on from the last checkpoint" in error
    assert "Traceback" not in of_four.stderr.partition("failed (exitcode")[0]
    assert not (of_four.folder / "killed" / "model.safetensors").exists()
    assert read_metrics(of_four.folder / "killed")[-1]["step"] == 10
    (tmp_path / "killed").mkdir()
    for name in (CHECKPOINT, "metrics.jsonl"):
        (tmp_path / "killed" / name).write_bytes((of_four.folder / "killed" / name).read_bytes())
    found = launch(2, store, tmp_path, [{**case("ghost", "data"), "name": "killed"}])
    assert found.code == 0, found.stderr[-3000:]
    assert_same(tmp_path / "killed", alone / "ghost")


def test_a_signal_to_one_process_stops_all_at_the_same_step(of_two: Launch, alone: Path, store: Path) -> None:
    for rank in range(2):
        assert "Interrupted: stopped after step 31 of 50" in of_two.seen("stopped", rank)["error"]
    train(TokenStore(store / "tokens"), of_two.folder / "stopped", config("ghost"), device="cpu")  # goes on alone
    assert_same(of_two.folder / "stopped", alone / "ghost")


def test_an_error_of_one_process_is_that_of_all(of_two: Launch) -> None:
    first, second = (of_two.seen("broken", rank)["error"] for rank in range(2))
    assert first == second
    assert "NaN" in first
    assert "shard-00002" in first


def test_with_divided_latents_no_weight_is_exchanged(of_two: Launch) -> None:
    """Bytes of one step of each way, on 8 images of 7 tokens, with dead latents."""
    n = BATCH * N_TOKENS

    def of_step(name: str) -> list[list[Any]]:
        exchanged = of_two.seen(name)["exchanged"]
        start = next(place for place, (what, *_) in enumerate(exchanged) if what == "step")
        ends = [place for place, (_, *sizes) in enumerate(exchanged) if place > start and sizes == [2, 16]]
        return list(exchanged[start + 1 : ends[0]])  # up to the question whether to stop

    divided = of_step("ghost-latents")
    assert max(size for _, size, _ in divided) == n * D
    # The reconstruction, the dead latents' and its scale, the gradient of b_dec, and counts.
    assert sum(size for _, _, size in divided) == pytest.approx(4 * (2 * n * D + n + D), abs=64)
    shared = of_step("ghost-data")
    latents = BASE["expansion"] * D
    assert sum(size for _, _, size in shared) == pytest.approx(4 * (2 * latents * D + 2 * latents + D), abs=128)


@pytest.mark.slow
@pytest.mark.parametrize("processes", [2, 4])
def test_every_objective_takes_the_steps_of_one(processes: int, store: Path, tmp_path: Path) -> None:
    divisions = pairs(SLOW)
    found = launch(processes, store, tmp_path / "several", [case(*division) for division in divisions])
    assert found.code == 0, found.stderr[-3000:]
    for name in {name for name, _ in divisions}:
        train(TokenStore(store / "tokens"), tmp_path / name, config(name), device="cpu")
        dead = [line["dead"] for line in read_metrics(tmp_path / name) if "dead" in line]
        assert max(dead) > 0.05 or name in WITHOUT_DEAD
    for name, way in divisions:
        assert_same(found.folder / f"{name}-{way}", tmp_path / name)


@pytest.mark.slow
def test_the_step_of_a_gpu_takes_the_steps_of_one(store: Path, tmp_path: Path) -> None:
    """Its kernels on a CPU, by Triton's interpreter; what goes by NCCL on GPUs goes by gloo here."""
    pytest.importorskip("triton")
    short = {**BASE, "images": 16 * BATCH, "dead_after_tokens": 2 * BATCH * N_TOKENS, "warmup_steps": 1}
    train(TokenStore(store / "tokens"), tmp_path / "alone", TrainConfig(**short), device="cpu")
    assert max(line.get("dead", 0) for line in read_metrics(tmp_path / "alone")) > 0.05
    cases = [{**case("ghost", way), "config": short, "gpu": True} for way in ("data", "latents")]
    found = launch(2, store, tmp_path / "two", cases, TRITON_INTERPRET="1")
    assert found.code == 0, found.stderr[-3000:]
    for way in ("data", "latents"):
        assert found.seen(f"ghost-{way}")["kernels"] >= 5
        assert_same(found.folder / f"ghost-{way}", tmp_path / "alone")


def command(
    processes: int, tokens: Path, folder: Path, *more: str, launcher: tuple[str, ...] = ()
) -> subprocess.Popen[str]:
    """`cytosae train` with the settings of ``ghost``, in several processes."""
    settings = [text for name, value in BASE.items() for text in (f"--{name.replace('_', '-')}", str(value))]
    train = ("-m", "cytosae", "train", tokens, "-o", folder, "--device", "cpu", "--json", *settings, *more)
    arguments = torchrun(processes, *launcher, *train)
    return subprocess.Popen(arguments, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=ENVIRONMENT)


@pytest.mark.slow
def test_the_command_answers_once(store: Path, alone: Path, tmp_path: Path) -> None:
    started = command(2, store / "tokens", tmp_path / "sae", "--parallel", "latents")
    stdout, stderr = started.communicate(timeout=400)
    assert started.returncode == 0, stderr
    assert json.loads(stdout)["steps"] == STEPS
    assert stderr.count("sae: 256 latents on 2 processes") == 1
    assert_same(tmp_path / "sae", alone / "ghost")


@pytest.mark.slow
@pytest.mark.parametrize(
    ("processes", "tokens", "message"),
    [(3, "tokens", "256 latents cannot be divided among 3 processes"), (2, "none", "no token store there")],
)
def test_the_command_refuses_once(processes: int, tokens: str, message: str, store: Path, tmp_path: Path) -> None:
    _, stderr = command(processes, store / tokens, tmp_path, "--parallel", "latents").communicate(timeout=400)
    (said,) = [line for line in stderr.splitlines() if line.startswith("error: ")]
    assert message in said
    assert "exitcode  : 2" in stderr


@pytest.mark.slow
def test_torchrun_starts_again_what_was_killed(store: Path, alone: Path, tmp_path: Path) -> None:
    options = ("--max-restarts", "1")
    started = command(2, store / "tokens", tmp_path / "sae", "--checkpoint-seconds", "0", launcher=options)
    wait_for_log(tmp_path / "sae")
    psutil.Process(started.pid).children()[0].kill()
    _, stderr = started.communicate(timeout=400)
    assert started.returncode == 0, stderr
    assert "step 0 of 50" in stderr.splitlines()[0]
    assert stderr.count("sae: 256 latents on 2 processes") == 2
    assert_same(tmp_path / "sae", alone / "ghost")


@pytest.mark.slow
def test_a_signal_to_torchrun_leaves_a_checkpoint(store: Path, tmp_path: Path) -> None:
    started = command(2, store / "tokens", tmp_path / "sae", "--images", "100000000")
    wait_for_log(tmp_path / "sae")
    started.send_signal(signal.SIGTERM)
    _, stderr = started.communicate(timeout=400)
    assert stderr.count("stopped after step") == 1
    assert "Traceback" not in stderr.partition("stopped after step")[0]
    assert (tmp_path / "sae" / CHECKPOINT).is_file()


def wait_for_log(folder: Path) -> None:
    """Until a training has begun."""
    deadline = time.monotonic() + 300
    while not read_metrics(folder) and time.monotonic() < deadline:
        time.sleep(0.02)


GONE = (
    "[/pytorch/third_party/gloo/gloo/transport/tcp/pair.cc:553] Connection closed by peer [127.0.0.1]:4711",
    "[../third_party/gloo/gloo/transport/tcp/pair.cc:534] Read error [127.0.0.1]:4711: Connection reset by peer",
    "[/pytorch/third_party/gloo/gloo/transport/tcp/unbound_buffer.cc:78] Timed out waiting 1800000ms for recv operation",
    "NCCL error: ... ncclRemoteError: A call failed possibly due to a network error or a remote process exiting.",
    "Broken pipe",
)
OWN = (
    "CUDA error: an illegal memory access was encountered",
    "The size of tensor a (3) must match the size of tensor b (4) at non-singleton dimension 0",
    "[enforce fail at alloc_cpu.cpp:121] DefaultCPUAllocator: can't allocate memory: you tried to allocate 9 bytes.",
    "NCCL error: unhandled cuda error",
)


@pytest.mark.parametrize("message", GONE)
def test_a_process_that_is_gone_is_called_that(message: str) -> None:
    with pytest.raises(CytosaeError, match="another process of this training has ended"), distributed._exchange():
        raise RuntimeError(message)


@pytest.mark.parametrize("message", OWN)
def test_any_other_mistake_keeps_its_own_words(message: str) -> None:
    with pytest.raises(RuntimeError) as raised, distributed._exchange():
        raise RuntimeError(message)
    assert str(raised.value) == message
    with pytest.raises(torch.OutOfMemoryError), distributed._exchange():
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2 GiB.")


def test_what_cannot_be_divided_is_refused(of_two: Launch) -> None:
    assert "2 processes, but a batch has 1 images" in of_two.seen("small", 1)["error"]
    assert "--dead-every 4" in of_two.seen("rarely-data", 1)["error"]
    assert (
        of_two.seen("weights", 1)["error"] == "CytosaeError: --parallel weights: unknown; choose one of data, latents."
    )
    with pytest.raises(CytosaeError, match="each uses its own GPU"):
        _own_device("cuda:0", 0)
    with pytest.raises(CytosaeError, match="fewer than the processes"):
        _own_device("cuda", torch.cuda.device_count())


LEFT_ALONE = """
import os, pathlib, sys
from cytosae.errors import CytosaeError
from cytosae.sae.distributed import join

try:
    with join(device="cpu") as processes:
        processes.maximum(1)
        if not processes.first:
            os._exit(0)
        while True:
            processes.maximum(1)
except CytosaeError as error:
    threads = {path.read_text().strip() for path in pathlib.Path("/proc/self/task").glob("*/comm")}
    print(sorted(name for name in threads if "gloo" in name), error)
    sys.exit(2)
"""


def test_who_is_left_alone_ends_with_its_own_code() -> None:
    """Threads of gloo that were still there at the end aborted the process every other time."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    shared = {
        **os.environ, "WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port), "TORCHELASTIC_RUN_ID": "test",
        "TORCHELASTIC_RESTART_COUNT": "0",
    }  # fmt: skip
    first, _ = [
        subprocess.Popen(
            [sys.executable, "-c", LEFT_ALONE], stdout=subprocess.PIPE, text=True,
            env={**shared, "RANK": str(rank), "LOCAL_RANK": str(rank)},
        )
        for rank in range(2)
    ]  # fmt: skip
    output, _ = first.communicate(timeout=300)
    assert first.returncode == 2
    assert output.startswith("[] another process of this training has ended")
