"""Checkpoints that run something when they are unpickled: nothing runs."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import torch

from benchmarks.endurance.outcome import Outcome
from benchmarks.endurance.studying import Ground
from cytosae.errors import CytosaeError
from cytosae.sae.foreign import import_sae

_TESTS = Path(__file__).resolve().parents[2] / "tests"


def hostile_checkpoints(ground: Ground, trials: int, seed: int = 0) -> Outcome:
    """Those of the tests, as value and as key, in both formats of torch."""
    sys.path.insert(0, str(_TESTS))
    from support.foreign_weights import arrays
    from support.pickles import hostile

    folder = ground.folder / "hostile"
    folder.mkdir()
    outcome, mark = Outcome("hostile checkpoint"), folder / "was-run"
    cases = [(name, new, key) for name in hostile(mark) for new in (True, False) for key in (True, False)]
    for name, new, key in cases[:trials]:
        danger, _ = hostile(mark)[name]
        content: dict[Any, Any] = {"state_dict": arrays(), "cfg": {(danger,): 1} if key else {"hook": danger}}
        torch.save(content, folder / "a.pt", _use_new_zipfile_serialization=new)
        outcome.tried += 1
        try:
            import_sae(folder / "a.pt")
            outcome.faults.append(f"{name}: accepted")
        except CytosaeError:
            outcome.note("refused")
        except Exception as error:
            outcome.faults.append(f"{name}: {error!r}")
        if mark.exists():
            outcome.faults.append(f"{name}: was run")
            mark.unlink()
    return outcome
