"""What the explorer's server has to refuse, and the headers of every answer."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path

import pandas as pd
import pytest
from fastapi.testclient import TestClient

from cytosae.explorer import create_app
from cytosae.explorer.answers import ask
from cytosae.explorer.security import is_loopback
from support.explorer import HERE, opened, refusal
from support.studies import SET


def test_no_request_names_a_file(copied: Path, study: Path, capfd: pytest.CaptureFixture[str]) -> None:
    app = create_app(study, hosts=["export"])
    (study.parent / "secret.txt").write_text("nobody may read this")
    for path in (
        "/../secret.txt",
        "/%2e%2e/secret.txt",
        "/..%2fsecret.txt",
        "/assets/%2e%2e%2f%2e%2e%2fapp.py",
        "/assets/..%2f..%2fapp.py",
        "//etc/passwd",
        "/%2fetc%2fpasswd",
        "/..%5c..%5capp.py",
        f"/api/cells/..%2f{SET}/3/image",
        "/api/cells/..%2f..%2fetc/3/image",
        f"/api/cells/{SET}/..%2f3/image",
        f"/api/cells/{SET}/3/image/..%2f..%2fsecret.txt",
        f"/api/latents/{SET}/3/images/..%2f..%2fsecret",
        "/api/%2e%2e/%2e%2e/secret.txt",
        "/app.py",
        "/\x00",
        "/%00",
        "/" + "a" * 5000,
        "/api/../openapi.py",
    ):
        status, kind, body = asyncio.run(ask(app, path))  # as it is: a client would tidy the path first
        assert status in {404, 422}, (path, status)
        assert kind == "application/json"
        assert b"nobody may" not in body
        assert b"import" not in body
    table = pd.read_parquet(copied / "cells.parquet")
    table["path"] = table["path"].astype(str)
    table.loc[3, ["path", "cell_id"]] = ["/etc/passwd", "other"]
    table.to_parquet(copied / "cells.parquet")
    address = f"/api/cells/{SET}/3/image"
    assert "no longer that row" in refusal(opened(copied).get(address), 500)
    assert f"explorer: {address}: synthetic-" in capfd.readouterr().err  # its output says so too


def test_foreign_hosts_and_origins(study: Path, client: TestClient) -> None:
    foreign = ("evil.example", "127.0.0.1.evil.example", "127.0.0.1@evil.example", "evil.example@127.0.0.1", "[::2]")
    odd = ("", "localhost.", "[::1", "127.0.0.1/x", "a b", "127.0.0.1:x", "evil.example:8765")
    for host in (*foreign, *odd):
        told = refusal(client.get("/api/study", headers={"Host": host}), 400)
        assert "Host not allowed. Open the address that the server printed" in told
        assert "`--public-url`" in told
        forged = {"Host": host, "X-Forwarded-Host": "127.0.0.1", "X-Forwarded-Proto": "http"}
        assert "Host not allowed" in refusal(client.get("/api/study", headers=forged), 400)
    for host in ("localhost:8765", "127.0.0.1", "[::1]:8765", "LOCALHOST"):
        assert client.get("/api/study", headers={"Host": host}).status_code == 200
    named = opened(study, hosts=["lab.example"])
    assert named.get("/api/study", headers={"Host": "lab.example:80"}).status_code == 200
    assert named.get("/api/study").status_code == 400
    body = {"title": "x", "items": [{"dataset": SET, "latent": 3}]}
    for headers in (
        {"Origin": "http://evil.example"},
        {"Origin": "null"},
        {"Origin": "http://127.0.0.1:9999"},
        {"Origin": "https://127.0.0.1:8765"},
        {"Sec-Fetch-Site": "cross-site"},
        {"Sec-Fetch-Site": "same-site"},
    ):
        assert "other sites" in refusal(client.post("/api/worklists", json=body, headers=headers), 403)
    assert client.get("/api/study", headers={"Origin": "http://evil.example"}).status_code == 200
    good = {"Origin": HERE, "Sec-Fetch-Site": "same-origin"}
    assert client.post("/api/worklists", json={}, headers=good).status_code == 422
    answer = client.get("/api/study", headers={"Origin": "http://evil.example"})
    assert not [name for name in answer.headers if name.startswith("access-control")]


def test_the_token_guards_everything(study: Path) -> None:
    client = opened(study, token="right-token")
    for path in (
        "/",
        "/api/study",
        f"/api/cells/{SET}/3/image",
        "/openapi.json",
        "/assets/x.js",
        "/api/names",
        "/none",
    ):
        answer = client.get(path)
        assert "token" in refusal(answer, 401)
        assert answer.headers["www-authenticate"] == "Bearer"
        assert "token" in refusal(client.get(path, params={"token": "wrong"}), 401)
        assert "token" in refusal(client.get(path, headers={"Authorization": "Bearer right-toke"}), 401)
    assert "token" in refusal(client.put("/api/annotations?token=right-token", json={}), 401)
    assert client.get("/api/study", headers={"Authorization": "bearer right-token"}).status_code == 200
    assert client.get("/api/study", headers={"Authorization": "Basic right-token"}).status_code == 401
    assert client.get("/api/study", headers={"Cookie": "cytosae-8765=wrong"}).status_code == 401
    assert client.get("/api/study", headers={"Cookie": "cytosae-9999=right-token"}).status_code == 401
    given = client.get("/api/synthetic?label=blast&token=right-token&limit=2")
    assert (given.status_code, given.headers["location"]) == (303, "/api/synthetic?label=blast&limit=2")
    cookie = given.headers["set-cookie"].lower()
    assert cookie.startswith("cytosae-8765=right-token")
    assert "httponly" in cookie
    assert "samesite=strict" in cookie
    assert client.get("/api/study").status_code == 200  # the cookie is kept
    fresh = opened(study, token="right-token")
    away = fresh.get(f"{HERE}//evil.example/?token=right-token")
    assert away.headers["location"].startswith("/evil.example")
    assert fresh.get("/?token=right-token", headers={"Host": "evil.example"}).status_code == 400


def test_headers_of_every_answer(client: TestClient) -> None:
    for path in ("/api/study", f"/api/cells/{SET}/3/image", "/", "/none", "/api/none", "/openapi.json"):
        answer = client.get(path)
        policy = answer.headers["content-security-policy"]
        assert "default-src 'none'" in policy
        assert "frame-ancestors 'none'" in policy
        assert "unsafe-eval" not in policy
        assert answer.headers["x-content-type-options"] == "nosniff"
        assert answer.headers["referrer-policy"] == "no-referrer"
    assert client.get("/api/study").headers["cache-control"] == "no-store"
    assert client.get("/api/none").json()["detail"] == "No such route."
    for path in ("/docs", "/redoc", "/docs/oauth2-redirect"):
        assert client.get(path).status_code == 404
    large = client.get(f"/api/latents/{SET}", headers={"Accept-Encoding": "gzip"})
    assert large.headers["content-encoding"] == "gzip"
    refused = client.get("/api/study", headers={"Host": "evil.example"})
    assert refused.headers["x-content-type-options"] == "nosniff"


def test_bodies_end(client: TestClient) -> None:
    assert "larger than 4 MB" in refusal(client.post("/api/worklists", content=b"x" * (4 * 2**20 + 1)), 413)
    seen = 0

    def endless() -> Iterator[bytes]:
        nonlocal seen
        for _ in range(100):
            seen += 2**20
            yield b" " * 2**20

    answer = client.post("/api/worklists", content=endless(), headers={"Content-Type": "application/json"})
    assert "larger than 4 MB" in refusal(answer, 413)
    for length in ("-1", "x", "9" * 30):
        assert client.post("/api/worklists", content=b"{}", headers={"Content-Length": length}).status_code == 413


@pytest.mark.parametrize("host", ["127.0.0.1", "127.8.0.1", "::1", "[::1]", "localhost"])
def test_loopback(host: str) -> None:
    assert is_loopback(host)
    assert not is_loopback(host.replace("127", "128").replace("::1", "::2").replace("local", "foreign"))
