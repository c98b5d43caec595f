"""Autoencoders of vit_prisma: settings are honoured, refused by name, or listed."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest
import torch

from cytosae.errors import CytosaeError
from cytosae.sae import SAE
from cytosae.sae.card import card
from cytosae.sae.foreign import import_sae
from support.commands import exit_code
from support.foreign_weights import S, activation_by_hand, agrees, arrays, by_hand, gate


class _Prisma:
    """Settings of vit_prisma as they are saved; its default is a layer norm before the encoder."""

    settings: ClassVar[dict[str, Any]] = {
        "architecture": "standard",
        "activation_fn_str": "relu",
        "activation_fn_kwargs": {},
        "normalize_activations": "none",
        "cls_token_only": False,
        "hook_point": "blocks.9.hook_resid_post",
        "use_ghost_grads": True,
        "is_transcoder": False,
        "dead_feature_threshold": 1e-8,
    }


def prisma_file(path: Path, elsewhere: Any, state: dict[str, torch.Tensor] | None = None, **settings: Any) -> Path:
    config = elsewhere("vit_prisma.sae.config.VisionModelSAERunnerConfig")()
    config.__dict__.update({**_Prisma.settings, **settings})
    torch.save({"cfg": config, "state_dict": state or arrays()}, path)
    elsewhere.forget()
    return path


def test_activations_of_vit_prisma_are_honoured(tmp_path: Path, elsewhere: Any) -> None:
    relu = import_sae(prisma_file(tmp_path / "a.pt", elsewhere, activation_fn_kwargs={"k": 4}))
    agrees(relu, by_hand(**arrays()))
    assert relu.metadata["imported"]["ignored"] == ["activation_fn_kwargs: {'k': 4}"]
    kept = import_sae(
        prisma_file(tmp_path / "b.pt", elsewhere, activation_fn_str="topk", activation_fn_kwargs={"k": np.int64(4)})
    )
    assert kept.activation.described() == {"kind": "topk", "k": 4}
    agrees(kept, activation_by_hand("topk"))
    state = {**arrays(), **gate()}
    gated = import_sae(prisma_file(tmp_path / "c.pt", elsewhere, state, architecture="gated"))
    agrees(gated, activation_by_hand("gated"))
    kept.save_pretrained(tmp_path / "sae")
    agrees(SAE.from_pretrained(tmp_path / "sae"), activation_by_hand("topk"))


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"normalize_activations": "layer_norm"}, "layer_norm"),
        ({"normalize_activations": "constant_norm_rescale"}, "constant_norm_rescale"),
        ({"normalize_activations": "expected_average_only_in"}, "expected_average_only_in"),
        ({"normalize_activations": "zscore"}, "zscore"),
        ({"activation_fn_str": "tanh-relu"}, "tanh-relu"),
        ({"activation_fn_str": "leaky_relu"}, "leaky_relu"),
        ({"activation_fn_str": torch.nn.functional.gelu}, "gelu"),
        ({"activation_fn_str": "topk"}, "TopK that says of its k"),
        ({"activation_fn_str": "topk", "activation_fn_kwargs": {"k": 0}}, "TopK that says of its k"),
        ({"activation_fn_str": "topk", "activation_fn_kwargs": {"k": 4}, "k": 5}, "TopK that says of its k"),
        ({"activation_fn_str": "topk", "activation_fn_kwargs": {"k": S + 1}}, f"keeps {S + 1} of {S}"),
        ({"activation_fn_str": "topk", "activation_fn_kwargs": {"k": 4, "postact_fn": "identity"}}, "postact_fn"),
        ({"activation_fn_str": "relu", "activation_fn": "gelu"}, "contradicting settings"),
        ({"architecture": "jumprelu"}, "lacks threshold"),
        ({"architecture": "transformer"}, "transformer"),
        ({"is_transcoder": True}, "is_transcoder"),
        ({"use_error_term": True}, "use_error_term"),
        ({"reshape_activations": "hook_z"}, "hook_z"),
        ({"topk_sae": True, "topk_k": 32}, "topk_sae"),
        ({"jumprelu_sae": True}, "jumprelu_sae"),
        ({"k": 4}, "k 4"),
        ({"rescale_acts_by_decoder_norm": True}, "rescale_acts_by_decoder_norm"),
        ({"finetuning_scaling_factor": True}, "finetuning_scaling_factor"),
        ({"input_norm_factor": 3.2}, "input_norm_factor"),
        ({"encoder": {"pre_bias": True}}, r"encoder\.pre_bias"),
        ({"output_scale": 2.0}, "output_scale"),
        ({"act_fn": "gelu"}, "act_fn"),
    ],
)
def test_settings_that_change_the_mathematics_are_refused_by_name(
    tmp_path: Path, elsewhere: Any, settings: dict[str, Any], said: str
) -> None:
    with pytest.raises(CytosaeError, match=said):
        import_sae(prisma_file(tmp_path / "a.pt", elsewhere, **settings))


def test_settings_that_are_not_understood_are_listed(tmp_path: Path, elsewhere: Any, capsys: Any) -> None:
    path = prisma_file(tmp_path / "a.pt", elsewhere, mascot="owl", input_norm_factor=None, notes={"who": "me"})
    assert exit_code(["import", str(path), "-o", str(tmp_path / "sae"), "--json"]) == 0
    ignored = ["mascot: owl", "input_norm_factor: None", "notes: {'who': 'me'}"]
    assert json.loads(capsys.readouterr().out)["ignored"] == ignored
    made = SAE.from_pretrained(tmp_path / "sae")
    assert made.metadata["imported"]["ignored"] == ignored
    assert "mascot: owl" in card(made, "owner/name", "mit")
