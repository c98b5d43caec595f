"""Concepts taught by pointing, by the routes of the API: on drawn cells, with a latent's own map as the truth."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from fastapi.testclient import TestClient

from support.explorer import decoded_map, get, opened, refusal
from support.studies import SET

CONCEPT = "bright / spot"


def wish(marks: list[tuple[int, int | None, str]], rater: str = "Anna", concept: str = CONCEPT, at: str = "") -> Any:
    """Marks as the page sends them: row, patch (None: the whole cell) and what is said."""
    sent = [
        {"uid": f"{rater}-{at}-{row}-{patch}-{mark}", "dataset": SET, "row": row, "patch": patch, "mark": mark}
        for row, patch, mark in marks
    ]
    return {"concept": concept, "rater": rater, "marks": sent}


def put(client: TestClient, body: Any) -> Any:
    answer = client.put("/api/marks", json=body)
    assert answer.status_code == 200, answer.text
    return answer.json()


@pytest.fixture
def taught(copied: Path, h: Callable[[int], np.ndarray]) -> tuple[TestClient, int, list[int]]:
    """A study with ten marks, each where a latent is strongest in a cell of another patient; the latent, and the rows."""
    latent = 250
    rows = list(range(4, 180, 18))
    client = opened(copied)
    put(client, wish([(row, int(h(row)[1:, latent].argmax()), "this") for row in rows]))
    return client, latent, rows


def test_marks_are_set_withdrawn_and_kept(copied: Path) -> None:
    client = opened(copied)
    put(client, wish([(3, 17, "this"), (3, 18, "this"), (5, None, "not")]))
    assert [(one["row"], one["patch"], one["mark"]) for one in get(client, "marks", concept=CONCEPT)] == [
        (3, 17, "this"),
        (3, 18, "this"),
        (5, None, "not"),
    ]
    held = put(client, wish([(3, 17, "none"), (3, 18, "not")]))
    assert [(one["patch"], one["mark"]) for one in held] == [(18, "not")]
    put(client, wish([(3, 17, "this")]))  # an answer that was lost: sent again, it does not undo what came after
    put(client, wish([(3, 18, "this"), (3, 40, "this")], rater="Ben"))
    held = get(client, "marks/of-cell", dataset=SET, row=3)
    assert [(one["patch"], one["mark"], one["rater"]) for one in held] == [
        (18, "not", "Anna"),
        (18, "this", "Ben"),
        (40, "this", "Ben"),
    ]
    assert [one["mark"] for one in get(client, "marks/history", concept=CONCEPT)] == [
        *("this", "this", "not", "none", "not", "this", "this")
    ]
    (listed,) = get(client, "marks/concepts")
    assert {key: listed[key] for key in ("this_patches", "not_patches", "this_cells", "not_cells", "cells")} == {
        "this_patches": 2,
        "not_patches": 1,
        "this_cells": 0,
        "not_cells": 1,
        "cells": 2,
    }
    assert listed["raters"] == {"Anna": 2, "Ben": 2}
    assert [(one["raters"], one["n"], one["same"]) for one in listed["agreement"]] == [(["Anna", "Ben"], 1, 0)]
    again = opened(copied)  # the server starts anew
    assert get(again, "marks", concept=CONCEPT) == get(client, "marks", concept=CONCEPT)
    text = client.get("/api/marks/export").text
    assert text.splitlines()[0].lstrip("\ufeff") == "concept,cell_id,patch,mark,rater,time,dataset,uid"
    assert [line.split(",")[2:4] for line in text.splitlines()[1:]] == [
        *(["", "not"], ["17", "none"], ["18", "not"], ["18", "this"], ["40", "this"])
    ]


def test_marks_that_make_no_sense_are_refused(copied: Path) -> None:
    client = opened(copied)
    for row, patch, status in ((10**6, 1, 404), (1, 256, 404)):
        refusal(client.put("/api/marks", json=wish([(1, 2, "this"), (row, patch, "this")])), status)
    wrong = wish([(1, 2, "this")])
    for change in (
        {"concept": "  "},
        {"rater": ""},
        {"marks": []},
        {"marks": [{**wrong["marks"][0], "mark": "maybe"}]},
    ):
        refusal(client.put("/api/marks", json={**wrong, **change}), 422)
    other = client.put("/api/marks", json=wrong, headers={"Cytosae-Study": "another"})
    refusal(other, 409)
    assert get(client, "marks/concepts") == []
    assert "Nothing is marked" in refusal(client.get("/api/taught", params={"concept": CONCEPT}), 422)
    put(client, wish([(1, 2, "not")]))
    for path in ("taught", "taught/next"):
        assert "Nothing is marked" in refusal(client.get(f"/api/{path}", params={"concept": CONCEPT}), 422)


def test_a_concept_is_learned_from_ten_marks(
    taught: tuple[TestClient, int, list[int]], h: Callable[[int], np.ndarray], data: Any
) -> None:
    client, latent, rows = taught
    found = get(client, "taught", concept=CONCEPT)
    assert (found["this_patches"], found["left_out"], found["held_out_by"]) == (10, [], "patient")
    assert found["auroc"]["value"] > 0.9
    assert found["auroc"]["low"] < found["auroc"]["value"] < found["auroc"]["high"] <= 1
    assert found["average_precision"]["chance"] == pytest.approx(1 / 11, abs=1e-4)
    assert latent in [one["latent"] for one in found["nearest"]]
    assert found["strongest"][0]["score"] == max(one["score"] for one in found["strongest"])
    assert found["hint"]
    strongest = np.argsort(-data.layers["mean_activation"][:, latent].toarray().ravel(), kind="stable")
    placed = []
    for row in [int(row) for row in strongest if row not in rows][:6]:
        shown = get(client, "taught/map", concept=CONCEPT, dataset=SET, row=row)
        map_ = decoded_map(shown["map"], shown["top"]).ravel()
        assert shown["shown"] == pytest.approx((map_ > 0.2).sum(), abs=1)
        truth = h(row)[1:, latent]
        placed.append((truth < truth[map_.argmax()]).mean())
    assert np.median(placed) > 0.9  # where the taught concept is strongest, the latent is strong
    again = get(client, "taught", concept=CONCEPT)
    assert again == found
    put(client, wish([(100, 7, "not")]))
    assert get(client, "taught", concept=CONCEPT)["not_patches"] == 1


def test_the_next_cells_are_not_marked_ones_and_of_other_patients_first(
    taught: tuple[TestClient, int, list[int]],
) -> None:
    client, _, rows = taught
    cells = get(client, "taught/next", concept=CONCEPT)["cells"]
    assert len(cells) == 24
    assert not {one["row"] for one in cells} & set(rows)
    assert cells[0]["new_patient"]
    assert not cells[0]["new_dataset"]
    assert 0 <= cells[0]["patch"] < 256
    put(client, wish([(cells[0]["row"], None, "not")]))
    assert cells[0]["row"] not in [one["row"] for one in get(client, "taught/next", concept=CONCEPT)["cells"]]


def test_contradicting_raters_and_cells_that_are_gone_are_named(
    taught: tuple[TestClient, int, list[int]],
) -> None:
    client, _, rows = taught
    (mark,) = [one for one in get(client, "marks", concept=CONCEPT) if one["row"] == rows[0]]
    put(client, wish([(rows[0], mark["patch"], "not")], rater="Ben"))
    (problem,) = get(client, "taught", concept=CONCEPT)["left_out"]
    assert "contradict" in problem
    assert mark["cell_id"] in problem
    assert get(client, "taught", concept=CONCEPT)["this_patches"] == 9


def test_a_patch_of_a_cell_that_is_not_as_a_whole_still_teaches(copied: Path) -> None:
    client = opened(copied)
    put(client, wish([(5, None, "not"), (5, 119, "this")]))
    found = get(client, "taught", concept=CONCEPT)  # the only mark of 'this': learning goes on
    (problem,) = found["left_out"]
    assert "the patch counts" in problem
    assert get(client, "marks", concept=CONCEPT)[0]["cell_id"] in problem
    assert (found["this_patches"], found["not_cells"]) == (1, 0)
    assert ("useless" in found["threshold_warning"]) == (
        found["random"] > 1 / 3 or found["recall"] < 2 * found["random"]
    )


def test_many_who_ask_at_once_wait_for_one_computation(
    taught: tuple[TestClient, int, list[int]], copied: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from cytosae.teaching import Learner

    learn, calls = Learner.learn, []

    def counted(self: Learner, *given: Any) -> Any:
        calls.append(1)
        return learn(self, *given)

    monkeypatch.setattr(Learner, "learn", counted)
    client = opened(copied)  # nothing is loaded yet: autoencoder, random cells and concept are made while all ask
    cell = f"cells/{SET}/9/patches"
    on_cell = {"concept": CONCEPT, "dataset": SET, "row": 9}
    asked = [
        *[("taught", {"concept": CONCEPT}), ("taught/next", {"concept": CONCEPT}), ("taught/map", on_cell), (cell, {})]
        * 3
    ]
    with ThreadPoolExecutor(len(asked)) as pool:
        answers = list(pool.map(lambda one: get(client, one[0], **one[1]), asked))
    assert len(calls) == 1
    assert answers[0] == answers[4]


def test_without_tokens_on_disk_images_pass_the_backbone(
    copied: Path, h: Callable[[int], np.ndarray], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("cytosae.explorer.taught.LIVE_CELLS", 16)
    shutil.rmtree(copied / "tokens")
    client = opened(copied)
    put(client, wish([(row, int(h(row)[1:, 250].argmax()), "this") for row in (4, 22, 40)]))
    found = get(client, "taught", concept=CONCEPT)
    assert found["random_cells"] == 16
    assert found["auroc"]["value"] > 0.8
