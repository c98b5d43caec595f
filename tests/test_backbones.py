"""Backbones: the residual stream against an independent forward pass, in every published layout."""

from __future__ import annotations

import os
import pickle
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
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
            square = F.interpolate(square, size=(16, 16), mode="bicubic")
            positions = torch.cat([positions[:, :1], square.flatten(2).transpose(1, 2)], 1)
        x = torch.cat([self.cls_token.expand(len(x), -1, -1), x], 1) + positions
        for block in self.blocks:
            x = block(x)
        return self.norm(x)

    def hooked(self, images: np.ndarray, block: int) -> Tensor:
        """What a forward hook on a block of the whole model sees."""
        seen: list[Tensor] = []
        handle = self.blocks[block].register_forward_hook(lambda _m, _i, output: seen.append(output))
        with torch.no_grad():
            self(images)
        handle.remove()
        return seen[0]


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
    for layer in (-2, 1, DEPTH):
        backbone = load(str(path), layer=layer, dtype="float32")
        found = backbone.tokens(images)
        assert found.shape == (2, 257, WIDTH)
        assert found.dtype == torch.float32
        expected = model.hooked(images, layer - 1 if layer > 0 else DEPTH + layer)
        torch.testing.assert_close(found, expected, rtol=1e-4, atol=2e-4)


def test_every_block_and_none_after_it(images: np.ndarray, tmp_path: Path) -> None:
    model = reference()
    for block in range(DEPTH):
        weights = model.state_dict()
        for key in weights:
            if key.startswith("blocks.") and int(key.split(".")[1]) > block:
                weights[key] = torch.full_like(weights[key], float("nan"))  # running it would show
        backbone = load(str(flat(weights, tmp_path / "w")), layer=block + 1, dtype="float32")
        torch.testing.assert_close(backbone.tokens(images), model.hooked(images, block), rtol=1e-4, atol=2e-4)
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
    with pytest.raises(CytosaeError, match=r"weights.*(refused|damaged)"):
        load(str(path))
    assert not victim.exists()


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
    with pytest.raises(CytosaeError, match=r"missing: encoder\.layer\.2\.norm1"):
        load(str(flat(short, tmp_path / "short")))
    with pytest.raises(CytosaeError, match=r"unknown: blocks_extra"):
        load(str(flat({**weights, "blocks_extra.weight": torch.ones(1)}, tmp_path / "extra")))
    with pytest.raises(CytosaeError, match="not DinoBloom weights"):
        load(str(flat({"some.weight": torch.ones(1)}, tmp_path / "foreign")))
    for write in (flat, timm):
        path = write(weights, tmp_path / "cut")
        path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
        with pytest.raises(CytosaeError, match="damaged"):
            load(str(path))
    from safetensors.torch import load_file

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
    with pytest.raises(CytosaeError, match="width 128, but dinobloom-b has 768"):
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
    for layer in (0, 4, -4):
        with pytest.raises(CytosaeError, match=r"3 blocks; choose 1 to 3, or -3 to -1"):
            load(str(vit), layer=layer)
    assert [resolve_layer(n, 12) for n in (-2, -1, 1, 11, 12, -12)] == [10, 11, 0, 10, 11, 0]


def test_unsupported_model(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text('{"model_type": "bert"}')
    with pytest.raises(CytosaeError, match="is a 'bert' model; supported are"):
        load(str(tmp_path))


@pytest.mark.parametrize("name", ["dinobloom-b", "facebook/dinov2-small"])
def test_no_network(name: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    with pytest.raises(CytosaeError, match="HF_HUB_OFFLINE"):
        load(name)


def test_devices_and_precisions() -> None:
    assert choose_device("cpu") == "cpu"
    assert choose_precision("float32", "cpu") == "float32"
    assert choose_precision("auto", "cpu") in {"float32", "bfloat16"}
    with pytest.raises(CytosaeError, match="unknown"):
        choose_precision("int8", "cpu")
    with pytest.raises(CytosaeError, match="unknown"):
        choose_device("tpu")
    if not torch.cuda.is_available():
        with pytest.raises(CytosaeError, match="0 CUDA devices"):
            choose_device("cuda")


@pytest.mark.parametrize(
    "images",
    [np.zeros((1, 224, 224, 3), np.float32), np.zeros((1, 3, 224, 224), np.uint8), np.zeros((224, 224, 3), np.uint8)],
)
def test_images_of_another_form(vit: Path, images: np.ndarray) -> None:
    with pytest.raises(CytosaeError, match="expected uint8"):
        load(str(vit)).tokens(images)


def test_built_in_backbone_is_small_and_tells_places_apart(real_cells: Path) -> None:
    from cytosae.backbones import TINY
    from cytosae.cells import load_squashed

    assert sum(path.stat().st_size for path in TINY.iterdir()) <= 8_000_000
    backbone = load("tiny")
    assert (backbone.info.d_model, backbone.info.n_tokens, backbone.info.depth) == (192, 257, 8)
    path = real_cells / "segwbc_cellavision" / "images"
    images = np.stack([load_squashed(p, INPUT_SIZE) for p in sorted(path.iterdir())[:4]])
    tokens = backbone.tokens(images)
    assert torch.isfinite(tokens).all()
    patches = tokens[:, 1:].unflatten(1, (16, 16))
    centre, corner = patches[:, 7:9, 7:9].flatten(1, 2), patches[:, :2, :2].flatten(1, 2)
    apart = (centre.mean(1) - corner.mean(1)).norm(dim=1)
    assert (apart > centre.std(1).norm(dim=1)).all()  # the cell in the middle differs from what surrounds it
