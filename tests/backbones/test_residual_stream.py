"""Backbones: the residual stream against an independent forward pass, in every published layout."""

from __future__ import annotations

import hashlib
import io
import json
import os
import pickle
import socket
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from cytosae.backbones import INPUT_SIZE, choose_device, choose_precision, fetch, listed, load, resolve_layer
from cytosae.backbones import zenodo as cytosae_zenodo
from cytosae.backbones.zenodo import zenodo_path
from cytosae.errors import CytosaeError
from support.backbones import DEPTH, FORMS, MEAN, STATED, STD, WIDTH, Attention, Mlp, flat, reference, timm, zenodo
from support.commands import assert_user_error, cytosae, cytosae_process, figures
from support.model_hosts import COMMIT, Hub, HubAnswer, Zenodo, folder_bytes
from support.pickles import Calls


@pytest.fixture(scope="module")
def images() -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (2, INPUT_SIZE, INPUT_SIZE, 3), dtype=np.uint8)


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("options", [{}, {"swiglu": True}, {"positions": 1370}], ids=str)
def test_residual_stream_equals_a_hook_in_every_published_form(
    form: str, options: dict[str, object], images: np.ndarray, tmp_path: Path
) -> None:
    model = reference(**options)
    path = FORMS[form](model.state_dict(), tmp_path / "weights")
    hooked = model.hooked(images)
    for layer in (-2, *range(1, DEPTH + 1)):
        backbone = load(str(path), layer=layer, dtype="float32")
        found = backbone.tokens(images)
        assert found.shape == (2, 257, WIDTH)
        assert found.dtype == torch.float32
        expected = hooked[layer - 1 if layer > 0 else DEPTH + layer]
        torch.testing.assert_close(found, expected, rtol=1e-4, atol=2e-4)
        assert (backbone.info.depth, backbone.info.d_model, backbone.info.patch_size) == (DEPTH, WIDTH, 14)


def test_every_block_and_none_after_it(images: np.ndarray, tmp_path: Path) -> None:
    model = reference()
    hooked = model.hooked(images)
    for block in range(DEPTH):
        weights = model.state_dict()
        for key in weights:
            if key.startswith("blocks.") and int(key.split(".")[1]) > block:
                weights[key] = torch.full_like(weights[key], float("nan"))  # running it would show
        backbone = load(str(flat(weights, tmp_path / "w")), layer=block + 1, dtype="float32")
        torch.testing.assert_close(backbone.tokens(images), hooked[block], rtol=1e-4, atol=2e-4)
        assert backbone.info.layer == block
        assert len(backbone._blocks) == block + 1


def test_forms_share_a_fingerprint_and_weights_change_it(tmp_path: Path) -> None:
    model = reference()
    prints = {load(str(write(model.state_dict(), tmp_path / form))).info.fingerprint for form, write in FORMS.items()}
    assert len(prints) == 1
    weights = model.state_dict()
    weights["blocks.0.mlp.fc1.bias"][0] += 1e-3
    assert load(str(flat(weights, tmp_path / "other"))).info.fingerprint not in prints


@pytest.mark.parametrize("kind", ["dinov2", "registers", "vit", "vit518"])
def test_folders_of_transformers(kind: str, images: np.ndarray, tmp_path: Path) -> None:
    import transformers as tf

    torch.manual_seed(0)
    common = {"hidden_size": 64, "num_hidden_layers": 3, "num_attention_heads": 2}
    model: nn.Module
    if kind == "dinov2":
        model = tf.Dinov2Model(tf.Dinov2Config(**common, image_size=518, patch_size=14))
    elif kind == "registers":
        model = tf.Dinov2WithRegistersModel(tf.Dinov2WithRegistersConfig(**common, image_size=518, patch_size=14))
    else:
        size = 224 if kind == "vit" else 384
        model = tf.ViTModel(tf.ViTConfig(**common, intermediate_size=128, image_size=size, patch_size=16))
    model.eval().save_pretrained(tmp_path)
    blocks = model.layers if kind.startswith("vit") else model.encoder.layer
    seen: list[Tensor] = []
    blocks[1].register_forward_hook(lambda _m, _i, output: seen.append(output))
    pixels = ((torch.from_numpy(images).float() / 255 - MEAN) / STD).permute(0, 3, 1, 2)
    with torch.no_grad():
        model(pixels, **({"interpolate_pos_encoding": True} if kind.startswith("vit") else {}))
    expected = seen[0]
    if kind == "registers":
        expected = torch.cat([expected[:, :1], expected[:, 5:]], 1)  # four registers stand between CLS and patches
    backbone = load(str(tmp_path), dtype="float32")
    side = 14 if kind.startswith("vit") else 16
    assert backbone.info.grid == (side, side)
    assert backbone.info.n_tokens == 1 + side * side == expected.shape[1]
    torch.testing.assert_close(backbone.tokens(images), expected, rtol=1e-4, atol=1e-4)


def test_tokens_lie_row_by_row(vit: Path) -> None:
    """Token 1 + i is patch i: only the tokens of a changed patch differ after the embedding."""
    backbone = load(str(vit), layer=1, dtype="float32")
    backbone._blocks = nn.ModuleList()
    plain = np.zeros((1, 224, 224, 3), np.uint8)
    marked = plain.copy()
    marked[0, 14 * 3 : 14 * 4, 14 * 5 : 14 * 6] = 255
    differs = (backbone.tokens(plain) != backbone.tokens(marked)).any(-1)[0].nonzero().squeeze(1)
    assert differs.tolist() == [1 + 3 * 16 + 5]


def test_lower_precision_stays_close_and_the_stream_stays_float32(vit: Path, images: np.ndarray) -> None:
    exact, rough = (load(str(vit), dtype=dtype).tokens(images) for dtype in ("float32", "bfloat16"))
    assert rough.dtype == torch.float32
    assert not torch.equal(exact, rough)
    assert (exact - rough).norm() / exact.norm() < 0.01
    for dtype in ("bfloat16", "float16"):
        backbone = load(str(vit), dtype=dtype)
        seen: list[torch.dtype] = []
        for part in (backbone._embeddings, *backbone._blocks):
            part.register_forward_hook(lambda _m, _i, output, seen=seen: seen.append(output.dtype))
        backbone.tokens(images)
        assert seen == [torch.float32] * 3  # embeddings and two blocks


def test_weights_that_are_cast_once_give_the_bits_of_autocast(vit: Path, images: np.ndarray) -> None:
    backbone, whole = load(str(vit), dtype="bfloat16"), load(str(vit), dtype="float32")
    expected = backbone.tokens(images)
    assert {p.dtype for n, p in backbone._blocks.named_parameters() if "_proj" in n or ".fc" in n} == {torch.bfloat16}
    backbone._blocks = whole._blocks  # float32 weights, which autocast casts on every call
    assert torch.equal(backbone.tokens(images), expected)


def test_same_images_same_bytes(vit: Path, images: np.ndarray) -> None:
    backbone = load(str(vit))
    assert torch.equal(backbone.tokens(images), load(str(vit)).tokens(torch.from_numpy(images)))


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
    with pytest.raises(CytosaeError, match="unknown: register_tokens"):
        load(str(flat({**weights, "register_tokens": torch.ones(1, 4, WIDTH)}, tmp_path / "registers")))
    with pytest.raises(CytosaeError, match="200 position embeddings are not CLS and a square grid"):
        load(str(flat({**weights, "pos_embed": torch.ones(1, 200, WIDTH)}, tmp_path / "positions")))
    with pytest.raises(CytosaeError, match="not DinoBloom weights"):
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


def test_wrong_size_for_a_dinobloom_name(tmp_path: Path) -> None:
    path = flat(reference().state_dict(), tmp_path / "w")
    with pytest.raises(CytosaeError, match="width 128 and 4 blocks, but dinobloom-b has 768 and 12"):
        load("dinobloom-b", weights=path)
    with pytest.raises(CytosaeError, match="--weights belongs to"):
        load("tiny", weights=path)


def test_names_and_layers(vit: Path, tmp_path: Path) -> None:
    with pytest.raises(CytosaeError, match=r"unknown backbone, did you mean dinobloom-b\?"):
        load("dinoblom-b")
    with pytest.raises(CytosaeError, match="no such file of weights"):
        load(str(tmp_path / "absent.pth"))
    with pytest.raises(CytosaeError, match=r"config\.json"):
        load(str(tmp_path))
    for name in ("nothing", "", "./no/folder"):
        with pytest.raises(CytosaeError, match=r"unknown backbone\. Known are dinobloom-s, .*, tiny"):
            load(name)
    assert load(str(vit), layer="-2").info.layer == load(str(vit), layer="2").info.layer == 1
    for layer in (0, 4, -4, "last"):
        with pytest.raises(CytosaeError, match=r"3 blocks; choose 1 to 3, or -3 to -1"):
            load(str(vit), layer=layer)
    assert [resolve_layer(n, 12) for n in (-2, -1, 1, 11, 12, -12)] == [10, 11, 0, 10, 11, 0]


def test_unsupported_model(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text('{"model_type": "bert"}')
    with pytest.raises(CytosaeError, match="is a 'bert' model; supported are"):
        load(str(tmp_path))
    (tmp_path / "config.json").write_text('{"model_type": ')
    with pytest.raises(CytosaeError, match="cannot be loaded"):
        load(str(tmp_path))


@pytest.mark.parametrize(
    ("change", "message"),
    [({"patch_size": 15, "image_size": 225}, "patches of 15 x 15 px"), ({"num_channels": 1}, "images of 1 channels")],
)
def test_models_for_other_images(change: dict[str, int], message: str, tmp_path: Path) -> None:
    import transformers as tf

    common = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 32}
    tf.ViTModel(tf.ViTConfig(**common, **change)).save_pretrained(tmp_path)
    with pytest.raises(CytosaeError, match=message):
        load(str(tmp_path))


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Callable[[dict[str, bytes]], Hub]]:
    """Starts a hub with the given files, beside an empty cache; without one started, nobody answers."""
    servers: list[Hub] = []

    def point_to(endpoint: str) -> None:
        monkeypatch.setattr("huggingface_hub.constants.ENDPOINT", endpoint)
        template = endpoint + "/{repo_id}/resolve/{revision}/{filename}"
        monkeypatch.setattr("huggingface_hub.constants.HUGGINGFACE_CO_URL_TEMPLATE", template)

    def start(files: dict[str, bytes]) -> Hub:
        servers.append(Hub(files))
        threading.Thread(target=servers[-1].serve_forever, daemon=True).start()
        point_to(servers[-1].endpoint)
        return servers[-1]

    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", False)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "cache"))
    point_to("http://127.0.0.1:9")
    yield start
    for server in servers:
        server.shutdown()
        server.server_close()


@pytest.mark.parametrize("pickled", [False, True])
def test_hub_model_is_fetched_once_and_then_needs_no_network(
    hub: Callable[[dict[str, bytes]], Hub],
    pickled: bool,
    vit: Path,
    images: np.ndarray,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    files = folder_bytes(vit)
    torch.save(load_file(vit / "model.safetensors"), tmp_path / "pytorch_model.bin")
    files["pytorch_model.bin"] = (tmp_path / "pytorch_model.bin").read_bytes()
    if pickled:
        del files["model.safetensors"]
    server = hub(files)
    backbone = load("owner/model")
    assert (backbone.info.source, backbone.info.revision) == ("owner/model", COMMIT)
    assert backbone.info.fingerprint == load(str(vit)).info.fingerprint
    assert torch.equal(backbone.tokens(images), load(str(vit)).tokens(images))
    assert any("pytorch_model.bin" in path for path in server.asked) is pickled  # safetensors where there are any
    server.shutdown()
    server.server_close()
    assert load("owner/model").info.revision == COMMIT
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    assert load("owner/model").info.fingerprint == backbone.info.fingerprint


def test_dinobloom_of_the_hub_in_both_forms(hub: Callable[[dict[str, bytes]], Hub], tmp_path: Path) -> None:
    weights = reference().state_dict()
    files = {
        "config.json": b'{"architecture": "vit_small_patch14_dinov2", "num_classes": 0}',
        "model.safetensors": timm(weights, tmp_path / "w").read_bytes(),
        "pytorch_model_b.bin": flat(weights, tmp_path / "w").read_bytes(),
    }
    server = hub(files)
    backbone = load("1aurent/vit_small_patch14_224.dinobloom")
    assert backbone.info.fingerprint == load(str(tmp_path / "w.bin")).info.fingerprint
    with pytest.raises(CytosaeError, match=r"pytorch_model_b\.bin: holds a model of width 128"):
        load("dinobloom-b")  # found and read, only that this one is too small
    assert "/MarrLab/DinoBloom/resolve/main/pytorch_model_b.bin" in server.asked


def test_hub_without_the_model_and_without_weights(hub: Callable[[dict[str, bytes]], Hub], vit: Path) -> None:
    hub({})
    with pytest.raises(CytosaeError, match=r"owner/model: config\.json is not in the local cache.*EntryNotFound"):
        load("owner/model")
    hub({"config.json": (vit / "config.json").read_bytes()})
    with pytest.raises(CytosaeError, match=r"no model\.safetensors and no pytorch_model\.bin"):
        load("owner/model")


@pytest.mark.parametrize("how", ["offline", "refused", "silent"])
@pytest.mark.parametrize(("name", "advice"), [("dinobloom-b", "--weights DinoBloom-B.pth"), ("owner/model", "folder")])
def test_no_network_is_said_soon(
    hub: Callable[[dict[str, bytes]], Hub], how: str, name: str, advice: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:  # takes the connection and never answers
        if how == "offline":
            monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
        if how == "silent":
            template = f"http://127.0.0.1:{silent.getsockname()[1]}/{{repo_id}}/resolve/{{revision}}/{{filename}}"
            monkeypatch.setattr("huggingface_hub.constants.HUGGINGFACE_CO_URL_TEMPLATE", template)
            monkeypatch.setattr("cytosae.backbones.hub.PATIENCE", 0.3)
        start = time.monotonic()
        with pytest.raises(CytosaeError, match="HF_HUB_OFFLINE") as caught:
            load(name)
        assert time.monotonic() - start < 60  # the library alone would try again for minutes
    assert advice in str(caught.value)
    if name == "dinobloom-b":
        assert "zenodo.org/records/10908163" in str(caught.value)


def test_devices_and_precisions() -> None:
    assert choose_device("cpu") == "cpu"
    assert choose_precision("float32", "cpu") == "float32"
    assert choose_precision("auto", "cpu") in {"float32", "bfloat16"}
    with pytest.raises(CytosaeError, match="unknown"):
        choose_precision("int8", "cpu")
    with pytest.raises(CytosaeError, match="unknown"):
        choose_device("tpu")
    with pytest.raises(CytosaeError, match="unknown"):
        choose_device("cuda:first")
    if not torch.cuda.is_available():
        with pytest.raises(CytosaeError, match="0 CUDA devices"):
            choose_device("cuda")


def test_apple_gpu_for_the_backbone_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    monkeypatch.setattr("torch.backends.mps.is_available", lambda: True)
    assert choose_device("auto", mps=True) == choose_device("mps", mps=True) == "mps"
    assert choose_precision("auto", "mps") == "float32"
    assert choose_device("auto") == "cpu"
    with pytest.raises(CytosaeError, match="no float64"):
        choose_device("mps")
    monkeypatch.setattr("torch.backends.mps.is_available", lambda: False)
    assert choose_device("auto", mps=True) == "cpu"
    with pytest.raises(CytosaeError, match="no such GPU here"):
        choose_device("mps", mps=True)


def test_precision_follows_the_processor(monkeypatch: pytest.MonkeyPatch) -> None:
    for flags, expected in (({"avx512_bf16": True}, "bfloat16"), ({"avx2": True, "amx_bf16": False}, "float32")):
        monkeypatch.setattr("torch.cpu.get_capabilities", lambda flags=flags: flags)
        assert choose_precision("auto", "cpu") == expected


@pytest.mark.filterwarnings("error")
def test_images_in_any_memory(vit: Path, images: np.ndarray) -> None:
    backbone = load(str(vit))
    expected = backbone.tokens(images)
    fixed = images.copy()
    fixed.flags.writeable = False
    turned = np.ascontiguousarray(images[:, ::-1])[:, ::-1]
    for same in (fixed, turned, torch.from_numpy(images)):
        assert torch.equal(backbone.tokens(same), expected)
    assert backbone.tokens(images[:0]).shape == (0, 257, 48)


@pytest.mark.parametrize(
    "images",
    [
        [1, 2],
        "x",
        np.zeros((1, 224, 224, 3), np.float32),
        np.zeros((1, 3, 224, 224), np.uint8),
        np.zeros((224, 224, 3), np.uint8),
    ],
)
def test_images_of_another_form(vit: Path, images: np.ndarray) -> None:
    with pytest.raises(CytosaeError, match="expected uint8"):
        load(str(vit)).tokens(images)


def test_built_in_backbone_is_small_and_tells_places_apart(real_cells: Path) -> None:
    from cytosae.backbones import TINY
    from cytosae.cells import load_squashed

    assert sum(path.stat().st_size for path in TINY.iterdir()) <= 8_000_000
    backbone = load("tiny")
    assert (backbone.info.d_model, backbone.info.n_tokens, backbone.info.depth) == (192, 257, 6)
    path = real_cells / "segwbc_cellavision" / "images"
    images = np.stack([load_squashed(p, INPUT_SIZE) for p in sorted(path.iterdir())[:4]])
    tokens = backbone.tokens(images)
    assert torch.isfinite(tokens).all()
    patches = tokens[:, 1:].unflatten(1, (16, 16))
    centre, corner = patches[:, 7:9, 7:9].flatten(1, 2), patches[:, :2, :2].flatten(1, 2)
    apart = (centre.mean(1) - corner.mean(1)).norm(dim=1)
    assert (apart > centre.std(1).norm(dim=1)).all()  # the cell in the middle differs from what surrounds it


# --- Other families ---------------------------------------------------------------------------------------------------

CLIP_NORM = ([0.48145466, 0.4578275, 0.40821073], [0.26862954, 0.26130258, 0.27577711])
HALF_NORM = ([0.5] * 3, [0.5] * 3)

_SMALL = {"hidden_size": 48, "num_hidden_layers": 3, "num_attention_heads": 3, "intermediate_size": 96}
_TEXT = {**_SMALL, "num_hidden_layers": 1, "vocab_size": 50}


def family(kind: str) -> tuple[nn.Module, nn.Module]:
    """A model of a family with random weights, and the vision tower in it (the model itself where that is all)."""
    import transformers as tf

    torch.manual_seed(3)
    name, _, form = kind.partition("-")
    whole: nn.Module
    if name == "dinov3":
        gated = {"use_gated_mlp": True, "hidden_act": "silu"} if form == "gated" else {}
        config = tf.DINOv3ViTConfig(**_SMALL, patch_size=16, num_register_tokens=4, layerscale_value=0.7, **gated)
        whole = tf.DINOv3ViTModel(config)
    elif name == "phikon":
        shape = {key: value for key, value in _SMALL.items() if key != "intermediate_size"}
        whole = tf.Dinov2Model(tf.Dinov2Config(**shape, patch_size=16, image_size=224))
    elif name == "clip":
        vision = {**_SMALL, "patch_size": 16, "image_size": 224 if form != "larger" else 320}
        whole = tf.CLIPModel(tf.CLIPConfig(vision_config=vision, text_config=_TEXT))
    elif name == "siglip":
        vision = {**_SMALL, "patch_size": 16, "image_size": 224}
        whole = tf.SiglipModel(tf.SiglipConfig(vision_config=vision, text_config=_TEXT))
    else:
        vision = {**_SMALL, "patch_size": 16, "num_patches": 64}
        whole = tf.Siglip2Model(tf.Siglip2Config(vision_config=vision, text_config=_TEXT))
    with torch.no_grad():  # far from the initial values, which hide mistakes
        for parameter in whole.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))
    whole.eval()
    return whole, getattr(whole, "vision_model", whole)


def streams(kind: str, tower: nn.Module, images: np.ndarray, norm: tuple[list[float], list[float]]) -> list[Tensor]:
    """What the whole tower computes, block by block, told by transformers itself; the last is its final output."""
    pixels = (torch.from_numpy(images).float() / 255 - torch.tensor(norm[0])) / torch.tensor(norm[1])
    options: dict[str, object] = {"pixel_values": pixels.permute(0, 3, 1, 2)}
    if kind.startswith("siglip2"):
        cut = [pixels[:, 16 * r : 16 * r + 16, 16 * c : 16 * c + 16].flatten(1) for r in range(14) for c in range(14)]
        options = {
            "pixel_values": torch.stack(cut, 1),
            "pixel_attention_mask": torch.ones(len(images), 196, dtype=torch.long),
            "spatial_shapes": torch.tensor([[14, 14]] * len(images)),
        }
    elif kind.startswith(("clip", "siglip")):
        options["interpolate_pos_encoding"] = True
    with torch.no_grad():
        found = tower(**options, output_hidden_states=True)
    outputs = [*found.hidden_states[1:], found.last_hidden_state]
    if kind.startswith("dinov3"):
        return [torch.cat([x[:, :1], x[:, 5:]], 1) for x in outputs]
    if kind.startswith("siglip"):
        return [torch.cat([x.mean(1, keepdim=True), x], 1) for x in outputs]
    return outputs


@pytest.mark.parametrize(
    ("kind", "part", "norm"),
    [
        ("dinov3", "tower", (MEAN.tolist(), STD.tolist())),
        ("dinov3-gated", "tower", (MEAN.tolist(), STD.tolist())),
        ("phikon", "stated", STATED),
        ("clip", "whole", CLIP_NORM),
        ("clip", "tower", CLIP_NORM),
        ("clip-larger", "stated", STATED),
        ("siglip", "whole", HALF_NORM),
        ("siglip", "tower", HALF_NORM),
        ("siglip2", "whole", HALF_NORM),
        ("siglip2", "tower", HALF_NORM),
    ],
)
def test_every_block_of_every_family(
    kind: str, part: str, norm: tuple[list[float], list[float]], images: np.ndarray, tmp_path: Path
) -> None:
    whole, tower = family(kind)
    (tower if part == "tower" else whole).save_pretrained(tmp_path)
    if part == "stated":
        about = {"image_mean": norm[0], "image_std": norm[1], "do_normalize": True}
        (tmp_path / "preprocessor_config.json").write_text(json.dumps(about))
    expected = streams(kind, tower, images, norm)
    for layer in (1, 2, 3):
        backbone = load(str(tmp_path), layer=layer, dtype="float32", whole=True)
        found = backbone.tokens(images)
        assert found.shape == (2, 197, 48)
        torch.testing.assert_close(found, expected[layer - 1], rtol=1e-5, atol=1e-5)
        assert (backbone.info.grid, backbone.info.n_tokens, backbone.info.depth) == ((14, 14), 197, 3)
        assert ([*backbone.info.mean], [*backbone.info.std]) == (pytest.approx(norm[0]), pytest.approx(norm[1]))
        assert backbone.can_finish is not kind.startswith("dinov3")  # its registers are not kept
        if kind in {"siglip", "siglip2"}:  # the mean of the patches takes no part in what follows
            changed = torch.cat([torch.zeros_like(found[:, :1]), found[:, 1:]], 1)
            torch.testing.assert_close(backbone.output(changed), expected[3], rtol=1e-4, atol=1e-5)
        elif backbone.can_finish:
            final = expected[3] if kind == "phikon" else tower.post_layernorm(expected[3])  # type: ignore[operator]
            torch.testing.assert_close(backbone.output(found), final, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("kind", ["dinov3", "clip", "siglip", "siglip2"])
def test_families_in_lower_precision_and_token_by_token(kind: str, images: np.ndarray, tmp_path: Path) -> None:
    family(kind)[1].save_pretrained(tmp_path)
    exact, rough = (load(str(tmp_path), dtype=dtype).tokens(images) for dtype in ("float32", "bfloat16"))
    assert rough.dtype == torch.float32
    assert 0 < (exact - rough).norm() / exact.norm() < 0.02
    backbone = load(str(tmp_path), layer=1, dtype="float32")
    backbone._blocks = nn.ModuleList()
    plain = np.zeros((1, 224, 224, 3), np.uint8)
    marked = plain.copy()
    marked[0, 16 * 3 : 16 * 4, 16 * 5 : 16 * 6] = 255
    differs = (backbone.tokens(plain) != backbone.tokens(marked)).any(-1)[0].nonzero().squeeze(1)
    assert differs.tolist() == [*([0] if kind.startswith("siglip") else []), 1 + 3 * 14 + 5]


@pytest.mark.parametrize("kind", ["clip", "siglip", "siglip2"])
def test_a_tower_and_the_model_that_it_is_from_are_one_backbone(kind: str, tmp_path: Path) -> None:
    whole, tower = family(kind)
    whole.save_pretrained(tmp_path / "whole")
    tower.save_pretrained(tmp_path / "tower")
    prints = {load(str(tmp_path / part)).info.fingerprint for part in ("whole", "tower")}
    assert len(prints) == 1
    old = {f"vision_model.{key}": value for key, value in load_file(tmp_path / "tower" / "model.safetensors").items()}
    heads = {key: value for key, value in old.items() if ".head." not in key}  # pooling has no part in the tokens
    save_file(heads, tmp_path / "tower" / "model.safetensors", metadata={"format": "pt"})
    assert {load(str(tmp_path / "tower")).info.fingerprint} == prints
    lacking = {key: value for key, value in heads.items() if "layers.1.mlp.fc1.bias" not in key}
    save_file(lacking, tmp_path / "tower" / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(CytosaeError, match=r"weights are missing.*layers\.1\.mlp\.fc1\.bias"):
        load(str(tmp_path / "tower"))


def test_angles_of_dinov3_are_part_of_its_fingerprint(tmp_path: Path) -> None:
    family("dinov3")[1].save_pretrained(tmp_path)
    before = load(str(tmp_path)).info.fingerprint
    about = json.loads((tmp_path / "config.json").read_text())
    (tmp_path / "config.json").write_text(json.dumps({**about, "rope_theta": 50.0}))
    assert load(str(tmp_path)).info.fingerprint != before


@pytest.mark.parametrize(
    ("stated", "message"),
    [
        ({"image_mean": [0.5], "image_std": [0.5] * 3}, r"image_mean \[0\.5\]; expected three numbers"),
        ({"image_mean": [0.5] * 3}, "image_std None; expected three numbers"),
        ({"image_mean": [0.5] * 3, "image_std": [0.5, 0, 0.5]}, "expected numbers above 0"),
        ({"image_mean": [0.5] * 3, "image_std": [0.5] * 3, "rescale_factor": 0}, "rescale_factor 0; expected a number"),
        ({"do_flip_channel_order": True}, "do_flip_channel_order"),
        ({"rescale_offset": True}, "rescale_offset"),
        ([1], "preprocessor_config.json holds no settings"),
        ({"size": 224}, None),
        ({"do_flip_channel_order": False}, None),
    ],
)
def test_normalisation_that_is_not_one(stated: object, message: str | None, vit: Path, tmp_path: Path) -> None:
    for path in vit.iterdir():
        (tmp_path / path.name).symlink_to(path)
    (tmp_path / "preprocessor_config.json").write_text(json.dumps(stated))
    if message is None:
        assert load(str(tmp_path)).info.mean == pytest.approx(MEAN.tolist())
        return
    with pytest.raises(CytosaeError, match=message):
        load(str(tmp_path))


_OWN = {"image_mean": [0.5, 0.4, 0.3], "image_std": [0.2, 0.3, 0.4]}


@pytest.mark.parametrize(
    "stated",
    [
        {"do_normalize": False},
        {"do_normalize": False, "image_mean": [0.5] * 3},
        {"do_normalize": False, "do_rescale": False},
        {**_OWN, "do_rescale": False},
        {**_OWN, "rescale_factor": 1 / 127.5},
        {**_OWN, "rescale_factor": 0.00392156862745098},
        {**_OWN, "do_rescale": False, "rescale_factor": 1 / 127.5},
        {"do_rescale": False},
    ],
    ids=str,
)
def test_pixels_reach_the_model_as_its_own_processor_makes_them(
    stated: dict[str, Any], vit: Path, images: np.ndarray, tmp_path: Path
) -> None:
    for path in vit.iterdir():
        (tmp_path / path.name).symlink_to(path)
    (tmp_path / "preprocessor_config.json").write_text(json.dumps(stated))
    info = load(str(tmp_path)).info
    pixels = images.astype(np.float64)
    given = pixels * stated.get("rescale_factor", 1 / 255) if stated.get("do_rescale", True) else pixels
    if stated.get("do_normalize", True):
        mean, std = stated.get("image_mean", MEAN.tolist()), stated.get("image_std", STD.tolist())
        given = (given - mean) / std
    np.testing.assert_allclose((pixels / 255 - info.mean) / info.std, given, rtol=1e-5, atol=1e-5)
    if stated == {"do_normalize": False}:
        assert (info.mean, info.std) == ((0, 0, 0), (1, 1, 1))


def test_a_nested_image_processor_and_damaged_files(vit: Path, tmp_path: Path) -> None:
    for path in vit.iterdir():
        (tmp_path / path.name).symlink_to(path)
    (tmp_path / "processor_config.json").write_text(json.dumps({"image_processor": _OWN, "tokenizer": {}}))
    (tmp_path / "preprocessor_config.json").write_text(json.dumps({"do_normalize": False}))
    assert load(str(tmp_path)).info.mean == tuple(_OWN["image_mean"])  # as transformers chooses
    (tmp_path / "processor_config.json").write_text(json.dumps({"processor_class": "CLIPProcessor"}))
    assert load(str(tmp_path)).info.mean == (0, 0, 0)
    (tmp_path / "preprocessor_config.json").write_text('{"do_normalize": fal')
    with pytest.raises(CytosaeError, match=r"preprocessor_config\.json cannot be read"):
        load(str(tmp_path))


@pytest.mark.parametrize(
    ("stated", "said"),
    [
        ({"size": {"shortest_edge": 256}, "do_resize": True}, "resizes to shortest edge 256 px"),
        ({"do_resize": True, "size": {"height": 224, "width": 224}, "resample": 3}, "bicubic interpolation"),
        ({"do_center_crop": True, "crop_size": 224}, "cuts out the middle"),
        ({"do_pad": True}, "do_pad"),
        ({"do_resize": True, "size": {"height": 224, "width": 224}, "resample": 2}, None),
        ({}, None),
    ],
)
def test_other_sizes_and_crops_are_said(
    stated: dict[str, Any], said: str | None, vit: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for path in vit.iterdir():
        (tmp_path / path.name).symlink_to(path)
    (tmp_path / "preprocessor_config.json").write_text(json.dumps(stated))
    load(str(tmp_path))
    told = capsys.readouterr().err
    assert ("was made for other images" in told) == (said is not None)
    assert said is None or said in told


def test_a_folder_of_timm_says_its_normalisation(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    save_file(reference().state_dict(), tmp_path / "model.safetensors")

    def loaded(config: dict[str, Any]) -> tuple[tuple[float, ...], tuple[float, ...]]:
        (tmp_path / "config.json").write_text(json.dumps({"architecture": "vit_base_patch14_dinov2", **config}))
        info = load(str(tmp_path)).info
        return info.mean, info.std

    own = {"mean": [0.5, 0.4, 0.3], "std": [0.2, 0.3, 0.4]}
    expected = (tuple(own["mean"]), tuple(own["std"]))
    assert loaded({"pretrained_cfg": own}) == expected
    assert loaded(own) == expected
    assert loaded({})[0] == pytest.approx(MEAN.tolist())
    assert capsys.readouterr().err == ""
    loaded({"pretrained_cfg": {**own, "input_size": [3, 518, 518], "crop_pct": 0.875, "interpolation": "bicubic"}})
    told = capsys.readouterr().err
    assert all(one in told for one in ("518 x 518 px", "87.5%", "bicubic"))
    with pytest.raises(CytosaeError, match=r"config\.json gives std None"):
        loaded({"pretrained_cfg": {"mean": own["mean"]}})


# --- timm -------------------------------------------------------------------------------------------------------------


class TimmBlock(nn.Module):
    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.norm1, self.norm2 = nn.LayerNorm(width, 1e-6), nn.LayerNorm(width, 1e-6)
        self.attn = Attention(width, heads)
        self.attn.num_heads = heads
        self.mlp = Mlp(width, 2 * width)
        self.mlp.act = nn.GELU()

    def forward(self, x: Tensor) -> Tensor:
        x = x + self.attn(self.norm1(x))
        return x + self.mlp(self.norm2(x))


class TimmViT(nn.Module):
    """A vision transformer with the attributes of timm's, so far as they matter here."""

    def __init__(self, class_token: bool = True, registers: int = 0) -> None:
        super().__init__()
        self.embed_dim, self.has_class_token = 48, class_token
        self.num_prefix_tokens = class_token + registers
        self.patch_embed = nn.Module()
        self.patch_embed.proj = nn.Conv2d(3, 48, 16, 16)
        self.patch_embed.forward = lambda x: self.patch_embed.proj(x).flatten(2).transpose(1, 2)  # type: ignore[method-assign]
        self.cls_token = nn.Parameter(torch.randn(1, 1, 48)) if class_token else None
        self.reg_token = nn.Parameter(torch.randn(1, registers, 48)) if registers else None
        self.pos_embed = nn.Parameter(torch.randn(1, 196 + class_token, 48))
        self.patch_drop, self.norm_pre, self.norm = nn.Identity(), nn.LayerNorm(48), nn.LayerNorm(48)
        self.blocks = nn.Sequential(*[TimmBlock(48, 3) for _ in range(3)])

    def _pos_embed(self, x: Tensor) -> Tensor:
        if self.cls_token is not None:
            x = torch.cat([self.cls_token.expand(len(x), -1, -1), x], 1)
        x = x + self.pos_embed
        if self.reg_token is not None:
            x = torch.cat([x[:, : self.has_class_token], self.reg_token.expand(len(x), -1, -1), x[:, 1:]], 1)
        return x

    def forward(self, x: Tensor) -> list[Tensor]:
        x = self.norm_pre(self._pos_embed(self.patch_embed(x)))
        return [x := block(x) for block in self.blocks]


@pytest.fixture
def timm_stub(monkeypatch: pytest.MonkeyPatch) -> Callable[[nn.Module], None]:
    """Puts a module `timm` in place that knows one model, and fills it as timm does: strictly if no classifier is named."""

    def put(model: nn.Module) -> None:
        def get_pretrained_cfg(name: str) -> SimpleNamespace | None:
            if "." in name and not name.endswith(".some"):
                raise RuntimeError(f"Invalid pretrained tag ({name.partition('.')[2]})")
            return SimpleNamespace(hf_hub_id="timm/vit.some", mean=STATED[0], std=STATED[1]) if "vit" in name else None

        def create_model(
            name: str,
            pretrained: bool,
            num_classes: int,
            global_pool: str,
            img_size: int,
            pretrained_cfg_overlay: dict[str, Any],
        ) -> nn.Module:
            assert (pretrained, num_classes, global_pool, img_size) == (True, 0, "", 224)
            model.load_state_dict(
                pretrained_cfg_overlay["state_dict"], strict=pretrained_cfg_overlay["classifier"] is None
            )
            return model

        module = ModuleType("timm")
        module.models = SimpleNamespace(get_pretrained_cfg=get_pretrained_cfg)  # type: ignore[attr-defined]
        module.create_model = create_model  # type: ignore[attr-defined]
        monkeypatch.setitem(sys.modules, "timm", module)

    return put


@pytest.mark.parametrize(("class_token", "registers"), [(True, 0), (True, 4), (False, 0)])
def test_every_block_of_a_model_of_timm(
    class_token: bool,
    registers: int,
    images: np.ndarray,
    timm_stub: Callable[[nn.Module], None],
    hub: Callable[[dict[str, bytes]], Hub],
    tmp_path: Path,
) -> None:
    torch.manual_seed(0)
    model = TimmViT(class_token, registers).eval()
    weights = {key: value.clone() for key, value in model.state_dict().items()}
    save_file({**weights, "head.weight": torch.ones(5, 48)}, tmp_path / "model.safetensors")
    server = hub(folder_bytes(tmp_path))
    pixels = ((torch.from_numpy(images).float() / 255 - torch.tensor(STATED[0])) / torch.tensor(STATED[1])).permute(
        0, 3, 1, 2
    )
    with torch.no_grad():
        expected = model(pixels)
    prints = set()
    for layer in (1, 2, 3):
        fresh = TimmViT(class_token, registers)
        timm_stub(fresh)
        backbone = load("timm:vit.some", layer=layer, dtype="float32")
        x = expected[layer - 1]
        kept = torch.cat([x[:, :1] if class_token else x.mean(1, keepdim=True), x[:, class_token + registers :]], 1)
        torch.testing.assert_close(backbone.tokens(images), kept, rtol=1e-5, atol=1e-5)
        assert (backbone.info.source, backbone.info.revision) == ("timm/vit.some", COMMIT)
        assert (backbone.info.n_tokens, backbone.info.depth, backbone.info.d_model) == (197, 3, 48)
        prints.add(backbone.info.fingerprint)
    assert len(prints) == 1
    assert "/timm/vit.some/resolve/main/model.safetensors" in server.asked


def test_weights_that_timm_would_leave_random(
    timm_stub: Callable[[nn.Module], None], hub: Callable[[dict[str, bytes]], Hub], tmp_path: Path
) -> None:
    weights = TimmViT().state_dict()
    del weights["blocks.1.norm1.weight"]
    save_file(weights, tmp_path / "model.safetensors")
    hub(folder_bytes(tmp_path))
    timm_stub(TimmViT())
    with pytest.raises(CytosaeError, match=r"timm:vit\.some: timm cannot build it for images of 224 px.*RuntimeError"):
        load("timm:vit.some")


def test_models_that_timm_does_not_have_or_builds_otherwise(
    timm_stub: Callable[[nn.Module], None],
    hub: Callable[[dict[str, bytes]], Hub],
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> None:
    timm_stub(nn.Linear(2, 2))
    save_file({"weight": torch.ones(2, 2), "bias": torch.ones(2)}, tmp_path / "model.safetensors")
    hub(folder_bytes(tmp_path))
    with pytest.raises(CytosaeError, match=r"timm:vit\.some: is no plain vision transformer \(patch_embed, _pos_embed"):
        load("timm:vit.some")
    with pytest.raises(CytosaeError, match="timm knows no such model"):
        load("timm:resnet50")
    with pytest.raises(CytosaeError, match=r"timm does not know it \(Invalid pretrained tag \(other\)\)"):
        load("timm:vit.other")
    assert any(row["name"] == "timm:NAME" for row in listed())
    monkeypatch.setitem(sys.modules, "timm", None)
    with pytest.raises(CytosaeError, match="needs timm, which cannot be imported"):
        load("timm:vit.some")
    assert not any(row["name"] == "timm:NAME" for row in listed())


# --- The catalogue ----------------------------------------------------------------------------------------------------


@pytest.fixture
def zenodo_site(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, hub: Callable[[dict[str, bytes]], Hub]
) -> Iterator[Zenodo]:
    """Zenodo with a small DinoBloom-B; the cache is empty."""
    body = zenodo(reference().state_dict(), tmp_path / "published").read_bytes()
    server = Zenodo({"DinoBloom-B.pth": body}, {"DinoBloom-B.pth": f"md5:{hashlib.md5(body).hexdigest()}"})
    threading.Thread(target=server.serve_forever, daemon=True).start()
    monkeypatch.setattr("cytosae.backbones.zenodo.SITE", server.site)
    monkeypatch.setattr("cytosae.backbones.loading.SHAPES", {"dinobloom-b": (WIDTH, DEPTH)})
    monkeypatch.setattr("pooch.os_cache", lambda project: tmp_path / "os-cache" / project)
    yield server
    server.shutdown()
    server.server_close()


def test_zenodo_is_gone_on_with_and_checked(zenodo_site: Zenodo, tmp_path: Path) -> None:
    published = load(str(tmp_path / "published.pth")).info.fingerprint
    body = zenodo_site.files["DinoBloom-B.pth"]
    zenodo_site.breaks = 2
    for _ in range(2):
        with pytest.raises(CytosaeError, match=r"DinoBloom-B\.pth: Zenodo did not give it.*broke off.*goes on"):
            fetch("dinobloom-b", source="zenodo")
    assert not zenodo_path("dinobloom-b").exists()
    found = fetch("dinobloom-b", source="zenodo")
    third = len(body) // 3
    assert zenodo_site.ranges == [None, f"bytes={third}-", f"bytes={2 * third}-"]
    assert (found["fingerprint"], found["sha256"]) == (published, hashlib.sha256(body).hexdigest())
    assert [path.name for path in zenodo_path("dinobloom-b").parent.iterdir()] == ["DinoBloom-B.pth"]
    fetch("dinobloom-b", source="zenodo")
    assert len(zenodo_site.ranges) == 3  # it is there already
    backbone = load("dinobloom-b")  # and is found by its name, though no hub answers
    assert (backbone.info.fingerprint, backbone.info.source) == (published, "zenodo:10908163/DinoBloom-B.pth")
    (row,) = [row for row in listed() if row["name"] == "dinobloom-b"]
    assert row["cached"]
    target = tmp_path / "new" / "weights.pth"
    assert fetch("dinobloom-b", source="zenodo", output=target)["file"] == str(target)
    assert target.read_bytes() == body


def test_zenodo_gives_another_file_or_none(
    zenodo_site: Zenodo, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    zenodo_site.checksums["DinoBloom-B.pth"] = "md5:" + "0" * 32
    with pytest.raises(CytosaeError, match="not the published file"):
        fetch("dinobloom-b", source="zenodo")
    assert not list(zenodo_path("dinobloom-b").parent.iterdir())  # nothing half or wrong is left behind
    monkeypatch.setattr("cytosae.backbones.zenodo.SITE", "http://127.0.0.1:9")
    with pytest.raises(CytosaeError, match="Zenodo did not give it"):
        fetch("dinobloom-b", source="zenodo")


@pytest.mark.parametrize(
    "record", [b"<html>busy</html>", b'{"files": {}}', b'{"files": []}', b'{"files": [{"key": 3}]}']
)
def test_a_record_without_a_checksum_downloads_nothing(
    record: bytes, zenodo_site: Zenodo, monkeypatch: pytest.MonkeyPatch
) -> None:
    opened = cytosae_zenodo._open

    def answered(url: str, start: int = 0) -> Any:
        return io.BytesIO(record) if "/api/" in url else opened(url, start)

    monkeypatch.setattr("cytosae.backbones.zenodo._open", answered)
    with pytest.raises(CytosaeError, match=r"DinoBloom-B\.pth: .*nothing was downloaded"):
        fetch("dinobloom-b", source="zenodo")
    assert zenodo_site.ranges == []
    monkeypatch.setattr("cytosae.backbones.zenodo._open", opened)
    zenodo_site.checksums["DinoBloom-B.pth"] = "none"
    with pytest.raises(CytosaeError, match=r"no checksum for it that can be compared \(none\)"):
        fetch("dinobloom-b", source="zenodo")
    assert zenodo_site.ranges == []


def test_fetch_from_the_hub(
    hub: Callable[[dict[str, bytes]], Hub], vit: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("pooch.os_cache", lambda project: tmp_path / "os-cache" / project)
    monkeypatch.setattr("cytosae.backbones.loading.SHAPES", {"dinobloom-b": (WIDTH, DEPTH)})
    stated = {"image_mean": STATED[0], "image_std": STATED[1]}
    weights = flat(reference().state_dict(), tmp_path / "w")
    server = hub(
        {
            **folder_bytes(vit),
            "preprocessor_config.json": json.dumps(stated).encode(),
            "pytorch_model_b.bin": weights.read_bytes(),
        }
    )
    assert not any(row["cached"] for row in listed() if row["name"] != "tiny")
    found = fetch("facebook/dinov2-small")
    assert (found["fingerprint"], found["revision"]) == (load(str(vit)).info.fingerprint, COMMIT)
    assert load("facebook/dinov2-small").info.mean == pytest.approx(STATED[0])  # the repository's, not the family's
    assert fetch("dinobloom-b", output=tmp_path / "copy.bin")["revision"] == COMMIT
    assert (tmp_path / "copy.bin").read_bytes() == weights.read_bytes()
    assert fetch("dinobloom-b")["fingerprint"] == load(str(weights)).info.fingerprint
    cached = {row["name"] for row in listed() if row["cached"]}
    assert cached == {"tiny", "facebook/dinov2-small", "dinobloom-b"}
    asked = len(server.asked)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    for name, source in (("facebook/dinov2-small", "hub"), ("dinobloom-b", "zenodo")):
        with pytest.raises(CytosaeError, match=f"{name}: HF_HUB_OFFLINE is set, so nothing is downloaded"):
            fetch(name, source=source)
    assert len(server.asked) == asked


def test_a_repository_without_normalisation_is_asked_for_it_once(
    hub: Callable[[dict[str, bytes]], Hub], vit: Path
) -> None:
    server = hub(folder_bytes(vit))
    for _ in range(3):
        assert load("owner/model").info.mean == pytest.approx(MEAN.tolist())
    for file in ("/preprocessor_config.json", "/processor_config.json"):
        assert len([path for path in server.asked if path.endswith(file)]) == 1


def test_gated_weights_say_what_to_do(hub: Callable[[dict[str, bytes]], Hub], monkeypatch: pytest.MonkeyPatch) -> None:
    hub({})

    def refuse(handler: HubAnswer, whole: bool) -> None:
        handler.send_response(401)
        handler.send_header("X-Error-Code", "GatedRepo")
        handler.send_header("Content-Length", "0")
        handler.end_headers()

    monkeypatch.setattr(HubAnswer, "_answer", refuse)
    with pytest.raises(CytosaeError, match=r"agreement first. Accept it at https://huggingface\.co/facebook/dinov3-x,"):
        fetch("facebook/dinov3-x")


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("tiny", {}, "tiny: nothing to fetch"),
        ("dinobloom-b", {"source": "ftp"}, "--source ftp: unknown; choose one of hub, zenodo"),
        ("facebook/dinov2-small", {"source": "zenodo"}, "--source zenodo belongs to dinobloom-s"),
        ("facebook/dinov2-small", {"output": Path("x")}, "--output belongs to dinobloom-s"),
    ],
)
def test_what_cannot_be_fetched(name: str, options: dict[str, Any], message: str) -> None:
    with pytest.raises(CytosaeError, match=message):
        fetch(name, **options)


def test_catalogue_holds_what_loading_knows() -> None:
    from cytosae.backbones import NAMES
    from cytosae.backbones.dinobloom import SHAPES

    rows = {row["name"]: row for row in listed()}
    assert set(NAMES) <= set(rows)
    tiny = load("tiny").info
    shape = ("d_model", "depth", "patch_size", "n_tokens")
    assert [rows["tiny"][key] for key in shape] == [getattr(tiny, key) for key in shape]
    assert all((rows[name]["d_model"], rows[name]["depth"]) == size for name, size in SHAPES.items())
    assert {name for name, row in rows.items() if row["gated"]} == {name for name in rows if "dinov3" in name}
    assert rows["owkin/phikon-v2"]["n_tokens"] == 197


def test_backbones_on_the_command_line() -> None:
    rows = figures(cytosae("backbones", "list", "--json"))["backbones"]
    printed = cytosae("backbones", "list").stdout.splitlines()
    assert [line.split()[0] for line in printed[1:]] == [row["name"] for row in rows]
    refused = cytosae_process("backbones", "fetch", "dinobloom-b", check=False)  # it is read when the hub is imported
    assert_user_error(refused, "HF_HUB_OFFLINE is set")
