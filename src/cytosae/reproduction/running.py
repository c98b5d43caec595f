"""Plan the recipe, run what can be run, and say what is missing."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

from cytosae.console import say
from cytosae.errors import CytosaeError
from cytosae.reproduction.cost import estimate_seconds, units
from cytosae.reproduction.paper import DATASETS
from cytosae.reproduction.recipe import Recipe
from cytosae.reproduction.steps import Step, steps
from cytosae.reproduction.table import claim_results, write_results


def planned(recipe: Recipe, only: Collection[str] = ()) -> dict[str, Any]:
    """What would be run: every step with what it needs, what it lacks, and how long it takes here.

    Parameters
    ----------
    recipe
        The recipe.
    only
        Steps, or first words of steps such as ``train``; all if empty. What they need is planned too.

    Returns
    -------
    ``steps``, each with ``name``, ``of``, ``needs``, ``state`` (``done``, ``ready``, ``lacks`` something, or ``waits`` for a
    step that does), ``why`` and ``seconds``; ``seconds`` of what can be run, ``seconds_of_all`` with what cannot yet be;
    ``measured_on``, what times are measured on.
    """
    chosen = _chosen(steps(recipe), only)
    lacking = _lacking(chosen)
    seconds, measured_on = units(recipe, chosen)
    plan = []
    for one in chosen:
        state = "done" if one.done else "lacks" if one.lacks else "waits" if one.name in lacking else "ready"
        took = None if one.done else estimate_seconds(one, seconds)
        why = lacking.get(one.name)
        plan.append(
            {"name": one.name, "of": one.section, "needs": list(one.needs), "state": state, "why": why, "seconds": took}
        )
    return {
        "steps": plan,
        "seconds": sum(one["seconds"] or 0 for one in plan if one["state"] == "ready"),
        "seconds_of_all": sum(one["seconds"] or 0 for one in plan),
        "measured_on": measured_on,
    }


def reproduce(recipe: Recipe, only: Collection[str] = ()) -> dict[str, Any]:
    """Run every step that can be run, and write the table of what the paper reports beside what came out.

    A step that is up to date does nothing, and one that was stopped goes on where it was. Where a step fails, those
    that need it are left out and the others run.

    Returns
    -------
    ``done``, names of the steps that ran; ``left_out``, why, by step; and the files of `write_results`.

    Raises
    ------
    CytosaeError
        None of the data sets is there, and nothing was made of them before.
    """
    if not recipe.study.exists() and not any((recipe.data / name).is_dir() for name in DATASETS):
        raise CytosaeError(
            f"--data {recipe.data}: holds none of the folders {', '.join(DATASETS)}. `cytosae datasets info NAME` says "
            "where each comes from."
        )
    claim_results(recipe)
    chosen = _chosen(steps(recipe), only)
    failed: dict[str, str] = {}
    done: list[str] = []
    names = {one.name for one in chosen}
    for number, one in enumerate(chosen, 1):
        lacking = one.lacks or next((f"needs {name!r}" for name in one.needs if name in failed), None)
        if lacking is None:
            say(f"[{number} of {len(chosen)}] {one.name}")
            try:
                one.run(names)
                done.append(one.name)
                continue
            except CytosaeError as error:
                lacking = str(error)
        failed[one.name] = lacking
        say(f"[{number} of {len(chosen)}] {one.name}: left out: {lacking}")
    return {"done": done, "left_out": failed, **write_results(recipe)}


def _chosen(all_steps: list[Step], only: Collection[str]) -> list[Step]:
    """The wanted steps and, before them, all that they need."""
    if not only:
        return all_steps
    known = {one.name: one for one in all_steps}
    wanted = {name for name in known if name in only or name.split()[0] in only}
    if unknown := sorted(set(only) - {name.split()[0] for name in known} - set(known)):
        raise CytosaeError(f"--only {unknown[0]}: no such step; there are {', '.join(_kinds(all_steps))}.")
    while more := {name for one in wanted for name in known[one].needs} - wanted:
        wanted |= more
    return [one for one in all_steps if one.name in wanted]


def _kinds(all_steps: list[Step]) -> list[str]:
    return list(dict.fromkeys(one.name.split()[0] for one in all_steps))


def _lacking(chosen: list[Step]) -> dict[str, str]:
    """Steps that cannot be run, and why."""
    lacking: dict[str, str] = {}
    for one in chosen:
        why = one.lacks or next((f"needs {name!r}" for name in one.needs if name in lacking), None)
        if why is not None and not one.done:
            lacking[one.name] = why
    return lacking
