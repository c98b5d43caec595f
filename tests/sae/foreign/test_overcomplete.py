"""Autoencoders of overcomplete, as they compute."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from cytosae.errors import CytosaeError
from cytosae.sae.foreign import import_sae
from support.foreign_files import overcomplete_module, overcomplete_state
from support.foreign_weights import D, S, agrees, arrays, tokens


def overcomplete_expected(state: dict[str, torch.Tensor]) -> tuple[np.ndarray, np.ndarray]:
    """By torch's own modules, in evaluation mode."""
    block: list[nn.Module] = [nn.Linear(D, S)]
    if any(".1." in name for name in state):
        block.append(nn.BatchNorm1d(S))
    encoder = nn.Sequential(*block).eval()
    prefix = "encoder.final_block."
    encoder.load_state_dict({k.removeprefix(prefix): v for k, v in state.items() if k.startswith(prefix)})
    h = torch.relu(encoder(tokens()))
    return h.detach().numpy(), (h @ arrays()["W_dec"] * np.exp(0.3)).detach().numpy()


@pytest.mark.parametrize("norm", [True, False])
def test_overcomplete_is_read_as_it_computes(tmp_path: Path, norm: bool) -> None:
    state = overcomplete_state(norm=norm)
    torch.save(state, tmp_path / "a.pt")
    with pytest.raises(CytosaeError, match="in which SAE and TopKSAE look the same"):
        import_sae(tmp_path / "a.pt")
    sae = import_sae(tmp_path / "a.pt", "overcomplete")
    agrees(sae, overcomplete_expected(state))
    assert len(sae.metadata["imported"]["changes"]) == 1 + norm
    state["dictionary._weights"] = state["dictionary._weights"] * 2
    torch.save(state, tmp_path / "a.pt")
    with pytest.raises(CytosaeError, match="unit norm"):
        import_sae(tmp_path / "a.pt", "overcomplete")


def test_linear_encoders_with_a_layer_norm_are_refused(tmp_path: Path) -> None:
    state = overcomplete_state(norm=True)
    torch.save({k: v for k, v in state.items() if "running" not in k}, tmp_path / "a.pt")
    with pytest.raises(CytosaeError, match="running_mean"):
        import_sae(tmp_path / "a.pt", "overcomplete")


def test_a_whole_module_of_overcomplete_is_read_as_fields(tmp_path: Path, elsewhere: Any) -> None:
    module = overcomplete_module(elsewhere)
    torch.save(module, tmp_path / "a.pt")
    elsewhere.forget()
    sae = import_sae(tmp_path / "a.pt")
    assert not any(name.startswith("overcomplete") for name in sys.modules)
    agrees(sae, overcomplete_expected(overcomplete_state(norm=True)))


def test_other_modules_of_overcomplete_are_refused(tmp_path: Path, elsewhere: Any) -> None:
    torch.save(overcomplete_module(elsewhere, "overcomplete.sae.topk_sae.TopKSAE"), tmp_path / "a.pt")
    torch.save(overcomplete_module(elsewhere, evaluated=False), tmp_path / "b.pt")
    gelu = overcomplete_module(elsewhere)
    gelu.encoder.final_activation = nn.GELU()
    torch.save(gelu, tmp_path / "c.pt")
    hooked = overcomplete_module(elsewhere)
    hooked.encoder.register_forward_hook(torch.nn.functional.gelu)
    torch.save(hooked, tmp_path / "d.pt")
    elsewhere.forget()
    for name, changed, said in (
        ("e", {"encoder": None}, "NoneType"),
        ("f", {"dictionary": {}}, "eval"),
        ("g", {"norms": torch.zeros(3)}, "norms"),
    ):
        broken = overcomplete_module(elsewhere)
        broken._modules.update({key: value for key, value in changed.items() if key != "norms"})
        broken._parameters.update({key: value for key, value in changed.items() if key == "norms"})
        torch.save(broken, tmp_path / f"{name}.pt")
        elsewhere.forget()
        with pytest.raises(CytosaeError, match=said):
            import_sae(tmp_path / f"{name}.pt")
    endless = overcomplete_module(elsewhere)
    endless.encoder.more = endless
    torch.save(endless, tmp_path / "h.pt")
    elsewhere.forget()
    for name, said in (("a", "TopKSAE"), ("b", "eval"), ("c", "GELU"), ("d", "hooks"), ("h", "without end")):
        with pytest.raises(CytosaeError, match=said):
            import_sae(tmp_path / f"{name}.pt")
