"""The campaign of docs/explanation/reliability.md in short: each part, a few times."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from support.paths import ROOT, importing_from

pytest.importorskip("fastapi")

PARTS = ("kills", "damage", "inputs", "hostile", "judgements", "disk", "permissions")


def test_nothing_is_lost_and_nothing_is_accepted_without_a_word(tmp_path: Path) -> None:
    """In a process of its own, which forks the studies that it kills."""
    command = [sys.executable, "-m", "benchmarks.endurance", *PARTS, "--short", "--output", str(tmp_path / "e.json")]
    environment = {**os.environ, "PYTHONPATH": importing_from(ROOT)}
    done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, env=environment, check=False)
    assert (tmp_path / "e.json").is_file(), done.stderr[-3000:]
    outcomes = json.loads((tmp_path / "e.json").read_text(encoding="utf-8"))
    assert {part: outcome["faults"] for part, outcome in outcomes.items()} == {part: [] for part in PARTS}
    assert [part for part in PARTS if not outcomes[part]["tried"] and part != "permissions"] == []
