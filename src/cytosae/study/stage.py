"""A stage: when it has to be made again, and what makes it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cytosae.artefacts import COMMANDS, Manifest, remove_left_behind
from cytosae.console import say

NOT_MADE = "not made yet"
"""Why a stage has to be made that is not there."""


@dataclass(frozen=True)
class Stage:
    """Something in a folder that follows from parameters and inputs, and is made again where these are others.

    Attributes
    ----------
    name
        Name of the stage; its version is `cytosae.artefacts.VERSIONS`'.
    folder
        Where it leaves its files and their manifest.
    parameters, inputs
        What the files follow from: settings, and digests of what they were made of.
    make
        Makes it and gives its figures.
    clean
        Removes what is needed only until the stage has ended; it was killed just before that if anything is left.
    defaults
        Of the parameters: one that an earlier version did not record counts as having been this, see `Manifest.why_stale`.
    """

    name: str
    folder: Path
    parameters: Mapping[str, Any]
    inputs: Mapping[str, str]
    make: Callable[[], Mapping[str, Any]]
    defaults: Mapping[str, Any] | None = None
    clean: Callable[[], None] = lambda: None

    def why_stale(self) -> str | None:
        """Why it has to be made; None if it is up to date."""
        manifest = Manifest.load(self.folder)
        if manifest is None:
            return NOT_MADE
        return manifest.why_stale(self.folder, self.parameters, self.inputs, self.defaults)

    def update(self) -> dict[str, Any]:
        """Make it where it is not up to date, and say so; its figures, with ``skipped`` and ``why`` it was not."""
        reason = self.why_stale()
        say_due(self.name, reason)
        if reason:
            return with_reason(self.make(), reason)
        remove_left_behind(self.folder)
        self.clean()
        manifest = Manifest.load(self.folder)
        assert manifest is not None
        for log in manifest.changed_logs(self.folder):
            path = self.folder / log
            say(f"{self.name}: {path} is missing or was changed since; only running the stage again can restore it")
        return with_reason(manifest.summary, None)


def say_due(name: str, reason: str | None) -> None:
    """Say whether a stage is made now and why; of one that is not there yet, which command makes it alone, if one does."""
    command = COMMANDS.get(name, name)
    alone = f": made now, as `cytosae {command}` does" if reason == NOT_MADE and command != "run" else ""
    say(f"{name}: {reason or 'up to date'}{alone}")


def with_reason(figures: Mapping[str, Any], reason: str | None) -> dict[str, Any]:
    """Figures of a stage with ``skipped`` and ``why`` it was not."""
    return {**figures, "skipped": reason is None, "why": reason}
