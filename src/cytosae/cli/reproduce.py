"""``cytosae reproduce``: the paper's experiments, planned, run, and laid beside what it reports."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from cytosae.cli.answers import Json, answer
from cytosae.cli.options import Commands, DropMissing, Restart, with_settings
from cytosae.settings import BackboneConfig, EncodeConfig, TrainConfig

reproduce_app = Commands(urls=False)


@reproduce_app.command()
@with_settings
def reproduce(
    folder: Annotated[Path, typer.Argument(help="Where everything goes.")],
    backbone: BackboneConfig,
    training: TrainConfig,
    encoding: EncodeConfig,
    data: Annotated[
        Path,
        typer.Option(
            "--data",
            help="Folder with a folder for each data set: mll23, acevedo, matek19, bmc, hehr, as downloaded or prepared.",
        ),
    ],
    seeds: Annotated[int, typer.Option(min=1, help="Trainings of every setting.")] = 3,
    no_ablation: Annotated[bool, typer.Option("--no-ablation", help="Leave out what section 3.4 varies.")] = False,
    sae: Annotated[
        Path | None,
        typer.Option(
            "--sae", help="Autoencoder for the study instead of a newly trained one, such as the released one."
        ),
    ] = None,
    store: Annotated[
        bool, typer.Option("--store", help="Keep the tokens of all data sets, for the baselines made of tokens.")
    ] = False,
    only: Annotated[
        list[str],
        typer.Option("--only", help="A step, or the first word of several; with what it needs. Can be repeated."),
    ] = [],  # noqa: B006
    restart: Restart = False,
    drop_missing: DropMissing = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Print the plan, run nothing.")] = False,
    as_json: Json = False,
) -> None:
    """Reproduce the paper: five data sets, three seeds, the ablation, tables and figures 2 to 5.

    Missing data are named, and the rest is run. You can stop it at any time; the same command resumes. The paper's
    backbone is --backbone dinobloom-b; the plan's times are measured on a few images on this machine.
    """
    from cytosae.reproduction import Recipe, planned
    from cytosae.reproduction import reproduce as run

    recipe = Recipe(
        folder.absolute(), data, backbone, training, encoding, seeds, not no_ablation, sae, store, restart, drop_missing
    )
    if not dry_run:
        result = run(recipe, only)
        lines = {"done": len(result["done"]), **result["left_out"], **result["obtained"]}
        answer(result if as_json else {**lines, "table": result["table"], "page": result["page"]}, as_json)
        return
    plan = planned(recipe, only)
    if as_json:
        answer(plan, as_json)
        return
    totals = {"what can be run": _time(plan["seconds"]), "all of it": _time(plan["seconds_of_all"])}
    answer({**_lines(plan["steps"]), **totals, "measured on": plan["measured_on"]}, as_json)


def _lines(steps: list[dict[str, Any]]) -> dict[str, str]:
    """A line for each step, the seeds of a setting together."""
    groups: dict[str, list[dict[str, Any]]] = {}
    for one in steps:
        name = one["name"]
        groups.setdefault(name.rsplit("-", 1)[0] if name.startswith(("train ", "concepts ")) else name, []).append(one)
    return {name: _line(group) for name, group in groups.items()}


def _line(steps: list[dict[str, Any]]) -> str:
    states = ", ".join(dict.fromkeys(one["state"] for one in steps))
    seconds = [one["seconds"] for one in steps if one["seconds"] is not None]
    fields = [steps[0]["of"], states, _time(sum(seconds)) if seconds else "", steps[0]["why"] or ""]
    return " | ".join(
        [*fields[:1], *(f"{len(steps)} seeds" for _ in steps[1:2]), *(field for field in fields[1:] if field)]
    )


def _time(seconds: float) -> str:
    for unit, length in (("days", 86_400), ("hours", 3600), ("minutes", 60)):
        if seconds >= 1.5 * length:
            return f"{seconds / length:.1f} {unit}"
    return f"{seconds:.0f} seconds"
