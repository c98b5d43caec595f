"""Something of patients that is no class: a number, such as blasts in per cent, or the time to an event."""

from __future__ import annotations

from dataclasses import dataclass

import anndata as ad
import numpy as np
import pandas as pd
from numpy.typing import NDArray

from cytosae.cohort.folds import Folds, stratified_folds
from cytosae.cohort.task import Patients, patient_column
from cytosae.errors import CytosaeError
from cytosae.settings import ClassifyConfig

CLASSES, NUMBER, SURVIVAL = "classes", "number", "survival"
FEW_VALUES = 10
"""Different numbers up to which a column is taken for classes."""
LEAST = 10
"""Patients with a known value, or with the event, at least."""
_TRUE, _FALSE = {"1", "1.0", "true", "yes"}, {"0", "0.0", "false", "no"}


@dataclass(frozen=True)
class Outcome(Patients):
    """Patients whose number, or time to an event, is known."""

    values: NDArray[np.float64]
    """The number or the time, ``(n_rows,)``."""
    events: NDArray[np.bool_] | None
    """Of times: whether the event was seen at its end (otherwise the patient was followed until then), ``(n_rows,)``."""
    caveats: tuple[str, ...]
    target: str
    """Column of the number or time."""

    @property
    def kind(self) -> str:
        """``number`` or ``survival``."""
        return NUMBER if self.events is None else SURVIVAL

    def groups(self, rows: NDArray[np.int64]) -> NDArray[np.int64]:
        """Groups of some rows that every fold shall have in like shares: fifths of the number, with and without event."""
        if self.events is not None:
            return self.events[rows].astype(np.int64)
        fifths = min(5, max(1, len(rows) // 10))
        return np.asarray(pd.qcut(pd.Series(self.values[rows]).rank(method="first"), fifths, labels=False), np.int64)

    def folds(self, config: ClassifyConfig) -> Folds:
        """Random folds by patient with the groups in like shares."""
        rows = np.arange(len(self.values))
        return stratified_folds(self.groups(rows), self.patients, config.splits, config.repeats, config.seed)


def outcome_kind(data: ad.AnnData, target: str, event: str | None, stated: str = "auto") -> str:
    """Whether a column holds classes, a number or times.

    Parameters
    ----------
    target
        The column.
    event
        Column that says whether a time ended with the event; only survival has one.
    stated
        ``auto`` or the kind that the user states.

    Raises
    ------
    CytosaeError
        No such column; survival without a column of events, or events without survival.

    Notes
    -----
    No example: needs the barcodes of a study; the tutorial *From concepts to a disease* runs it through its command.
    """
    values = pd.Series(patient_column(data, target)).dropna()
    if stated not in ("auto", CLASSES, NUMBER, SURVIVAL):
        raise CytosaeError(f"--kind {stated}: unknown; choose one of auto, {CLASSES}, {NUMBER}, {SURVIVAL}.")
    if stated == SURVIVAL and event is None:
        raise CytosaeError("--kind survival: needs --event, the column that says whether the event was seen.")
    if event is not None:
        if stated not in ("auto", SURVIVAL):
            raise CytosaeError(f"--event {event}: belongs to survival, not to --kind {stated}.")
        return SURVIVAL
    if stated != "auto":
        return stated
    numbers = pd.to_numeric(values, errors="coerce")
    if not len(values) or numbers.nunique() <= FEW_VALUES:
        return CLASSES
    wrong = values[numbers.isna()]
    if 0 < len(wrong) < len(values) / 2:
        raise CytosaeError(
            f"--target {target}: {len(values) - len(wrong)} of {len(values)} values are numbers; {wrong.iloc[0]!r} of "
            f"{wrong.index[0]} is none. Correct it, leave it empty, or say --kind {CLASSES}."
        )
    return NUMBER if wrong.empty else CLASSES


def outcome_task(data: ad.AnnData, target: str, event: str | None = None) -> Outcome:
    """The patients whose number is known, or whose time and event are.

    Raises
    ------
    CytosaeError
        No such column, values that are no numbers, a time that is not positive, an event that is neither yes nor no, fewer
        than ten patients or events, or a number that does not vary.

    Notes
    -----
    No example: needs the barcodes of a study; the tutorial *From concepts to a disease* runs it through its command.
    """
    stated = patient_column(data, target)
    numbers = pd.to_numeric(stated, errors="coerce").astype(float)
    wrong = stated.notna() & ~np.isfinite(numbers)
    if wrong.any():
        raise CytosaeError(
            f"column {target!r}: {stated[wrong].iloc[0]!r} of {data.obs_names[wrong.to_numpy()][0]} is no number. Correct "
            "it, or leave it empty where it is not known."
        )
    known = numbers.notna().to_numpy(copy=True)
    events = None
    if event is not None:
        seen = patient_column(data, event)
        text = seen.map(lambda value: None if value is None else str(value).strip().lower())
        if (odd := text.notna() & ~text.isin(_TRUE | _FALSE)).any():
            raise CytosaeError(
                f"column {event!r}: {seen[odd].iloc[0]!r} of {data.obs_names[odd.to_numpy()][0]} is neither yes (1, true) "
                "nor no (0, false)."
            )
        known &= text.notna().to_numpy()
        if (early := known & (numbers.to_numpy() <= 0)).any():
            name, time = data.obs_names[early][0], numbers[early].iloc[0]
            raise CytosaeError(f"column {target!r}: the time of {name} is {time:g}; times are above 0.")
        events = text.isin(_TRUE).to_numpy()[known]
    caveats = []
    if missing := int((~known).sum()):
        caveats.append(
            f"{missing} of {len(known)} patients have no {target}{f' or {event}' if event else ''}, left out"
        )
    values = np.asarray(numbers, np.float64)[known]
    people = data.obs["patient"].astype(str)[known].nunique()
    enough = people if events is None else int(data.obs["patient"].astype(str)[known][events].nunique())
    if enough < LEAST:
        what = "patients have a value" if events is None else "patients have the event"
        raise CytosaeError(f"column {target if events is None else event!r}: {enough} {what}; {LEAST} are needed.")
    if np.ptp(values) == 0:
        raise CytosaeError(f"column {target!r}: all patients have the same value, {values[0]:g}; nothing to predict.")
    if enough < 30:
        caveats.append(f"{enough} {'patients' if events is None else 'events'}: read the intervals, not the figures")
    return Outcome(data[known].copy(), values, events, tuple(caveats), target)
