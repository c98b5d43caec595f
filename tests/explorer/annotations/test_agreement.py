"""Agreement of raters: by hand, by the published example, and in the summary."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from cytosae.explorer.annotations import (
    Database,
    agreed_names,
    agreed_verdict,
    cohen_kappa,
    current_annotations,
    fleiss,
    fleiss_kappa,
    majority,
    pairwise,
)
from support.annotations import client_of, make_list, put


def table(*rows: str) -> dict[str, dict[Any, str]]:
    """Verdicts by rater; a row has a letter for each item, a dot where there is none."""
    words = {"m": "meaningful", "a": "artefact", "c": "cannot tell"}
    return {
        f"rater {number}": {item: words[letter] for item, letter in enumerate(row) if letter != "."}
        for number, row in enumerate(rows)
    }


def test_majority_by_hand() -> None:
    #                        m  tie  m  c  -  m
    assert majority(table("mmmc.m", "mamc..", "mc..a.")) == (3, 6)
    assert majority(table("ma", "am")) == (0, 2)
    assert majority({}) == (0, 0)


def test_cohens_kappa_by_hand() -> None:
    # 20 yes/yes, 5 yes/no, 10 no/yes, 15 no/no: observed 0.7, by chance 0.5
    first = ["meaningful"] * 25 + ["artefact"] * 25
    second = ["meaningful"] * 20 + ["artefact"] * 5 + ["meaningful"] * 10 + ["artefact"] * 15
    assert cohen_kappa(first, second) == pytest.approx(0.4)
    assert cohen_kappa([], []) is None
    assert cohen_kappa(["artefact"] * 3, ["artefact"] * 3) is None
    pairs = pairwise(table("mmaa.", "mmaam", "....m"))
    assert [(pair.kappa, pair.n) for pair in pairs] == [(pytest.approx(1), 4), (None, 0), (None, 1)]


def test_fleiss_kappa_is_that_of_the_paper_and_of_statsmodels() -> None:
    from statsmodels.stats.inter_rater import fleiss_kappa as reference

    published = [  # ten items, fourteen raters, five categories; 0.210
        *([0, 0, 0, 0, 14], [0, 2, 6, 4, 2], [0, 0, 3, 5, 6], [0, 3, 9, 2, 0], [2, 2, 8, 1, 1]),
        *([7, 7, 0, 0, 0], [3, 2, 6, 3, 0], [2, 5, 3, 2, 2], [6, 5, 2, 1, 0], [0, 2, 2, 3, 7]),
    ]
    assert fleiss_kappa(published) == pytest.approx(0.20993, abs=1e-5)
    rng = np.random.default_rng(0)
    for raters in (2, 3, 7):
        counts = rng.multinomial(raters, [0.5, 0.3, 0.2], size=30)
        assert fleiss_kappa(counts) == pytest.approx(reference(counts))
    assert fleiss_kappa([[3, 0, 0], [3, 0, 0]]) is None
    with pytest.raises(ValueError, match="same number"):
        fleiss_kappa([[1, 1, 0], [3, 0, 0]])


def test_fleiss_takes_the_items_judged_by_the_most_usual_number() -> None:
    found = fleiss(table("mmaac.m", "mmama.c", "ma.....", "......m"))
    # by 2: items 2, 3, 4; by 3: 0, 1, 6
    assert found is not None
    assert (found.raters, found.items) == (3, 3)
    assert found.kappa == pytest.approx(fleiss_kappa([[3, 0, 0], [2, 1, 0], [2, 0, 1]]))
    assert fleiss(table("mm", "..")) is None
    constant = fleiss(table("mm", "mm"))
    assert constant == (None, 2, 2)


def test_summary_is_what_was_typed(file_database: Database) -> None:
    client = client_of(file_database)
    number = make_list(client, [*range(3, 8), *range(20, 26), *range(3)], disease="AML")["id"]
    typed = table("mmmmaac.", "mmmaaam.", "mm......")
    for rater, verdicts in typed.items():
        for latent, verdict in verdicts.items():
            specific = "AML" if latent < 2 or rater == "rater 0" else None
            put(client, worklist=number, latent=latent, rater=rater, verdict=verdict, specific_for=specific)
    put(client, latent=7, verdict="meaningful")  # outside the list: not counted
    summary = client.get(f"/api/summary?worklist={number}").json()
    assert summary["items"] == 14
    assert [tuple(rater.values()) for rater in summary["raters"]] == [
        ("rater 0", 7, 4, 2, 1),
        ("rater 1", 7, 4, 3, 0),
        ("rater 2", 2, 2, 0, 0),
    ]
    assert summary["meaningful"] == {"x": 3, "y": 7, "first_ten": {"x": 0, "y": 4}}
    assert summary["specific"] == {"disease": "AML", "x": 2, "y": 7, "first_ten": {"x": 0, "y": 4}}
    cohen = {tuple(pair["raters"]): (pair["kappa"], pair["n"]) for pair in summary["agreement"]["cohen"]}
    # rater 0 and 1 agree in 5 of 7; by chance (4 * 4 + 2 * 3 + 1 * 0) / 49
    assert cohen["rater 0", "rater 1"] == (pytest.approx((5 / 7 - 22 / 49) / (1 - 22 / 49)), 7)
    assert cohen["rater 0", "rater 2"] == (None, 2)
    assert summary["agreement"]["fleiss"]["items"] == 5
    assert summary["agreement"]["fleiss"]["raters"] == 2
    corrected = put(client, worklist=number, latent=0, rater="rater 0", version=1, verdict=None)
    assert corrected["verdict"] is None
    assert client.get(f"/api/summary?worklist={number}").json()["raters"][0]["done"] == 6


def test_the_agreed_verdict_is_that_of_more_than_half(file_database: Database) -> None:
    client = client_of(file_database)
    for rater, verdict in (("Anna", "meaningful"), ("Ben", "artefact")):
        put(client, latent=1, rater=rater, verdict=verdict)
    put(client, latent=1, rater="Ben", dataset="other", verdict="meaningful")  # the latest of a rater counts
    put(client, latent=2, rater="Anna", verdict="meaningful")
    put(client, latent=2, rater="Ben", verdict="artefact")
    with file_database.reading() as session:
        names = agreed_names(current_annotations(session))
    assert (names[1].raters, agreed_verdict(names[1]), agreed_verdict(names[2])) == (2, "meaningful", "")
