"""Backbones of the Hugging Face hub: fetched once, and without a network said soon."""

from __future__ import annotations

import socket
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from cytosae.backbones import fetch, load
from cytosae.errors import CytosaeError
from support.backbones import MEAN, flat, reference, timm
from support.model_hosts import COMMIT, Hub, HubAnswer, folder_bytes


@pytest.mark.parametrize("pickled", [False, True])
def test_hub_model_is_fetched_once_and_then_needs_no_network(
    hub: Callable[[dict[str, bytes]], Hub],
    pickled: bool,
    vit: Path,
    images: np.ndarray,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    files = folder_bytes(vit)
    torch.save(load_file(vit / "model.safetensors"), tmp_path / "pytorch_model.bin")
    files["pytorch_model.bin"] = (tmp_path / "pytorch_model.bin").read_bytes()
    if pickled:
        del files["model.safetensors"]
    server = hub(files)
    backbone = load("owner/model")
    assert (backbone.info.source, backbone.info.revision) == ("owner/model", COMMIT)
    assert backbone.info.fingerprint == load(str(vit)).info.fingerprint
    assert torch.equal(backbone.tokens(images), load(str(vit)).tokens(images))
    assert any("pytorch_model.bin" in path for path in server.asked) is pickled  # safetensors where there are any
    server.shutdown()
    server.server_close()
    assert load("owner/model").info.revision == COMMIT
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    assert load("owner/model").info.fingerprint == backbone.info.fingerprint


def test_dinobloom_of_the_hub_in_both_forms(hub: Callable[[dict[str, bytes]], Hub], tmp_path: Path) -> None:
    weights = reference().state_dict()
    files = {
        "config.json": b'{"architecture": "vit_small_patch14_dinov2", "num_classes": 0}',
        "model.safetensors": timm(weights, tmp_path / "w").read_bytes(),
        "pytorch_model_b.bin": flat(weights, tmp_path / "w").read_bytes(),
    }
    server = hub(files)
    backbone = load("1aurent/vit_small_patch14_224.dinobloom")
    assert backbone.info.fingerprint == load(str(tmp_path / "w.bin")).info.fingerprint
    with pytest.raises(CytosaeError, match=r"pytorch_model_b\.bin: holds a model of width 128"):
        load("dinobloom-b")  # found and read, only that this one is too small
    assert "/MarrLab/DinoBloom/resolve/main/pytorch_model_b.bin" in server.asked


def test_hub_without_the_model_and_without_weights(hub: Callable[[dict[str, bytes]], Hub], vit: Path) -> None:
    hub({})
    with pytest.raises(CytosaeError, match=r"owner/model: config\.json is not in the local cache.*EntryNotFound"):
        load("owner/model")
    hub({"config.json": (vit / "config.json").read_bytes()})
    with pytest.raises(CytosaeError, match=r"no model\.safetensors and no pytorch_model\.bin"):
        load("owner/model")


@pytest.mark.parametrize("how", ["offline", "refused", "silent"])
@pytest.mark.parametrize(("name", "advice"), [("dinobloom-b", "--weights DinoBloom-B.pth"), ("owner/model", "folder")])
def test_no_network_is_said_soon(
    hub: Callable[[dict[str, bytes]], Hub], how: str, name: str, advice: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:  # takes the connection and never answers
        if how == "offline":
            monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
        if how == "silent":
            template = f"http://127.0.0.1:{silent.getsockname()[1]}/{{repo_id}}/resolve/{{revision}}/{{filename}}"
            monkeypatch.setattr("huggingface_hub.constants.HUGGINGFACE_CO_URL_TEMPLATE", template)
            monkeypatch.setattr("cytosae.backbones.hub.PATIENCE", 0.3)
        start = time.monotonic()
        with pytest.raises(CytosaeError, match="HF_HUB_OFFLINE") as caught:
            load(name)
        assert time.monotonic() - start < 60  # the library alone would try again for minutes
    assert advice in str(caught.value)
    if name == "dinobloom-b":
        assert "zenodo.org/records/10908163" in str(caught.value)


def test_a_repository_without_normalisation_is_asked_for_it_once(
    hub: Callable[[dict[str, bytes]], Hub], vit: Path
) -> None:
    server = hub(folder_bytes(vit))
    for _ in range(3):
        assert load("owner/model").info.mean == pytest.approx(MEAN.tolist())
    for file in ("/preprocessor_config.json", "/processor_config.json"):
        assert len([path for path in server.asked if path.endswith(file)]) == 1


def test_gated_weights_say_what_to_do(hub: Callable[[dict[str, bytes]], Hub], monkeypatch: pytest.MonkeyPatch) -> None:
    hub({})

    def refuse(handler: HubAnswer, whole: bool) -> None:
        handler.send_response(401)
        handler.send_header("X-Error-Code", "GatedRepo")
        handler.send_header("Content-Length", "0")
        handler.end_headers()

    monkeypatch.setattr(HubAnswer, "_answer", refuse)
    with pytest.raises(CytosaeError, match=r"agreement first. Accept it at https://huggingface\.co/facebook/dinov3-x,"):
        fetch("facebook/dinov3-x")
