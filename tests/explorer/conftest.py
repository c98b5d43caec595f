"""A study of drawn patients, and a browser that looks at it."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from fastapi.testclient import TestClient

from cytosae.concepts import read_concepts
from cytosae.sae import SAE
from cytosae.tokens import TokenStore
from support.explorer import opened
from support.studies import SET


@pytest.fixture(scope="session")
def study(classified_study: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Twenty synthetic patients of five groups, nine cells each, classified."""
    return Path(shutil.copytree(classified_study, tmp_path_factory.mktemp("explored") / "study"))


@pytest.fixture(scope="session")
def client(study: Path) -> TestClient:
    """A browser on this machine, without a token."""
    return opened(study)


@pytest.fixture
def copied(study: Path, tmp_path: Path) -> Path:
    """The same study, to be spoilt; its images are where they were before."""
    return Path(shutil.copytree(study, tmp_path / "copy"))


@pytest.fixture(scope="session")
def data(study: Path) -> Any:
    """Concepts of the study."""
    return read_concepts(study / "concepts", SET)


@pytest.fixture(scope="session")
def h(study: Path) -> Callable[[int], np.ndarray]:
    """Activations of a cell, ``(n_tokens, n_latents)``."""
    sae, store = SAE.from_pretrained(study / "sae"), TokenStore(study / "tokens")

    def of(row: int) -> np.ndarray:
        with torch.no_grad():
            return sae.encode(sae.centred(store.read(np.array([row]))[0])).numpy()

    return of
