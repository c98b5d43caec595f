"""Autoencoders of SAELens: each equation computed once more here."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from cytosae.errors import CytosaeError
from cytosae.sae.foreign import import_sae
from support.commands import exit_code
from support.foreign_files import V3, V6, saelens_folder
from support.foreign_weights import D, S, activation_by_hand, agrees, arrays, by_hand, gate, same_bytes, thresholds


@pytest.mark.parametrize("config", [V6, V3, {**V3, "normalize_activations": False, "activation_fn_str": None}])
def test_saelens_is_read_as_it_computes(tmp_path: Path, config: dict[str, Any]) -> None:
    sae = import_sae(saelens_folder(tmp_path / "a", config))
    agrees(sae, by_hand(**arrays()))
    same_bytes(sae, arrays())
    assert sae.metadata["imported"]["configuration"]["d_sae"] == S
    uncentred = import_sae(saelens_folder(tmp_path / "a", {**config, "apply_b_dec_to_input": False}))
    agrees(uncentred, by_hand(**arrays(), centred=False))
    assert "b_enc" in uncentred.metadata["imported"]["changes"][0]


@pytest.mark.parametrize("name", ["scaling_factor", "finetuning_scaling_factor"])
def test_scaling_factors_of_saelens_are_folded(tmp_path: Path, name: str) -> None:
    scale = torch.linspace(0.5, 2, S)
    ones = import_sae(saelens_folder(tmp_path / "a", V3, **{name: torch.ones(S)}))
    same_bytes(ones, arrays())
    used = {**V3, "finetuning_scaling_factor": True}
    sae = import_sae(saelens_folder(tmp_path / "a", used, **{name: scale}))
    agrees(sae, by_hand(**{**arrays(), "W_dec": arrays()["W_dec"] * scale[:, None]}))
    with pytest.raises(CytosaeError, match="scaling factor"):
        import_sae(saelens_folder(tmp_path / "a", V3, **{name: scale}))


@pytest.mark.parametrize(
    ("changed", "more", "said"),
    [
        ({"architecture": "gated"}, {"b_gate": torch.zeros(S)}, "gated"),
        ({"architecture": "jumprelu"}, {}, "lacks threshold"),
        ({"architecture": "jumprelu"}, {"threshold": torch.ones(1)}, r"\(1,\)"),
        ({"architecture": "jumprelu"}, {"threshold": torch.full((S,), float("nan"))}, "NaN"),
        ({"architecture": "topk"}, {}, "TopK that says of its k"),
        ({"architecture": "topk", "k": 3}, {"threshold": torch.ones(S)}, "also holds threshold"),
        ({"architecture": "matryoshka_batchtopk", "k": 3}, {}, "topk_threshold"),
        ({"architecture": "temporal"}, {}, "temporal"),
        ({"architecture": "abstopk", "k": 3}, {}, "abstopk"),
        ({"architecture": "transcoder"}, {}, "transcoder"),
        ({"activation_fn_str": "tanh-relu"}, {}, "tanh-relu"),
        ({"normalize_activations": "covariance_whitening"}, {}, "covariance_whitening"),
        ({"whitening_matrix": "w.pt"}, {}, "whitening_matrix"),
        ({"normalize_activations": "layer_norm"}, {}, "layer_norm"),
        ({"normalize_activations": "constant_norm_rescale"}, {}, "constant_norm_rescale"),
        ({"normalize_activations": "expected_average_only_in"}, {}, "fold_activation_norm_scaling_factor"),
        ({"normalize_activations": True}, {}, "fold_activation_norm_scaling_factor"),
        ({"architecture": ["topk"]}, {}, r"architecture is \['topk'\]"),
        ({"architecture": {"name": "topk"}}, {}, "architecture is"),
        ({"architecture": "topk", "k": [3]}, {}, "TopK that says of its k"),
        ({"architecture": "topk", "k": 3, "activation_fn_kwargs": {"k": {}}}, {}, "TopK that says of its k"),
        ({"architecture": "topk", "k": float("inf")}, {}, "TopK that says of its k"),
        ({"architecture": "topk", "k": float("nan")}, {}, "TopK that says of its k"),
        ({"architecture": "topk", "k": 3, "rescale_acts_by_decoder_norm": "false"}, {}, "expected true or false"),
        ({"activation_fn_str": ["relu"]}, {}, "the activation"),
        ({"normalize_activations": [1]}, {}, "normalize_activations"),
        ({"apply_b_dec_to_input": "false"}, {}, "expected true or false"),
        ({"finetuning_scaling_factor": True}, {"scaling_factor": torch.full((1,), 2.0)}, r"shape \(1,\)"),
        ({"architecture": "batchtopk", "k": 3}, {"topk_threshold": torch.ones(3)}, r"shape \(3,\)"),
        ({"d_in": D + 1}, {}, f"d_in is {D + 1}, but the weights have {D} dimensions"),
        ({"d_sae": 2 * S}, {}, f"d_sae is {2 * S}, but the weights have {S} latents"),
        ({"d_sae": [S]}, {}, "d_sae"),
    ],
)
def test_what_our_equations_cannot_say_is_refused_by_name(
    tmp_path: Path, changed: dict[str, Any], more: dict[str, torch.Tensor], said: str
) -> None:
    with pytest.raises(CytosaeError, match=said):
        import_sae(saelens_folder(tmp_path / "a", {**V6, **changed}, **more))


@pytest.mark.parametrize("text", ["[" * 100_000, '{"a":' * 900 + "1" + "}" * 900, f'{{"d_in": {"9" * 5000}}}'])
def test_a_configuration_that_cannot_be_read_is_named(tmp_path: Path, text: str, capsys: Any) -> None:
    folder = saelens_folder(tmp_path / "a", V6)
    (folder / "cfg.json").write_text(text, encoding="utf-8")
    assert exit_code(["import", str(folder), "-o", str(tmp_path / "out")]) == 2
    assert "cfg.json: not a JSON file" in capsys.readouterr().err
    path = tmp_path / "sae.pt"
    path.write_bytes(text.encode() + b"\n")
    with pytest.raises(CytosaeError, match="does not begin with a line of JSON"):
        import_sae(path, "saev")
    assert not (tmp_path / "out").exists()


def test_a_jumprelu_without_thresholds_is_a_relu(tmp_path: Path) -> None:
    config = {**V6, "architecture": "jumprelu"}
    same_bytes(import_sae(saelens_folder(tmp_path / "a", config, threshold=torch.zeros(S))), arrays())


def test_what_saelens_saves_is_read_as_it_computes(tmp_path: Path) -> None:
    """Its TopK rescales by the norms of the directions by default, and saves a training with its running threshold."""
    scale = torch.linspace(0.5, 2, S)[:, None]
    longer = {"W_dec": arrays()["W_dec"] * scale}

    def saved(**config: Any) -> dict[str, Any]:
        return {**V6, **config}

    def by(kind: str, **options: Any) -> tuple[np.ndarray, np.ndarray]:
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr("support.foreign_weights.arrays", lambda: {**plain_arrays, **longer})
            return activation_by_hand(kind, rescaled=True, **options)

    plain_arrays = arrays()
    config = saved(architecture="topk", k=4, rescale_acts_by_decoder_norm=True)
    sae = import_sae(saelens_folder(tmp_path / "a", config, **longer))
    agrees(sae, by("topk"))
    assert "rescale_acts_by_decoder_norm" in sae.metadata["imported"]["changes"][0]
    torch.testing.assert_close(sae.W_dec.norm(dim=1), torch.ones(S))
    sae = import_sae(saelens_folder(tmp_path / "b", {**config, "apply_b_dec_to_input": False}, **longer))
    agrees(sae, by("topk", centred=False))
    threshold = torch.tensor(0.9, dtype=torch.float64)
    for architecture in ("batchtopk", "matryoshka_batchtopk"):
        config = saved(architecture=architecture, k=6.0, rescale_acts_by_decoder_norm=True, topk_threshold_lr=0.01)
        sae = import_sae(saelens_folder(tmp_path / architecture, config, topk_threshold=threshold, **longer))
        agrees(sae, by("jumprelu", threshold=threshold))
        assert sae.activation.described() == {"kind": "batchtopk", "k": 6}
    gated = {name: value for name, value in {**arrays(), **gate()}.items() if name != "b_enc"}
    folder = saelens_folder(tmp_path / "c", saved(architecture="gated", apply_b_dec_to_input=False))
    save_file(gated, folder / "sae_weights.safetensors")
    agrees(import_sae(folder), activation_by_hand("gated", centred=False))
    some = thresholds()
    some[:5], some[5] = 0, -1  # there the ReLU before it decides
    sae = import_sae(saelens_folder(tmp_path / "d", saved(architecture="jumprelu"), threshold=some))
    agrees(sae, activation_by_hand("jumprelu", threshold=some))
    assert "not above 0" in sae.metadata["imported"]["changes"][0]
    old = {**V3, "activation_fn_str": "topk", "activation_fn_kwargs": {"k": 4}}
    agrees(import_sae(saelens_folder(tmp_path / "e", old)), activation_by_hand("topk"))


@pytest.mark.parametrize(
    ("name", "value"),
    [
        *(("input_mean", [0.1]), ("input_std", 2.0), ("layernorm", True), ("use_pca", True), ("negative_slope", 0.1)),
        *(("decoder_bias", False), ("apply_relu", False), ("pre_process", "zscore"), ("log1p", True), ("n_groups", 4)),
    ],
)
def test_settings_that_may_change_the_equations_are_refused_by_name(tmp_path: Path, name: str, value: object) -> None:
    with pytest.raises(CytosaeError, match=name):
        import_sae(saelens_folder(tmp_path / "sae", {**V6, name: value}))


def test_weights_alone_are_refused_with_what_is_missing(tmp_path: Path) -> None:
    folder = saelens_folder(tmp_path / "sae", V6)
    with pytest.raises(CytosaeError, match="without the settings"):
        import_sae(folder / "sae_weights.safetensors")
