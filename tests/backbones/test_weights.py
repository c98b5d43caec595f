"""Files of weights: nothing in them is run, and what is missing, unknown or damaged is named."""

from __future__ import annotations

import os
import pickle
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from cytosae.backbones import load
from cytosae.errors import CytosaeError
from support.backbones import DEPTH, FORMS, WIDTH, flat, reference, timm
from support.pickles import Calls


def test_forms_share_a_fingerprint_and_weights_change_it(tmp_path: Path) -> None:
    model = reference()
    prints = {load(str(write(model.state_dict(), tmp_path / form))).info.fingerprint for form, write in FORMS.items()}
    assert len(prints) == 1
    weights = model.state_dict()
    weights["blocks.0.mlp.fc1.bias"][0] += 1e-3
    assert load(str(flat(weights, tmp_path / "other"))).info.fingerprint not in prints


@pytest.mark.parametrize("suffix", [".pth", ".bin", ".pt"])
@pytest.mark.parametrize("plain", [False, True])
def test_malicious_pickle_is_refused_and_not_run(suffix: str, plain: bool, tmp_path: Path) -> None:
    victim, path = tmp_path / "was-run", tmp_path / f"weights{suffix}"
    content = {"teacher": {"backbone.cls_token": Calls(os.mkdir, str(victim))}}
    path.write_bytes(pickle.dumps(content)) if plain else torch.save(content, path)
    with pytest.raises(CytosaeError, match=r"weights.*refused, since it (holds more.*mkdir|is not a file)") as caught:
        load(str(path))
    assert not victim.exists()
    assert "Nothing in it was run" in str(caught.value)
    with pytest.raises(CytosaeError, match="refused"):
        load("dinobloom-b", weights=path)
    assert not victim.exists()


@pytest.mark.parametrize("content", [b"", b"<html>not found</html>", pickle.dumps({"a": 1}), pickle.dumps([1])])
@pytest.mark.parametrize("suffix", [".pth", ".safetensors"])
def test_files_that_are_no_weights(suffix: str, content: bytes, tmp_path: Path) -> None:
    path = tmp_path / f"file{suffix}"
    path.write_bytes(content)
    with pytest.raises(
        CytosaeError, match=f"file{suffix}: (refused|not a file of weights|holds a list|a is no tensor)"
    ):
        load(str(path))


def test_checkpoints_with_other_entries_and_without_weights(tmp_path: Path) -> None:
    weights = reference().state_dict()
    backbone = {f"backbone.{key}": value for key, value in weights.items()}
    torch.save({"teacher": backbone, "iteration": 5, "optimizer": {"lr": [0.1]}}, tmp_path / "a.pth")
    assert load(str(tmp_path / "a.pth")).info.depth == DEPTH
    torch.save({1: torch.ones(2), "epoch": 3}, tmp_path / "b.pth")
    with pytest.raises(CytosaeError, match="1, epoch is no tensor with a name"):
        load(str(tmp_path / "b.pth"))
    (tmp_path / "c.txt").write_text("weights")
    with pytest.raises(CytosaeError, match=r"c\.txt: not a file of weights; expected one that ends in \.pth"):
        load(str(tmp_path / "c.txt"))


def test_malicious_folder_is_refused_and_not_run(vit: Path, tmp_path: Path) -> None:
    victim, folder = tmp_path / "was-run", tmp_path / "model"
    folder.mkdir()
    (folder / "config.json").write_bytes((vit / "config.json").read_bytes())
    torch.save({"embeddings.cls_token": Calls(os.mkdir, str(victim))}, folder / "pytorch_model.bin")
    with pytest.raises(CytosaeError, match="cannot be loaded"):
        load(str(folder))
    assert not victim.exists()


def test_missing_unknown_and_damaged_weights(tmp_path: Path, vit: Path) -> None:
    weights = reference().state_dict()
    short = {key: value for key, value in weights.items() if "blocks.2.norm1" not in key}
    with pytest.raises(CytosaeError, match=r"missing: blocks\.2\.norm1\.weight, blocks\.2\.norm1\.bias\)"):
        load(str(flat(short, tmp_path / "short")))
    with pytest.raises(CytosaeError, match=r"unknown: blocks_extra"):
        load(str(flat({**weights, "blocks_extra.weight": torch.ones(1)}, tmp_path / "extra")))
    gap = {key: value for key, value in weights.items() if not key.startswith("blocks.1.")}
    with pytest.raises(CytosaeError, match=r"missing: blocks\.1\.norm1\.weight.* and \d+ more"):
        load(str(flat(gap, tmp_path / "gap")))
    with pytest.raises(CytosaeError, match=r"blocks\.1\.attn\.qkv\.weight is \(10, 128\), not \(384, 128\)"):
        load(str(flat({**weights, "blocks.1.attn.qkv.weight": torch.ones(10, 128)}, tmp_path / "shape")))
    with pytest.raises(CytosaeError, match=r"unknown: rope\.periods"):
        load(str(flat({**weights, "rope.periods": torch.ones(1, 4, WIDTH)}, tmp_path / "registers")))
    with pytest.raises(CytosaeError, match="200 position embeddings are not CLS and a square grid"):
        load(str(flat({**weights, "pos_embed": torch.ones(1, 200, WIDTH)}, tmp_path / "positions")))
    with pytest.raises(CytosaeError, match="not the weights of a known vision transformer"):
        load(str(flat({"some.weight": torch.ones(1)}, tmp_path / "foreign")))
    for write in (flat, timm):
        path = write(weights, tmp_path / "cut")
        path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
        with pytest.raises(CytosaeError, match="damaged"):
            load(str(path))
    folder = tmp_path / "folder"
    folder.mkdir()
    (folder / "config.json").write_bytes((vit / "config.json").read_bytes())
    state = load_file(vit / "model.safetensors")
    del state["encoder.layer.1.norm2.weight"]
    save_file(state, folder / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(CytosaeError, match=r"weights are missing.*layer\.1\.norm2"):
        load(str(folder))  # transformers alone would go on with random numbers
