"""The command that serves the explorer."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import urllib.error
import urllib.request
from pathlib import Path
from typing import Any

import pytest

from cytosae.errors import CytosaeError


def asked(address: str) -> tuple[int, bytes]:
    """Status and body of an answer of a running server."""
    opener = urllib.request.build_opener(urllib.request.HTTPCookieProcessor())
    try:
        with opener.open(address, timeout=30) as answer:
            return answer.status, answer.read()
    except urllib.error.HTTPError as error:
        return error.code, error.read()


def test_the_command(study: Path) -> None:
    command = [sys.executable, "-m", "cytosae", "explore", str(study), "--port", "0", "--no-open"]
    with subprocess.Popen(
        [*command, "--token", "some-token"], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as server:
        try:
            assert server.stdout is not None
            address = server.stdout.readline().strip()
            assert address.startswith("http://127.0.0.1:")
            assert address.endswith("/?token=some-token")
            base = address.partition("?")[0]
            assert asked(f"{base}api/study")[0] == 401
            status, body = asked(f"{base}api/study?token=some-token")  # along the redirect, with the cookie
            assert status == 200
            assert json.loads(body)["name"] == "study"
            port = base.split(":")[2].rstrip("/")
            taken = subprocess.run(
                [*command[:-3], "--port", port, "--no-open"], capture_output=True, text=True, check=False, timeout=60
            )
            assert taken.returncode == 2
            assert "in use" in taken.stderr
        finally:
            server.send_signal(signal.SIGINT)
            _, errors = server.communicate(timeout=30)
    assert server.returncode == 0, errors
    assert "Traceback" not in errors
    assert "stopped" in errors


def test_annotations_load_no_server() -> None:
    code = (
        "import sys, cytosae.explorer as e, cytosae.explorer.annotations; "
        "assert 'cytosae.explorer.app' not in sys.modules; assert callable(e.create_app)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False, timeout=60).returncode == 0


def test_the_command_without_its_packages(study: Path) -> None:
    code = "import sys; sys.modules['uvicorn'] = None; from cytosae.cli import main; main()"
    done = subprocess.run(
        [sys.executable, "-c", code, "explore", str(study)], capture_output=True, text=True, check=False, timeout=60
    )
    assert done.returncode == 2
    assert "pip install 'cytosae[explorer]'" in done.stderr


def test_every_server_has_a_token_unless_the_user_says_no(study: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from cytosae.explorer import serving

    made: dict[str, Any] = {}

    def app(folder: Path, **given: Any) -> None:
        made.update(given)
        raise CytosaeError("enough")

    monkeypatch.setattr(serving, "create_app", app)
    tokens = set()
    for host in ("0.0.0.0", "127.0.0.1", "localhost"):
        with pytest.raises(CytosaeError, match="enough"):
            serving.serve(study, host=host, port=0)
        assert len(made["token"]) >= 30
        assert {"127.0.0.1", "localhost"} <= set(made["hosts"])
        tokens.add(made["token"])
        with pytest.raises(CytosaeError, match="enough"):
            serving.serve(study, host=host, port=0, no_token=True)
        assert made["token"] is None
    assert len(tokens) == 3
    with pytest.raises(CytosaeError, match="--no-token: --token"):
        serving.serve(study, port=0, no_token=True, token="some-token")
    for token in ("", "short", "with space here", "ünïcödé-token"):
        with pytest.raises(CytosaeError, match="--token"):
            serving.serve(study, token=token, port=0)
    for host in ("203.0.113.9", "no such host", ""):
        with pytest.raises(CytosaeError, match=r"not an address|enough"):
            serving.serve(study, host=host, port=0)


def test_the_start_does_not_wait_for_what_is_not_used_yet() -> None:
    """What trains, fits and segments is imported when it is asked for."""
    code = "import sys, cytosae.explorer.app; print({'torch', 'sklearn', 'skimage', 'transformers'} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=120)
    assert done.stdout.strip() == "set()"
