"""Draw a cohort, run a study on it with the built-in backbone, and tell what was found: ``python -m demo``."""

from __future__ import annotations

import json
from typing import Any

from cytosae.analysis import classify, show_patient
from cytosae.artefacts import write_json
from cytosae.cohort import BARCODES, COHORT
from cytosae.concepts import read_concepts
from cytosae.console import say
from demo.study import STUDY, make_study, tell_methods
from demo.taught import teach_planted, tell_taught

PATIENT, LABORATORY = "P000", "laboratory"


def main() -> None:
    """Run the demonstration; what is up to date is skipped."""
    stages, path = make_study(), STUDY / "summary.json"
    if all(stage["skipped"] for stage in stages.values()) and path.is_file():
        summary = json.loads(path.read_text(encoding="utf-8"))
    else:
        say("patients: telling their diagnoses, beside simpler means")
        result = classify(
            STUDY / COHORT / BARCODES,
            STUDY / COHORT / "classification",
            tokens=STUDY / "tokens",
            leave_out=LABORATORY,
            centre=LABORATORY,
        )
        say("teaching: what an expert would show, by clicks on what was planted")
        taught = teach_planted()
        page = STUDY / f"patient-{PATIENT}.html"
        show_patient(STUDY, PATIENT, page)
        summary = summarise(stages) | {
            "classification": result["methods"],
            "left_out": result["left_out"]["methods"],
            "null": result["null"],
            "taught": taught,
            "page": str(page),
        }
        write_json(path, summary)
    tell(summary)


def summarise(stages: dict[str, dict[str, Any]]) -> dict[str, Any]:
    """The figures of the study."""
    data = read_concepts(STUDY / "concepts", "synthetic", matrices=False)
    sae = stages["sae"]
    return {
        "cells": stages["cells"]["cells"],
        "patients": stages["cells"]["patients"],
        "latents": sae["n_latents"],
        "concepts": int(data.var["is_concept"].sum()),
        **{name: sae[name] for name in ("explained_variance", "l0", "dead")},
    }


def tell(summary: dict[str, Any]) -> None:
    """Print the figures and where to look."""
    print(f"\n{summary['cells']:,} drawn cells of {summary['patients']} patients")
    print(f"concepts discovered     {summary['concepts']:,} of {summary['latents']:,} latents")
    print(f"explained variance      {summary['explained_variance']:.3f}")
    print(f"latents a token (L0)    {summary['l0']:.1f}")
    print(f"dead latents            {summary['dead']:.1%}")
    print(
        "\nweighted F1 of telling the five groups from patients never seen (in brackets: from laboratories never seen)"
    )
    tell_methods(summary["classification"], summary["null"], summary.get("left_out", ()))
    if "taught" in summary:  # one of an earlier version has none
        tell_taught(summary["taught"])
    print(f"\nLook at {STUDY / 'report' / 'index.html'} and, for one patient, {summary['page']}.")
    print(f"Open the explorer:  .venv/bin/cytosae explore {STUDY}")
    print("What it recovers of what was planted, beside simpler means:  make measure")


if __name__ == "__main__":
    main()
