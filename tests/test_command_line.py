"""What every command says of names that are no names, of endings, and of too little memory."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import pytest

from cytosae import __version__, cli, interrupts
from cytosae.cli import commands
from support.commands import cytosae, refused


def test_version() -> None:
    assert cytosae("--version").stdout == f"cytosae {__version__}\n"


@pytest.mark.parametrize("arguments", [("cells", ""), ("cells", "x", "-o", ""), ("barcodes", "")])
def test_an_empty_name_is_no_path(arguments: tuple[str, ...]) -> None:
    assert "the name is empty" in refused(*arguments)


@pytest.mark.parametrize(
    ("arguments", "ending"),
    [
        (("cells", "x", "-o", "cells.csv"), ".parquet"),
        (("barcodes", "x", "-o", "b.csv"), ".h5ad"),
        (("statistics", "x", "-o", "s.xlsx"), ".csv or .parquet"),
        (("panel", "x", "-o", "p.csv"), ".json"),
        (("patient", "x", "p", "-o", "p.pdf"), ".html"),
    ],
)
def test_a_file_is_of_the_kind_that_its_name_says(arguments: tuple[str, ...], ending: str) -> None:
    assert f"writes {ending}" in refused(*arguments)
    assert not Path(arguments[-1]).exists()


@pytest.mark.parametrize("error", [MemoryError(), RuntimeError("DefaultCPUAllocator: can't allocate memory")])
def test_too_little_memory_is_one_sentence(
    error: Exception, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def fails(*_: Any) -> None:
        raise error

    for name in ("raise_on_signals", "no_more_signals"):
        monkeypatch.setattr(interrupts, name, lambda: None)
    monkeypatch.setattr(commands, "app", fails)
    monkeypatch.setattr(sys, "argv", ["cytosae"])
    with pytest.raises(SystemExit) as end:
        cli.main()
    assert end.value.code == 2
    assert "error: out of memory" in capsys.readouterr().err
