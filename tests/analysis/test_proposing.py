"""An image-text model proposes phrases: beside the facts, with its hash, tested like them, and without a network."""

from __future__ import annotations

import json
import shutil
import socket
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from cytosae.analysis import Captioner, propose
from cytosae.analysis.captioning import LONGEST, tidy
from cytosae.artefacts import MANIFEST, Manifest
from cytosae.concepts import passport, read_concepts, read_descriptions
from cytosae.concepts.description import PROPOSED, describe_concepts, read_proposals
from cytosae.concepts.description.matching import facts_named
from cytosae.errors import CytosaeError
from support.captioners import WORDS, save_captioner
from support.commands import assert_user_error, cytosae, figures
from support.explorer import get, opened
from support.folders import made_once
from support.studies import SET


@pytest.fixture(scope="session")
def captioner(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return made_once(tmp_path_factory, "captioner", save_captioner)


@pytest.fixture(scope="module")
def study(drawn_study: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return Path(shutil.copytree(drawn_study, tmp_path_factory.mktemp("proposing") / "study"))


def test_phrases_name_facts() -> None:
    assert facts_named("Purple lobes; segmented nuclei", []) == [("measurement", "nucleus_lobes", True)]
    assert facts_named("vacuoles in basophilic cytoplasm of monocytes", ["monocyte"]) == [
        ("measurement", "cytoplasm_azure", True),
        ("look", "cytoplasm: pale spots", True),
        ("cell type", "monocyte", True),
    ]
    assert facts_named("fine, pale chromatin without nucleoli", []) == [("look", "nucleus: azure", False)]
    assert facts_named("band neutrophils", ["band_neutrophil"]) == [("cell type", "band_neutrophil", True)]
    assert facts_named("something nice", ["monocyte"]) == []
    assert facts_named("", []) == []


def test_what_a_model_says_is_made_tidy() -> None:
    assert tidy("\n  **Coarse\tgranules.**\nand more") == "Coarse granules"
    assert tidy("\x1b[31mred\x07") == "[31mred"
    assert len(tidy("x" * 1000)) == LONGEST
    assert tidy("abc " * 100).endswith("abc")
    assert tidy(" \n.") == ""


def test_the_command_proposes_beside_the_facts(
    study: Path, captioner: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    said = figures(cytosae("describe", study, "--describe-with", captioner, "--most", 4, "--json"))
    facts = read_descriptions(study)
    table = read_proposals(study)
    assert table is not None
    assert said["proposed"][SET]["proposed"] == len(table) == 4
    assert said[SET]["concepts"] == len(facts)
    assert table["phrase"].str.split().explode().isin(WORDS).all()
    assert table["model"].eq("captioner").all()
    other = tmp_path / "captioner"
    shutil.copytree(captioner, other)
    assert Captioner.open(other).sha256 == table["model_sha256"].iloc[0]
    described = json.loads((other / "generation_config.json").read_text())
    (other / "generation_config.json").write_text(json.dumps({**described, "temperature": 0.5, "do_sample": True}))
    assert Captioner.open(other).sha256 != table["model_sha256"].iloc[0]
    monkeypatch.setattr(socket.socket, "connect", lambda *_: pytest.fail("a network call"))
    model = Captioner.open(captioner)
    assert model.phrase(np.zeros((224, 448, 3), np.uint8), "nucleus") == model.phrase(
        np.zeros((224, 448, 3), np.uint8), "nucleus"
    )
    var = read_concepts(study / "concepts", SET).var
    assert var["description"].dropna().tolist() == facts.sort_values("latent")["description"].tolist()
    latent = int(table["latent"].iloc[0])
    entry = passport(study, latent)["datasets"][SET]
    assert entry["proposed"]["phrase"] == table["phrase"].iloc[0]
    assert entry["proposed"]["model_sha256"] == table["model_sha256"].iloc[0]
    assert entry["description"] == facts.set_index("latent")["description"][latent]
    client = opened(study)
    shown = get(client, f"latents/{SET}/{latent}")["proposed"]
    assert (shown["phrase"], shown["model"]) == (table["phrase"].iloc[0], "captioner")
    unsaid = int(facts.loc[~facts["latent"].isin(table["latent"]), "latent"].iloc[0])
    assert get(client, f"latents/{SET}/{unsaid}")["proposed"] is None


def test_a_phrase_is_tested_by_what_it_names(study: Path, captioner: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    describe_concepts(study)
    data = read_concepts(study / "concepts", SET)
    descriptions = read_descriptions(study)
    typed = descriptions[descriptions["cell_type"] != ""].iloc[0]
    truth = {int(typed["latent"]): typed["cell_type"].split(",")[0].split(" (")[0]}
    labels = sorted(data.obs["label"].astype(str).unique())
    asked: list[np.ndarray] = []

    def said(self: Any, image: np.ndarray, question: str) -> str:
        asked.append(image)
        latent = int(order[len(asked) - 1])
        if latent in truth:
            return f"as in every {truth[latent].replace('_', ' ')}"
        return "nothing of note" if len(asked) % 2 else labels[len(asked) % len(labels)]

    order = descriptions["latent"].sort_values().tolist()
    monkeypatch.setattr(Captioner, "phrase", said)
    result = propose(study, Captioner.open(captioner))
    table = read_proposals(study)
    assert table is not None
    table = table.set_index("latent")
    assert len(table) == len(descriptions) == len(asked)
    assert asked[0].shape == (448, 672, 3)
    assert len({image.tobytes() for image in asked}) > 0.9 * len(asked)
    (latent,) = truth
    assert table["names"][latent] == f"cell type: {truth[latent]}"
    assert table["detection"][latent] > 0.65
    assert table["detection"].mean() > table["detection"][latent] - 1
    nothing = table["phrase"] == "nothing of note"
    assert nothing.any()
    assert table.loc[nothing, ["detection", "shuffled"]].isna().all(axis=None)
    assert table.loc[nothing, "names"].eq("").all()
    assert result[SET]["scored"] == int((~nothing).sum())
    silent = int(table.index[nothing][0])
    assert "not scored" in passport(study, silent)["datasets"][SET]["proposed"]["names"]
    manifest = Manifest.load(study / PROPOSED)
    assert manifest is not None
    assert manifest.inputs["model"] == table["model_sha256"].iloc[0]
    Path(study / "morphometry" / MANIFEST).touch()
    broken = Manifest(PROPOSED, {}, {**manifest.inputs, "sae": "another"}, manifest.outputs)
    broken.save(study / PROPOSED)
    assert read_proposals(study) is None  # of other concepts


def test_what_cannot_be_taken_is_refused(study: Path, captioner: Path, tmp_path: Path) -> None:
    done = cytosae("describe", study, "--describe-with", "llava-hf/llava-1.5-7b-hf", check=False)
    assert_user_error(done, "llava-1.5-7b-hf", "nothing is downloaded")
    assert_user_error(cytosae("describe", study, "--most", 3, check=False), "--most 3", "--describe-with")
    copied = Path(shutil.copytree(captioner, tmp_path / "model"))
    (copied / "model.safetensors").rename(copied / "pytorch_model.bin")
    with pytest.raises(CytosaeError, match=r"only pytorch_model\.bin, which can run code"):
        Captioner.open(copied)
    (copied / "pytorch_model.bin").rename(copied / "model.safetensors")
    (copied / "adapter_config.json").write_text("{}")
    with pytest.raises(CytosaeError, match="adapter"):
        Captioner.open(copied)
    (copied / "adapter_config.json").unlink()
    config = json.loads((copied / "config.json").read_text())
    spy = tmp_path / "ran"
    (copied / "own.py").write_text(f"open({str(spy)!r}, 'w').close()\nclass Own: pass\n")
    own = {"model_type": "own", "auto_map": {"AutoConfig": "own.Own", "AutoModelForImageTextToText": "own.Own"}}
    (copied / "config.json").write_text(json.dumps({**config, **own}))
    with pytest.raises(CytosaeError, match="cannot be loaded"):
        Captioner.open(copied)
    assert not spy.exists()
    (copied / "config.json").write_text(
        json.dumps({**config, "text_config": {**config["text_config"], "num_hidden_layers": 3}})
    )
    with pytest.raises(CytosaeError, match="weights are missing"):
        Captioner.open(copied)


def test_images_that_are_gone_are_said(study: Path) -> None:
    from cytosae.analysis.proposing import sheet
    from cytosae.cells import Reading

    with pytest.raises(CytosaeError, match="cannot be read"):
        sheet([("/nowhere/a.png", Reading("percentile"))], np.ones((1, 16, 16)))
    assert isinstance(read_descriptions(study), pd.DataFrame)
