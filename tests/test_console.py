"""Progress in a log file, where each line has to make sense alone."""

from __future__ import annotations

import pytest

from cytosae import console


def test_a_total_that_is_not_known_yet_is_not_shown(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(console, "_PLAIN_EVERY", 0.0)
    with console.progress("export", 0, "files") as bar:
        bar.to(135)
        bar.resize(200)
        bar.to(150)
    first, second = capsys.readouterr().err.splitlines()
    assert first.startswith("export: 135 files, ")
    assert "left" not in first
    assert second.startswith("export: 150/200 files, ")
    assert second.endswith(" left")
