"""What ``cytosae doctor`` advises."""

from __future__ import annotations

from typing import Any

import pytest

from cytosae import doctor
from cytosae.settings import BackboneConfig

WELL: dict[str, Any] = {
    "memory_gb": 16.0,
    "cuda_devices": [],
    "cores": 2,
    "hub_offline": True,
    "store_fits": True,
    "store_gb": 3.0,
    "free_disk_gb": 50.0,
}


def test_nothing_to_mend() -> None:
    assert doctor.advise(WELL, BackboneConfig()) == []


@pytest.mark.parametrize(
    ("found", "backbone", "words"),
    [
        ({"store_fits": False, "free_disk_gb": 1.0}, "tiny", ["--no-store", "3.0 GB"]),
        ({"memory_gb": 2.0}, "tiny", ["--expansion"]),
        ({}, "dinobloom-b", ["No GPU", "2 cores"]),
        ({"backbone_error": "no weights", "cuda_devices": ["one"]}, "dinobloom-b", ["no weights", "HF_HUB_OFFLINE"]),
    ],
)
def test_every_fault_has_its_advice(found: dict[str, Any], backbone: str, words: list[str]) -> None:
    advice = " ".join(doctor.advise(WELL | found, BackboneConfig(backbone)))
    for word in words:
        assert word in advice


def test_a_missing_explorer(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doctor, "find_spec", lambda name: None)
    (advice,) = doctor.advise(WELL, BackboneConfig())
    assert "cytosae[explorer]" in advice
