"""The explorer as a server on this machine, its address printed and opened in the browser."""

from __future__ import annotations

import errno
import re
import secrets
import signal
import socket
import tempfile
import threading
import webbrowser
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil
import uvicorn

from cytosae.console import say
from cytosae.errors import CytosaeError, Interrupted
from cytosae.explorer.app import LOOPBACK, create_app
from cytosae.explorer.security import PublicAddress, is_loopback

PORT = 8765
_TOKEN = re.compile(r"[A-Za-z0-9._~-]{8,200}")
_EVERYWHERE = {"0.0.0.0", "::"}


def serve(
    study: Path,
    *,
    host: str = LOOPBACK[0],
    port: int = PORT,
    token: str | None = None,
    no_token: bool = False,
    public_url: str | None = None,
    annotations: str | None = None,
    uploads: bool = True,
    browser: bool = True,
) -> None:
    """Serve the explorer of a study until the process is asked to stop.

    Parameters
    ----------
    study
        Its folder.
    host
        Address to listen on.
    port
        0 for any that is free.
    token
        Asked for on every path; made if none is given.
    no_token
        Ask for nothing.
    public_url, annotations, uploads
        See `cytosae.explorer.create_app`.
    browser
        Open the address in the browser.

    Raises
    ------
    CytosaeError
        Not a study, an address that cannot be had, a token that fits in no address.
    """
    public = None if public_url is None else PublicAddress.parse(public_url)
    token = _token(token, no_token)
    with _listen(host, port) as listening:
        app = create_app(
            study, token=token, hosts=_names(host), public_url=public_url, annotations=annotations, uploads=uploads
        )
        base = _address(host, listening.getsockname()[1]) if public is None else str(public)
        address = base if token is None else f"{base}?token={token}"

        def ready() -> None:
            if token is None:
                who = "anybody on this machine" if public is None and is_loopback(host) else "ANYBODY WHO REACHES IT"
                say(f"explorer: WARNING: without a token, {who} can see this study and change its annotations")
            say(f"explorer: {study.absolute().name}; Ctrl-C stops it")
            print(address, flush=True)
            if browser:
                threading.Thread(target=webbrowser.open, args=(opening,), daemon=True).start()

        config = uvicorn.Config(
            app,
            log_level="warning",
            access_log=False,
            server_header=False,
            proxy_headers=False,
            ws="none",
            lifespan="on",
            timeout_graceful_shutdown=3,
        )
        try:
            with _leading(address, token) as opening:
                _Server(config, ready).run([listening])
        except Interrupted as stop:
            if stop.signum != signal.SIGINT:
                raise Interrupted(stop.signum, "explorer: stopped") from None
            say("explorer: stopped")


class _Server(uvicorn.Server):
    """Tells when it has begun."""

    def __init__(self, config: uvicorn.Config, ready: Callable[[], None]) -> None:
        super().__init__(config)
        self._ready = ready

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Begin to listen."""
        await super().startup(sockets)
        if self.started:
            self._ready()


def _token(given: str | None, without: bool) -> str | None:
    if without and given is not None:
        raise CytosaeError("--no-token: --token (or CYTOSAE_TOKEN) is given as well. Leave one of them out.")
    if given is not None and not _TOKEN.fullmatch(given):
        raise CytosaeError("--token: give 8 to 200 letters and digits (also . _ ~ -), or leave it out.")
    return None if without else given or secrets.token_urlsafe(24)


@contextmanager
def _leading(address: str, token: str | None) -> Iterator[str]:
    """What the browser opens: a file that only this user can read, since all users see the commands of a machine."""
    if token is None:
        yield address
        return
    with tempfile.TemporaryDirectory(prefix="cytosae-") as folder:  # readable by its owner alone
        file = Path(folder) / "explorer.html"
        file.write_text(f'<!doctype html><meta http-equiv="refresh" content="0; url={address}">', encoding="ascii")
        yield file.as_uri()


def _listen(host: str, port: int) -> socket.socket:
    try:
        family, kind, protocol, _, where = socket.getaddrinfo(host.strip("[]"), port, type=socket.SOCK_STREAM)[0]
        listening = socket.socket(family, kind, protocol)
    except (OSError, OverflowError, UnicodeError) as error:
        raise CytosaeError(f"--host {host}: not an address of this machine ({error}).") from error
    try:
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listening.bind(where)
        listening.listen(128)
    except (OSError, OverflowError) as error:
        listening.close()
        code = getattr(error, "errno", None)
        if code == errno.EADDRINUSE:
            raise CytosaeError(f"--port {port}: in use by another program. Choose another, or 0 for any.") from error
        if code == errno.EADDRNOTAVAIL:
            raise CytosaeError(f"--host {host}: not an address of this machine.") from error
        raise CytosaeError(f"--port {port}: cannot be opened ({error}). Choose another, or 0 for any.") from error
    return listening


def _names(host: str) -> list[str]:
    """Names by which a server on this address may be called."""
    own = host.strip("[]")
    if own not in _EVERYWHERE:
        return [*LOOPBACK, own]
    addresses = [a.address.partition("%")[0] for interface in psutil.net_if_addrs().values() for a in interface]
    return [*LOOPBACK, socket.gethostname(), socket.getfqdn(), *addresses]


def _address(host: str, port: int) -> str:
    own = host.strip("[]")
    name = socket.gethostname() if own in _EVERYWHERE else f"[{own}]" if ":" in own else own
    return f"http://{name}:{port}/"
