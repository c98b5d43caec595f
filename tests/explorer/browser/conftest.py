"""One browser and one server for all files of this folder."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from cytosae.concepts import read_concepts
from support.browser import ARGUMENTS, CHROMIUM, WEBGL, Server
from support.studies import SET


@pytest.fixture(scope="session")
def study(classified_study: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Twenty synthetic patients of five groups, nine cells each, classified."""
    return Path(shutil.copytree(classified_study, tmp_path_factory.mktemp("explorer") / "study"))


@pytest.fixture(scope="package")
def process(study: Path) -> Iterator[Server]:
    running = Server(study)
    yield running
    running.kill()


@pytest.fixture
def server(process: Server) -> Server:
    """The one server of this folder, running, whatever a test before has done to it."""
    if process.process.poll() is not None:
        process.start()
    return process


@pytest.fixture(scope="session")
def concepts(study: Path) -> list[int]:
    data = read_concepts(study / "concepts", SET)
    return [int(latent) for latent in np.flatnonzero(data.var["is_concept"].to_numpy())]


@pytest.fixture(scope="package")
def browser() -> Iterator[Any]:
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        running = playwright.chromium.launch(executable_path=CHROMIUM, args=ARGUMENTS + WEBGL)
        yield running
        running.close()


@pytest.fixture
def tab(browser: Any) -> Iterator[Callable[..., Any]]:
    """New windows, each with its own storage, that note every fault."""
    contexts = []

    def opened(rater: str = "", width: int = 1280, height: int = 720, **options: Any) -> Any:
        context = browser.new_context(viewport={"width": width, "height": height}, **options)
        contexts.append(context)
        if rater:
            context.add_init_script(
                "if (!localStorage.getItem('cytosae:preferences'))"
                f"localStorage.setItem('cytosae:preferences', JSON.stringify({{rater: {json.dumps(rater)}}}))"
            )
        context.add_init_script(
            "addEventListener('securitypolicyviolation', e => console.error('policy: ' + e.violatedDirective))"
        )
        page = context.new_page()
        page.set_default_timeout(120_000)  # waits end when what is waited for is there; a busy machine is slow
        page.faults = []
        page.on("pageerror", lambda error: page.faults.append(str(error)))
        page.on("response", lambda one: page.faults.append(f"{one.status} {one.url}") if one.status == 500 else None)
        page.on("console", lambda said: page.faults.append(said.text) if said.type == "error" else None)
        return page

    yield opened
    for context in contexts:
        context.close()
