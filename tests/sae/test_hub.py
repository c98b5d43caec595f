"""An autoencoder's card, and its upload to the hub."""

from __future__ import annotations

import json
import types
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest

from cytosae.artefacts import FileRecord, Manifest, write_json
from cytosae.errors import CytosaeError
from cytosae.sae import SAE
from cytosae.sae.card import Evidence, card, collect_evidence
from support.commands import exit_code
from support.foreign_weights import D, S, arrays, same_bytes

_METADATA = {
    "training": {"expansion": 4, "l1": 8e-5, "images": 1600},
    "backbone": {
        "name": "/home/someone/secret/dino",
        "source": "/home/someone/secret/dino",
        "revision": None,
        "fingerprint": "f" * 64,
        "layer": 10,
        "depth": 12,
        "image_size": 224,
        "patch_size": 14,
        "n_tokens": 257,
    },
    "held_out": {"explained_variance": 0.8741, "l0": 220.9, "dead": 0.125, "mse": 0.1, "tokens": 2056},
}


@pytest.fixture
def study(tmp_path: Path) -> Path:
    """A study with concepts, quality and names, as far as a card looks at it."""
    from cytosae.concepts import ANNOTATION

    folder = tmp_path / "study"
    sae = SAE(D, S, _METADATA)
    sae.load_state_dict(arrays())
    sae.save_pretrained(folder / "sae")
    digest = FileRecord.from_file(folder / "sae" / "model.safetensors").sha256
    (folder / "concepts").mkdir()
    import anndata
    import pandas as pd

    names = pd.DataFrame({ANNOTATION: [None] * S}, index=[str(i) for i in range(S)], dtype=object)
    names.loc["7", ANNOTATION] = "granules | azurophilic"
    names[ANNOTATION] = pd.Categorical(names[ANNOTATION])
    anndata.AnnData(np.zeros((1, S), np.float32), var=names).write_h5ad(folder / "concepts" / "pbc.h5ad")
    summary = {"datasets": {"pbc": {"cells": 17092, "concepts": 2936}}, "files": {"pbc": "pbc"}}
    Manifest("concepts", {"concept_threshold": -3.0}, {"sae": digest}, {}, summary).save(folder / "concepts")
    row = {"measure": "monosemanticity", "method": "latents", "value": 0.4321, "low": 0.4, "high": 0.46}
    (folder / "quality").mkdir()
    write_json(folder / "quality" / "quality.json", {"inputs": {"sae": digest}, "figures": [row]})
    return folder


def test_the_card_says_what_the_study_says(study: Path) -> None:
    import yaml

    sae = SAE.from_pretrained(study / "sae")
    text = card(sae, "owner/name", "CC-BY-4.0", collect_evidence(study, study / "sae"))
    header = yaml.safe_load(text.split("---\n")[1])
    assert header["license"] == "cc-by-4.0"
    assert header["library_name"] == "cytosae"
    for expected in (
        "not for diagnosis",
        'SAE.from_pretrained("owner/name")',
        "11 of 12",
        "| explained variance | 0.8741 |",
        "| dead latents (share) | 0.125 |",
        "| pbc | 17,092 | 2,936 |",
        "| monosemanticity | latents | 0.4321 | 0.4 to 0.46 |",
        "| l1 | 8e-05 |",
    ):
        assert expected in text, expected
    assert "(log10 of the mean activation above -3):" in text
    stricter = Evidence({"pbc": {"cells": 2, "concepts": 1, "no_concepts": {"few cells": 3}}}, -3.0)
    assert "above -3, in enough cells, and concentrated in them):" in card(sae, "owner/name", "mit", stricter)
    bare = card(SAE(D, S), "owner/name", 'My "own" terms')
    assert yaml.safe_load(bare.split("---\n")[1])["license_name"] == 'My "own" terms'
    assert "were not measured" in bare
    assert "No study was given" in bare


def test_the_card_of_another_autoencoder_is_refused(study: Path, tmp_path: Path) -> None:
    SAE(D, S).save_pretrained(tmp_path / "other")
    with pytest.raises(CytosaeError, match="another autoencoder"):
        collect_evidence(study, tmp_path / "other")
    with pytest.raises(CytosaeError, match="no concepts"):
        collect_evidence(tmp_path / "nowhere", study / "sae")
    assert Evidence().datasets == {}


class _Hub:
    """What `HfApi` is asked for, with the bytes of every file."""

    calls: ClassVar[list[tuple[str, Any]]] = []

    def __init__(self, **_: Any) -> None:
        pass

    def create_repo(self, name: str, *, private: bool, exist_ok: bool) -> None:
        assert exist_ok
        self.calls.append(("create", (name, private)))

    def create_commit(self, name: str, operations: Any, *, commit_message: str) -> Any:
        sent = {one.path_in_repo: Path(one.path_or_fileobj).read_bytes() for one in operations}
        self.calls.append(("commit", (name, sent)))
        return types.SimpleNamespace(commit_url="https://hub/commit/1")


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, Any]]:
    import huggingface_hub

    _Hub.calls = []
    monkeypatch.setattr(huggingface_hub, "HfApi", _Hub)
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", False)
    return _Hub.calls


def _push(study: Path, *more: str) -> int:
    return exit_code(["push", str(study / "sae"), "owner/name", "--licence", "mit", "--study", str(study), *more])


def test_push_uploads_three_files_in_one_commit(study: Path, hub: Any, tmp_path: Path, capsys: Any) -> None:
    assert _push(study, "--private", "--json") == 0
    assert json.loads(capsys.readouterr().out)["commit"] == "https://hub/commit/1"
    assert hub[0] == ("create", ("owner/name", True))
    (kind, (name, sent)) = hub[1]
    assert (kind, name, len(hub)) == ("commit", "owner/name", 2)
    assert set(sent) == {"model.safetensors", "config.json", "README.md"}
    assert sent["model.safetensors"] == (study / "sae" / "model.safetensors").read_bytes()
    assert b"| 7 | granules \\| azurophilic |" in sent["README.md"]
    assert not any(b"/home/someone" in content for content in sent.values())
    downloaded = tmp_path / "downloaded"
    downloaded.mkdir()
    for file, content in sent.items():
        (downloaded / file).write_bytes(content)
    same_bytes(SAE.from_pretrained(downloaded), arrays())


def test_a_dry_run_writes_the_card_and_asks_nobody(study: Path, hub: Any, capsys: Any) -> None:
    assert _push(study, "--dry-run", "--json") == 0
    told = json.loads(capsys.readouterr().out)
    assert told["files"] == ["model.safetensors", "config.json", "README.md"]
    assert hub == []
    path = study / "sae" / "README.md"
    assert "granules" in path.read_text()
    path.write_text("my own words")
    assert _push(study, "--card", str(path)) == 0
    assert hub[1][1][1]["README.md"] == b"my own words"


@pytest.mark.parametrize("name", ["/", "a b/c!", "../x", "noname", "a/b/c", "owner/name\n", "owner/\udcff"])
def test_names_that_the_hub_refuses_are_refused_in_a_dry_run(tmp_path: Path, name: str, capsys: Any) -> None:
    assert exit_code(["push", str(tmp_path), name, "--licence", "mit", "--dry-run"]) == 2
    assert "not the name of a hub repository" in capsys.readouterr().err
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("licence", ["", " ", "mit\n", "mit: x", "-", "\udcff"])
def test_a_licence_is_an_identifier(tmp_path: Path, licence: str, capsys: Any) -> None:
    assert exit_code(["push", str(tmp_path), "owner/name", f"--licence={licence}", "--dry-run"]) == 2
    assert "not the identifier of a licence" in capsys.readouterr().err
    assert not list(tmp_path.iterdir())


def test_push_is_refused_offline_and_by_the_hub(
    study: Path, hub: Any, monkeypatch: pytest.MonkeyPatch, capsys: Any
) -> None:
    import huggingface_hub

    def no(*_: Any, **__: Any) -> None:
        raise OSError("401 Unauthorized\nmore")

    with monkeypatch.context() as patch:
        patch.setattr(_Hub, "create_repo", no)
        assert _push(study) == 2
        assert "401 Unauthorized)" in capsys.readouterr().err
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    assert _push(study) == 2
    assert "HF_HUB_OFFLINE" in capsys.readouterr().err
    assert hub == []
    assert exit_code(["push", str(study / "sae"), "noname", "--licence", "mit"]) == 2
