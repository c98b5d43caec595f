"""Tokens from elsewhere: files as other programs write them, into a store that every stage takes."""

from __future__ import annotations

import json
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pandas as pd
import pytest
import torch

from cytosae.analysis import evaluate
from cytosae.cells import list_cells, read_cells, write_cells
from cytosae.concepts import read_concepts, read_maps
from cytosae.errors import CytosaeError
from cytosae.sae import SAE, train
from cytosae.settings import EvaluateConfig, StoreConfig, TrainConfig
from cytosae.tokens import TokenStore, import_tokens
from cytosae.tokens.foreign import open_foreign
from cytosae.tokens.store import read_manifest
from support.commands import assert_user_error, cytosae, figures
from support.planted import numbered_cells

N, WIDTH = 22, 6
SMALL = StoreConfig(cells_per_shard=8, batch_size=3)


def values(n_tokens: int = 10, cells: int = N) -> np.ndarray:
    return np.random.default_rng(0).normal(size=(cells, n_tokens, WIDTH)).astype(np.float32)


@pytest.fixture(scope="module")
def cells(tmp_path_factory: pytest.TempPathFactory) -> pd.DataFrame:
    return numbered_cells(tmp_path_factory.mktemp("cells"), N)


# The names that saev gave to the same things in its protocols; each wrote float32 with np.memmap, the last shard as long
# as the others.
PROTOCOLS: dict[str, dict[str, str]] = {
    "none": {
        "family": "vit_family",
        "ckpt": "vit_ckpt",
        "patches": "n_patches_per_img",
        "width": "d_vit",
        "examples": "n_imgs",
        "budget": "n_patches_per_shard",
    },
    "1.0.0": {
        "family": "vit_family",
        "ckpt": "vit_ckpt",
        "patches": "n_patches_per_img",
        "width": "d_vit",
        "examples": "n_imgs",
        "budget": "max_patches_per_shard",
    },
    "2.0": {
        "family": "family",
        "ckpt": "ckpt",
        "patches": "patches_per_ex",
        "width": "d_model",
        "examples": "n_ex",
        "budget": "patches_per_shard",
    },
    "2.1": {
        "family": "family",
        "ckpt": "ckpt",
        "patches": "content_tokens_per_example",
        "width": "d_model",
        "examples": "n_examples",
        "budget": "max_tokens_per_shard",
    },
}


def write_saev(
    folder: Path,
    tokens: np.ndarray,
    protocol: str,
    *,
    cls: bool = True,
    layers: tuple[int, ...] = (3, -2),
    per: int = 9,
) -> Path:
    """Shards as saev writes them; the tokens stand under the last of the layers, others have 7 in their place."""
    names = PROTOCOLS[protocol]
    folder.mkdir(parents=True)
    count, n_tokens, width = tokens.shape
    about = {
        names["family"]: "dinov2",
        names["ckpt"]: "dinov2_vitb14",
        "layers": list(layers),
        names["patches"]: n_tokens - cls,
        "cls_token": cls,
        names["width"]: width,
        names["examples"]: count,
        names["budget"]: per * n_tokens * len(layers) + 5,  # a budget, which no whole number of images fills
        "data": {"__class__": "ImageFolder", "root": "/data"},
        **({"seed": 42} if protocol == "none" else {"dtype": "float32", "protocol": protocol}),
    }
    (folder / "metadata.json").write_text(json.dumps(about, indent=4))
    entries = []
    for number, start in enumerate(range(0, count, per)):
        part = tokens[start : start + per]
        shape = (per, len(layers), n_tokens, width)
        acts = np.memmap(folder / f"acts{number:06}.bin", mode="w+", dtype=np.float32, shape=shape)
        acts[: len(part)] = 7
        acts[: len(part), -1] = part
        acts.flush()
        entries.append({"name": f"acts{number:06}.bin", names["examples"]: len(part)})
    if protocol != "none":
        (folder / "shards.json").write_text(json.dumps(entries))
    return folder


def write_npy(path: Path, tokens: np.ndarray) -> Path:
    np.save(path.with_suffix(".npy"), tokens)
    return path.with_suffix(".npy")


def write_hdf5(path: Path, tokens: np.ndarray) -> Path:
    path = path.with_suffix(".h5")
    with h5py.File(path, "w") as file:  # as CLAM does: features, and where each was cut out
        file.create_dataset("features", data=tokens, chunks=(1, *tokens.shape[1:]), maxshape=(None, *tokens.shape[1:]))
        file.create_dataset("coords", data=np.zeros((len(tokens), 2), np.int64))
    return path


def read(folder: Path) -> np.ndarray:
    store = TokenStore(folder)
    store.verify()
    tokens = next(iter(store.stream([np.arange(store.n_cells)]))).float().numpy()
    store.close()
    return tokens


@pytest.mark.parametrize("protocol", PROTOCOLS)
@pytest.mark.parametrize("cls", [True, False])
def test_saev(protocol: str, cls: bool, cells: pd.DataFrame, tmp_path: Path) -> None:
    tokens = values(10 if cls else 9)
    folder = write_saev(tmp_path / "saev", tokens, protocol, cls=cls)
    found = import_tokens(folder, cells, tmp_path / "t", SMALL, layer=-2)
    assert (found["cells"], found["shards"], found["n_tokens"], found["grid"]) == (N, 3, 10, "3x3")
    expected = tokens if cls else np.concatenate([tokens.mean(1, keepdims=True), tokens], 1)
    np.testing.assert_array_equal(read(tmp_path / "t"), expected.astype(np.float16).astype(np.float32))
    about = TokenStore(tmp_path / "t").layout.backbone
    assert about["name"] == "imported:dinov2 dinov2_vitb14"
    assert (about["model_type"], about["layer"], about["grid"]) == ("imported", -2, [3, 3])
    import_tokens(folder, cells, tmp_path / "other", SMALL, layer=3)
    assert (read(tmp_path / "other") == 7).all()  # axis of layers, not the first of them


@pytest.mark.parametrize("write", [write_npy, write_hdf5])
@pytest.mark.parametrize(("dtype", "order"), [("<f2", "C"), ("<f4", "C"), (">f4", "F"), ("<f8", "C")])
def test_arrays(
    write: Callable[[Path, np.ndarray], Path], dtype: str, order: Any, cells: pd.DataFrame, tmp_path: Path
) -> None:
    tokens = np.array(values().astype(dtype), order=order)
    found = import_tokens(write(tmp_path / "features", tokens), cells, tmp_path / "t", SMALL)
    assert (found["cls"], found["grid"], found["clipped"]) == ("first", "3x3", 0)
    np.testing.assert_array_equal(read(tmp_path / "t"), tokens.astype(np.float32).astype(np.float16).astype(np.float32))


@pytest.mark.parametrize("write", [write_npy, write_hdf5])
def test_one_vector_for_a_cell(write: Callable[[Path, np.ndarray], Path], cells: pd.DataFrame, tmp_path: Path) -> None:
    vectors = values(1)[:, 0]
    found = import_tokens(write(tmp_path / "features", vectors), cells, tmp_path / "t", SMALL)
    assert (found["cls"], found["grid"], found["n_tokens"]) == ("none", "1x1", 2)
    tokens = read(tmp_path / "t")
    for token in (0, 1):
        np.testing.assert_array_equal(tokens[:, token], vectors.astype(np.float16).astype(np.float32))


@pytest.mark.parametrize(
    ("n_tokens", "given", "expected"),
    [
        (257, {}, ("first", "16x16")),
        (256, {}, ("none", "16x16")),
        (197, {}, ("first", "14x14")),
        (2, {}, ("first", "1x1")),
        (13, {"grid": "3x4"}, ("first", "3x4")),
        (12, {"grid": "3X4"}, ("none", "3x4")),
        (16, {"grid": "3x5"}, ("first", "3x5")),
        (4, {"cls": "none"}, ("none", "2x2")),
    ],
)
def test_grid_and_cls(
    n_tokens: int, given: dict[str, str], expected: tuple[str, str], cells: pd.DataFrame, tmp_path: Path
) -> None:
    found = import_tokens(write_npy(tmp_path / "x", values(n_tokens)), cells, tmp_path / "t", SMALL, **given)  # type: ignore[arg-type]
    assert (found["cls"], found["grid"]) == expected
    assert read(tmp_path / "t").shape[1] == n_tokens + (expected[0] == "none")


@pytest.mark.parametrize(
    ("n_tokens", "given", "message"),
    [
        (
            261,
            {},
            r"261 tokens of a cell are not a grid, nor CLS and a grid of patches, which would be a square.*registers",
        ),
        (10, {"cls": "none"}, "10 tokens of a cell are not a grid of patches"),
        (9, {"cls": "first"}, "9 tokens of a cell are not CLS and a grid of patches"),
        (10, {"grid": "2x4"}, "patches of 2x4. Give"),
        (10, {"grid": "sixteen"}, "--grid sixteen: expected rows and columns"),
        (10, {"grid": "3x-3"}, "--grid 3x-3: expected rows and columns"),
        (10, {"cls": "last"}, "--cls last: unknown; choose one of first, none"),
        (1, {"cls": "first"}, "1 tokens of a cell are not CLS and a grid"),
    ],
)
def test_tokens_that_make_no_grid(
    n_tokens: int, given: dict[str, str], message: str, cells: pd.DataFrame, tmp_path: Path
) -> None:
    with pytest.raises(CytosaeError, match=message):
        import_tokens(write_npy(tmp_path / "x", values(n_tokens)), cells, tmp_path / "t", SMALL, **given)  # type: ignore[arg-type]
    assert not (tmp_path / "t").exists()


def saev_with(**changes: Any) -> Callable[[Path], Path]:
    """Writes a folder of saev whose metadata.json says something else; None leaves a key out."""

    def write(folder: Path) -> Path:
        path = write_saev(folder / "saev", values(), "2.1") / "metadata.json"
        about = {**json.loads(path.read_text()), **changes}
        path.write_text(json.dumps({key: value for key, value in about.items() if value is not None}))
        return path.parent

    return write


def saev_where(change: Callable[[Path], object]) -> Callable[[Path], Path]:
    """Writes a folder of saev in which something happens."""

    def write(folder: Path) -> Path:
        change(saev := write_saev(folder / "saev", values(), "2.1"))
        return saev

    return write


def file_of(name: str, content: bytes) -> Callable[[Path], Path]:
    def write(folder: Path) -> Path:
        (folder / name).write_bytes(content)
        return folder / name

    return write


def cut(path: Path, share: float = 0.6) -> Path:
    path.write_bytes(path.read_bytes()[: int(path.stat().st_size * share)])
    return path


def other_dataset(folder: Path) -> Path:
    with h5py.File(folder / "x.h5", "w") as file:
        file["embeddings"] = values()
    return folder / "x.h5"


def objects(folder: Path) -> Path:
    np.save(folder / "x.npy", np.array([{"a": 1}] * N, dtype=object), allow_pickle=True)
    return folder / "x.npy"


DAMAGED: dict[str, tuple[Callable[[Path], Path], str]] = {
    "fewer": (lambda f: write_npy(f / "x", values(cells=21)), "holds the tokens of 21 cells, the table lists 22"),
    "more": (lambda f: write_hdf5(f / "x", values(cells=23)), "holds the tokens of 23 cells, the table lists 22"),
    "none": (lambda f: write_npy(f / "x", values(cells=0)), "holds the tokens of 0 cells"),
    "fewer of saev": (lambda f: write_saev(f / "s", values(cells=21), "1.0.0"), "holds the tokens of 21 cells"),
    "integers": (lambda f: write_npy(f / "x", values().astype(int)), "holds int64; expected floating-point"),
    "integers in HDF5": (
        lambda f: write_hdf5(f / "x", values().astype(np.uint8)),
        "holds uint8; expected floating-point",
    ),
    "four axes": (lambda f: write_npy(f / "x", values()[None]), r"shape \(1, 22, 10, 6\); expected"),
    "one axis": (lambda f: write_npy(f / "x", values()[:, 0, 0]), r"shape \(22,\); expected"),
    "no width": (lambda f: write_npy(f / "x", values()[:, :, :0]), r"shape \(22, 10, 0\); expected"),
    "objects": (objects, "not a .npy array of numbers"),
    "pickle": (file_of("x.npy", pickle.dumps(values())), "not a .npy array of numbers"),
    "empty": (file_of("x.npy", b""), "not a .npy array of numbers"),
    "cut .npy": (lambda f: cut(write_npy(f / "x", values())), "cut short"),
    "cut HDF5": (lambda f: cut(write_hdf5(f / "x", values())), "not an HDF5 file, or cut short"),
    "no HDF5": (file_of("x.h5", b"text"), "not an HDF5 file"),
    "another data set": (other_dataset, "has no data set 'features'; it has embeddings"),
    "text": (file_of("x.txt", b"1 2 3"), "not tokens of a known kind. Expected a folder of saev"),
    "absent": (lambda f: f / "nothing.npy", "no such file or folder"),
    "cut shard": (saev_where(lambda f: cut(f / "acts000001.bin")), r"acts000001\.bin: has .* bytes, cut short; 9 rows"),
    "missing shard": (saev_where(lambda f: (f / "acts000002.bin").unlink()), r"acts000002\.bin: is missing; 4 rows"),
    "unfinished": (
        saev_where(lambda f: (f / "shards.json").write_text('[{"name": "acts000000.bin", "n_examples": 9}]')),
        "its shards hold 9 images, its metadata.json says 22. Was saev stopped",
    ),
    "shard elsewhere": (
        saev_where(lambda f: (f / "shards.json").write_text('[{"name": "../x.bin", "n_examples": 22}]')),
        r"'\.\./x\.bin' is no file of",
    ),
    "no list": (saev_where(lambda f: (f / "shards.json").write_text('{"a": 1}')), "not a list of saev's shards"),
    "deep JSON": (saev_where(lambda f: (f / "metadata.json").write_text("[" * 100_000)), "lie in each other deeper"),
    "deep listing": (saev_where(lambda f: (f / "shards.json").write_text("[" * 100_000)), "shards.json: not a list"),
    "no JSON": (saev_where(lambda f: (f / "metadata.json").write_text("{")), "metadata.json: not a JSON file"),
    "a list": (saev_where(lambda f: (f / "metadata.json").write_text("[]")), "holds a list; expected the description"),
    "dtype": (saev_with(dtype="bfloat16"), "stored as 'bfloat16'; expected 'float32'"),
    "no patches": (saev_with(content_tokens_per_example=None), "content_tokens_per_example is None; expected a number"),
    "no layers": (saev_with(layers=[]), r"layers is \[\] and cls_token True; is it saev's\?"),
    "no room": (saev_with(max_tokens_per_shard=3), "a shard holds no whole image"),
    "layer to choose": (saev_with(), "holds layers 3, -2. Choose one with --layer"),
}


@pytest.mark.parametrize("case", DAMAGED)
def test_sources_that_are_not_whole_or_not_right(case: str, cells: pd.DataFrame, tmp_path: Path) -> None:
    write, message = DAMAGED[case]
    source = write(tmp_path)
    layer = None if case == "layer to choose" or not source.is_dir() else 3
    with pytest.raises(CytosaeError, match=message):
        import_tokens(source, cells, tmp_path / "t", SMALL, layer=layer)
    assert not (tmp_path / "t").exists()


def test_a_layer_that_is_not_there_and_a_cls_that_is_not_so(cells: pd.DataFrame, tmp_path: Path) -> None:
    folder = write_saev(tmp_path / "saev", values(), "2.1")
    with pytest.raises(CytosaeError, match=r"--layer 11: .* holds 3, -2"):
        open_foreign(folder, 11)
    with pytest.raises(CytosaeError, match=r"--cls none: .* says that it is 'first'"):
        import_tokens(folder, cells, tmp_path / "t", SMALL, layer=3, cls="none")


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_nan_names_the_cell_and_what_came_before_is_kept(bad: float, cells: pd.DataFrame, tmp_path: Path) -> None:
    tokens = values()
    tokens[17, 4, 2] = bad
    with pytest.raises(CytosaeError, match=f"NaN or infinite values in row 17, cell {cells['cell_id'][17]}"):
        import_tokens(write_npy(tmp_path / "x", tokens), cells, tmp_path / "t", SMALL)
    with pytest.raises(CytosaeError, match=r"not finished. Run the same `cytosae tokens import` again"):
        TokenStore(tmp_path / "t")


def test_values_beyond_float16_are_said_and_clipped(
    cells: pd.DataFrame, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    tokens = values()
    tokens[4, 3, 1], tokens[4, 3, 2], tokens[9, 0, 0] = 70000, -1e6, 65504
    source = write_npy(tmp_path / "x", tokens)
    assert import_tokens(source, cells, tmp_path / "half", SMALL)["clipped"] == 2
    assert "2 values of 1 cells are too large for float16" in capsys.readouterr().err
    stored = read(tmp_path / "half")
    assert [stored[4, 3, 1], stored[4, 3, 2], stored[9, 0, 0]] == [65504, -65504, 65504]
    wide = StoreConfig(cells_per_shard=8, batch_size=3, store_dtype="bfloat16")
    assert import_tokens(source, cells, tmp_path / "wide", wide)["clipped"] == 0
    assert read(tmp_path / "wide")[4, 3, 1] == torch.tensor(70000.0).bfloat16()
    assert "too large" not in capsys.readouterr().err


def test_a_run_goes_on_and_a_source_that_changed_is_read_anew(cells: pd.DataFrame, tmp_path: Path) -> None:
    tokens = values()
    source, folder = write_npy(tmp_path / "x", tokens), tmp_path / "t"
    options: dict[str, Any] = {"made_by": "some model"}
    assert import_tokens(source, cells, folder, SMALL, **options)["shards_made"] == 3
    assert import_tokens(source, cells, folder, SMALL, **options)["shards_made"] == 0
    (folder / "shard-00001.safetensors").unlink()
    with pytest.raises(CytosaeError, match="Run the same `cytosae tokens import` again"):
        read(folder)
    assert import_tokens(source, cells, folder, SMALL, **options)["shards_made"] == 1
    np.testing.assert_array_equal(read(folder), tokens.astype(np.float16).astype(np.float32))
    write_npy(tmp_path / "x", tokens + 1)
    assert import_tokens(source, cells, folder, SMALL, **options)["shards_made"] == 3
    np.testing.assert_array_equal(read(folder), (tokens + 1).astype(np.float16).astype(np.float32))


def test_memory_stays_that_of_a_shard(cells: pd.DataFrame, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    taken: list[tuple[int, int]] = []
    foreign = open_foreign(write_npy(tmp_path / "x", values()))
    read_rows = foreign.read
    object.__setattr__(foreign, "read", lambda a, b: taken.append((a, b)) or read_rows(a, b))
    monkeypatch.setattr("cytosae.tokens.importing.open_foreign", lambda *_: foreign)
    import_tokens(tmp_path / "x.npy", cells, tmp_path / "t", SMALL)
    assert taken == [(0, 3), (3, 6), (6, 8), (8, 11), (11, 14), (14, 16), (16, 19), (19, 22)]


def test_imports_of_one_model_fit_and_others_do_not(cells: pd.DataFrame, tmp_path: Path) -> None:
    def fingerprint(source: Path, **options: Any) -> str:
        import_tokens(source, cells, tmp_path / "t", SMALL, **options)
        found = read_manifest(tmp_path / "t")
        assert found is not None
        return str(found[0].backbone["fingerprint"])

    one, two = write_npy(tmp_path / "one", values()), write_npy(tmp_path / "two", values() + 1)
    assert fingerprint(one) != fingerprint(two)  # nothing says that they are of one model
    assert fingerprint(one) == fingerprint(one)
    assert fingerprint(one, made_by="m") == fingerprint(two, made_by="m") != fingerprint(two, made_by="other")
    shards = [write_saev(tmp_path / p, values() + i, p) for i, p in enumerate(("1.0.0", "2.1"))]
    assert len({fingerprint(folder, layer=3) for folder in shards}) == 1


def test_embedded_and_imported_tokens_do_not_take_each_others_place(
    make_store: Callable[..., TokenStore], cells: pd.DataFrame, tmp_path: Path
) -> None:
    store = make_store(torch.from_numpy(values(7)))
    with pytest.raises(CytosaeError, match="holds tokens of `cytosae embed`; those of `cytosae tokens import` would"):
        import_tokens(write_npy(tmp_path / "x", values()), cells, store.folder, SMALL)
    store.verify()


def test_from_imported_tokens_to_concepts_and_quality(
    some_cells: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Every stage that takes tokens takes imported ones; what needs the backbone says that there is none."""
    study = tmp_path / "study"
    study.mkdir()
    table = list_cells(some_cells).cells.iloc[:60].reset_index(drop=True)
    write_cells(table, study / "cells.parquet")
    labels = table["label"].astype("category").cat.codes.to_numpy()
    tokens = np.random.default_rng(0).normal(size=(60, 17, 24)).astype(np.float32)
    tokens[np.arange(60), :, labels % 24] += 6  # a direction of its own for every label
    source = write_saev(tmp_path / "saev", tokens, "2.1", layers=(4,), per=40)
    command = ("tokens", "import", source, "--cells", study / "cells.parquet")
    made = figures(cytosae(*command, "-o", study / "tokens", "--json"))
    assert (made["cells"], made["grid"], made["cls"]) == (60, "4x4", "first")
    store = TokenStore(study / "tokens")
    training = TrainConfig(expansion=2, images=640, batch_images=16, warmup_steps=5, learning_rate=3e-3, l1=1e-4)
    assert train(store, study / "sae", training)["explained_variance"] > 0.3
    sae = SAE.from_pretrained(study / "sae")
    assert sae.metadata["backbone"]["name"] == "imported:dinov2 dinov2_vitb14"

    encode = ("encode", study / "cells.parquet", "--sae", study / "sae", "-o", study / "concepts")
    assert_user_error(
        cytosae(*encode, check=False), "imported:dinov2 dinov2_vitb14", "made elsewhere", "--tokens", "tokens import"
    )
    found = figures(cytosae(*encode, "--tokens", study / "tokens", "--json"))["datasets"]
    assert sum(one["cells"] for one in found.values()) == 60
    name = next(iter(found))
    data = read_concepts(study / "concepts", name)
    rows = table.index[table["dataset"] == name].to_numpy()
    h = torch.relu((torch.from_numpy(tokens[rows]).half().float() - sae.b_dec) @ sae.W_enc + sae.b_enc)
    np.testing.assert_allclose(data.layers["mean_activation"].toarray(), h.detach().mean(1).numpy(), atol=1e-4)
    assert read_maps(study / "concepts", name)[1].shape[2:] == (4, 4)

    evaluate(study, EvaluateConfig(cells=50, token_cells=10, changed_cells=10, draws=20))
    assert "the backbone cannot be loaded" in capsys.readouterr().err
    assert "robustness" in str(json.loads((study / "quality" / "quality.json").read_text())["skipped"])
    page = (study / "report" / "index.html").read_text()
    assert "imported:dinov2 dinov2_vitb14, 24 dimensions</p>" in page

    write_cells(table.iloc[:-1], tmp_path / "fewer.parquet")
    with pytest.raises(
        CytosaeError, match=r"the tokens of 60 cells, the table lists 59\. Rows are matched by their order"
    ):
        import_tokens(source, read_cells(tmp_path / "fewer.parquet"), tmp_path / "other")
