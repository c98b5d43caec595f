"""What can be classified, and what is refused or said of it."""

from __future__ import annotations

import pandas as pd
import pytest

from cytosae.cohort import classification_task, stratified_folds, sweep
from cytosae.cohort.cross_validation import figures
from cytosae.errors import CytosaeError
from support.cohorts import QUICK, cohort


def test_tasks_that_are_refused() -> None:
    data = cohort()
    with pytest.raises(CytosaeError, match="no column 'stage'"):
        classification_task(data, "stage")
    one = cohort(diagnosis=pd.Categorical(["AML"] * 60))
    with pytest.raises(CytosaeError, match=r"AML \(60\)"):
        classification_task(one, "diagnosis")
    with pytest.raises(CytosaeError, match="too many to be classes"):
        classification_task(cohort(code=pd.Categorical([f"c{i // 2}" for i in range(60)])), "code")
    few = ["AML"] * 25 + ["APL"] * 25 + ["rare"] + [None] * 9
    task = classification_task(cohort(diagnosis=pd.Categorical(few)), "diagnosis")
    assert len(task.target) == 50
    assert task.classes == ("AML", "APL")
    assert any("9 of 60" in text for text in task.caveats)
    assert any("rare" in text for text in task.caveats)
    small = classification_task(cohort(diagnosis=pd.Categorical(["AML"] * 3 + ["APL"] * 57)), "diagnosis")
    assert any("smallest class has 3" in text for text in small.caveats)
    alike = cohort()
    alike.X[:] = 1
    task = classification_task(alike, "diagnosis")
    assert any("alike" in text for text in task.caveats)
    folds = stratified_folds(task.target, task.patients, 4, 1)
    assert figures(sweep(task, folds, QUICK).at[0], folds, task.classes, QUICK)["weighted_f1"] < 0.5
