"""Saving and loading an autoencoder."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from cytosae.errors import CytosaeError
from cytosae.sae import SAE
from support.training import NAMES


class TestPretrained:
    def test_round_trip_is_exact(self, tmp_path: Path) -> None:
        sae = SAE(5, 20, {"note": "x"})
        sae.initialise(torch.Generator().manual_seed(0))
        sae.save_pretrained(tmp_path)
        again = SAE.from_pretrained(tmp_path)
        assert again.metadata == {"note": "x"}
        for name in NAMES:
            assert torch.equal(getattr(sae, name), getattr(again, name))

    def test_from_the_hub_by_its_two_files(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        SAE(3, 6).save_pretrained(tmp_path)
        asked: list[object] = []
        monkeypatch.setattr(
            "huggingface_hub.snapshot_download", lambda name, **kw: asked.append((name, kw)) or str(tmp_path)
        )
        assert SAE.from_pretrained("owner/name", revision="v1").n_latents == 6
        assert asked == [("owner/name", {"revision": "v1", "allow_patterns": ["model.safetensors", "config.json"]})]

    def test_errors(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
        with pytest.raises(CytosaeError, match="hub did not give it"):
            SAE.from_pretrained("owner/name")
        with pytest.raises(CytosaeError, match="no such folder"):
            SAE.from_pretrained(tmp_path / "absent")
        with pytest.raises(CytosaeError, match="missing"):
            SAE.from_pretrained(tmp_path)
        SAE(3, 6).save_pretrained(tmp_path)
        data = (tmp_path / "model.safetensors").read_bytes()
        (tmp_path / "model.safetensors").write_bytes(data[:100])
        with pytest.raises(CytosaeError, match="damaged"):
            SAE.from_pretrained(tmp_path)
        SAE(3, 6).save_pretrained(tmp_path)
        config = (tmp_path / "config.json").read_text()
        (tmp_path / "config.json").write_text(config.replace('"n_latents": 6', '"n_latents": 7'))
        with pytest.raises(CytosaeError, match="does not fit"):
            SAE.from_pretrained(tmp_path)
        (tmp_path / "config.json").write_text("{}")
        with pytest.raises(CytosaeError, match="not the configuration"):
            SAE.from_pretrained(tmp_path)
        broken = SAE(3, 6)
        with torch.no_grad():
            broken.b_dec[0] = float("nan")
        broken.save_pretrained(tmp_path)
        with pytest.raises(CytosaeError, match="b_dec holds NaN"):
            SAE.from_pretrained(tmp_path)
