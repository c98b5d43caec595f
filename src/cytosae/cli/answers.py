"""What a command says at its end: its figures, for a reader or as JSON for a program."""

from __future__ import annotations

import json
from typing import Annotated, Any

import typer

from cytosae.artefacts import without_nan

Json = Annotated[bool, typer.Option("--json", help="Print one JSON object with all figures at the end.")]


def answer(figures: dict[str, Any], as_json: bool, words: str = "") -> None:
    """Print the figures of a command: one JSON object, or a line each and what they show in words."""
    if as_json:
        print(json.dumps(without_nan(figures)))
        return
    for name, value in _flat("", figures):
        print(f"{name:<36}  {value}")
    if words:
        print(f"\n{words}")


def _flat(prefix: str, figures: dict[str, Any]) -> list[tuple[str, str]]:
    lines = []
    for name, value in figures.items():
        if isinstance(value, dict):
            lines += _flat(f"{prefix}{name}.", value)
        elif value is not None:
            shown = f"{value:,.4g}" if isinstance(value, float) else f"{value:,}" if type(value) is int else str(value)
            lines.append((prefix + name, shown))
    return lines


def with_interval(row: dict[str, Any]) -> str:
    """A figure with its interval, where it has one."""
    value, low, high = (row[key] for key in ("value", "low", "high"))
    if value is None:
        return "-"
    return f"{value:.4g}" if low is None else f"{value:.4g} ({low:.4g} to {high:.4g})"
