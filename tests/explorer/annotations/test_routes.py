"""Annotations by the routes of the API: what is kept, what is refused, and what blind raters are sent."""

from __future__ import annotations

import pandas as pd
import pytest
from fastapi import FastAPI
from fastapi.testclient import TestClient
from sqlalchemy import text
from sqlalchemy.exc import DBAPIError

from cytosae.explorer.annotations import VOCABULARY, Database
from cytosae.explorer.annotations.routes import router
from support.annotations import judgement, make_list, put


def test_a_worklist_from_its_making_to_its_summary(client: TestClient) -> None:
    made = make_list(client, [5, 3, 8], blind_labels=True, disease="PML_RARA")
    assert [(item["position"], item["latent"]) for item in made["items"]] == [(0, 5), (1, 3), (2, 8)]
    assert made["questions"][-1] == "Is it specific for PML_RARA?"
    number = made["id"]
    stored = put(
        client,
        worklist=number,
        latent=3,
        verdict="meaningful",
        name="Auer rods",
        comment="In most cells.\nNot in all.",
        terms={"inclusion": ["Auer rod", "faggot"], "cell_type": ["abnormal promyelocyte"]},
        specific_for="PML_RARA",
    )
    assert stored["version"] == 1
    assert stored["terms"] == {"inclusion": ["Auer rod", "faggot"], "cell_type": ["abnormal promyelocyte"]}
    put(client, worklist=number, latent=3, rater="Ben", verdict="artefact")
    put(client, worklist=number, latent=8, rater="Ben", name="only a name yet")

    (listed,) = client.get("/api/worklists").json()
    assert listed["items"] == 3
    assert listed["raters"] == {"Anna": 1, "Ben": 1}
    assert listed["blind_labels"] is True
    assert listed["source"] == "choice"

    opened = client.get(f"/api/worklists/{number}", params={"rater": "Anna"}).json()
    first, second, third = opened["items"]
    assert first["annotation"] is None
    assert first["others"] == []
    assert second["annotation"] == stored
    assert [other["rater"] for other in second["others"]] == ["Ben"]
    assert third["annotation"] is None
    assert third["others"][0]["name"] == "only a name yet"
    nobody = client.get(f"/api/worklists/{number}").json()
    assert [len(item["others"]) for item in nobody["items"]] == [0, 2, 1]

    summary = client.get("/api/summary", params={"worklist": number}).json()
    assert summary["items"] == 3
    assert summary["raters"] == [
        {"name": "Anna", "done": 1, "meaningful": 1, "artefact": 0, "cannot_tell": 0},
        {"name": "Ben", "done": 1, "meaningful": 0, "artefact": 1, "cannot_tell": 0},
    ]
    assert summary["meaningful"] == {"x": 0, "y": 1, "first_ten": {"x": 0, "y": 1}}  # a tie counts as not
    assert summary["specific"] == {"disease": "PML_RARA", "x": 0, "y": 1, "first_ten": {"x": 0, "y": 1}}

    changed = client.patch(f"/api/worklists/{number}", json={"title": "Second look"}).json()
    assert (changed["title"], changed["blind_labels"]) == ("Second look", True)


def test_annotations_names_and_history_outside_a_list(client: TestClient) -> None:
    put(client, latent=1, verdict="meaningful", name="Smudge cell")
    put(client, latent=1, rater="Ben", verdict="artefact", name="  smudge  CELL ")
    put(client, latent=1, rater="Cleo", verdict="meaningful", name="crushed", dataset="bone/marrow")
    put(client, latent=2, rater="Ben", name="one name")
    put(client, latent=2, rater="Anna", name="another")
    put(client, latent=4, verdict="cannot tell")
    put(client, latent=6, comment="neither name nor verdict")
    of_one = client.get("/api/annotations", params={"latent": 1}).json()
    assert [one["rater"] for one in of_one] == ["Anna", "Ben", "Cleo"]
    of_ben = client.get("/api/annotations", params={"rater": "Ben"}).json()
    assert [one["latent"] for one in of_ben] == [1, 2]
    assert len(client.get("/api/annotations").json()) == 7
    none = {"meaningful": 0, "artefact": 0, "cannot tell": 0}
    names = client.get("/api/names").json()
    assert {latent: {key: one[key] for key in ("name", "raters", "verdicts")} for latent, one in names.items()} == {
        "1": {"name": "Smudge cell", "raters": 3, "verdicts": {**none, "meaningful": 2, "artefact": 1}},
        "2": {"name": "one name", "raters": 2, "verdicts": none},  # a tie: the first
        "4": {"name": "", "raters": 1, "verdicts": {**none, "cannot tell": 1}},
    }
    assert names["1"]["given"] == [
        {"name": "Smudge cell", "raters": ["Anna", "Ben"]},
        {"name": "crushed", "raters": ["Cleo"]},
    ]
    of_cleo = client.get("/api/names?rater=Cleo").json()
    assert [(of_cleo[latent]["name"], of_cleo[latent]["own"]) for latent in "12"] == [
        ("Smudge cell", "crushed"),
        ("one name", ""),
    ]
    other = client.get("/api/annotations/bone%2Fmarrow/1/history").json()
    assert [row["name"] for row in other] == ["crushed"]
    outside = client.get("/api/summary").json()
    assert (outside["worklist"], outside["items"]) == (None, 5)


def test_every_change_is_in_the_history_and_stays_there(client: TestClient, database: Database) -> None:
    wanted = [
        {"name": "granules"},
        {"name": "granules", "verdict": "meaningful"},
        {"name": "Auer rods", "verdict": "meaningful", "terms": {"inclusion": ["Auer rod"]}, "comment": "sure"},
        {"verdict": "artefact", "specific_for": "PML_RARA"},
        {},
    ]
    for version, content in enumerate(wanted):
        answer = put(client, version=version, **content)
        assert answer["version"] == version + 1
    put(client, rater="Ben", name="Ben's")
    rows = client.get("/api/annotations/pbc/3/history").json()
    assert [row["version"] for row in rows if row["rater"] == "Anna"] == [1, 2, 3, 4, 5]
    for row, content in zip(rows, wanted, strict=False):
        assert {name: row[name] for name in content} == content
        blank = {"verdict": None, "name": "", "comment": "", "terms": {}, "specific_for": None, **content}
        assert {name: row[name] for name in blank} == blank
    times = [pd.Timestamp(row["time"]) for row in rows]
    assert times == sorted(times)
    assert abs(times[0] - pd.Timestamp.now(tz="UTC")) < pd.Timedelta("1min")
    for attempt in ("UPDATE history SET name = 'x'", "DELETE FROM history"):
        with pytest.raises(DBAPIError, match="only ever added"), database.writing() as session:
            session.execute(text(attempt))
    assert client.get("/api/annotations/pbc/3/history").json() == rows


def test_a_stale_version_is_refused_with_what_is_there(client: TestClient) -> None:
    put(client, name="first")
    second = put(client, version=1, name="second")
    for stale in (0, 1, 3):
        answer = client.put("/api/annotations", json=judgement(version=stale, name="lost update"))
        assert answer.status_code == 409
        assert answer.json()["current"] == second
        assert answer.json()["detail"]
    early = client.put("/api/annotations", json=judgement(latent=9, version=2))
    assert (early.status_code, early.json()["current"]) == (409, None)
    assert len(client.get("/api/annotations/pbc/3/history").json()) == 2
    assert put(client, version=2.0, name="third")["version"] == 3  # an integer, for JSON


def test_what_is_not_there_is_404_and_what_is_wrong_422(client: TestClient) -> None:
    number = make_list(client, [3])["id"]
    unknown = [
        client.get("/api/worklists/99"),
        client.get("/api/summary", params={"worklist": 99}),
        client.patch("/api/worklists/99", json={"title": "x"}),
        client.put("/api/annotations", json=judgement(worklist=99)),
        client.put("/api/annotations", json=judgement(worklist=number, latent=4)),
        client.put("/api/annotations", json=judgement(dataset="urine")),
        client.put("/api/annotations", json=judgement(latent=64)),
        client.get("/api/annotations/urine/3/history"),
        client.get("/api/annotations/pbc/64/history"),
        client.post("/api/worklists", json={"title": "x", "items": [{"dataset": "urine", "latent": 1}]}),
    ]
    assert [answer.status_code for answer in unknown] == [404] * len(unknown)
    item = {"dataset": "pbc", "latent": 1}
    wrong = [
        *(
            client.put("/api/annotations", json=judgement(**content))
            for content in (
                {"verdict": "good"},
                {"rater": ""},
                {"rater": "  "},
                {"version": "0"},
                {"version": -1},
                {"latent": -1},
                {"latent": 2**31},
                {"worklist": 2**63},
                {"name": "a\x00b"},
                {"terms": {"inclusion": ["Auer stick"]}},
                {"terms": {"colour": ["red"]}},
                {"terms": {"inclusion": "Auer rod"}},
            )
        ),
        client.put("/api/annotations", content=b'{"dataset": "\\ud800"}', headers={"content-type": "application/json"}),
        client.put("/api/annotations", content=b"{", headers={"content-type": "application/json"}),
        client.put("/api/annotations", json=[]),
        client.get("/api/annotations", params={"latent": "x"}),
        client.get("/api/annotations", params={"rater": "\x00"}),
        client.get("/api/annotations/pbc/x/history"),
        client.post("/api/worklists", json={"title": "x", "items": []}),
        client.post("/api/worklists", json={"title": "x", "items": [item, item]}),
        client.post("/api/worklists", json={"title": " ", "items": [item]}),
        client.post("/api/worklists/import", json={"format": "something"}),
    ]
    assert [answer.status_code for answer in wrong] == [422] * len(wrong)
    for answer in (*unknown, *wrong):
        assert set(answer.json()) == {"detail"}
        assert isinstance(answer.json()["detail"], str)
    assert client.get("/api/annotations").json() == []
    assert len(client.get("/api/worklists").json()) == 1


def test_texts_have_limits_and_are_stored_as_they_are(client: TestClient) -> None:
    limits = {"name": 200, "comment": 5000, "rater": 80}
    for place, (field, limit) in enumerate(limits.items()):
        assert client.put("/api/annotations", json=judgement(**{field: "x" * (limit + 1)})).status_code == 422, field
        assert put(client, latent=10 + place, **{field: "é" * limit})[field] == "é" * limit
    item = [{"dataset": "pbc", "latent": 1}]
    assert client.post("/api/worklists", json={"title": "t" * 201, "items": item}).status_code == 422
    assert client.post("/api/worklists", json={"title": "t" * 200, "items": item}).status_code == 201
    terms = list(VOCABULARY["cell_type"])
    assert client.put("/api/annotations", json=judgement(terms={"cell_type": [terms[0]] * 51})).status_code == 422
    for name in ("<script>alert(1)</script>", "'; DROP TABLE history; --", "Döhle ☃ 𝄞 {{7*7}}", '"\\'):
        version = client.get("/api/annotations", params={"latent": 7}).json()
        stored = put(client, latent=7, version=version[0]["version"] if version else 0, name=name, comment=name)
        assert (stored["name"], stored["comment"]) == (name, name)
        (again,) = client.get("/api/annotations", params={"latent": 7}).json()
        assert again == stored
    tagged = "<b>Eva</b>"
    put(client, latent=7, rater=tagged)
    assert client.get("/api/annotations", params={"rater": tagged}).json()[0]["rater"] == tagged


def test_blind_raters_are_sent_nothing_of_others_by_any_route(client: TestClient) -> None:
    number = make_list(client, [3, 4], blind_raters=True)["id"]
    put(client, worklist=number, verdict="meaningful", name="secret of Anna")
    put(client, worklist=number, rater="Ben", verdict="artefact", name="of Ben")
    addresses = [
        f"/api/worklists/{number}?rater=Ben",
        f"/api/worklists/{number}",
        "/api/annotations",
        "/api/annotations?rater=Ben",
        "/api/annotations?latent=3",
        "/api/annotations/pbc/3/history",
        "/api/annotations/pbc/3/history?rater=Ben",
        "/api/names",
        "/api/names?rater=Ben",
        "/api/annotations?latent=3&asking=Ben",
        "/api/annotations/export",
        "/api/annotations/export?format=csv&rater=Ben",
        f"/api/summary?worklist={number}&rater=Ben",
        f"/api/summary?worklist={number}",
        "/api/worklists",
    ]
    shown = {address: client.get(address).text for address in addresses}
    assert not [address for address, told in shown.items() if "secret" in told]
    assert [address for address, told in shown.items() if "of Ben" in told] == [a for a in addresses if "=Ben" in a]
    client.patch(f"/api/worklists/{number}", json={"blind_raters": False})
    told = [address for address in addresses if "secret" in client.get(address).text]
    assert told == [address for address in addresses[:-1] if address != "/api/annotations?rater=Ben"]


def test_a_single_rater_hides_nothing_from_the_only_rater(client: TestClient) -> None:
    number = make_list(client, [3], blind_raters=True)["id"]
    put(client, worklist=number, name="granules of Anna")
    for address in ("names", "annotations", f"summary?worklist={number}", "annotations/pbc/3/history"):
        joined = f"/api/{address}{'&' if '?' in address else '?'}"
        own = "asking" if address == "annotations" else "rater"
        assert "granules" in client.get(f"{joined}{own}=Anna").text
        assert "granules" in client.get(f"/api/{address}").text
        assert "granules" not in client.get(f"{joined}{own}=Ben").text  # who is about to judge
    put(client, latent=9, rater="Ben", verdict="artefact")
    assert "granules" not in client.get("/api/names").text
    assert client.get("/api/names?rater=Anna").json()["3"]["own"] == "granules of Anna"


def test_the_interface_is_described_exactly(file_database: Database) -> None:
    app = FastAPI()
    app.include_router(router(file_database))
    described = app.openapi()
    assert set(described["paths"]) == {
        "/api/worklists",
        "/api/worklists/import",
        "/api/worklists/{worklist}",
        "/api/annotations",
        "/api/annotations/export",
        "/api/annotations/{dataset}/{latent}/history",
        "/api/names",
        "/api/vocabulary",
        "/api/summary",
    }
    answers = described["paths"]["/api/annotations"]["put"]["responses"]
    assert set(answers) == {"200", "400", "404", "409", "422", "503"}
    assert answers["422"]["content"]["application/json"]["schema"]["$ref"].endswith("/ErrorMessage")
    request = described["components"]["schemas"]["AnnotationRequest"]
    assert set(request["properties"]) == set(judgement())
    assert request["properties"]["name"]["maxLength"] == 200
    assert (request["properties"]["latent"]["minimum"], request["properties"]["latent"]["maximum"]) == (0, 2**31 - 1)
    assert "Auer rod" in request["properties"]["terms"]["properties"]["inclusion"]["items"]["enum"]


def test_vocabulary_names_the_cells_once(client: TestClient) -> None:
    vocabulary = client.get("/api/vocabulary").json()
    assert list(vocabulary) == ["cell_type", "nucleus", "chromatin", "cytoplasm", "granules", "inclusion", "background"]
    for name, terms in vocabulary.items():
        assert len(terms) == len({term.casefold() for term in terms}), name
        assert all(0 < len(term) <= 50 and term == term.strip() and ";" not in term for term in terms)
    needed = {"myeloblast", "monoblast", "lymphoblast", "promyelocyte", "myelocyte", "metamyelocyte", "band neutrophil"}
    needed |= {"segmented neutrophil", "monocyte", "promonocyte", "plasma cell", "giant platelet", "smudge cell"}
    assert needed <= set(vocabulary["cell_type"])
    assert {"Auer rod", "faggot", "vacuole", "Döhle body", "Howell-Jolly body"} <= set(vocabulary["inclusion"])
