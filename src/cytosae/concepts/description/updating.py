"""Descriptions as a stage of a run: made where concepts or measurements are new, with the settings they were made with.

No example: needs a study whose cells are measured; `cytosae describe` runs it.
"""

from __future__ import annotations

from dataclasses import fields, replace
from pathlib import Path
from typing import Any

from cytosae.artefacts import Manifest, changes, outdated
from cytosae.concepts.description.describing import add_descriptions, describe_concepts
from cytosae.concepts.description.reading import DESCRIPTIONS, description_inputs, read_descriptions
from cytosae.console import say
from cytosae.settings import DescribeConfig, from_stored

_INTO = "concepts"
"""In the summary: the concepts that have the measurements and descriptions."""


def update_descriptions(study: Path) -> dict[str, Any]:
    """Describe the concepts of a study where that is due.

    What `cytosae describe` was given the last time, its settings and its table of expert attributes, is used again.

    Returns
    -------
    ``datasets``: see `describe_concepts`; ``skipped``, and ``why`` it was not.

    Raises
    ------
    CytosaeError
        See `describe_concepts`.
    """
    folder = study / DESCRIPTIONS
    made = Manifest.load(folder)
    reason = "not made yet" if made is None else _why_stale(study, made)
    say(f"describe: {reason or 'up to date'}")
    if reason is None and made is not None:
        if not has_words(study):  # of concepts that were encoded again they are gone
            add_descriptions(study, read_descriptions(study))
            _note_concepts(study)
        return {"datasets": made.summary["datasets"], "skipped": True, "why": None}
    config, attributes = DescribeConfig(), None
    if made is not None:
        known = {spec.name for spec in fields(DescribeConfig)}
        given = from_stored(DescribeConfig, made.parameters)
        config = DescribeConfig(**{name: value for name, value in given.items() if name in known})
        attributes = made.summary.get("attributes")
        if attributes is not None and not Path(attributes).is_file():
            say(f"describe: the table of attributes {attributes} is gone; descriptions do without")
            attributes = None
    figures = describe_concepts(study, config, attributes=None if attributes is None else Path(attributes))
    _note_concepts(study)
    return {"datasets": figures, "skipped": False, "why": reason}


def has_words(study: Path) -> bool:
    """Whether the concepts are those into which measurements and descriptions were written last; reads manifests alone."""
    made, concepts = Manifest.load(study / DESCRIPTIONS), Manifest.load(study / "concepts")
    return made is not None and concepts is not None and made.summary.get(_INTO) == concepts.fingerprint()


def _note_concepts(study: Path) -> None:
    made, concepts = Manifest.load(study / DESCRIPTIONS), Manifest.load(study / "concepts")
    assert made is not None
    assert concepts is not None
    replace(made, summary={**made.summary, _INTO: concepts.fingerprint()}).save(study / DESCRIPTIONS)


def _why_stale(study: Path, made: Manifest) -> str | None:
    """Why descriptions have to be made again; the table of attributes may have gone since."""
    if reason := outdated(DESCRIPTIONS, made.version):
        return reason
    inputs = {name: value for name, value in made.inputs.items() if name != "attributes"}
    if reason := changes("input", inputs, description_inputs(study)):
        return reason
    for name, record in made.outputs.items():
        if not record.matches(study / DESCRIPTIONS / name):
            return f"{name} is missing or was changed"
    return None
