"""Every command in a block of the documentation: it exists, and so do its options."""

from __future__ import annotations

import re
import shlex
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import typer

from cytosae.cli.commands import app
from cytosae.engines import Partition
from support.paths import ROOT

COMMANDS = typer.main.get_command(app)
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
_BLOCK = re.compile(r"^```(?:sh|console|bash)?\n(.*?)^```", re.MULTILINE | re.DOTALL)


def commands(page: Path) -> list[list[str]]:
    """Words of each command of cytosae in the blocks of a page, without its name."""
    found = []
    for block in _BLOCK.findall(page.read_text(encoding="utf-8")):
        for line in block.replace("\\\n", " ").splitlines():
            text = re.split(r"\s#\s|\s#$", line.removeprefix("$ "))[0]
            for part in re.findall(r"(?:^|\s|')(?:-m )?cytosae (?=[a-z-])([^|>;]*)", text):
                closed = part if part.count("'") % 2 == 0 else part.replace("'", "")  # the end of `--wrap '...'`
                lexer = shlex.shlex(closed, posix=True, punctuation_chars=False)
                lexer.whitespace_split, lexer.commenters = True, "#"
                found.append(list(lexer))
    return found


def unknown(words: list[str]) -> str | None:
    """What is wrong with a command; None if nothing is."""
    command: Any = COMMANDS
    rest = list(words)
    while hasattr(command, "commands") and rest:
        name = rest.pop(0)
        if name not in command.commands:
            return f"no command {name}"
        command = command.commands[name]
    known = {option for parameter in command.params for option in (*parameter.opts, *parameter.secondary_opts)}
    for word, after in pairwise([*rest, ""]):
        option = word.split("=")[0]
        if option.startswith("-") and not re.fullmatch(r"-\d.*|-", option) and option not in {*known, "--help"}:
            return f"no option {option}"
        if option == "--shard" and re.fullmatch(r"\d+/\d+", after):
            Partition.parse(after)
    return None


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.relative_to(ROOT).as_posix())
def test_commands_and_options_exist(page: Path) -> None:
    wrong = {" ".join(words): why for words in commands(page) if (why := unknown(words)) is not None}
    assert wrong == {}


def test_the_test_sees_what_is_wrong() -> None:
    assert unknown(["embde", "cells.parquet"]) == "no command embde"
    assert unknown(["embed", "cells.parquet", "--nothing", "1"]) == "no option --nothing"
    assert unknown(["annotations", "apply", "STUDY"]) is None
    assert sum(len(commands(page)) for page in PAGES) > 100
