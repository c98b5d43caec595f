"""Which autoencoder it is: the digest of its weights, and what refuses to mix two of them."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
import torch

from cytosae.artefacts import WORK_FILES, Manifest, sae_weights_digest, same_weights, sha256_file
from cytosae.cohort import make_barcodes
from cytosae.concepts import check_encoded_with, encode, evaluate_study, joined_statistics, read_concepts, read_inputs
from cytosae.engines import Partition
from cytosae.errors import CytosaeError
from cytosae.sae import SAE
from cytosae.sae.objectives import TopK
from cytosae.settings import EvaluateConfig
from cytosae.tokens import TokenStore
from support.planted import MakeStore
from support.studies import edit_manifest


def drawn(seed: int = 0) -> SAE:
    sae = SAE(8, 24)
    sae.initialise(torch.Generator().manual_seed(seed))
    return sae


@pytest.fixture
def store(make_store: MakeStore) -> TokenStore:
    tokens = torch.randn(40, 7, 8, generator=torch.Generator().manual_seed(0))
    return make_store(tokens, patient=[f"p{number % 5}" for number in range(40)])


def test_the_digest_is_that_of_the_file_before_and_after_it_is_written(tmp_path: Path) -> None:
    sae = drawn()
    before = sae.weights_digest()
    sae.save_pretrained(tmp_path / "sae")
    written = sha256_file(tmp_path / "sae" / "model.safetensors")
    assert before == sae.weights_digest() == written == sae_weights_digest(tmp_path / "sae")
    assert SAE.from_pretrained(tmp_path / "sae").weights_digest() == written
    assert SAE.from_pretrained(tmp_path / "sae", decoder=False).weights_digest() == written
    assert drawn(1).weights_digest() != before


def test_a_file_that_others_wrote_is_named_by_its_own_bytes(tmp_path: Path) -> None:
    from safetensors.torch import save_file

    sae = drawn()
    sae.save_pretrained(tmp_path / "sae")
    path = tmp_path / "sae" / "model.safetensors"
    save_file({name: value.contiguous() for name, value in sae.state_dict().items()}, path, metadata={"format": "pt"})
    assert SAE.from_pretrained(tmp_path / "sae").weights_digest() == sha256_file(path) != sae.weights_digest()


@pytest.mark.parametrize("way", ["copy_", "data", "numpy", "parameter"])
def test_weights_changed_in_memory_have_another_digest(tmp_path: Path, way: str) -> None:
    drawn().save_pretrained(tmp_path / "sae")
    sae = SAE.from_pretrained(tmp_path / "sae")
    before = sae.weights_digest()
    with torch.no_grad():
        if way == "copy_":
            sae.b_enc[3].copy_(torch.tensor(0.5))
        elif way == "data":
            sae.b_enc.data[3] = 0.5
        elif way == "numpy":
            sae.b_enc.numpy()[3] = 0.5
        else:
            sae.b_enc = torch.nn.Parameter(sae.b_enc + 0.5)
    assert sae.weights_digest() != before
    assert same_weights(sae.weights_digest(), sae.weights_digest())


def test_a_file_replaced_after_loading_does_not_lend_its_digest(tmp_path: Path) -> None:
    drawn().save_pretrained(tmp_path / "sae")
    sae = SAE.from_pretrained(tmp_path / "sae")
    before = sae.weights_digest()
    drawn(1).save_pretrained(tmp_path / "sae")
    assert sae.weights_digest() == before
    shutil.rmtree(tmp_path / "sae")
    assert sae.weights_digest() == before


@pytest.mark.parametrize("change", ["weights", "activation"])
def test_pieces_of_another_autoencoder_are_not_taken_over(store: TokenStore, tmp_path: Path, change: str) -> None:
    first, second = drawn(), drawn(1)
    if change == "activation":
        first.activation, second = TopK(2), drawn()
    encode(
        store, first, tmp_path / "concepts", partition=Partition.parse("1/2")
    )  # as an interrupted encoding leaves them
    assert list((tmp_path / "concepts" / WORK_FILES).rglob("part-*"))
    encode(store, second, tmp_path / "concepts")
    encode(store, second, tmp_path / "expected")
    (name,) = Manifest.load(tmp_path / "expected").summary["files"]
    found, expected = (read_concepts(tmp_path / folder, name) for folder in ("concepts", "expected"))
    assert (found.X != expected.X).nnz == 0
    assert read_inputs(tmp_path / "concepts")["sae"] == second.weights_digest()


def unnamed(folder: Path, sae: str) -> Path:
    """Concepts whose manifest has something else in place of a digest, as earlier versions wrote them."""
    edit_manifest(folder / "manifest.json", lambda manifest: manifest["inputs"].update(sae=sae))
    return folder


@pytest.mark.parametrize("name", ["", "owner/name"])
def test_what_names_no_weights_equals_nothing(make_store: MakeStore, tmp_path: Path, name: str) -> None:
    tokens = torch.randn(40, 7, 8, generator=torch.Generator().manual_seed(0))
    folders = []
    for dataset in ("blood", "marrow"):
        store = make_store(tokens, dataset, dataset=[dataset] * 40, patient=[f"p{number % 5}" for number in range(40)])
        encode(store, drawn(), tmp_path / f"{dataset}-concepts")
        folders.append(tmp_path / f"{dataset}-concepts")
    assert len(joined_statistics(*folders)) == 24
    for folder in folders:
        unnamed(folder, name)
    with pytest.raises(CytosaeError, match="another autoencoder"):
        joined_statistics(*folders)
    with pytest.raises(CytosaeError, match="another autoencoder"):
        make_barcodes(folders, tmp_path / "barcodes.h5ad")
    assert len(joined_statistics(folders[0])) == 24  # one folder is of one autoencoder
    folders[0].rename(tmp_path / "concepts")
    drawn().save_pretrained(tmp_path / "sae")
    with pytest.raises(CytosaeError, match="made with another autoencoder"):
        check_encoded_with(tmp_path)


def test_concepts_are_not_looked_at_with_another_autoencoder(store: TokenStore, tmp_path: Path) -> None:
    sae, folder = drawn(), store.folder.parent
    sae.save_pretrained(folder / "sae")
    encode(store, sae, folder / "concepts")
    check_encoded_with(folder)
    drawn(1).save_pretrained(folder / "sae")
    with pytest.raises(CytosaeError, match="made with another autoencoder"):
        evaluate_study(folder, store, EvaluateConfig())
