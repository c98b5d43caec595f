"""The first stage: the cells of a source, compared with those that were listed before."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import pandas as pd

from cytosae.artefacts import make_folder, refuse_foreign, whole_file
from cytosae.cells import (
    Listing,
    check_source,
    difference,
    is_listing,
    list_cells,
    read_cells,
    rejected_path,
    with_frames,
    write_listing,
)
from cytosae.console import progress, say
from cytosae.errors import CytosaeError
from cytosae.settings import FrameConfig, ImageConfig, to_stored


def check_wish(source: Path) -> None:
    """Refuse a source that `rendered` and `look_at` would refuse at first sight, before a backbone is loaded for it.

    Raises
    ------
    CytosaeError
        No such file or folder, or a wish for a cohort that cannot be drawn.

    Notes
    -----
    No example: needs a study; `cytosae run` runs it.
    """
    kind, colon, wish = str(source).partition(":")
    if kind == "synthetic" and colon:
        from cytosae.synthetic import CohortSpec

        CohortSpec.parse(wish)
    else:
        check_source(source)


def rendered(source: Path, folder: Path) -> Path:
    """Draw the cohort of a source ``synthetic:patients=60,cells=40,seed=0`` into `folder`; its table takes its place.

    Any other source is returned as it is. Cells that are there already are not drawn again.

    No example: needs a study; `cytosae run` runs it.
    """
    kind, colon, wish = str(source).partition(":")
    if kind != "synthetic" or not colon:
        return source
    from cytosae.synthetic import CohortSpec, is_cohort_table, write_cohort  # half a second that only this needs

    spec = CohortSpec.parse(wish)
    path = folder / "cohort.csv"
    refuse_foreign(path, "cells", is_cohort_table)
    make_folder(folder)
    with progress("drawing", 1, "cells") as bar:

        def show(done: int, total: int) -> None:
            bar.resize(total)
            bar.to(done)

        table = write_cohort(spec, folder, show)
    with whole_file(path) as temporary:
        table.to_csv(temporary, index=False)
    return path


def refuse_drawing_over(source: Path, study: Path) -> None:
    """Raise a `CytosaeError` if `source` is drawn and `study` holds cells that were not, before minutes of drawing.

    No example: needs a study; `cytosae run` runs it.
    """
    table = study / "cells.parquet"
    if str(source).startswith("synthetic:") and table.exists() and not (study / "cohort" / "cohort.csv").exists():
        first = read_cells(table)["path"].iloc[0]
        raise CytosaeError(
            f"{study}: holds cells that were not drawn (first: {first}). Nothing was changed. Choose another folder with "
            "--study. To replace these cells, add --drop-missing."
        )


@dataclass(frozen=True)
class Listed:
    """The cells of a source as they are now, beside the table of the last listing."""

    source: Path
    target: Path
    settings: Mapping[str, Any]
    """Columns, scaling and strictness of the listing, for the table."""
    listing: Listing
    previous: pd.DataFrame | None

    @property
    def cells(self) -> pd.DataFrame:
        """The cells that can be read."""
        return self.listing.cells

    @cached_property
    def reason(self) -> str | None:
        """What is new in the table; None if nothing is."""
        return "not listed yet" if self.previous is None else difference(self.previous, self.cells)

    def refuse_vanished(self) -> None:
        """Raise a `CytosaeError` if cells of the last listing are not there any more."""
        if self.previous is None:
            return
        gone = self.previous[~self.previous["cell_id"].isin(self.cells["cell_id"])]
        if gone.empty:
            return
        first = gone.iloc[0]
        reasons = dict(zip(self.listing.rejected["cell_id"], self.listing.rejected["reason"], strict=True))
        why = reasons.get(first["cell_id"], "not listed any more")
        raise CytosaeError(
            f"{self.source}: {len(gone):,} of the {len(self.previous):,} cells in {self.target} are gone (first: "
            f"{first['path']}: {why}). Nothing was changed. If a disk is not connected or a folder was renamed, put it back "
            "and repeat the command. For other cells, choose another folder for the study or the table. To go on without "
            "the missing cells, add --drop-missing."
        )

    def write(self) -> dict[str, Any]:
        """Write the table, and the cells left out into ``<name>.rejected.csv`` beside it; the figures of the stage."""
        provenance = {"source": f"{self.source}", **self.settings}
        write_listing(self.listing, self.target, provenance, renew=bool(self.reason or self.listing.inspected))
        if len(self.listing.rejected):
            reasons = ", ".join(f"{count:,} {reason}" for reason, count in self.listing.reasons().items())
            say(f"cells: {len(self.listing.rejected):,} left out ({reasons}), see {rejected_path(self.target)}")
        if len(ignored := self.listing.ignored_profiles):
            first = ignored.iloc[0]
            say(
                f"cells: {len(ignored):,} have a broken ICC profile; the first is {first['path']}: {first['file_note']}"
            )
        say(f"cells: {self.reason}" if self.reason else "cells: up to date")
        return {**self.listing.summary(), "skipped": self.reason is None, "why": self.reason}


def look_at(
    source: Path,
    target: Path,
    *,
    columns: Mapping[str, str] | None = None,
    strict: bool = False,
    drop_missing: bool = False,
    images: ImageConfig | None = None,
    framing: FrameConfig | None = None,
) -> Listed:
    """List the cells of a source, and compare them with the table `target`; nothing is written.

    Files that have not changed since the table was last written are not opened again.

    Raises
    ------
    CytosaeError
        Cells of the table are gone, and `drop_missing` does not say that they may be; what `list_cells` raises.

    Notes
    -----
    No example: needs a study; `cytosae run` runs it.
    """
    refuse_foreign(target, "cells", is_listing)
    intensity = images.intensity if images else None
    previous = _previous(target)
    with progress("cells", 1, "cells") as bar:

        def show(done: int, total: int) -> None:
            bar.resize(total)
            bar.to(done)

        listing = list_cells(
            source, columns=columns, strict=strict, intensity=intensity, previous=previous, on_progress=show
        )
        framing = framing or FrameConfig()
        framed, remarks = with_frames(listing.cells, framing, previous, on_progress=show)
    listing = replace(listing, cells=framed, remarks=(*listing.remarks, *remarks))
    for remark in listing.remarks:
        say(f"cells: {remark}")
    settings = {"columns": dict(columns or {}), "strict": strict, "intensity": intensity}
    settings |= {} if framing.rule is None else {"framing": to_stored(framing)}
    listed = Listed(source, target, settings, listing, previous)
    if not drop_missing:
        listed.refuse_vanished()
    return listed


def list_to(
    source: Path,
    target: Path,
    *,
    columns: Mapping[str, str] | None = None,
    strict: bool = False,
    drop_missing: bool = False,
    images: ImageConfig | None = None,
    framing: FrameConfig | None = None,
) -> tuple[pd.DataFrame, dict[str, Any]]:
    """List the cells of a source into a table, and those left out beside it; see `look_at` and `Listed.write`.

    No example: needs a study; `cytosae run` runs it.
    """
    make_folder(target.parent)
    listed = look_at(
        source, target, columns=columns, strict=strict, drop_missing=drop_missing, images=images, framing=framing
    )
    return listed.cells, listed.write()


def _previous(target: Path) -> pd.DataFrame | None:
    if not target.is_file():
        return None
    try:
        return read_cells(target)
    except CytosaeError:
        return None  # an older table: it is replaced
