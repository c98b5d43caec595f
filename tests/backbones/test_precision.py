"""Devices and precisions."""

from __future__ import annotations

import pytest
import torch

from cytosae.backbones import choose_device, choose_precision
from cytosae.errors import CytosaeError


def test_devices_and_precisions() -> None:
    assert choose_device("cpu") == "cpu"
    assert choose_precision("float32", "cpu") == "float32"
    assert choose_precision("auto", "cpu") in {"float32", "bfloat16"}
    with pytest.raises(CytosaeError, match="unknown"):
        choose_precision("int8", "cpu")
    with pytest.raises(CytosaeError, match="unknown"):
        choose_device("tpu")
    with pytest.raises(CytosaeError, match="unknown"):
        choose_device("cuda:first")
    if not torch.cuda.is_available():
        with pytest.raises(CytosaeError, match="0 CUDA devices"):
            choose_device("cuda")


def test_apple_gpu_for_the_backbone_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    monkeypatch.setattr("torch.backends.mps.is_available", lambda: True)
    assert choose_device("auto", mps=True) == choose_device("mps", mps=True) == "mps"
    assert choose_precision("auto", "mps") == "float32"
    assert choose_device("auto") == "cpu"
    with pytest.raises(CytosaeError, match="no float64"):
        choose_device("mps")
    monkeypatch.setattr("torch.backends.mps.is_available", lambda: False)
    assert choose_device("auto", mps=True) == "cpu"
    with pytest.raises(CytosaeError, match="no such GPU here"):
        choose_device("mps", mps=True)


def test_precision_follows_the_processor(monkeypatch: pytest.MonkeyPatch) -> None:
    for flags, expected in (({"avx512_bf16": True}, "bfloat16"), ({"avx2": True, "amx_bf16": False}, "float32")):
        monkeypatch.setattr("torch.cpu.get_capabilities", lambda flags=flags: flags)
        assert choose_precision("auto", "cpu") == expected
