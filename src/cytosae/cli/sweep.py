"""``cytosae sweep``: many autoencoders on the cells of one study, trained together, and one table of them."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from cytosae.cli.answers import Json, answer
from cytosae.cli.options import CheckpointSeconds, Commands, Restart, with_settings
from cytosae.settings import CONCEPT_THRESHOLD, EncodeConfig, EvaluateConfig

sweep_app = Commands()


@sweep_app.command()
@with_settings
def sweep(
    spec: Annotated[
        Path, typer.Argument(help="YAML file: base, vary, grid, list, seeds, thresholds (docs/how-to/sweeps.md).")
    ],
    encoding: EncodeConfig,
    evaluation: EvaluateConfig,
    study: Annotated[Path, typer.Option("--study", help="Folder of the study with the cells and the backbone.")],
    output: Annotated[
        Path | None, typer.Option("--output", "-o", help="Folder of the sweep; by default sweep/ in the study.")
    ] = None,
    evaluate: Annotated[bool, typer.Option("--evaluate", help="Also the measures of `cytosae evaluate`.")] = False,
    attributes: Annotated[
        Path | None, typer.Option("--attributes", help="Table of expert attributes, for --evaluate.")
    ] = None,
    checkpoint_seconds: CheckpointSeconds = 300.0,
    restart: Restart = False,
    device: Annotated[str, typer.Option("--device", help="auto, cpu, cuda, ...")] = "auto",
    as_json: Json = False,
) -> None:
    """Train autoencoders of many settings and seeds over one stream of tokens, and compare them in one table.

    Each equals that of `cytosae train` with the same settings. What is up to date is skipped; Ctrl-C writes a
    checkpoint of each, and the same command resumes.
    """
    from cytosae.errors import CytosaeError
    from cytosae.sweeps import Sweep, read_spec
    from cytosae.sweeps import sweep as run

    if attributes is not None and not evaluate:
        raise CytosaeError("--attributes: is for the measures of --evaluate; give both or none.")
    plan = Sweep((output or study / "sweep").absolute(), study.absolute(), read_spec(spec), device)
    result = run(
        plan,
        encoding,
        evaluation=evaluation if evaluate else None,
        attributes=attributes,
        checkpoint_seconds=checkpoint_seconds,
        restart=restart,
    )
    if as_json:
        answer(result, as_json)
        return
    lines = {f"{row['setting']} | {row['dataset']}": _line(row) for row in result["settings"]}
    answer({**lines, **result["diverged"], "table": result["table"], "page": result["page"]}, as_json)


def _line(row: dict[str, object]) -> str:
    fields = [f"{row['trainings']} trained"]
    concepts = f"concepts_at_{CONCEPT_THRESHOLD:g}"
    for name, shown in ((concepts, "concepts"), ("l0", "L0"), ("explained_variance", "EV"), ("dead", "dead")):
        value = row.get(name)
        if isinstance(value, float):
            fields.append(f"{shown} {value:,.3g}")
    return ", ".join(fields)
