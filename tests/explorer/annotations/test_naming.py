"""Names from annotations go into the concepts, and the study stays up to date."""

from __future__ import annotations

from contextlib import closing
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest

from cytosae.artefacts import sha256_file
from cytosae.concepts import read_concepts
from cytosae.errors import CytosaeError
from cytosae.explorer.annotations import agreed_names, current_annotations, name_latents, open_database
from cytosae.tokens import TokenStore
from support.annotations import client_of, judgement, make_list, put, up_to_date


def contents(path: Path) -> dict[str, Any]:
    """Everything in an HDF5 file, names included."""
    found: dict[str, Any] = {}

    def keep(name: str, item: h5py.Group | h5py.Dataset) -> None:
        value = repr(np.asarray(item[()]).tolist()) if isinstance(item, h5py.Dataset) else None
        found[name] = (value, {key: np.asarray(attribute).tolist() for key, attribute in item.attrs.items()})

    with h5py.File(path) as file:
        file.visititems(keep)
        found[""] = dict(file.attrs)
    return found


def test_names_go_into_the_concepts_and_the_study_stays_up_to_date(study: tuple[Path, TokenStore]) -> None:
    folder, store = study
    files = {name: folder / "concepts" / f"{name}.h5ad" for name in ("blood", "bone-marrow")}
    before = {name: contents(path) for name, path in files.items()}
    barcodes = sha256_file(folder / "cohort" / "barcodes.h5ad")
    assert up_to_date(folder, store) == []
    with closing(open_database(folder)) as database:
        client = client_of(database)
        for rater, verdict in (("Anna", "meaningful"), ("Ben", "meaningful"), ("Cleo", "artefact")):
            put(client, dataset="blood", latent=3, rater=rater, verdict=verdict, name="Döhle body")
        number = make_list(client, [5], items=[{"dataset": "bone marrow", "latent": 5}], blind_raters=True)["id"]
        put(client, worklist=number, dataset="bone marrow", latent=5, verdict="artefact")
        assert client.put("/api/annotations", json=judgement(dataset="blood", latent=64)).status_code == 404
        with database.reading() as session:
            names = agreed_names(current_annotations(session))
    assert name_latents(folder, names) == {"named": 1, "verdicts": 2, "files": 2}
    written = ["annotation", "verdict", "annotation_names"]
    assert up_to_date(folder, store) == []
    assert sha256_file(folder / "cohort" / "barcodes.h5ad") == barcodes
    for dataset, name in (("blood", "blood"), ("bone marrow", "bone-marrow")):
        var = read_concepts(folder / "concepts", dataset).var
        assert var["annotation"].dropna().to_dict() == {"3": "Döhle body"}
        assert var["verdict"].dropna().to_dict() == {"3": "meaningful", "5": "artefact"}
        assert not list((folder / "concepts").glob(".*"))
        after = contents(files[name])
        ours = {key for key in after if key.split("/")[0:2] in [["var", column] for column in written]}
        order = [after["var"][1].pop("column-order"), before[name]["var"][1].pop("column-order")]
        assert order[0] == [*order[1], *written]
        assert {key: value for key, value in after.items() if key not in ours} == before[name]

    digests = {name: sha256_file(path) for name, path in files.items()}
    assert name_latents(folder, names)["files"] == 0
    assert {name: sha256_file(path) for name, path in files.items()} == digests
    sizes = []
    for times in range(4):
        changed = {3: names[3].model_copy(update={"name": f"name {times}"})}
        assert name_latents(folder, changed) == {"named": 1, "verdicts": 1, "files": 2}
        sizes.append(files["blood"].stat().st_size)
    assert sizes[-1] == sizes[0], sizes
    var = read_concepts(folder / "concepts", "blood").var
    assert var["annotation"].dropna().to_dict() == {"3": "name 3"}
    assert name_latents(folder, {})["files"] == 2
    assert read_concepts(folder / "concepts", "blood").var["annotation"].isna().all()
    assert up_to_date(folder, store) == []

    with pytest.raises(CytosaeError, match="has 64 latents"):
        name_latents(folder, {64: names[3]})
    with files["bone-marrow"].open("ab") as file:
        file.write(b"x")
    with pytest.raises(CytosaeError, match="Encode the cells again"):
        name_latents(folder, {})
