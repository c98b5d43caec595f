"""Who may see a study: other users of a machine, other sites, and what a proxy lets in."""

from __future__ import annotations

import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest
from fastapi import FastAPI
from fastapi.testclient import TestClient
from starlette.routing import BaseRoute, Mount, Route

from cytosae.cells import read_cells
from cytosae.errors import CytosaeError
from cytosae.explorer import create_app, serving
from cytosae.explorer.security import PublicAddress
from support.browser import CHROMIUM
from support.explorer import HERE, free_port
from support.paths import ROOT
from support.studies import SET

NGINX = shutil.which("nginx") or shutil.which("nginx", path="/usr/sbin")
OPENSSL = shutil.which("openssl")
GUIDE = ROOT / "docs" / "how-to" / "explorer.md"
TOKEN = "a-token-of-the-test"
PUBLIC = "https://cells.hospital.org/cells"
PAGE = {"Accept": "text/html,application/xhtml+xml,*/*;q=0.8"}


@pytest.fixture(scope="module")
def study(classified_study: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A study of its own, to be written into."""
    return Path(shutil.copytree(classified_study, tmp_path_factory.mktemp("access") / "study"))


def browser_at(app: FastAPI, base: str = HERE, **headers: str) -> TestClient:
    """A client that sends the same headers each time and follows nothing."""
    return TestClient(app, base_url=base, headers=headers, follow_redirects=False)


def requests_of(app: FastAPI) -> list[tuple[str, str]]:
    """Method and path of every route, however deep it lies."""
    known = {"dataset": SET, "id": "P003", "kind": "random", "first": "healthy", "second": "NPM1", "size": "64"}

    def walk(routes: list[BaseRoute]) -> Iterator[tuple[str, str]]:
        for route in routes:
            below = getattr(route, "original_router", route)  # FastAPI keeps included routers whole
            if isinstance(route, Route | Mount):
                filled = re.sub(r"\{(\w+)(?::\w+)?\}", lambda name: known.get(name[1], "3"), route.path) or "/"
                for method in getattr(route, "methods", None) or {"GET"}:
                    yield method, filled
            else:
                assert below.routes, f"a kind of route that this test does not know: {route}"
            yield from walk(getattr(below, "routes", None) or [])

    return sorted(set(walk(list(app.routes))))


def test_another_user_of_the_machine_sees_nothing(study: Path) -> None:
    """Every route of the application, whatever is added later, and the files of the page."""
    app = create_app(study, token=TOKEN)
    described = {(method.upper(), path) for path, methods in app.openapi()["paths"].items() for method in methods}
    asked = requests_of(app)
    assert len(asked) > len(described) >= 25
    for wanted in ("/", "/openapi.json", f"/api/cells/{SET}/3/image", "/api/uploads", "/api/annotations"):
        assert wanted in {path for _, path in asked}
    other, owner = browser_at(app), browser_at(app, Authorization=f"Bearer {TOKEN}")
    extra = [(method, path) for path in ("/", f"/api/cells/{SET}/3/image") for method in ("POST", "HEAD", "OPTIONS")]
    for method, path in [*asked, *extra, ("GET", "/assets/x.js"), ("GET", "/nowhere")]:
        for headers in (
            {},
            PAGE,
            {"Authorization": "Bearer wrong"},
            {"Cookie": "cytosae-8765=wrong; cytosae-8765-again=1"},
            {"X-Forwarded-User": "root", "X-Forwarded-For": "127.0.0.1", "X-Real-IP": "127.0.0.1"},
        ):
            answer = other.request(method, path, headers=headers)
            assert answer.status_code == 401, (method, path, headers)
            assert SET not in answer.text
            assert TOKEN not in str(answer.headers) + answer.text
        if method in {"GET", "HEAD"}:
            assert owner.request(method, path).status_code != 401, (method, path)


def test_the_page_without_a_token_says_what_to_do(study: Path) -> None:
    app = create_app(study, token=TOKEN)
    client = browser_at(app)
    answer = client.get("/", headers=PAGE)
    assert answer.status_code == 401
    assert answer.headers["content-type"].startswith("text/html")
    assert "Open the address that `cytosae explore` printed" in answer.text
    assert answer.headers["referrer-policy"] == "no-referrer"
    assert answer.headers["cache-control"] == "no-store"
    assert "<script>location.reload()</script>" in answer.text
    assert "unsafe" not in answer.headers["content-security-policy"].partition("style-src")[0]
    assert "<script" not in client.get("/", headers=PAGE).text  # its second cookie was kept: loaded again only once
    fresh = browser_at(app)
    assert "<script" not in fresh.get("/", headers=PAGE | {"Sec-Fetch-Site": "none"}).text
    assert "set-cookie" not in fresh.get("/api/study").headers
    assert fresh.get("/api/study").json()["detail"].startswith("This explorer asks for its token.")


def test_cookies_of_several_explorers_live_side_by_side(study: Path) -> None:
    first, second = (create_app(study, token=token) for token in ("first-token", "second-token"))
    one, two = browser_at(first, "http://127.0.0.1:8001"), browser_at(second, "http://127.0.0.1:8002")
    jar = one.get("/?token=first-token").headers["set-cookie"].partition(";")[0]
    jar += "; " + two.get("/?token=second-token").headers["set-cookie"].partition(";")[0]
    for client in (one, two):
        client.cookies.clear()
        assert client.get("/api/study", headers={"Cookie": jar}).status_code == 200
    for both in ("cytosae-8001=second-token; cytosae-8001=first-token", "cytosae-8001=first-token; cytosae-8001=x"):
        assert one.get("/api/study", headers={"Cookie": both}).status_code == 200
    assert one.get("/api/study", headers={"Cookie": "cytosae-8001=second-token"}).status_code == 401


def test_pictures_are_asked_for_again(study: Path) -> None:
    """Two studies that are opened one after the other have the same addresses of pictures."""
    client = browser_at(create_app(study))
    assert client.get(f"/api/cells/{SET}/3/image").headers["cache-control"] == "private, no-cache"


@pytest.mark.parametrize(
    ("url", "origin", "prefix"),
    [
        ("https://cells.hospital.org", "https://cells.hospital.org", ""),
        ("https://Cells.Hospital.org:443/", "https://cells.hospital.org", ""),
        ("https://hospital.org:8443/lab/cells/", "https://hospital.org:8443", "/lab/cells"),
        ("http://10.0.0.7:80/x.y", "http://10.0.0.7", "/x.y"),
        ("https://[::1]:9", "https://[::1]:9", ""),
        ("https://zellen.münchen.de", "https://zellen.xn--mnchen-3ya.de", ""),
    ],
)
def test_public_addresses(url: str, origin: str, prefix: str) -> None:
    found = PublicAddress.parse(url)
    assert (found.origin, found.prefix, str(found)) == (origin, prefix, f"{origin}{prefix}/")


@pytest.mark.parametrize(
    "url",
    [
        "",
        "cells.hospital.org",
        "ftp://hospital.org",
        "https://",
        "https:///cells",
        "https://user:word@hospital.org",
        "https://hospital.org/?a=b",
        "https://hospital.org/#x",
        "https://hospital.org:99999",
        "https://hospital.org/a b",
        "https://hospital.org/../x",
        "https://hospital.org/a//b",
        "https://hospital.org/%2e",
        "https://hospital org",
        "https://[::1",
        "https://ex%61mple.org",
        "https://x<y>.org",
        "https://*",
        "https://-",
        "https://a..org",
        "https://hospital.org:0",
        "https://hospital\n.org",
        "https://hospital.org\n",
        "https://[fe80::1%25eth0]",
    ],
)
def test_what_is_no_public_address(url: str, tmp_path: Path) -> None:
    with pytest.raises(CytosaeError, match="--public-url"):
        serving.serve(tmp_path, public_url=url, port=0)


def test_a_public_address_behind_a_proxy(study: Path) -> None:
    app = create_app(study, token=TOKEN, public_url=PUBLIC)
    for base, forwarded in (("https://cells.hospital.org", {}), (HERE, {"X-Forwarded-Host": "cells.hospital.org"})):
        for at in ("", "/cells"):  # a proxy may take the prefix off or leave it
            client = browser_at(app, base, **forwarded)
            welcome = client.get(f"{at}/?token={TOKEN}")
            assert (welcome.status_code, welcome.headers["location"]) == (303, "/cells/")
            cookie = welcome.headers["set-cookie"]
            assert cookie.startswith(f"cytosae-443={TOKEN};")
            assert {"HttpOnly", "Secure", "Path=/cells", "SameSite=strict"} <= set(cookie.split("; "))
            client.cookies.clear()
            known = {"Cookie": f"cytosae-443={TOKEN}"}
            assert client.get(f"{at}/api/study", headers=known).json()["name"] == "study"
            assert client.get(f"{at}/api/cells/{SET}/3/image", headers=known).headers["content-type"] == "image/jpeg"
            assert "<div id=" in client.get(f"{at}/", headers=known).text
            body = {"title": "behind a proxy", "items": [{"dataset": SET, "latent": 3}]}
            mine = known | {"Origin": "https://cells.hospital.org", "Sec-Fetch-Site": "same-origin"}
            assert client.post(f"{at}/api/worklists", json=body, headers=mine).status_code == 201
            for origin in (
                "https://hospital.org",
                "http://cells.hospital.org",
                "https://cells.hospital.org:8443",
                "null",
            ):
                refused = client.post(f"{at}/api/worklists", json=body, headers=known | {"Origin": origin})
                assert refused.status_code == 403, origin
                assert "`--public-url`" in refused.json()["detail"]
            assert client.get(f"{at}/api/study").status_code == 401
    direct = browser_at(app, Authorization=f"Bearer {TOKEN}")
    assert direct.get("/api/study").status_code == 200
    for headers in ({"Host": "hospital.org"}, {"X-Forwarded-Host": "evil.example"}, {"Host": "evil.example"}):
        assert "Host not allowed" in direct.get("/api/study", headers=headers).json()["detail"]
    forged = {"Host": "evil.example", "X-Forwarded-Host": "cells.hospital.org"}
    assert direct.get("/api/study", headers=forged).status_code == 400
    public = browser_at(app, "https://cells.hospital.org", Authorization=f"Bearer {TOKEN}")
    assert public.get("/cells").headers["location"] == "/cells/"
    assert public.get("/cells/openapi.json").json()["servers"] == [{"url": "/cells"}]


@contextmanager
def explored(study: Path, log: Path, *options: str, **environment: str) -> Iterator[str]:
    """The address that the running command prints; what it says goes into a file."""
    command = [sys.executable, "-m", "cytosae", "explore", str(study), "--no-open", *options]
    settings = os.environ | environment
    with (
        log.open("w") as said,
        subprocess.Popen(command, env=settings, stdout=subprocess.PIPE, stderr=said, text=True) as server,
    ):
        try:
            assert server.stdout is not None
            yield server.stdout.readline().strip()
        finally:
            server.send_signal(signal.SIGINT)
            server.wait(60)


def test_the_token_opens_the_page_in_a_browser(study: Path, tmp_path: Path) -> None:
    """By the printed address, by a link on another site, by the file that is opened; and after a reload."""
    if CHROMIUM is None:
        pytest.skip("no chromium here; install Debian's package of that name")
    from playwright.sync_api import sync_playwright

    log = tmp_path / "log"
    with explored(study, log, "--port", "0") as address, sync_playwright() as playwright:
        assert re.fullmatch(r"http://127\.0\.0\.1:\d+/\?token=[\w-]{30,}", address)
        base, _, token = address.partition("?token=")
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox", "--disable-gpu"])
        shown = "a[href^='#/']"

        page = browser.new_page()
        page.goto(base)
        page.wait_for_selector("text=Token needed")
        page.goto(f"{address}#/cells/{SET}")
        page.wait_for_selector(".picture img")
        assert page.url == f"{base}#/cells/{SET}"
        assert token not in page.evaluate("document.documentElement.outerHTML + document.cookie + document.referrer")
        (cookie,) = [one for one in page.context.cookies() if one["value"] == token]
        assert (cookie["name"], cookie["httpOnly"], cookie["sameSite"]) == (
            f"cytosae-{base.split(':')[2].rstrip('/')}",
            True,
            "Strict",
        )
        page.reload()
        page.wait_for_selector(".picture img")
        page.go_back()  # to where the token was asked for; the address with the token is not in the history
        page.wait_for_selector(shown)
        assert page.url.partition("#")[0] == base

        elsewhere = tmp_path / "elsewhere.html"
        elsewhere.write_text(f'<a id="view" href="{base}#/cells/{SET}">view</a>')
        page.goto(elsewhere.as_uri())
        page.click("#view")
        page.wait_for_selector(".picture img")  # the cookie is there, though a foreign page led here
        assert page.url == f"{base}#/cells/{SET}"

        with serving._leading(address, token) as opening:
            file = Path(opening.removeprefix("file://"))
            assert file.parent.stat().st_mode & 0o077 == 0
            fresh = browser.new_context().new_page()
            fresh.goto(opening)
            fresh.wait_for_selector(shown)
            assert fresh.url.partition("#")[0] == base
        assert not file.exists()

        stranger = browser.new_context().new_page()
        visits: list[str] = []
        stranger.on("request", lambda request: visits.append(request.url))
        stranger.goto(elsewhere.as_uri())
        stranger.click("#view")
        stranger.wait_for_selector("text=Token needed")
        stranger.wait_for_timeout(1000)
        assert len([url for url in visits if url.startswith(base)]) <= 3  # not for ever
        browser.close()
    assert token not in log.read_text()


def test_a_token_from_the_environment_and_none(study: Path, tmp_path: Path) -> None:
    log = tmp_path / "log"
    with explored(study, log, "--port", "0", CYTOSAE_TOKEN="from-outside") as address:
        assert address.endswith("/?token=from-outside")
    with explored(study, log, "--port", "0", "--no-token") as address:
        assert "token" not in address
        assert httpx.get(f"{address}api/study").status_code == 200
    assert "WARNING: without a token, anybody on this machine" in log.read_text()


def documented(folder: Path, *, port: int, upstream: int) -> str:
    """The configuration of nginx in the guide, with the certificate and the ports of the test, and nothing else."""
    (server,) = re.findall(r"```nginx\n(.*?)```", GUIDE.read_text(encoding="utf-8"), re.DOTALL)
    for before, after in (
        ("listen 443 ssl;", f"listen 127.0.0.1:{port} ssl;"),
        ("/etc/ssl/cells.pem", f"{folder}/cells.pem"),
        ("/etc/ssl/cells.key", f"{folder}/cells.key"),
        ("127.0.0.1:8765", f"127.0.0.1:{upstream}"),
    ):
        assert server.count(before) == 1, before
        server = server.replace(before, after)
    temporary = "".join(
        f"{kind}_temp_path {folder}/{kind};\n" for kind in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
    )
    return (
        f"daemon off; master_process off; pid {folder}/pid; error_log {folder}/error.log;\n"
        f"events {{}}\nhttp {{\naccess_log {folder}/access.log;\n{temporary}{server}}}\n"
    )


@contextmanager
def proxied(folder: Path, *, port: int, upstream: int) -> Iterator[None]:
    """A running nginx with a certificate of its own."""
    key = [
        "-keyout",
        folder / "cells.key",
        "-out",
        folder / "cells.pem",
        "-days",
        "2",
        "-subj",
        "/CN=cells.hospital.org",
    ]
    made = [OPENSSL, "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", *key]
    subprocess.run([*made, "-addext", "subjectAltName=DNS:cells.hospital.org"], check=True, capture_output=True)
    (folder / "nginx.conf").write_text(documented(folder, port=port, upstream=upstream))
    command = [str(NGINX), "-p", str(folder), "-c", str(folder / "nginx.conf"), "-e", str(folder / "error.log")]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as nginx:
        try:
            for _ in range(200):
                with socket.socket() as sock:
                    if sock.connect_ex(("127.0.0.1", port)) == 0:
                        break
                assert nginx.poll() is None, nginx.communicate()[1]
                time.sleep(0.05)
            yield
        finally:
            nginx.terminate()


@pytest.mark.skipif(NGINX is None or OPENSSL is None, reason="no nginx and openssl here; install nginx-light, openssl")
def test_behind_a_real_proxy_with_tls(study: Path, tmp_path: Path) -> None:
    import ssl

    port, upstream = free_port(), free_port()
    public = f"https://cells.hospital.org:{port}/cells"
    image = Path(read_cells(study / "cells.parquet")["path"][4]).read_bytes()
    with (
        explored(study, tmp_path / "explorer.log", "--port", str(upstream), "--public-url", public) as address,
        proxied(tmp_path, port=port, upstream=upstream),
    ):
        base, _, token = address.partition("/?token=")
        assert base == public
        trusted = ssl.create_default_context(cafile=str(tmp_path / "cells.pem"))
        name = {"sni_hostname": "cells.hospital.org"}

        def ask(method: str, path: str, host: str = f"cells.hospital.org:{port}", **given: Any) -> httpx.Response:
            headers = {"Host": host} | given.pop("headers", {})
            url = f"https://127.0.0.1:{port}{path}"
            with httpx.Client(verify=trusted, timeout=60) as client:
                return client.request(method, url, headers=headers, extensions=name, **given)

        assert ask("GET", "/cells/api/study").status_code == 401
        assert "Token needed" in ask("GET", "/cells/", headers=PAGE).text
        welcome = ask("GET", f"/cells/?token={token}")
        assert (welcome.status_code, welcome.headers["location"]) == (303, "/cells/")
        cookie = welcome.headers["set-cookie"]
        assert {"Secure", "HttpOnly", "Path=/cells"} <= set(cookie.split("; "))
        mine = {"Cookie": cookie.partition(";")[0]}
        own = mine | {"Origin": f"https://cells.hospital.org:{port}", "Sec-Fetch-Site": "same-origin"}
        assert ask("GET", "/cells/api/study", headers=mine).json()["name"] == "study"
        assert ask("GET", f"/cells/api/cells/{SET}/3/image", headers=mine).headers["content-type"] == "image/jpeg"
        (script,) = re.findall(r'src="\./(assets/[^"]+\.js)"', ask("GET", "/cells/", headers=mine).text)
        assert ask("GET", f"/cells/{script}", headers=mine).status_code == 200
        assert "no such patient" in ask("GET", "/cells/api/patients/a%2Fb", headers=mine).json()["detail"]
        assert "a/b" in ask("GET", "/cells/api/patients/a%2Fb", headers=mine).json()["detail"]  # one name, not two

        place = {"dataset": SET, "latent": 3, "rater": "Ann", "version": 0, "verdict": "meaningful"}
        assert ask("PUT", "/cells/api/annotations", json=place, headers=own).json()["version"] == 1
        listing = {"title": "behind nginx", "items": [{"dataset": SET, "latent": 3}]}
        assert ask("POST", "/cells/api/worklists", json=listing, headers=own).status_code == 201
        large = [("files", ("cell.png", image)), ("files", ("large.bin", b"x" * 3 * 10**6))]
        (refused,) = ask("POST", "/cells/api/uploads", files=large, headers=own).json()["refused"]
        assert refused["name"] == "large.bin"
        sent = ask("POST", "/cells/api/uploads", files=[("files", ("cell.png", image))], headers=own)
        assert sent.status_code == 200, sent.text
        picture = ask("GET", f"/cells/api/uploads/{sent.json()['id']}/0/image", headers=mine)
        assert picture.headers["content-type"] == "image/jpeg"

        for origin in ("https://evil.example", "https://cells.hospital.org", "null", f"http://127.0.0.1:{upstream}"):
            refused = ask("POST", "/cells/api/worklists", json=listing, headers=mine | {"Origin": origin})
            assert refused.status_code == 403, origin
            assert "`--public-url`" in refused.json()["detail"]
        wrong = ask("GET", "/cells/api/study", host="evil.example", headers=mine)
        assert wrong.status_code == 400
        assert "Host not allowed. Open the address that the server printed" in wrong.json()["detail"]
        if CHROMIUM is not None:
            in_a_browser(f"{address}#/concepts/{SET}", port)
    for log in tmp_path.glob("*.log"):
        assert token not in log.read_text(), log.name


def in_a_browser(address: str, port: int) -> None:
    """Look at the concepts, make a worklist: the page finds its files and the API below the prefix."""
    from playwright.sync_api import sync_playwright

    known = f"--host-resolver-rules=MAP cells.hospital.org:{port} 127.0.0.1:{port}"
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox", "--disable-gpu", known])
        page = browser.new_context(ignore_https_errors=True).new_page()
        faults: list[str] = []
        page.on("console", lambda said: faults.append(said.text) if said.type == "error" else None)
        page.goto(address)
        page.wait_for_selector(".item")
        assert "token" not in page.url
        page.get_by_role("button", name="Worklist").click()
        page.get_by_label("Title").fill("From the browser")
        page.get_by_role("button", name="Create worklist", exact=True).click()
        page.wait_for_selector("text=From the browser")
        assert faults == []
        browser.close()
