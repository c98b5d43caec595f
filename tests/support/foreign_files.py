"""The same autoencoder in files as other programs write them."""

from __future__ import annotations

import json
from collections import OrderedDict
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from torch import nn

from support.foreign_weights import D, S, arrays


@dataclass
class _Settings:
    """Fields of the release's ViTSAERunnerConfig, of every kind that occurs there."""

    model_name: str = "dinov2_vitb14"
    block_layer: int = -2
    d_in: int = D
    expansion_factor: int = 64
    b_dec_init_method: str = "geometric_median"
    gated_sae: bool | None = None
    l1_coefficient: float = 8e-5
    lr: float = 4e-4
    class_token: bool = True
    dtype: torch.dtype = torch.float32
    device: torch.device = field(default_factory=lambda: torch.device("cuda"))
    store_batch_size: tuple[int, ...] = (32,)


def release_file(path: Path, elsewhere: Any, key: str = "cfg", **settings: Any) -> Path:
    kind = elsewhere("src.sae_training.config.ViTSAERunnerConfig")
    config = kind()
    config.__dict__.update(vars(_Settings(**settings)))
    torch.save({key: config, "state_dict": OrderedDict(arrays())}, path)
    elsewhere.forget()
    return path


V6 = {
    "architecture": "standard",
    "d_in": D,
    "d_sae": S,
    "dtype": "float32",
    "device": "cpu",
    "apply_b_dec_to_input": True,
    "normalize_activations": "none",
    "reshape_activations": "none",
    "metadata": {"sae_lens_version": "6.54.12", "model_name": "dinov2", "hook_name": "blocks.10.hook_resid_post"},
}
V3 = {
    "architecture": "standard",
    "d_in": D,
    "d_sae": S,
    "dtype": "float32",
    "device": "cuda",
    "model_name": "gpt2-small",
    "hook_name": "blocks.8.hook_resid_pre",
    "hook_layer": 8,
    "hook_head_index": None,
    "activation_fn_str": "relu",
    "activation_fn_kwargs": {},
    "apply_b_dec_to_input": True,
    "finetuning_scaling_factor": False,
    "sae_lens_training_version": "3.22.2",
    "normalize_activations": "none",
}


def saelens_folder(folder: Path, config: dict[str, Any], **more: torch.Tensor) -> Path:
    folder.mkdir(exist_ok=True)
    (folder / "cfg.json").write_text(json.dumps(config))
    save_file({**arrays(), **more}, folder / "sae_weights.safetensors")
    save_file({"sparsity": torch.zeros(S)}, folder / "sparsity.safetensors")
    return folder


def dictionary_file(folder: Path, state: dict[str, torch.Tensor], kind: str | None = None) -> Path:
    folder.mkdir(exist_ok=True)
    torch.save(state, folder / "ae.pt")
    if kind:
        config = {"trainer": {"dict_class": kind, "activation_dim": D, "lr": 1e-3}, "buffer": {"d_submodule": D}}
        (folder / "config.json").write_text(json.dumps(config))
    return folder


def linear_state(bias: str) -> dict[str, torch.Tensor]:
    a = arrays()
    return {
        bias: a["b_dec"],
        "encoder.weight": a["W_enc"].T.contiguous(),
        "encoder.bias": a["b_enc"],
        "decoder.weight": a["W_dec"].T.contiguous(),
    }


def overcomplete_state(*, norm: bool, factor: float = 0.3) -> dict[str, torch.Tensor]:
    a = arrays()
    state = {
        "encoder.final_block.0.weight": a["W_enc"].T.contiguous(),
        "encoder.final_block.0.bias": a["b_enc"],
        "dictionary._weights": a["W_dec"],
        "dictionary.multiplier": torch.tensor(factor),
    }
    if norm:
        block = nn.BatchNorm1d(S)
        with torch.no_grad():
            for value in (block.weight, block.bias, block.running_mean, block.running_var):
                value.copy_(torch.rand(S, generator=torch.Generator().manual_seed(3)) + 0.5)
        state |= {f"encoder.final_block.1.{name}": value for name, value in block.state_dict().items()}
    return state


def overcomplete_module(
    elsewhere: Any, kind: str = "overcomplete.sae.base.SAE", *, evaluated: bool = True
) -> nn.Module:
    """A module with the structure of overcomplete's, of classes of its names."""
    encoder = elsewhere("overcomplete.sae.modules.MLPEncoder", nn.Module)()
    encoder.mlp_blocks, encoder.final_activation = nn.ModuleList(), nn.ReLU()
    encoder.final_block = nn.Sequential(nn.Linear(D, S), nn.BatchNorm1d(S))
    encoder.norm_layer = nn.BatchNorm1d
    dictionary = elsewhere("overcomplete.sae.dictionary.DictionaryLayer", nn.Module)()
    dictionary._weights = nn.Parameter(torch.zeros(S, D))
    dictionary.register_buffer("multiplier", torch.tensor(0.3))
    module = elsewhere(kind, nn.Module)()
    module.encoder, module.dictionary = encoder, dictionary
    module.load_state_dict(overcomplete_state(norm=True))
    dictionary._fused_dictionary = (dictionary._weights * dictionary.multiplier.exp()) if evaluated else None
    return module.train(not evaluated)


def saev_file(path: Path, header: dict[str, Any]) -> Path:
    with path.open("wb") as file:
        file.write(json.dumps(header).encode() + b"\n")
        torch.save(arrays(), file)
    return path


def saev_header(schema: int) -> dict[str, Any]:
    params = {} if schema < 3 else {"sparsity": {"coeff": 4e-4}}
    config = {"d_model": D, "d_sae": S, "seed": 0, "activation": {"cls": "Relu", "params": params}}
    return {"schema": schema, "cfg": config, "commit": "unknown", "lib": "0.1.0"}
