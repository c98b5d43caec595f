"""The catalogue of backbones, and what can be fetched of it."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from cytosae.backbones import BUILT_IN, fetch, listed, load
from cytosae.errors import CytosaeError
from support.backbones import DEPTH, STATED, WIDTH, flat, reference
from support.commands import assert_user_error, cytosae, cytosae_process, figures
from support.model_hosts import COMMIT, Hub, folder_bytes


def test_fetch_from_the_hub(
    hub: Callable[[dict[str, bytes]], Hub], vit: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("pooch.os_cache", lambda project: tmp_path / "os-cache" / project)
    monkeypatch.setattr("cytosae.backbones.loading.SHAPES", {"dinobloom-b": (WIDTH, DEPTH)})
    stated = {"image_mean": STATED[0], "image_std": STATED[1]}
    weights = flat(reference().state_dict(), tmp_path / "w")
    server = hub(
        {
            **folder_bytes(vit),
            "preprocessor_config.json": json.dumps(stated).encode(),
            "pytorch_model_b.bin": weights.read_bytes(),
        }
    )
    assert not any(row["cached"] for row in listed() if row["name"] not in BUILT_IN)
    found = fetch("facebook/dinov2-small")
    assert (found["fingerprint"], found["revision"]) == (load(str(vit)).info.fingerprint, COMMIT)
    assert load("facebook/dinov2-small").info.mean == pytest.approx(STATED[0])  # the repository's, not the family's
    assert fetch("dinobloom-b", output=tmp_path / "copy.bin")["revision"] == COMMIT
    assert (tmp_path / "copy.bin").read_bytes() == weights.read_bytes()
    assert fetch("dinobloom-b")["fingerprint"] == load(str(weights)).info.fingerprint
    cached = {row["name"] for row in listed() if row["cached"]}
    assert cached == {*BUILT_IN, "facebook/dinov2-small", "dinobloom-b"}
    asked = len(server.asked)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    for name, source in (("facebook/dinov2-small", "hub"), ("dinobloom-b", "zenodo")):
        with pytest.raises(CytosaeError, match=f"{name}: HF_HUB_OFFLINE is set, so nothing is downloaded"):
            fetch(name, source=source)
    assert len(server.asked) == asked


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("tiny", {}, "tiny: nothing to fetch"),
        ("dinobloom-b", {"source": "ftp"}, "--source ftp: unknown; choose one of hub, zenodo"),
        ("facebook/dinov2-small", {"source": "zenodo"}, "--source zenodo belongs to dinobloom-s"),
        ("facebook/dinov2-small", {"output": Path("x")}, "--output belongs to dinobloom-s"),
    ],
)
def test_what_cannot_be_fetched(name: str, options: dict[str, Any], message: str) -> None:
    with pytest.raises(CytosaeError, match=message):
        fetch(name, **options)


def test_catalogue_holds_what_loading_knows() -> None:
    from cytosae.backbones import NAMES
    from cytosae.backbones.dinobloom import SHAPES

    rows = {row["name"]: row for row in listed()}
    assert set(NAMES) <= set(rows)
    tiny = load("tiny").info
    shape = ("d_model", "depth", "patch_size", "n_tokens")
    assert [rows["tiny"][key] for key in shape] == [getattr(tiny, key) for key in shape]
    assert all((rows[name]["d_model"], rows[name]["depth"]) == size for name, size in SHAPES.items())
    gated = ("dinov3", "UNI2-h", "Virchow2", "H-optimus-1")
    assert {name for name, row in rows.items() if row["gated"]} == {n for n in rows if any(part in n for part in gated)}
    assert rows["owkin/phikon-v2"]["n_tokens"] == 197


def test_backbones_on_the_command_line() -> None:
    rows = figures(cytosae("backbones", "list", "--json"))["backbones"]
    printed = cytosae("backbones", "list").stdout.splitlines()
    assert [line.split()[0] for line in printed[1:]] == [row["name"] for row in rows]
    refused = cytosae_process("backbones", "fetch", "dinobloom-b", check=False)  # it is read when the hub is imported
    assert_user_error(refused, "HF_HUB_OFFLINE is set")
