"""Who may ask: names of the host, a token, no other site, no endless bodies; and the headers that hold a page to it."""

from __future__ import annotations

import base64
import hashlib
import ipaddress
import re
import secrets
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from urllib.parse import parse_qsl, unquote, urlencode, urlsplit

from starlette.datastructures import Headers, MutableHeaders
from starlette.exceptions import HTTPException
from starlette.responses import HTMLResponse, JSONResponse, RedirectResponse, Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from cytosae.errors import CytosaeError

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
_NAME = re.compile(r"(?:[a-z0-9](?:[a-z0-9-]*[a-z0-9])?\.)*[a-z0-9](?:[a-z0-9-]*[a-z0-9])?\.?")
_SAFE = {"GET", "HEAD", "OPTIONS"}
_PORTS = {"http": 80, "https": 443}
_PREFIX = re.compile(r"(/(?!\.+(/|$))[A-Za-z0-9._~-]+)*")
_OPEN = "Open the address that the server printed"
_NO_HOST = f"Host not allowed. {_OPEN}, or allow this host with `--public-url`."
_NO_ORIGIN = f"Requests from other sites are refused. {_OPEN}, or allow this site with `--public-url`."
_NO_TOKEN = (
    "This explorer asks for its token. Open the address that `cytosae explore` printed when it was started: it ends in "
    "?token=... A restarted explorer has a new token."
)
_PAGE = """<!doctype html>
<html lang="en">
<head><meta charset="utf-8"><meta name="color-scheme" content="light dark"><title>cytosae explorer</title></head>
<body style="font: 16px/1.5 system-ui, sans-serif; max-width: 40em; margin: 4em auto; padding: 0 1em">
<h1>Token needed</h1>
<p>{text}</p>{script}
</body>
</html>
"""
_RELOAD = "location.reload()"
_RELOAD_POLICY = base64.b64encode(hashlib.sha256(_RELOAD.encode()).digest()).decode()
_AGAIN = 10  # seconds in which a page that was reloaded for its cookie is not reloaded again
BODY = 4 * 2**20
"""Bytes of a request's body, where nothing else is said."""


def is_loopback(host: str) -> bool:
    """Whether nothing but this machine can reach a host."""
    name = host.strip("[]")
    try:
        return ipaddress.ip_address(name).is_loopback
    except ValueError:
        return name == "localhost"


def parse_host(header: str) -> str:
    """The name in a header ``Host``, without port and brackets, in lower case; empty where it is none."""
    match = _HOST.fullmatch(header)
    return "" if match is None else (match[1] or match[2]).lower()


@dataclass(frozen=True)
class PublicAddress:
    """Where a proxy offers the explorer to others."""

    scheme: str
    host: str
    """Without port and brackets, in lower case."""
    port: int
    prefix: str
    """Path below which the explorer lies, such as ``/cells``; empty for the whole host."""

    @classmethod
    def parse(cls, url: str) -> PublicAddress:
        """Read an address such as ``https://cells.hospital.org`` or ``https://hospital.org/cells``.

        Raises
        ------
        CytosaeError
            Not such an address.
        """
        try:
            address = urlsplit(url)
            port, scheme = address.port, address.scheme
            host = (address.hostname or "").encode("idna").decode() if url.isprintable() and port != 0 else ""
        except ValueError:
            host = scheme = ""
        prefix = address.path.rstrip("/") if host else ""
        extra = host and (address.query or address.fragment or "@" in address.netloc)
        if not _is_site(host) or scheme not in _PORTS or extra or not _PREFIX.fullmatch(prefix):
            raise CytosaeError(
                f"--public-url {url}: not an address of a site. Give one such as https://cells.hospital.org or "
                "https://hospital.org/cells."
            )
        return cls(scheme, host, port or _PORTS[scheme], prefix)

    @property
    def origin(self) -> str:
        """Scheme, host and port, as browsers write it."""
        return f"{self.scheme}://{_bracketed(self.host)}{'' if self.port == _PORTS[self.scheme] else f':{self.port}'}"

    def __str__(self) -> str:
        return f"{self.origin}{self.prefix}/"

    def outside(self, scope: Scope) -> Scope:
        """A request as the browser sent it to the proxy, whether or not the proxy has taken the prefix off its path."""
        path, raw = scope["path"], scope.get("raw_path") or scope["path"].encode()
        if path != self.prefix and not path.startswith(f"{self.prefix}/"):
            path, raw = self.prefix + path, self.prefix.encode() + raw
        return {**scope, "scheme": self.scheme, "root_path": self.prefix, "path": path, "raw_path": raw}


def _is_site(host: str) -> bool:
    """Whether it is an IP address, or a name of letters, digits and '-' in parts (IDNA encoded)."""
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return _NAME.fullmatch(host) is not None
    return "%" not in host  # the zone of an address is this machine's own


def _bracketed(host: str) -> str:
    return f"[{host}]" if ":" in host else host


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
    public
        Where a proxy offers the server. Only if given, ``X-Forwarded-Host`` is read, and never as a proof of anything.
    bodies
        Largest body in bytes of paths that take more than `BODY`.
    """

    def __init__(
        self,
        app: ASGIApp,
        *,
        token: str | None,
        hosts: Sequence[str],
        public: PublicAddress | None = None,
        bodies: Mapping[str, int] | None = None,
    ) -> None:
        self.app, self._token, self._public, self._bodies = app, token, public, dict(bodies or {})
        self._hosts = {host.strip("[]").lower() for host in hosts}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """One request."""
        if scope["type"] == "lifespan":
            await self.app(scope, receive, send)
            return
        if scope["type"] != "http":
            await send({"type": "websocket.close", "code": 1008})
            return
        guarded, headers = _with_headers(send), Headers(scope=scope)
        names = self._names(headers)
        public = self._public if self._public is not None and self._public.host in names else None
        if public is not None:
            scope = public.outside(scope)
        refusal = self._foreign(scope, headers, names) or self._unknown(scope, headers, public)
        if refusal is None and public is not None and scope["path"] == public.prefix != "":
            refusal = RedirectResponse(f"{public.prefix}/", 308)  # or relative addresses would lead beside it
        if refusal is not None:
            await refusal(scope, receive, guarded)
            return
        raw = scope.get("raw_path") or b""
        if b"%2f" in raw.lower():
            # A slash of a name's own stays encoded, so that it does not divide the path; `routes.named` decodes it.
            text = raw.decode("latin-1").replace("%2F", "%252F").replace("%2f", "%252F")
            scope = {**scope, "path": unquote(text)}
        route = scope["path"].removeprefix(scope.get("root_path", ""))
        await _Limited(self.app, self._bodies.get(route, BODY))(scope, receive, guarded)

    def _names(self, headers: Headers) -> list[str]:
        """Hosts that the request names; empty text for what is no host."""
        forwarded = [] if self._public is None else headers.getlist("x-forwarded-host")
        given = headers.getlist("host")
        return [parse_host(name) for name in [*(given if len(given) == 1 else [""]), *forwarded]]

    def _foreign(self, scope: Scope, headers: Headers, names: Sequence[str]) -> Response | None:
        """The refusal of a request to another host or from another site."""
        allowed = self._hosts if self._public is None else {*self._hosts, self._public.host}
        if not allowed.issuperset(names):
            return _problem(400, _NO_HOST)
        if scope["method"] in _SAFE:
            return None
        origin, site = headers.get("origin"), headers.get("sec-fetch-site", "same-origin")
        origins = {f"{scope['scheme']}://{headers['host']}".lower()}
        if self._public is not None:
            origins.add(self._public.origin)
        if site not in {"same-origin", "none"} or (origin is not None and origin.lower() not in origins):
            return _problem(403, _NO_ORIGIN)
        return None

    def _unknown(self, scope: Scope, headers: Headers, public: PublicAddress | None) -> Response | None:
        """What a request gets that has to show the token first; None where it has."""
        if self._token is None:
            return None
        query = parse_qsl(scope["query_string"].decode("latin-1"), keep_blank_values=True)
        given, cookie = dict(query).get("token"), _Cookie.for_server(headers, public)
        if given is not None and scope["method"] in _SAFE and self._right(given):
            rest = urlencode([(name, value) for name, value in query if name != "token"])
            path = "/" + (scope.get("raw_path") or scope["path"].encode()).decode("latin-1").lstrip("/\\")
            welcome = RedirectResponse(path + (f"?{rest}" if rest else ""), 303)
            cookie.put(welcome, self._token)
            return welcome
        scheme, _, bearer = headers.get("authorization", "").partition(" ")
        shown = [bearer.strip()] if scheme.lower() == "bearer" else cookie.values(headers)
        if any(self._right(value) for value in shown):
            return None
        return _ask_for_token(scope, headers, cookie)

    def _right(self, given: str) -> bool:
        return self._token is not None and secrets.compare_digest(given.encode(), self._token.encode())


@dataclass(frozen=True)
class _Cookie:
    """The cookie that holds the token; of this server alone, since browsers do not tell the ports of a host apart."""

    name: str
    path: str
    secure: bool

    @classmethod
    def for_server(cls, headers: Headers, public: PublicAddress | None) -> _Cookie:
        """The cookie of the server at the address that the browser uses."""
        if public is not None:
            return cls(f"cytosae-{public.port}", public.prefix or "/", public.scheme == "https")
        _, _, port = headers["host"].rpartition("]")[2].partition(":")
        return cls(f"cytosae-{port or 80}", "/", False)

    def put(self, response: Response, value: str) -> None:
        """Let the browser keep it; it sends it to no other site and shows it to no script."""
        response.set_cookie(self.name, value, path=self.path, secure=self.secure, httponly=True, samesite="strict")

    def values(self, headers: Headers) -> list[str]:
        """All values of the cookie in a request, also those of servers at other paths of the host."""
        pairs = [pair.strip().partition("=") for pair in headers.get("cookie", "").split(";")]
        return [value for name, _, value in pairs if name == self.name]


def _ask_for_token(scope: Scope, headers: Headers, cookie: _Cookie) -> Response:
    """What to do, as a page for people and as JSON for programs.

    Browsers keep the cookie back when a link on another site leads here, or a file. The page then loads itself once
    more, which the browser counts as the page's own doing; a second cookie sees to it that this happens once.
    """
    if scope["method"] != "GET" or "text/html" not in headers.get("accept", ""):
        response: Response = _problem(401, _NO_TOKEN)
    else:
        again = _Cookie(f"{cookie.name}-again", cookie.path, cookie.secure)
        reload = headers.get("sec-fetch-site") not in {"same-origin", "none"} and not again.values(headers)
        script = f"<script>{_RELOAD}</script>" if reload else ""
        response = HTMLResponse(_PAGE.format(text=_NO_TOKEN, script=script), 401)
        if reload:
            response.set_cookie(again.name, "1", _AGAIN, path=again.path, secure=again.secure, httponly=True)
            response.headers["Content-Security-Policy"] = CONTENT_POLICY.replace(
                "script-src 'self'", f"script-src 'sha256-{_RELOAD_POLICY}'"
            )
    response.headers["WWW-Authenticate"] = "Bearer"
    return response


def _problem(status: int, detail: str) -> Response:
    return JSONResponse({"detail": detail}, status)


def _with_headers(send: Send) -> Send:
    async def sent(message: Message) -> None:
        if message["type"] == "http.response.start":
            headers = MutableHeaders(scope=message)
            for name, value in _HEADERS.items():
                headers.setdefault(name, value)
            headers.setdefault("Cache-Control", "no-store")
        await send(message)

    return sent


class _Limited:
    """Stops reading a body where it becomes too long, whatever its header says."""

    def __init__(self, app: ASGIApp, limit: int) -> None:
        self.app, self._limit = app, limit

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """One request."""
        length = Headers(scope=scope).get("content-length", "0")
        detail = f"The request is larger than {self._limit / 2**20:.0f} MB."
        if not length.isascii() or not length.isdigit() or len(length) > 15 or int(length) > self._limit:
            await _problem(413, detail)(scope, receive, send)
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
