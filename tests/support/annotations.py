"""Judgements as the explorer's page sends them, and what they are made in."""

from __future__ import annotations

import shutil
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from fastapi import FastAPI
from fastapi.testclient import TestClient

from cytosae.artefacts import FileRecord, Manifest
from cytosae.concepts import encode_inputs
from cytosae.explorer.annotations import Database
from cytosae.explorer.annotations.routes import router
from cytosae.settings import BarcodeConfig, EncodeConfig
from cytosae.study import stages
from cytosae.tokens import TokenStore

SAE_DIGEST = "d" * 64


def postgresql_programs() -> Path | None:
    """Folder of initdb and pg_ctl, Debian's or another's."""
    debian = sorted(Path("/usr/lib/postgresql").glob("*/bin/pg_ctl"), key=lambda path: float(path.parts[4]))
    on_path = shutil.which("pg_ctl")
    return debian[-1].parent if debian else Path(on_path).parent if on_path else None


def client_of(database: Database) -> TestClient:
    app = FastAPI()
    app.include_router(router(database))
    return TestClient(app)  # raises what a route raises: there is no 500 in these tests


def judgement(rater: str = "Anna", latent: int = 3, version: int = 0, **content: Any) -> dict[str, Any]:
    """An annotation as the browser sends it."""
    return {
        "worklist": None,
        "dataset": "pbc",
        "latent": latent,
        "rater": rater,
        "verdict": None,
        "name": "",
        "comment": "",
        "terms": {},
        "specific_for": None,
        "version": version,
        **content,
    }


def make_list(client: TestClient, latents: list[int], **settings: Any) -> dict[str, Any]:
    wish = {
        "title": "First look",
        "items": [{"dataset": "pbc", "latent": latent} for latent in latents],
        "blind_labels": False,
        "blind_raters": False,
        "disease": None,
        "source": "choice",
        **settings,
    }
    answer = client.post("/api/worklists", json=wish)
    assert answer.status_code == 201, answer.text
    return dict(answer.json())


def put(client: TestClient, **content: Any) -> dict[str, Any]:
    answer = client.put("/api/annotations", json=judgement(**content))
    assert answer.status_code == 200, answer.text
    return dict(answer.json())


def up_to_date(folder: Path, store: TokenStore) -> list[str]:
    """Stages that `cytosae run` would make again, with the reason."""
    manifest = Manifest.load(folder / "concepts")
    assert manifest is not None
    reason = manifest.why_stale(
        folder / "concepts", asdict(EncodeConfig()), encode_inputs(store, manifest.inputs["sae"])
    )
    stale = [] if reason is None else [f"concepts: {reason}"]
    again = stages.barcodes(folder, BarcodeConfig()).update()
    return stale + ([] if again["skipped"] else [f"cohort: {again['why']}"])


def write_comparison(folder: Path, second: str = "PML_RARA") -> Path:
    """What `cytosae compare` leaves of eight latents."""
    folder.mkdir()
    difference = np.array([0.1, -0.5, 0.9, 0.0, -0.1, 0.3, 0.0, 0.2])
    favours = np.where(difference > 0, "CBFB_MYH11", np.where(difference < 0, second, ""))
    table = pd.DataFrame({"difference": difference, "favours": favours}).rename_axis("latent")
    table.to_csv(folder / "latents.csv")
    parameters = {"first": "CBFB_MYH11", "second": second, "target": "diagnosis", "adjust": None}
    outputs = {"latents.csv": FileRecord.from_file(folder / "latents.csv")}
    Manifest("comparison", parameters, {"barcodes": "b"}, outputs).save(folder)
    return folder
