"""The command line in this process and in one of its own, and what it answers."""

from __future__ import annotations

import io
import json
import os
import subprocess
import sys
from contextlib import redirect_stderr, redirect_stdout
from typing import Any

import pytest
from click.testing import Result
from typer.testing import CliRunner

from cytosae import interrupts
from cytosae.cli import main
from cytosae.cli.commands import app
from cytosae.errors import CytosaeError


def cytosae(*arguments: object, check: bool = True, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run the command as ``python -m cytosae`` does, in this process: its start takes longer than most of what is tested.

    Only signals are left as they are; `cytosae_process` is a process of its own.
    """
    command, code = ["cytosae", *map(str, arguments)], 0
    out, err = io.StringIO(), io.StringIO()
    with pytest.MonkeyPatch.context() as patch, redirect_stdout(out), redirect_stderr(err):
        for name, value in {"HF_HUB_OFFLINE": "1", **environment}.items():
            patch.setenv(name, value)
        patch.setattr(sys, "argv", command)
        for name in ("raise_on_signals", "no_more_signals"):
            patch.setattr(interrupts, name, lambda: None)
        try:
            main()
        except SystemExit as end:
            code = int(end.code or 0)
    return _checked(subprocess.CompletedProcess(command, code, out.getvalue(), err.getvalue()), check)


def cytosae_process(*arguments: object, check: bool = True, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run the command in a process of its own."""
    done = subprocess.run(
        [sys.executable, "-m", "cytosae", *map(str, arguments)],
        capture_output=True,
        text=True,
        env={**os.environ, "HF_HUB_OFFLINE": "1", **environment},
        timeout=300,
        check=False,
    )
    return _checked(done, check)


def _checked(done: subprocess.CompletedProcess[str], check: bool) -> subprocess.CompletedProcess[str]:
    if check:
        assert done.returncode == 0, done.stderr
    return done


def figures(done: subprocess.CompletedProcess[str]) -> dict[str, Any]:
    """The JSON object that a command printed."""
    return dict(json.loads(done.stdout))


def assert_user_error(done: subprocess.CompletedProcess[str], *words: str) -> None:
    """One clear message, exit code 2, no traceback."""
    assert done.returncode == 2, (done.returncode, done.stderr)
    assert "Traceback" not in done.stderr
    (message,) = [line for line in done.stderr.splitlines() if line.startswith("error: ")]
    for word in words:
        assert word in message, message


def invoke(*arguments: object) -> Result:
    """Run a command in this process, without what catches its errors; it has to succeed."""
    result = CliRunner().invoke(app, [*map(str, arguments)], catch_exceptions=False)
    assert result.exit_code == 0, result.output
    return result


def ask(*arguments: object) -> Any:
    """The JSON that a command answers with."""
    return json.loads(invoke(*arguments, "--json").stdout)


def ask_with_messages(*arguments: object) -> tuple[Any, str]:
    """The JSON that a command answers with, and its messages."""
    result = invoke(*arguments, "--json")
    return json.loads(result.stdout), result.stderr


def refused(*arguments: object) -> str:
    """The message of a command that refuses."""
    with pytest.raises(CytosaeError) as caught:
        CliRunner().invoke(app, [*map(str, arguments)], catch_exceptions=False)
    return str(caught.value)


def exit_code(arguments: list[str]) -> int:
    """The exit code of a command in this process; what it prints is left to the test."""
    try:
        app(arguments, standalone_mode=False)
    except CytosaeError as error:
        print(error, file=sys.stderr)
        return 2
    return 0
