"""Autoencoders for SAELens: every activation goes out and comes back."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from cytosae.sae import SAE
from cytosae.sae.foreign import import_sae, write_saelens
from support.commands import exit_code
from support.foreign_weights import D, S, activation_by_hand, agrees, arrays, by_hand, made_by, same_bytes, tokens


def test_export_keeps_every_byte(tmp_path: Path) -> None:
    made = SAE(D, S, {"backbone": {"name": "dinobloom-b", "layer": 10}})
    made.load_state_dict(arrays())
    made.save_pretrained(tmp_path / "sae")
    assert exit_code(["export", str(tmp_path / "sae"), "-o", str(tmp_path / "lens"), "--format", "saelens"]) == 0
    written = load_file(tmp_path / "lens" / "sae_weights.safetensors")
    assert {name: tuple(value.shape) for name, value in written.items()} == {
        "W_enc": (D, S),
        "b_enc": (S,),
        "W_dec": (S, D),
        "b_dec": (D,),
    }
    for name, value in arrays().items():
        assert written[name].numpy().tobytes() == value.numpy().tobytes()
    config = json.loads((tmp_path / "lens" / "cfg.json").read_text())
    assert config["metadata"]["hook_name"] == "blocks.10.hook_resid_post"
    same_bytes(import_sae(tmp_path / "lens"), arrays())


def expected_of(kind: str) -> tuple[np.ndarray, np.ndarray]:
    if kind == "batchtopk":
        return activation_by_hand("jumprelu", threshold=torch.tensor(0.7))
    return by_hand(**arrays()) if kind == "relu" else activation_by_hand(kind)


KINDS = ("relu", "topk", "batchtopk", "jumprelu", "gated")
THEIRS = {"relu": "standard", "batchtopk": "jumprelu"}


@pytest.mark.parametrize("kind", KINDS)
def test_every_activation_goes_out_and_comes_back(tmp_path: Path, kind: str, capsys: Any) -> None:
    made_by(kind).save_pretrained(tmp_path / "sae")
    assert exit_code(["export", str(tmp_path / "sae"), "-o", str(tmp_path / "lens"), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["architecture"] == THEIRS.get(kind, kind)
    config = json.loads((tmp_path / "lens" / "cfg.json").read_text())
    written = load_file(tmp_path / "lens" / "sae_weights.safetensors")
    assert config["architecture"] == THEIRS.get(kind, kind)
    # The equation of SAELens for this architecture, in its own words.
    p = (tokens() - written["b_dec"]) @ written["W_enc"]
    if kind == "gated":
        active = (p + written["b_gate"] > 0).float()
        h = active * torch.relu(
            (tokens() - written["b_dec"]) @ (written["W_enc"] * written["r_mag"].exp()) + written["b_mag"]
        )
    elif kind == "topk":
        assert (config["k"], config["rescale_acts_by_decoder_norm"]) == (4, False)
        values, places = (p + written["b_enc"]).topk(config["k"], dim=-1)
        h = torch.zeros_like(p).scatter(-1, places, torch.relu(values))
    else:
        h = torch.relu(p + written["b_enc"])
        if kind != "relu":
            h = h * (p + written["b_enc"] > written["threshold"])
    expected = expected_of(kind)
    np.testing.assert_allclose(h.numpy(), expected[0], atol=2e-5)
    back = import_sae(tmp_path / "lens")
    assert back.activation.described() == made_by(kind).activation.described()
    agrees(back, expected)
    agrees(made_by(kind), expected)


_OTHER_SIDE = """
import json, sys
import numpy as np, torch, sae_lens
from sae_lens import *
folder, kinds = sys.argv[1], sys.argv[2].split(",")
x = torch.from_numpy(np.load(folder + "/x.npy"))
architectures = {}
def note(name, sae):
    np.savez(folder + f"/{name}.npz", h=sae.encode(x).numpy(), xhat=sae(x).numpy())
with torch.no_grad():
    for kind in kinds:
        theirs = SAE.load_from_disk(folder + f"/export-{kind}")
        architectures[kind] = theirs.cfg.architecture()
        note(f"export-{kind}", theirs)
    size = dict(d_in=x.shape[1], d_sae=40)
    used = {
        "standard": (StandardSAE, StandardSAEConfig(**size)),
        "uncentred": (StandardSAE, StandardSAEConfig(**size, apply_b_dec_to_input=False)),
        "gated": (GatedSAE, GatedSAEConfig(**size)),
        "jumprelu": (JumpReLUSAE, JumpReLUSAEConfig(**size)),
        "topk": (TopKSAE, TopKSAEConfig(**size, k=4)),
        "topk-rescaled": (TopKSAE, TopKSAEConfig(**size, k=4, rescale_acts_by_decoder_norm=True)),
    }
    trained = {
        "train-topk": (TopKTrainingSAE, TopKTrainingSAEConfig(**size, k=4)),
        "train-batchtopk": (BatchTopKTrainingSAE, BatchTopKTrainingSAEConfig(**size, k=4)),
        "train-matryoshka": (
            MatryoshkaBatchTopKTrainingSAE,
            MatryoshkaBatchTopKTrainingSAEConfig(**size, k=4, matryoshka_widths=[10, 40]),
        ),
        "train-jumprelu": (JumpReLUTrainingSAE, JumpReLUTrainingSAEConfig(**size)),
        "train-standard": (StandardTrainingSAE, StandardTrainingSAEConfig(**size)),
        "train-gated": (GatedTrainingSAE, GatedTrainingSAEConfig(**size)),
    }
    for name, (kind, config) in {**used, **trained}.items():
        made = kind(config)
        torch.manual_seed(5)
        for value in made.parameters():
            value.normal_()
        made.W_dec *= 0.3
        if hasattr(made, "threshold"):
            made.threshold.abs_()
        if hasattr(made, "topk_threshold"):
            made.topk_threshold += 0.8
        made.save_model(folder + f"/{name}")
        if name in trained:
            made.save_inference_model(folder + f"/{name}-inference")
            made = SAE.load_from_disk(folder + f"/{name}-inference")
            note(f"{name}-inference", made)
        note(name, made)
saved = [*used, *trained, *(f"{name}-inference" for name in trained)]
print(json.dumps({"version": sae_lens.__version__, "architectures": architectures, "saved": saved}))
"""


def test_saelens_reads_ours_and_we_read_what_it_saved(tmp_path: Path) -> None:
    python = sys.executable if find_spec("sae_lens") else os.environ.get("CYTOSAE_SAELENS")
    if not python:
        pytest.skip("sae_lens is not installed; CYTOSAE_SAELENS can name a Python that has it")
    for kind in KINDS:
        write_saelens(made_by(kind), tmp_path / f"export-{kind}")
    np.save(tmp_path / "x.npy", tokens().numpy())
    environment = {k: v for k, v in os.environ.items() if k != "PYTHONPATH"} | {"HF_HUB_OFFLINE": "1"}
    command = [python, "-c", _OTHER_SIDE, str(tmp_path), ",".join(KINDS)]
    ran = subprocess.run(command, capture_output=True, text=True, env=environment, check=False)
    assert ran.returncode == 0, ran.stderr
    told = json.loads(ran.stdout.splitlines()[-1])
    assert told["architectures"] == {kind: THEIRS.get(kind, kind) for kind in KINDS}
    assert int(told["version"].split(".")[0]) >= 6
    for name in (*(f"export-{kind}" for kind in KINDS), *told["saved"]):
        mine = made_by(name.removeprefix("export-")) if name.startswith("export-") else import_sae(tmp_path / name)
        theirs = np.load(tmp_path / f"{name}.npz")
        xhat, h = (value.detach().numpy() for value in mine(tokens()))
        # Where something was folded in it is rounded once more, and a gate is multiplied in another order; sizes are 30.
        same = name.startswith("export-") or name in ("standard", "topk", "jumprelu")
        rounding = 1e-5 if "gated" in name else 1e-6 if same else 1e-4
        np.testing.assert_allclose(h, theirs["h"], rtol=1e-6, atol=rounding, err_msg=name)
        np.testing.assert_allclose(xhat, theirs["xhat"], rtol=1e-6, atol=rounding, err_msg=name)
    same_bytes(import_sae(tmp_path / "standard"), load_file(tmp_path / "standard" / "sae_weights.safetensors"))
