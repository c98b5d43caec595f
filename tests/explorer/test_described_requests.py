"""Whatever comes to any route is answered as the API describes it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import schemathesis
from fastapi.testclient import TestClient
from hypothesis import HealthCheck, given, settings, strategies

from cytosae.concepts import read_inputs
from cytosae.explorer import create_app
from support.explorer import HERE, jpeg_of
from support.studies import SET

KNOWN = {"dataset": SET, "id": "P003", "kind": "random", "first": "healthy", "second": "NPM1", "worklist": 1}
TAUGHT = "granules"
TOKEN = "token-of-the-fuzz"
OWNER = {"Authorization": f"Bearer {TOKEN}", "Origin": HERE, "Sec-Fetch-Site": "same-origin"}


def at_what_is_there(case: Any, upload: str, sae: str, number: int) -> None:
    """Turn a generated request to cells, latents and worklists of the study, for the rest as it is."""
    numbers = {key: value % 20 for key, value in case.path_parameters.items() if isinstance(value, int)}
    case.path_parameters |= numbers | {key: value for key, value in KNOWN.items() if key in case.path_parameters}
    if "uploads" in case.path:
        case.path_parameters |= {"id": upload, "index": 0}
    if "concept" in case.query:
        case.query["concept"] = TAUGHT
    if "dataset" in case.query and "row" in case.query:
        case.query |= {"dataset": SET, "row": number % 20}
    if case.path == "/api/marks" and case.method == "PUT":
        case.body |= {"rater": f"rater {number}"}
        for place, mark in enumerate(case.body["marks"]):
            mark |= {"dataset": SET, "row": place % 20, "patch": place % 256}
    elif case.method == "PUT":  # an annotation of a rater who has not said anything
        case.body |= {"dataset": SET, "latent": number % 20, "version": 0, "rater": f"rater {number}", "worklist": None}
    for place, item in enumerate(case.body.get("items", []) if isinstance(case.body, dict) else []):
        item |= {"dataset": SET, "latent": place % 384}
    if case.path.endswith("/import"):
        case.body["inputs"] = {"sae": sae}


def test_no_request_of_the_described_kinds_breaks_it(copied: Path) -> None:
    """Whatever comes to any route, reading or writing, the answer is one of those that the API describes; never 500."""
    app = create_app(copied, token=TOKEN, hosts=["127.0.0.1", "testserver"])
    client = TestClient(app, base_url=HERE, headers=OWNER)
    schema = schemathesis.openapi.from_asgi("/openapi.json", app, headers=OWNER)
    wanted = (
        "not_a_server_error",
        "status_code_conformance",
        "content_type_conformance",
        "response_schema_conformance",
    )
    every = [schemathesis.checks.CHECKS.get_one(name) for name in wanted]
    sae = read_inputs(copied / "concepts")["sae"]
    sent = client.post("/api/uploads", files=[("files", ("a.png", jpeg_of(kind="PNG")))])
    made = client.post("/api/worklists", json={"title": "first", "items": [{"dataset": SET, "latent": 3}]})
    assert made.json()["id"] == KNOWN["worklist"]
    marks = [
        {"uid": f"first-{row:03}", "dataset": SET, "row": row, "patch": 100, "mark": "this"} for row in (1, 30, 60)
    ]
    assert client.put("/api/marks", json={"concept": TAUGHT, "rater": "Anna", "marks": marks}).status_code == 200
    statuses: dict[str, set[int]] = {"POST /api/uploads": {sent.status_code}}
    count = 0

    @settings(max_examples=5, deadline=None, database=None, derandomize=True, suppress_health_check=list(HealthCheck))
    @given(data=strategies.data())
    def ask(operation: Any, data: Any) -> None:
        nonlocal count
        case = data.draw(operation.as_strategy())
        pairs = operation.path in {"/api/study", "/api/marks/concepts"} or operation.path.endswith("/patches")
        checks = every[:3] if pairs else every  # schemathesis cannot read `prefixItems`; other tests check those
        for aimed in (False, True):  # as it comes, and at what is there
            if aimed:
                count += 1
                at_what_is_there(case, sent.json()["id"], sae, count)
            answer = case.call(base_url=HERE, headers=OWNER)
            case.validate_response(answer, checks=checks)
            statuses.setdefault(operation.label, set()).add(answer.status_code)

    for operation in schema.get_all_operations():
        ask(operation.ok())
    described = {f"{method.upper()} {path}" for path, of in app.openapi()["paths"].items() for method in of}
    assert set(statuses) == described
    assert {label.partition(" ")[0] for label in described} == {"GET", "POST", "PUT", "PATCH"}
    for label, seen in statuses.items():
        # this study's cells were not cut out of fields
        assert ({404} if "/api/fields/" in label else {200, 201}) & seen, (label, seen)
        assert not {401, 403} & seen, (label, seen)
