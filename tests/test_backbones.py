"""Backbones: the residual stream against an independent forward pass, in every published layout."""

from __future__ import annotations

import hashlib
import json
import os
import pickle
import socket
import threading
import time
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from torch.nn import functional as F

from cytosae.backbones import INPUT_SIZE, choose_device, choose_precision, load, resolve_layer
from cytosae.errors import CytosaeError

WIDTH, DEPTH, HEADS = 128, 4, 2
MEAN, STD = torch.tensor([0.485, 0.456, 0.406]), torch.tensor([0.229, 0.224, 0.225])
Weights = dict[str, Tensor]


class Attention(nn.Module):
    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads, self.qkv, self.proj = heads, nn.Linear(width, 3 * width), nn.Linear(width, width)

    def forward(self, x: Tensor) -> Tensor:
        n, t, d = x.shape
        q, k, v = self.qkv(x).reshape(n, t, 3, self.heads, d // self.heads).permute(2, 0, 3, 1, 4)
        weights = (q @ k.transpose(-1, -2) / (d // self.heads) ** 0.5).softmax(-1)
        return self.proj((weights @ v).transpose(1, 2).reshape(n, t, d))


class Mlp(nn.Module):
    def __init__(self, width: int, hidden: int) -> None:
        super().__init__()
        self.fc1, self.fc2 = nn.Linear(width, hidden), nn.Linear(hidden, width)

    def forward(self, x: Tensor) -> Tensor:
        return self.fc2(F.gelu(self.fc1(x)))


class SwiGlu(nn.Module):
    def __init__(self, width: int, hidden: int) -> None:
        super().__init__()
        self.w12, self.w3 = nn.Linear(width, 2 * hidden), nn.Linear(hidden, width)

    def forward(self, x: Tensor) -> Tensor:
        gate, up = self.w12(x).chunk(2, dim=-1)
        return self.w3(F.silu(gate) * up)


class Scale(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.gamma = nn.Parameter(torch.rand(width) + 0.2)

    def forward(self, x: Tensor) -> Tensor:
        return x * self.gamma


class Block(nn.Module):
    def __init__(self, width: int, heads: int, swiglu: bool) -> None:
        super().__init__()
        self.norm1, self.norm2 = nn.LayerNorm(width, 1e-6), nn.LayerNorm(width, 1e-6)
        self.attn, self.ls1, self.ls2 = Attention(width, heads), Scale(width), Scale(width)
        self.mlp = SwiGlu(width, 344) if swiglu else Mlp(width, 4 * width)

    def forward(self, x: Tensor) -> Tensor:
        x = x + self.ls1(self.attn(self.norm1(x)))
        return x + self.ls2(self.mlp(self.norm2(x)))


class Reference(nn.Module):
    """A DINOv2 in the naming of its authors, written from the paper: what the loaders are checked against."""

    def __init__(self, swiglu: bool = False, positions: int = 257) -> None:
        super().__init__()
        self.cls_token = nn.Parameter(torch.randn(1, 1, WIDTH))
        self.mask_token = nn.Parameter(torch.randn(1, WIDTH))
        self.pos_embed = nn.Parameter(torch.randn(1, positions, WIDTH))
        self.patch_embed = nn.Module()
        self.patch_embed.proj = nn.Conv2d(3, WIDTH, 14, 14)
        self.blocks = nn.ModuleList(Block(WIDTH, HEADS, swiglu) for _ in range(DEPTH))
        self.norm = nn.LayerNorm(WIDTH, 1e-6)

    def forward(self, images: np.ndarray) -> Tensor:
        x = (torch.from_numpy(images).float() / 255 - MEAN) / STD
        x = self.patch_embed.proj(x.permute(0, 3, 1, 2)).flatten(2).transpose(1, 2)
        positions = self.pos_embed
        if positions.shape[1] != 257:
            side = int((positions.shape[1] - 1) ** 0.5)
            square = positions[:, 1:].reshape(1, side, side, WIDTH).permute(0, 3, 1, 2)
            square = F.interpolate(square, scale_factor=16.1 / side, mode="bicubic")  # DINOv2's offset of 0.1
            positions = torch.cat([positions[:, :1], square.flatten(2).transpose(1, 2)], 1)
        x = torch.cat([self.cls_token.expand(len(x), -1, -1), x], 1) + positions
        for block in self.blocks:
            x = block(x)
        return self.norm(x)

    def hooked(self, images: np.ndarray) -> list[Tensor]:
        """What forward hooks on the blocks of the whole model see."""
        seen: list[Tensor] = []
        for block in self.blocks:
            block.register_forward_hook(lambda _m, _i, output: seen.append(output))
        with torch.no_grad():
            self(images)
        return seen


@pytest.fixture(scope="module")
def images() -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (2, INPUT_SIZE, INPUT_SIZE, 3), dtype=np.uint8)


def reference(**options: object) -> Reference:
    torch.manual_seed(1)
    return Reference(**options).eval()  # type: ignore[arg-type]


def zenodo(weights: Weights, path: Path) -> Path:
    heads = {"dino_head.mlp.0.weight": torch.ones(3, 3), "ibot_head.last_layer.weight": torch.ones(2)}
    backbone = {f"backbone.{key}": value for key, value in weights.items()}
    torch.save({"teacher": {**backbone, **heads}}, path := path.with_suffix(".pth"))
    return path


def chunked(weights: Weights, path: Path) -> Path:
    names = {k: k.replace("blocks.", f"blocks.{int(k.split('.')[1]) // 2}.") if "blocks." in k else k for k in weights}
    return zenodo({names[key]: value for key, value in weights.items()}, path)


def flat(weights: Weights, path: Path) -> Path:
    torch.save(weights, path := path.with_suffix(".bin"))
    return path


def timm(weights: Weights, path: Path) -> Path:
    renamed = {k.replace(".w12.", ".fc1.").replace(".w3.", ".fc2."): v for k, v in weights.items() if k != "mask_token"}
    save_file(renamed, path := path.with_suffix(".safetensors"))
    return path


FORMS = {"zenodo": zenodo, "chunked": chunked, "flat": flat, "timm": timm}


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


class Malicious:
    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Callable[..., object], tuple[str]]:
        return os.mkdir, (str(self.path),)


@pytest.mark.parametrize("suffix", [".pth", ".bin", ".pt"])
@pytest.mark.parametrize("plain", [False, True])
def test_malicious_pickle_is_refused_and_not_run(suffix: str, plain: bool, tmp_path: Path) -> None:
    victim, path = tmp_path / "was-run", tmp_path / f"weights{suffix}"
    content = {"teacher": {"backbone.cls_token": Malicious(victim)}}
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
    torch.save({"embeddings.cls_token": Malicious(victim)}, folder / "pytorch_model.bin")
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


COMMIT = "0123456789abcdef0123456789abcdef01234567"


class Hub(ThreadingHTTPServer):
    """As much of the Hugging Face hub as a download needs; keeps the paths that it was asked for."""

    def __init__(self, files: dict[str, bytes]) -> None:
        self.files, self.asked = files, list[str]()
        super().__init__(("127.0.0.1", 0), _Answer)
        self.endpoint = f"http://127.0.0.1:{self.server_port}"


class _Answer(BaseHTTPRequestHandler):
    server: Hub

    def do_HEAD(self) -> None:
        self._answer(False)

    def do_GET(self) -> None:
        self._answer(True)

    def _answer(self, whole: bool) -> None:
        path = self.path.partition("?")[0]
        self.server.asked.append(path)
        body: bytes | None
        if path.startswith("/api/models/"):
            listed = [
                {"type": "file", "path": k, "size": len(v), "oid": str(len(v))} for k, v in self.server.files.items()
            ]
            siblings = [{"rfilename": name} for name in self.server.files]
            body = json.dumps(
                listed if "/tree/" in path else {"id": "o/m", "sha": COMMIT, "siblings": siblings}
            ).encode()
        else:
            body = self.server.files.get(path.rpartition("/")[2])
        self.send_response(404 if body is None else 200)
        if body is None:
            self.send_header("X-Error-Code", "EntryNotFound")
        self.send_header("X-Repo-Commit", COMMIT)
        self.send_header("ETag", f'"{hashlib.sha1(body or b"").hexdigest()}"')
        self.send_header("Content-Length", str(len(body or b"")))
        self.end_headers()
        if whole and body:
            self.wfile.write(body)

    def log_message(self, format: str, *arguments: object) -> None:
        pass


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


def folder_bytes(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


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
        assert time.monotonic() - start < 3
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
