"""Who may ask: names of the host, a token, no other site, no endless bodies; and the headers that hold a page to it."""

from __future__ import annotations

import ipaddress
import json
import re
import secrets
from collections.abc import Mapping, Sequence
from http.cookies import CookieError, SimpleCookie
from urllib.parse import parse_qsl, unquote, urlencode

from starlette.datastructures import Headers, MutableHeaders
from starlette.exceptions import HTTPException
from starlette.responses import RedirectResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

CONTENT_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self' 'unsafe-inline'; img-src 'self' data: blob:; "
    "connect-src 'self'; font-src 'self'; worker-src 'self' blob:; base-uri 'none'; form-action 'none'; "
    "frame-ancestors 'none'"
)
_HEADERS = {
    "Content-Security-Policy": CONTENT_POLICY,
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "X-Frame-Options": "DENY",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
}
_HOST = re.compile(r"(?:\[([0-9A-Fa-f:.]+)\]|([^\s:@/\\?#\[\]]+))(?::[0-9]{1,5})?")
_SAFE = {"GET", "HEAD", "OPTIONS"}
BODY = 4 * 2**20
"""Bytes of a request's body, where nothing else is said."""


def is_loopback(host: str) -> bool:
    """Whether nothing but this machine can reach a host."""
    name = host.strip("[]")
    try:
        return ipaddress.ip_address(name).is_loopback
    except ValueError:
        return name == "localhost"


def host_of(header: str) -> str:
    """The name in a header ``Host``, without port and brackets, in lower case; empty where it is none."""
    found = _HOST.fullmatch(header)
    return "" if found is None else (found[1] or found[2]).lower()


class Guard:
    """Middleware around the whole application.

    Parameters
    ----------
    app
        What is guarded.
    token
        Asked for on every path, as ``Authorization: Bearer``, as a cookie, or once as ``?token=``, which becomes the
        cookie. None asks for nothing.
    hosts
        Names under which the server may be addressed: a foreign name that leads here is another site's (DNS rebinding).
    bodies
        Largest body in bytes of paths that take more than `BODY`.
    """

    def __init__(
        self, app: ASGIApp, *, token: str | None, hosts: Sequence[str], bodies: Mapping[str, int] | None = None
    ) -> None:
        self.app, self._token, self._bodies = app, token, dict(bodies or {})
        self._hosts = {host.strip("[]").lower() for host in hosts}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """One request."""
        if scope["type"] == "lifespan":
            await self.app(scope, receive, send)
            return
        if scope["type"] != "http":
            await send({"type": "websocket.close", "code": 1008})
            return
        guarded = _with_headers(send)
        headers = Headers(scope=scope)
        if refused := self._refused(scope, headers):
            await _refuse(guarded, *refused)
            return
        if self._token is not None:
            given = dict(parse_qsl(scope["query_string"].decode("latin-1"), keep_blank_values=True)).get("token")
            if given is not None and scope["method"] in _SAFE and self._right(given):
                await self._remember(scope, headers)(scope, receive, guarded)
                return
            if not self._known(headers):
                await _refuse(
                    guarded, 401, "A token is needed: open the address that `cytosae explore` printed.", bearer=True
                )
                return
        raw = scope.get("raw_path") or b""
        if b"%2f" in raw.lower():
            # A slash of a name's own stays encoded, so that it does not divide the path; `routes.named` decodes it.
            text = raw.decode("latin-1").replace("%2F", "%252F").replace("%2f", "%252F")
            scope = {**scope, "path": unquote(text)}
        await _Limited(self.app, self._bodies.get(scope["path"], BODY))(scope, receive, guarded)

    def _refused(self, scope: Scope, headers: Headers) -> tuple[int, str] | None:
        host = headers.get("host", "")
        if len(headers.getlist("host")) != 1 or host_of(host) not in self._hosts:
            return 400, "This server does not go by that name."
        if scope["method"] in _SAFE:
            return None
        origin, site = headers.get("origin"), headers.get("sec-fetch-site", "same-origin")
        if site not in {"same-origin", "none"}:
            return 403, "Requests from other sites are refused."
        if origin is not None and origin.lower() != f"{scope['scheme']}://{host}".lower():
            return 403, "Requests from other sites are refused."
        return None

    def _right(self, given: str) -> bool:
        return self._token is not None and secrets.compare_digest(given.encode(), self._token.encode())

    def _known(self, headers: Headers) -> bool:
        scheme, _, bearer = headers.get("authorization", "").partition(" ")
        if scheme.lower() == "bearer" and self._right(bearer.strip()):
            return True
        try:
            cookie = SimpleCookie(headers.get("cookie", "")).get(cookie_name(headers))
        except CookieError:
            return False
        return cookie is not None and self._right(cookie.value)

    def _remember(self, scope: Scope, headers: Headers) -> RedirectResponse:
        """The same address without the token, which is a cookie from now on."""
        query = scope["query_string"].decode("latin-1")
        rest = urlencode([(k, v) for k, v in parse_qsl(query, keep_blank_values=True) if k != "token"])
        path = "/" + (scope.get("raw_path") or scope["path"].encode()).decode("latin-1").lstrip("/\\")
        response = RedirectResponse(path + (f"?{rest}" if rest else ""), 303)
        response.set_cookie(
            cookie_name(headers), str(self._token), httponly=True, samesite="strict", secure=scope["scheme"] == "https"
        )
        return response


def cookie_name(headers: Headers) -> str:
    """Of this server alone: browsers do not tell the ports of a host apart."""
    _, _, port = headers.get("host", "").rpartition("]")[2].partition(":")
    return f"cytosae-{port or 80}"


async def _refuse(send: Send, status: int, detail: str, *, bearer: bool = False) -> None:
    body = json.dumps({"detail": detail}).encode()
    headers = [(b"content-type", b"application/json"), (b"content-length", str(len(body)).encode())]
    if bearer:
        headers.append((b"www-authenticate", b"Bearer"))
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body})


def _with_headers(send: Send) -> Send:
    async def sent(message: Message) -> None:
        if message["type"] == "http.response.start":
            headers = MutableHeaders(scope=message)
            for name, value in _HEADERS.items():
                headers[name] = value
            headers.setdefault("Cache-Control", "no-store")
        await send(message)

    return sent


class _Limited:
    """Stops reading a body where it becomes too long, whatever its header says."""

    def __init__(self, app: ASGIApp, limit: int) -> None:
        self.app, self._limit = app, limit

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """One request."""
        said = Headers(scope=scope).get("content-length", "0")
        detail = f"The request is larger than {self._limit / 2**20:.0f} MB."
        if not said.isascii() or not said.isdigit() or len(said) > 15 or int(said) > self._limit:
            await _refuse(send, 413, detail)
            return
        seen = 0

        async def counted() -> Message:
            nonlocal seen
            message = await receive()
            seen += len(message.get("body", b""))
            if seen > self._limit:
                raise HTTPException(413, detail)
            return message

        await self.app(scope, counted, send)
