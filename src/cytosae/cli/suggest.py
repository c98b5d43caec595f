"""``cytosae suggest``: lambda (or k) and expansion for the tokens at hand, and what the training will cost."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from cytosae.cli.answers import Json, answer
from cytosae.cli.options import Commands, with_settings
from cytosae.settings import TrainConfig

suggest_app = Commands()


@suggest_app.command()
@with_settings(preset="recommended")
def suggest(
    tokens: Annotated[Path, typer.Argument(help="Folder made by `cytosae embed`.")],
    planned: TrainConfig,
    l0: Annotated[
        float | None,
        typer.Option(
            "--l0", help="Active latents of a token that you want. Default: the k of the preset; with lambda, 64."
        ),
    ] = None,
    concepts: Annotated[
        int | None, typer.Option(help="Number of concepts that you want; it determines the expansion.")
    ] = None,
    as_json: Json = False,
) -> None:
    """Suggest an expansion, and a lambda or k, for the sparsity that you want, from short trainings on some tokens.

    It trains a few narrow autoencoders for about a minute. Give the options of the training that you plan: --expansion
    is the largest choice, beside half and a quarter of it. With --preset paper lambda is suggested, and the L0 for your
    --l1 is predicted too.
    """
    from cytosae.analysis import suggest as make_suggestion
    from cytosae.tokens import TokenStore

    result = make_suggestion(TokenStore(tokens), planned, l0, concepts=concepts)
    if as_json:
        answer(result, as_json)
    else:
        print("\n".join(_page(result, planned)))


def _page(result: dict[str, Any], planned: TrainConfig) -> list[str]:
    rows, about = result["expansions"], result["tokens"]
    table = [
        ("expansion", [f"{row['expansion']}" for row in rows]),
        ("latents", [f"{row['n_latents']:,}" for row in rows]),
        *(_lambda(result, planned) if "l1" in rows[0] else [("k", [f"{row['k']}" for row in rows])]),
        ("explained variance", [f"{row['explained_variance']:.3f}" for row in rows]),
        ("concepts, about", [f"{row['concepts']:,}" for row in rows]),
        ("training", [_time(row["train_seconds"]) for row in rows]),
        ("encoding these cells", [_time(row["encode_seconds"]) for row in rows]),
        ("peak memory", [f"{row['memory_bytes'] / 2**30:.1f} GiB" for row in rows]),
    ]
    lines = [f"{name:<24}" + "".join(f"{value:>14}" for value in values) for name, values in table]
    lines += ["", f"tokens on disk           {result['disk_bytes'] / 2**30:.2f} GiB", ""]
    lines += [
        *_describe_tokens(about),
        "",
        f"suggested: expansion {result['suggested']['expansion']} ({result['suggested']['why']})",
    ]
    return [*lines, result["command"]]


def _lambda(result: dict[str, Any], planned: TrainConfig) -> list[tuple[str, list[str]]]:
    rows = result["expansions"]
    return [
        (f"lambda for L0 {result['wanted_l0']:g}", [f"{row['l1']:.2g}" for row in rows]),
        ("  from", [f"{row['l1_low']:.2g}" for row in rows]),
        ("  to", [f"{row['l1_high']:.2g}" for row in rows]),
        (f"L0 at --l1 {planned.l1:g}", [_maybe(row["l0_of_planned_l1"], ".3g") for row in rows]),
    ]


def _describe_tokens(about: dict[str, Any]) -> list[str]:
    """What the tokens are like, in sentences; oddities only where there are any."""
    lines = [
        f"mean to spread of the tokens: {about['mean_to_spread']:.3g}; from the geometric median "
        f"{about['mean_to_spread_centred']:.3g}",
        f"latents that never fired in the first steps: {about['never_fired_uncentred']:.1%} with b_dec at zero, "
        f"{about['never_fired_centred']:.1%} at the geometric median"
        + (": centring helps" if about["centring_helps"] else ": centring makes no difference"),
        f"norm of a patch: {about['patch_norm']:.3g} (median), the largest {about['largest_norm']:.2g} times as much",
    ]
    if about["cls_norm"] is not None:
        lines.append(f"norm of CLS: {about['cls_norm']:.2g} times a patch's")
    if about["outliers"] > 0:
        lines.append(f"outliers: {about['outliers']:.2%} of the patches have three times the median norm or more")
    if about["constant"]:
        lines.append(f"constant dimensions: {len(about['constant'])} ({', '.join(map(str, about['constant'][:8]))})")
    if about["dominant_share"] > 0.25:
        lines.append(f"dimension {about['dominant_dimension']} has {about['dominant_share']:.0%} of the squared norm")
    if about["clipped"]:
        lines.append(f"clipped: {about['clipped']:,} values are as large as float16 can hold")
    return lines


def _maybe(value: float | None, form: str) -> str:
    return "-" if value is None else format(value, form)


def _time(seconds: float) -> str:
    for unit, length in (("d", 86_400), ("h", 3600), ("min", 60)):
        if seconds >= 1.5 * length:
            return f"{seconds / length:.1f} {unit}"
    return f"{seconds:.0f} s"
