"""The page on installation has every dependency and every extra, and no others."""

from __future__ import annotations

import re
import tomllib

from packaging.requirements import Requirement

from support.paths import ROOT

PAGE = (ROOT / "docs" / "how-to" / "install.md").read_text(encoding="utf-8")
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]


def rows(heading: str) -> list[str]:
    """First column of the table below a heading."""
    section = PAGE.split(f"## {heading}\n")[1].split("\n## ")[0]
    return re.findall(r"^\| `?([\w-]+)`? \|", section, flags=re.MULTILINE)[1:]


def test_every_dependency_has_a_reason() -> None:
    assert rows("Dependencies") == [Requirement(line).name for line in PROJECT["dependencies"]]


def test_every_extra_says_what_it_is_for() -> None:
    assert sorted(rows("Extras")) == sorted(PROJECT["optional-dependencies"])
