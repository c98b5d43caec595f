"""``--help`` shows what one needs first, ``--help-all`` every option but earlier names."""

from __future__ import annotations

import re

import pytest
import typer

from cytosae.cli.commands import app
from cytosae.cli.help import show_all
from support.commands import assert_user_error, cytosae


def options(text: str) -> set[str]:
    return set(re.findall(r"(?<![\w-])--[a-z][a-z0-9-]*", text))


@pytest.mark.parametrize(("command", "most"), [("run", 60), ("train", 75)])
def test_the_first_help_is_short_and_the_other_complete(command: str, most: int) -> None:
    first = cytosae(command, "--help", COLUMNS="120").stdout
    every = cytosae(command, "--help-all", COLUMNS="120").stdout
    assert len(first.splitlines()) < most
    assert {"--preset", "--images", "--expansion", "--help-all", "--json"} <= options(first)
    assert "--weights-draw" not in first
    assert {"--weights-draw", "--relaxation", "--layer"} <= options(every)
    known = next(one for name, one in typer.main.get_command(app).commands.items() if name == command)  # type: ignore
    written = {name for one in known.params for name in one.opts if getattr(one, "help", None)}
    assert written <= options(every) | {"-h", "-o", "cells", "tokens"}
    assert "--revival" not in every  # an earlier name


def test_brackets_are_shown() -> None:
    assert "cytosae[ray]" in cytosae("embed", "--help", COLUMNS="120").stdout


def test_a_hidden_option_works() -> None:
    done = cytosae("run", "x", "--study", "y", "--relaxation", "-1", check=False)
    assert_user_error(done, "--relaxation -1.0: must be at least 0")


def test_help_of_all_commands_can_be_shown_whole() -> None:
    command = typer.main.get_command(app)
    show_all(command)
    run = command.commands["run"]  # type: ignore[attr-defined]
    assert {one.name: one.hidden for one in run.params if one.name in ("layer", "revival")} == {
        "layer": False,
        "revival": True,
    }
