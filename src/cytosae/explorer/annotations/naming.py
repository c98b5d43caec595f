"""The name that raters agree on for each latent, and its way back into the concepts of the study."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cytosae.concepts import ANNOTATION, NAMES, VERDICT
from cytosae.errors import CytosaeError
from cytosae.explorer.annotations import schemas
from cytosae.explorer.annotations.agreement import VERDICTS

if TYPE_CHECKING:
    import pandas as pd


def agreed_names(annotations: Iterable[schemas.Annotation], *, asking: str | None = None) -> dict[int, schemas.Named]:
    """What the raters call each latent, over all data sets and worklists, by latent.

    Each rater counts once, with the latest name and the latest verdict that the rater gave. The most frequent name
    wins, of equally frequent ones that which was given first; case and spaces make no difference. With a rater who is
    `asking`, the rater's own name is given beside it.
    """
    names: dict[int, dict[str, schemas.Annotation]] = {}
    verdicts: dict[int, dict[str, schemas.Annotation]] = {}
    for annotation in annotations:
        for given, by_latent in ((annotation.name, names), (annotation.verdict, verdicts)):
            if given:
                latest = by_latent.setdefault(annotation.latent, {})
                before = latest.get(annotation.rater)
                if before is None or annotation.updated >= before.updated:
                    latest[annotation.rater] = annotation
    return {
        latent: schemas.Named(
            name=next((one.name for one in given_names(names.get(latent, {}).values())), ""),
            own=names[latent][asking].name if asking and asking in names.get(latent, {}) else "",
            given=given_names(names.get(latent, {}).values()),
            raters=len({*names.get(latent, {}), *verdicts.get(latent, {})}),
            verdicts=_counted(verdicts.get(latent, {}).values()),
        )
        for latent in sorted({*names, *verdicts})
    }


def agreed_verdict(named: schemas.Named) -> str:
    """The verdict that more than half of the raters gave, or an empty text."""
    total = sum(named.verdicts.values())
    return next((verdict for verdict, count in named.verdicts.items() if 2 * count > total), "")


def name_latents(study: Path, names: Mapping[int, schemas.Named]) -> dict[str, int]:
    """Write the agreed names and verdicts into the concepts of a study.

    ``var`` of every ``concepts/<dataset>.h5ad`` gets the columns ``annotation``, ``verdict`` and ``annotation_names``
    (all names with the raters who gave them), missing where there is none; nothing else in the files changes. The
    manifests of the concepts and the barcodes record the new files, so that neither is made again. A file that has
    these names already is not touched.

    Parameters
    ----------
    study
        A folder with finished concepts.
    names
        `agreed_names`.

    Returns
    -------
    Latents with a name and with a verdict, and files that changed.

    Raises
    ------
    CytosaeError
        No finished concepts, a file that is not the one in its manifest, a latent that the autoencoder does not have.
    """
    from cytosae.concepts import add_columns  # imports pandas, which reading annotations does without

    def columns(var: pd.DataFrame, dataset: str) -> Mapping[str, pd.Series[Any]]:
        if beyond := [latent for latent in names if latent >= len(var)]:
            raise CytosaeError(
                f"{study / 'concepts'}: data set {dataset!r} has {len(var)} latents, and there is an annotation of latent "
                f"{beyond[0]}."
            )
        return _columns(var, names)

    changed = add_columns(study, "var", columns)
    return {
        "named": sum(bool(named.name) for named in names.values()),
        "verdicts": sum(bool(agreed_verdict(named)) for named in names.values()),
        "files": changed,
    }


def given_names(annotations: Iterable[schemas.Annotation]) -> list[schemas.GivenName]:
    """The names of annotations with their raters: the most frequent first, of equally frequent ones the older."""
    by_key: dict[str, schemas.GivenName] = {}
    for annotation in sorted(annotations, key=lambda one: one.created):
        if annotation.name:
            key = " ".join(annotation.name.casefold().split())
            named = by_key.setdefault(key, schemas.GivenName(name=annotation.name, raters=[]))
            if annotation.rater not in named.raters:
                named.raters.append(annotation.rater)
    return sorted(by_key.values(), key=lambda named: -len(named.raters))


def as_text(given: Iterable[schemas.GivenName]) -> str:
    """All names in one line: ``Auer rods (Anna, Ben); smear (Cem)``."""
    return "; ".join(f"{named.name} ({', '.join(named.raters)})" for named in given)


def _counted(given: Iterable[schemas.Annotation]) -> dict[schemas.Verdict, int]:
    counts = Counter(annotation.verdict for annotation in given)
    return {verdict: counts[verdict] for verdict in VERDICTS}


def _columns(var: pd.DataFrame, names: Mapping[int, schemas.Named]) -> dict[str, pd.Series[Any]]:
    from cytosae.concepts import text_column

    texts: dict[str, list[str | None]] = {name: [None] * len(var) for name in (ANNOTATION, VERDICT, NAMES)}
    for latent, named in names.items():
        texts[ANNOTATION][latent] = named.name or None
        texts[VERDICT][latent] = agreed_verdict(named) or None
        texts[NAMES][latent] = as_text(named.given) or None
    return {name: text_column(text, var.index, name) for name, text in texts.items()}
