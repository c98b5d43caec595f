"""``cytosae refine``: a short further training in which what experts said counts."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from cytosae.cli.answers import Json, answer
from cytosae.cli.options import Commands, Device, with_settings
from cytosae.settings import RefineConfig

refining_app = Commands()


@refining_app.command()
@with_settings
def refine(
    study: Annotated[Path, typer.Argument(help="Folder of a study.")],
    settings: RefineConfig,
    merge: Annotated[
        list[str],
        typer.Option(
            "--merge", metavar="A,B", help="Two latents that are the same, by number or name. Can be repeated."
        ),
    ] = [],  # noqa: B006
    split: Annotated[
        list[str],
        typer.Option("--split", metavar="N", help="A latent that is two things, by number or name. Can be repeated."),
    ] = [],  # noqa: B006
    output: Annotated[
        Path | None,
        typer.Option("--output", "-o", help="Folder of the refined autoencoder; 'refined' in the study if left out."),
    ] = None,
    yes: Annotated[bool, typer.Option("--yes", help="Train. Without it, only show what would be done.")] = False,
    no_control: Annotated[
        bool, typer.Option("--no-control", help="Skip the comparison with a plain further training of the same length.")
    ] = False,
    no_patients: Annotated[bool, typer.Option("--no-patients", help="Skip the comparison of the diagnoses.")] = False,
    device: Device = "auto",
    as_json: Json = False,
) -> None:
    """Refine the dictionary of a study: meaningful latents stay near their directions, artefacts start again, taught
    concepts become latents that reconstruct, latents are merged or split.

    The study stays unchanged. The refined autoencoder is a new one, with a comparison; `cytosae run CELLS --study NEW
    --sae FOLDER` makes a study with it. Without --yes nothing is trained.
    """
    from cytosae.analysis import refine_study

    result = refine_study(
        study,
        output,
        settings,
        merge=merge,
        split=split,
        apply=yes,
        control=not no_control,
        patients=not no_patients,
        device=device,
    )
    answer(result if as_json else _lines(result), as_json)


def _lines(result: dict[str, Any]) -> dict[str, Any]:
    asked = result["asked"]
    lines: dict[str, Any] = {
        "stay near their directions": f"{len(asked['meaningful'])} meaningful latents",
        "begin anew": f"{len(asked['artefacts'])} artefacts",
        "are kept as a block that barcodes can leave out": f"{len(asked['block'])} artefacts",
    }
    lines |= {f"merge {a}, {b}": f"{a} becomes both, {b} begins anew" for a, b in asked["merge"]}
    for latent, one in result["halves"].items():
        patches, cells = (" and ".join(f"{n:,}" for n in one[key]) for key in ("patches", "cells"))
        lines[f"split {latent}"] = f"{patches} patches in {cells} cells, {one['explained']:.0%} of the variance between"
    lines |= {
        f"teach {name}": ", ".join(f"{n} {k}" for k, n in marks.items()) for name, marks in asked["taught"].items()
    }
    if result["drawn"]:
        lines["drawn"] = ", ".join(result["drawn"])
    if not result["applied"]:
        return {**lines, "nothing changed": "look at it, then add --yes"}
    for name, figures in result["dictionaries"].items():
        lines[f"{name} | explained variance"] = f"{figures['explained_variance']:.3f}, L0 {figures['l0']:.1f}"
    for concept, areas in result["concepts"].items():
        for name, area in areas.items():
            if name != "latents":
                lines[f"{name} | AUROC of {concept}"] = f"{area['value']:.3f} ({area['low']:.3f} to {area['high']:.3f})"
    for name, one in (result["patients"] or {}).items():
        gain = f", {one['gain']:+.3f} ({one['gain_low']:+.3f} to {one['gain_high']:+.3f})" if one["gain"] else ""
        lines[f"{name} | weighted F1"] = f"{one['value']:.3f} ({one['low']:.3f} to {one['high']:.3f}){gain}"
    return {**lines, "folder": result["folder"]}
