"""Importing any format: tensors, shapes and sizes are looked at, and the command."""

from __future__ import annotations

import json
import warnings
from pathlib import Path
from typing import Any

import pytest
import torch

from cytosae.errors import CytosaeError
from cytosae.sae import SAE
from cytosae.sae.foreign import import_sae
from support.commands import exit_code
from support.foreign_files import (
    dictionary_file,
    linear_state,
    overcomplete_module,
    release_file,
    saev_file,
    saev_header,
)
from support.foreign_weights import D, S, arrays, made_by, same_bytes


def test_shapes_and_numbers_are_looked_at(tmp_path: Path) -> None:
    def saved(**changed: torch.Tensor) -> Path:
        torch.save({"cfg": {}, "state_dict": {**arrays(), **changed}}, tmp_path / "a.pt")
        return tmp_path / "a.pt"

    for changed, said in (
        ({"W_enc": arrays()["W_dec"]}, "W_enc has the shape"),
        ({"b_dec": torch.full((D,), float("nan"))}, "b_dec holds NaN"),
        ({"b_enc": torch.zeros(S, dtype=torch.int64)}, "b_enc is of the type int64"),
        ({"r_mag": torch.zeros(S)}, "also holds r_mag"),
        ({"threshold": torch.ones(S)}, "also holds threshold"),
    ):
        with pytest.raises(CytosaeError, match=said):
            import_sae(saved(**changed))
    halves = {name: value.half() for name, value in arrays().items()}
    same_bytes(import_sae(saved(**halves)), {name: value.float() for name, value in halves.items()})
    doubled = import_sae(saved(W_dec=arrays()["W_dec"].double()))
    assert doubled.metadata["imported"]["changes"] == ["W_dec: rounded from float64 to float32"]


def odd_tensors() -> dict[str, tuple[dict[str, torch.Tensor], str]]:
    """Tensors that are no plain arrays of numbers, and what is said of each."""
    dense = arrays()["W_dec"]
    with warnings.catch_warnings():  # torch says of some that they are new or old
        warnings.simplefilter("ignore")
        return {
            "sparse": ({"W_dec": dense.to_sparse()}, "W_dec is a sparse tensor"),
            "sparse rows": ({"W_dec": dense.to_sparse_csr()}, "W_dec is a sparse tensor"),
            "meta": ({"W_enc": arrays()["W_enc"].to("meta")}, "W_enc is on the device 'meta'"),
            "quantised": (
                {"b_dec": torch.quantize_per_tensor(arrays()["b_dec"], 0.1, 0, torch.qint8)},
                "b_dec is quantised qint8",
            ),
            "nested": (
                {"b_dec": torch.nested.nested_tensor([torch.zeros(2), torch.zeros(3)])},
                "b_dec is a nested tensor",
            ),
            "complex": ({"b_enc": torch.zeros(S, dtype=torch.complex64)}, "b_enc is of the type complex64"),
            "bool": ({"b_enc": torch.zeros(S, dtype=torch.bool)}, "b_enc is of the type bool"),
            "eight bits": ({"W_dec": dense.to(torch.float8_e4m3fn)}, "W_dec is of the type float8_e4m3fn"),
            "repeated": ({"W_dec": torch.ones(1).expand(S, D)}, "W_dec is of the shape"),
            "no latents": (
                {"W_enc": torch.zeros(D, 0), "b_enc": torch.zeros(0), "W_dec": torch.zeros(0, D)},
                "W_dec has the shape",
            ),
            "no dimensions": (
                {"W_enc": torch.zeros(0, S), "b_dec": torch.zeros(0), "W_dec": torch.zeros(S, 0)},
                "W_dec has the shape",
            ),
            "scaling factors": ({"scaling_factor": torch.ones(S).to_sparse()}, "the scaling factor is a sparse tensor"),
        }


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("which", list(odd_tensors()))
def test_tensors_of_odd_kinds_are_refused_by_name(tmp_path: Path, which: str, capsys: Any) -> None:
    changed, said = odd_tensors()[which]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.save(
            {"cfg": {"loss": next(iter(changed.values()))}, "state_dict": {**arrays(), **changed}}, tmp_path / "a.pt"
        )
    assert exit_code(["import", str(tmp_path / "a.pt"), "-o", str(tmp_path / "out")]) == 2
    assert said in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_a_folder_of_ours_without_latents_is_refused(tmp_path: Path) -> None:
    SAE(D, 0).save_pretrained(tmp_path)
    with pytest.raises(CytosaeError, match="n_latents 0"):
        SAE.from_pretrained(tmp_path)


def test_files_that_are_there_are_left_alone(tmp_path: Path, elsewhere: Any, capsys: Any) -> None:
    made_by("relu").save_pretrained(tmp_path / "sae")
    path = release_file(tmp_path / "a.pt", elsewhere)
    for command, name in (
        (["export", str(tmp_path / "sae")], "cfg.json"),
        (["export", str(tmp_path / "sae")], "sae_weights.safetensors"),
        (["import", str(path)], "config.json"),
        (["import", str(path)], "model.safetensors"),
    ):
        folder = tmp_path / f"{command[0]}-{name}"
        folder.mkdir()
        (folder / name).write_text("mine")
        assert exit_code([*command, "-o", str(folder)]) == 2
        assert "already" in capsys.readouterr().err
        assert [(one.name, one.read_text()) for one in folder.iterdir()] == [(name, "mine")]


def test_sizes_that_settings_say_are_those_of_the_weights(tmp_path: Path, elsewhere: Any) -> None:
    folder = dictionary_file(tmp_path / "a", linear_state("bias"), "AutoEncoder")
    config = json.loads((folder / "config.json").read_text())
    for part, name, size in (
        ("trainer", "activation_dim", D),
        ("trainer", "dict_size", S),
        ("buffer", "d_submodule", D),
    ):
        (folder / "config.json").write_text(json.dumps({**config, part: {**config[part], name: size + 1}}))
        with pytest.raises(CytosaeError, match=rf"config\.json.* {name} is {size + 1}, but the weights have {size} "):
            import_sae(folder)
    for name, size in (("d_model", D), ("d_vit", D), ("d_sae", S)):
        header = saev_header(5)
        header["cfg"][name] = size + 1
        with pytest.raises(CytosaeError, match=f"{name} is {size + 1}, but the weights have {size} "):
            import_sae(saev_file(tmp_path / "sae.pt", header))
    for name, size in (("in_dimensions", D), ("nb_concepts", S)):
        module = overcomplete_module(elsewhere)
        setattr(module.dictionary, name, size + 1)
        torch.save(module, tmp_path / "a.pt")
        elsewhere.forget()
        with pytest.raises(CytosaeError, match=f"{name} is {size + 1}, but the weights have {size} "):
            import_sae(tmp_path / "a.pt")


def test_import_with_a_backbone_leads_to_concepts(tmp_path: Path, elsewhere: Any, capsys: Any) -> None:
    kind = elsewhere("src.sae_training.config.ViTSAERunnerConfig")
    config = kind()
    config.block_layer = 3  # the fourth block
    made = SAE(192, 64)
    made.initialise(torch.Generator().manual_seed(0))
    torch.save({"cfg": config, "state_dict": made.state_dict()}, tmp_path / "a.pt")
    elsewhere.forget()
    command = ["import", str(tmp_path / "a.pt"), "-o", str(tmp_path / "sae"), "--json"]
    assert exit_code([*command, "--backbone", "tiny"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert (told["format"], told["n_latents"], told["unit_directions"]) == ("release", 64, True)
    recorded = SAE.from_pretrained(tmp_path / "sae").metadata["backbone"]
    assert (recorded["name"], recorded["layer"]) == ("tiny", 3)
    assert len(recorded["fingerprint"]) == 64
    assert exit_code(command) == 2
    assert "holds an autoencoder already" in capsys.readouterr().err
    command[3] = str(tmp_path / "new")
    for wrong, said in ((["--layer", "2"], "--backbone"), (["--format", "keras"], "keras")):
        assert exit_code([*command, *wrong]) == 2
        assert said in capsys.readouterr().err
    assert not (tmp_path / "new").exists()


def test_a_backbone_of_another_width_is_refused(tmp_path: Path, elsewhere: Any, capsys: Any) -> None:
    path = release_file(tmp_path / "a.pt", elsewhere)
    assert exit_code(["import", str(path), "-o", str(tmp_path / "sae"), "--backbone", "tiny"]) == 2
    assert "192 wide" in capsys.readouterr().err
    assert not (tmp_path / "sae").exists()
