"""Every kind of file that the program reads: how to make one, and what its reader finds in it."""

from __future__ import annotations

import hashlib
import json
import shutil
import tempfile
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import tifffile
import torch
from PIL import Image

from benchmarks.endurance.studying import BACKBONE, study_of
from cytosae.artefacts import Manifest, claim
from cytosae.backbones.loading import load
from cytosae.cells import list_cells, read_cells
from cytosae.cells.images import inspect
from cytosae.cohort.storage import read_barcodes
from cytosae.concepts.storage import read_concepts, read_datasets, read_maps
from cytosae.errors import CytosaeError
from cytosae.remembered import read_settings
from cytosae.sae import SAE
from cytosae.sae.checkpoint import CHECKPOINT, load_checkpoint
from cytosae.sae.foreign import import_sae, write_saelens
from cytosae.sae.former import TrainedWork
from cytosae.sae.state import new_state
from cytosae.sweeps.spec import read_spec
from cytosae.tokens import TokenStore
from cytosae.tokens.store import RECORD, read_manifest, read_records, write_record

DIGEST = "d" * 64
"""Of the autoencoder that annotations are of."""
NO_CHECKSUM = "the format has no checksum: another valid value is a file that somebody else might have written"


@dataclass(frozen=True)
class Kind:
    """Files of one kind in a folder of their own."""

    name: str
    make: Callable[[Path, Path], None]
    """Given a finished study and an empty folder."""
    read: Callable[[Path], str]
    """A digest of what the package's reader finds in the folder."""
    files: tuple[str, ...]
    """Patterns of those that are damaged."""
    unchecked: str = ""
    """Why another value may be accepted without a word; empty where it may not."""
    noticed: Callable[[Path], bool] | None = None
    """Whether the checksum beside the files tells of the damage."""

    @property
    def checked(self) -> bool:
        """Whether the reader, or a checksum beside the file, has to notice every change of the value."""
        return not self.unchecked


def _digest(*values: Any) -> str:
    """Of arrays, tables and whatever has a text."""
    total = hashlib.sha256()
    for value in values:
        if isinstance(value, torch.Tensor):
            value = value.detach().contiguous().view(torch.uint8).numpy() if value.dim() else value.item()
        if isinstance(value, np.ndarray) and value.dtype != object:
            total.update(f"{value.dtype} {value.shape} ".encode() + np.ascontiguousarray(value).tobytes())
        else:
            text = value.to_json() if isinstance(value, pd.DataFrame) else repr(value)
            total.update(text.encode("utf-8", "surrogatepass"))
        total.update(b"\0")
    return total.hexdigest()


# Images


def _pixels(deep: bool = False) -> np.ndarray[Any, Any]:
    rows, columns = np.mgrid[:40, :48]
    cell = np.hypot(rows - 20, columns - 24) < 14
    pixels = np.random.default_rng(0).integers(90, 120, (40, 48, 3)) + 80 * cell[..., None]
    return (pixels * 257).astype(np.uint16) if deep else pixels.astype(np.uint8)


def _image(name: str, ending: str, why: str, **options: Any) -> Kind:
    def make(_: Path, folder: Path) -> None:
        if options.get("deep") and ending == "png":
            import imagecodecs

            (folder / "cell.png").write_bytes(imagecodecs.png_encode(_pixels(deep=True)))
        elif options.get("deep"):
            tifffile.imwrite(folder / "cell.tif", _pixels(deep=True), photometric="rgb")
        else:
            Image.fromarray(_pixels()).save(folder / f"cell.{ending}", **options)

    def read(folder: Path) -> str:
        decoded, _ = inspect(folder / f"cell.{ending}", "full")
        return _digest(np.asarray(decoded.image))

    return Kind(name, make, read, ("cell.*",), why)


IMAGES = [
    _image("PNG", "png", ""),
    _image("PNG 16 bit", "png", "", deep=True),
    _image("JPEG", "jpg", NO_CHECKSUM, quality=90),
    _image("BMP", "bmp", NO_CHECKSUM),
    _image("GIF", "gif", NO_CHECKSUM),
    _image("WebP lossless", "webp", NO_CHECKSUM, lossless=True),
    _image("WebP lossy", "webp", NO_CHECKSUM, quality=90),
    _image("TIFF", "tif", NO_CHECKSUM),
    _image("TIFF LZW", "tif", NO_CHECKSUM, compression="tiff_lzw"),
    _image("TIFF deflate", "tif", NO_CHECKSUM, compression="tiff_adobe_deflate"),
    _image("TIFF 16 bit", "tif", NO_CHECKSUM, deep=True),
]


# Tables


def _table(name: str, file: str, why: str) -> Kind:
    def make(_: Path, folder: Path) -> None:
        rows = []
        for number in range(3):
            Image.fromarray(_pixels()[:, number:]).save(folder / f"{number}.png")
            rows.append((f"{number}.png", ("Blast", "Plättchen")[number % 2], f"00{number}"))
        table = pd.DataFrame(rows, columns=["path", "label", "patient"])
        if name == "table, Parquet":
            table.to_parquet(folder / file)
        else:
            german = "1252" in name
            table.to_csv(
                folder / file, index=False, sep=";" if german else ",", encoding="cp1252" if german else "utf-8"
            )

    def read(folder: Path) -> str:
        listing = list_cells(folder / file)
        return _digest(listing.cells.drop(columns="file_mtime_ns"), listing.rejected)

    return Kind(name, make, read, (file,), why)


def _cells(folder: Path) -> str:
    return _digest(read_cells(folder / "cells.parquet"))


def _copy(*parts: str) -> Callable[[Path, Path], None]:
    """Files of the study, by their paths in it."""

    def make(study: Path, folder: Path) -> None:
        for part in parts:
            target = folder / part
            target.parent.mkdir(parents=True, exist_ok=True)
            (shutil.copytree if (study / part).is_dir() else shutil.copy2)(study / part, target)

    return make


TABLES = [
    _table("table, UTF-8", "cells.csv", NO_CHECKSUM),
    _table("table, Windows-1252", "cells.csv", NO_CHECKSUM),
    _table("table, Parquet", "cells.parquet", "pandas writes Parquet without the checksums that it could have"),
    Kind("listing", _copy("cells.parquet"), _cells, ("cells.parquet",)),
]


# What the stages of a study write


def _stale(stage: str, name: str | None = None) -> Callable[[Path], bool]:
    """Whether the manifest of a stage says that a file is another than the one that was written."""

    def noticed(folder: Path) -> bool:
        manifest = Manifest.load(folder / stage)
        if manifest is None or (name and name not in manifest.outputs):
            return False
        return manifest.why_stale(folder / stage, manifest.parameters, manifest.inputs) is not None

    return noticed


def _verified(folder: Path) -> str:
    store = TokenStore(folder / "tokens")
    store.verify()
    return _tokens(folder)


def _tokens(folder: Path) -> str:
    store = TokenStore(folder / "tokens")
    try:
        rows = np.arange(store.n_cells)
        batches = list(store.stream(np.array_split(rows, 3)))
        return _digest(store.read(rows), *batches, store.fingerprint, store.layout, store.cells["cell_id"].tolist())
    finally:
        store.close()


def _with_notes(study: Path, folder: Path) -> None:
    _copy("tokens")(study, folder)
    found = read_manifest(folder / "tokens")
    assert found is not None
    claim(folder / "tokens", "tokens", [Path(shard.file).with_suffix(RECORD).name for shard in found[1]])
    for shard in found[1]:
        write_record(folder / "tokens", found[0], shard)


def _notes(folder: Path) -> str:
    found = read_manifest(folder / "tokens")
    assert found is not None
    return _digest(read_records(folder / "tokens", found[0]))


def _sae(folder: Path) -> str:
    sae = SAE.from_pretrained(folder / "sae")
    return _digest(*sae.state_dict().values(), sorted(sae.metadata.items(), key=str))


def _checkpoint(folder: Path) -> str:
    work = TrainedWork.load(folder / "sae")
    assert work is not None
    state = new_state(study_of(folder / "study").config.train, 16, torch.device("cpu"))
    load_checkpoint(folder / "sae" / CHECKPOINT, state)
    tensors = state.tensors()
    return _digest(work.parameters, work.inputs, state.step, state.l0, *(tensors[name] for name in sorted(tensors)))


def _concepts(folder: Path) -> str:
    found: list[Any] = []
    for dataset, figures in read_datasets(folder / "concepts").items():
        data = read_concepts(folder / "concepts", dataset)
        means = data.layers["mean_activation"]
        found += [figures, data.obs.astype(str), data.var, data.X.toarray(), means.toarray(), data.uns]
        found += [data.varm[key] for key in sorted(data.varm)]
        found += read_maps(folder / "concepts", dataset)
    return _digest(*found)


def _concepts_manifest(folder: Path) -> str:
    return _digest(read_datasets(folder / "concepts"), _concepts(folder))


def _barcodes(folder: Path) -> str:
    data = read_barcodes(folder / "cohort" / "barcodes.h5ad")
    values = data.X if isinstance(data.X, np.ndarray) else data.X.toarray()
    return _digest(data.obs.astype(str), data.var, values, data.uns)


def _settings(folder: Path) -> str:
    return _digest(asdict(read_settings(folder)))


def _recorded(study: Path, folder: Path) -> None:
    """A study from before its settings were kept."""
    _copy("backbone.json", "tokens", "sae", "concepts", "cohort")(study, folder)


STAGES = [
    Kind("token shards", _copy("tokens"), _verified, ("tokens/shard-*.safetensors",)),
    Kind("token manifest", _copy("tokens"), _tokens, ("tokens/manifest.json",), NO_CHECKSUM),
    Kind("cells of tokens", _copy("tokens"), _tokens, ("tokens/cells.parquet",)),
    Kind("token notes", _with_notes, _notes, (f"tokens/shard-*{RECORD}", "tokens/cytosae-files.json"), NO_CHECKSUM),
    Kind("autoencoder", _copy("sae"), _sae, ("sae/model.safetensors", "sae/config.json"), noticed=_stale("sae")),
    Kind("autoencoder's manifest", _copy("sae"), _checkpoint, ("sae/manifest.json",), NO_CHECKSUM),
    Kind("checkpoint", _copy("sae"), _checkpoint, (f"sae/{CHECKPOINT}",)),
    Kind(
        "concepts",
        _copy("concepts"),
        _concepts,
        ("concepts/*.h5ad", "concepts/*.maps.safetensors"),
        noticed=_stale("concepts"),
    ),
    Kind("concepts' manifest", _copy("concepts"), _concepts_manifest, ("concepts/manifest.json",), NO_CHECKSUM),
    Kind(
        "barcodes",
        _copy("concepts", "cohort"),
        _barcodes,
        ("cohort/barcodes.h5ad",),
        noticed=_stale("cohort", "barcodes.h5ad"),
    ),
    Kind("study.json", _copy("study.json"), _settings, ("study.json",), NO_CHECKSUM),
    Kind("backbone.json", _recorded, _settings, ("backbone.json", "*/manifest.json"), NO_CHECKSUM),
]


# Annotations


def _database(address: str, study: Path | None = None) -> Any:
    from cytosae.explorer.annotations import Database

    return Database(address, DIGEST, study=study)


def _annotated(study: Path, folder: Path) -> None:
    from cytosae.explorer.annotations import add, export, from_list, save_annotation, schemas

    (folder / "concepts").mkdir()
    database = _database(f"sqlite:///{folder}/annotations.sqlite")
    wish = {"title": "Blasts", "items": [{"dataset": "pbc", "latent": latent} for latent in range(5)]}
    number, _ = add(database, from_list(schemas.WorklistRequest.model_validate(wish)))
    for latent in range(5):
        for rater in ("Anna", "Bela"):
            said = {"verdict": "meaningful", "name": f"Kern {latent}", "comment": "c" * 50, "version": 0}
            place = {"dataset": "pbc", "latent": latent, "rater": rater, "worklist": number if latent % 2 else None}
            save_annotation(database, schemas.AnnotationRequest.model_validate({**said, **place}))
    export(database, folder / "annotations.json")
    export(database, folder / "annotations.csv")
    database.close()


def _import(name: str) -> Callable[[Path], str]:
    def read(folder: Path) -> str:
        from cytosae.explorer.annotations import everything, take

        with tempfile.TemporaryDirectory() as fresh:
            database = _database(f"sqlite:///{fresh}/annotations.sqlite")
            try:
                taken = take(database, folder / name)
                return _digest(asdict(taken), everything(database).model_dump(mode="json"))
            finally:
                database.close()

    return read


def _judgements(folder: Path) -> str:
    from sqlalchemy.exc import SQLAlchemyError

    from cytosae.explorer.annotations import everything, read_database
    from cytosae.explorer.annotations.database import explained

    database = read_database(folder)
    try:
        return _digest(everything(database).model_dump(mode="json"))
    except SQLAlchemyError as error:  # as the command line does
        raise CytosaeError(f"{database.name}: {explained(error)}") from error
    finally:
        database.close()


ANNOTATIONS = [
    Kind("annotations, JSON", _annotated, _import("annotations.json"), ("annotations.json",), NO_CHECKSUM),
    Kind("annotations, CSV", _annotated, _import("annotations.csv"), ("annotations.csv",), NO_CHECKSUM),
    Kind("annotations.sqlite", _annotated, _judgements, ("annotations.sqlite",), NO_CHECKSUM),
]


# Files of others


def _foreign(study: Path, folder: Path) -> None:
    sae = SAE.from_pretrained(study / "sae")
    write_saelens(sae, folder / "lens")
    state = {name: value.clone() for name, value in sae.state_dict().items()}
    settings = {"d_in": sae.d_model, "expansion_factor": 4, "architecture": "standard"}
    torch.save({"state_dict": state, "cfg": settings}, folder / "release.pt")
    shape = {"d_model": sae.d_model, "d_sae": len(state["b_enc"]), "seed": 0}
    config = {**shape, "activation": {"cls": "Relu", "params": {}}}
    with (folder / "saev.pt").open("wb") as file:
        file.write(json.dumps({"schema": 2, "cfg": config, "commit": "unknown", "lib": "0.1.0"}).encode() + b"\n")
        torch.save(state, file)


def _imported(name: str) -> Callable[[Path], str]:
    def read(folder: Path) -> str:
        return _digest(*import_sae(folder / name).state_dict().values())

    return read


_RECORDED = "the file's SHA-256 goes into the metadata; whether it is the published one, only its authors can say"
_SPEC = (
    "base: {expansion: 4, images: 64, learning_rate: 0.001}\nvary:\n  l1: [0.1, 0.01]\n  expansion: [2, 8]\nseeds: 3\n"
)


def _backbone(study: Path, folder: Path) -> None:
    shutil.copytree(study.parent / BACKBONE, folder / BACKBONE)
    stated = {"do_normalize": True, "image_mean": [0.5, 0.4, 0.6], "image_std": [0.2, 0.2, 0.2], "do_rescale": True}
    (folder / BACKBONE / "preprocessor_config.json").write_text(json.dumps(stated), encoding="utf-8")


def _loaded(folder: Path) -> str:
    info = load(str(folder / BACKBONE), layer=1, device="cpu").info
    return _digest(asdict(info))


def _write_spec(_: Path, folder: Path) -> None:
    (folder / "sweep.yaml").write_text(_SPEC, encoding="utf-8")


def _spec(folder: Path) -> str:
    return _digest(read_spec(folder / "sweep.yaml"))


OTHERS = [
    Kind("checkpoint of CytoSAE", _foreign, _imported("release.pt"), ("release.pt",), _RECORDED),
    Kind(
        "folder of SAELens", _foreign, _imported("lens"), ("lens/cfg.json", "lens/sae_weights.safetensors"), _RECORDED
    ),
    Kind("checkpoint of saev", _foreign, _imported("saev.pt"), ("saev.pt",), _RECORDED),
    Kind("backbone", _backbone, _loaded, (f"{BACKBONE}/*.json", f"{BACKBONE}/*.safetensors"), NO_CHECKSUM),
    Kind("sweep", _write_spec, _spec, ("sweep.yaml",), NO_CHECKSUM),
]

KINDS: list[Kind] = [*IMAGES, *TABLES, *STAGES, *ANNOTATIONS, *OTHERS]
"""All of them; the campaign takes them in turn."""
