"""Public functions of the documented packages: a runnable example in the docstring, or the reason why there is none."""

from __future__ import annotations

import doctest
import importlib
import inspect
import re
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from support.paths import ROOT

PACKAGES = re.findall(r'^    "(\w+)": "', (ROOT / "docs" / "hooks.py").read_text(encoding="utf-8"), re.MULTILINE)
NO_EXAMPLE = re.compile(r"No example: \w+ .*\w", re.DOTALL)


def public_functions(package: str) -> Iterator[tuple[str, Callable[..., Any]]]:
    """Names and functions that a package offers."""
    module = importlib.import_module(f"cytosae.{package}")
    for name in sorted(set(getattr(module, "__all__", dir(module)))):
        offered = getattr(module, name)
        if inspect.isfunction(inspect.unwrap(offered)) and offered.__module__.startswith("cytosae"):
            yield name, inspect.unwrap(offered)


@pytest.mark.parametrize("package", PACKAGES)
def test_examples_of_public_functions(package: str) -> None:
    functions = dict(public_functions(package))
    assert functions
    silent, attempted, failed = [], 0, []
    for name, function in functions.items():
        text, module = inspect.getdoc(function) or "", sys.modules[function.__module__]
        if ">>>" not in text:
            if not NO_EXAMPLE.search(text) and not NO_EXAMPLE.search(module.__doc__ or ""):
                silent.append(name)
            continue
        report: list[str] = []
        runner = doctest.DocTestRunner(verbose=False, optionflags=doctest.NORMALIZE_WHITESPACE)
        for case in doctest.DocTestFinder(recurse=False).find(function, name, globs=dict(vars(module))):
            runner.run(case, out=report.append)
        attempted += runner.tries
        failed += [f"{name}: {' '.join(report)}"] if runner.failures else []
    assert not silent, f"cytosae.{package}: no example, and no reason: {', '.join(silent)}"
    assert not failed, "\n".join(failed)
    if package in {"backbones", "cells", "tokens", "sae", "concepts", "cohort", "report"}:
        assert attempted, "no example was run"


def test_the_documented_packages_are_those_of_the_site() -> None:
    assert {"cells", "sae", "concepts", "cohort", "analysis"} <= set(PACKAGES)
    pages = (ROOT / "mkdocs.yml").read_text(encoding="utf-8")
    assert all(f"reference/api/{package}.md" in pages for package in PACKAGES)
    assert Path(ROOT, "docs").is_dir()
