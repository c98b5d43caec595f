"""A real browser, and the explorer in a process that it can look at."""

from __future__ import annotations

import json
import shutil
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request
from pathlib import Path
from typing import Any

import pytest

from support.explorer import free_port
from support.paths import ROOT
from support.studies import SET

BUNDLE = ROOT / "src" / "cytosae" / "explorer" / "bundle" / "index.html"
CHROMIUM = shutil.which("chromium")
NEEDED = [
    pytest.mark.skipif(CHROMIUM is None, reason="no chromium here; install Debian's package of that name"),
    pytest.mark.skipif(not BUNDLE.is_file(), reason="the page is not built: npm ci && npm run build in frontend/"),
]
"""The marks of every test in a browser."""
SERVE = """
import sys, uvicorn
from pathlib import Path
from cytosae.explorer.app import create_app
uvicorn.run(create_app(Path(sys.argv[1])), host="127.0.0.1", port=int(sys.argv[2]), log_level="warning")
"""
ARGUMENTS = ["--no-sandbox", "--disable-gpu", "--disable-background-networking"]
WEBGL = ["--use-gl=angle", "--use-angle=swiftshader", "--enable-unsafe-swiftshader"]
NAMELESS = """() => [...document.querySelectorAll('a, button, input, select, textarea, img, [role=img], [role=radio]')]
    .filter(e => e.checkVisibility() && !e.closest('[aria-hidden=true]'))
    .filter(e => !(e.getAttribute('aria-label') || e.textContent.trim() || e.labels?.length || e.hasAttribute('alt')
        || e.getAttribute('title')))
    .map(e => e.outerHTML.slice(0, 120))"""


class Server:
    """The explorer of a study in a process of its own, which can be killed at any time."""

    def __init__(self, study: Path) -> None:
        self.study = study
        self.port = free_port()
        self.url = f"http://127.0.0.1:{self.port}/"
        self.start()

    def start(self) -> None:
        self.process = subprocess.Popen([sys.executable, "-c", SERVE, str(self.study), str(self.port)])
        for _ in range(1200):  # a busy machine is slow
            assert self.process.poll() is None, "the server has ended"
            try:
                self.ask("study")
                return
            except (urllib.error.URLError, ConnectionError):
                time.sleep(0.1)
        raise AssertionError("the server does not answer")

    def kill(self) -> None:
        self.process.send_signal(signal.SIGKILL)
        self.process.wait()

    def ask(self, path: str, body: Any = None, method: str = "POST") -> Any:
        data = None if body is None else json.dumps(body).encode()
        kind = {} if body is None else {"Content-Type": "application/json"}
        request = urllib.request.Request(
            f"{self.url}api/{path}", data, kind, method=method if body is not None else "GET"
        )
        with urllib.request.urlopen(request) as answer:
            return json.load(answer)

    def worklist(self, title: str, latents: list[int], **options: Any) -> dict[str, Any]:
        blind = {"blind_labels": False, "blind_raters": False, "disease": None, "source": "test"} | options
        items = [{"dataset": SET, "latent": latent} for latent in latents]
        return self.ask("worklists", {"title": title, "items": items, **blind})


def until(page: Any, expression: str) -> None:
    """Wait for something; Playwright's own way would need `eval`, which the page's policy forbids."""
    end = time.monotonic() + 120
    while not page.evaluate(expression):
        assert time.monotonic() < end, expression
        page.wait_for_timeout(50)


def saved(page: Any) -> None:
    page.wait_for_selector("[data-saved=saved]")


def unsent(page: Any) -> list[str]:
    """Names of the judgements that the browser keeps because no server has them."""
    return page.evaluate(
        "() => Object.keys(localStorage).filter(k => k.startsWith('cytosae:unsent:'))"
        ".map(k => JSON.parse(localStorage.getItem(k)).annotation.name)"
    )
