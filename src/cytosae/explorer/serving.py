"""The explorer as a server on this machine, its address printed and opened in the browser."""

from __future__ import annotations

import errno
import re
import secrets
import signal
import socket
import threading
import webbrowser
from collections.abc import Callable
from pathlib import Path

import psutil
import uvicorn

from cytosae.console import say
from cytosae.errors import CytosaeError, Interrupted
from cytosae.explorer.app import LOOPBACK, create_app
from cytosae.explorer.security import is_loopback

PORT = 8765
_TOKEN = re.compile(r"[A-Za-z0-9._~-]{8,200}")
_EVERYWHERE = {"0.0.0.0", "::"}


def serve(
    study: Path,
    *,
    host: str = LOOPBACK[0],
    port: int = PORT,
    token: str | None = None,
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
        Address to listen on. Where others can reach it, a token is made if none is given.
    port
        0 for any that is free.
    token, annotations, uploads
        See `cytosae.explorer.create_app`.
    browser
        Open the address in the browser.

    Raises
    ------
    CytosaeError
        Not a study, an address that cannot be had, a token that fits in no address.
    """
    if token is not None and not _TOKEN.fullmatch(token):
        raise CytosaeError("--token: take 8 to 200 letters and digits (also . _ ~ -), or leave it out.")
    if token is None and not is_loopback(host):
        token = secrets.token_urlsafe(24)
    with _listen(host, port) as listening:
        app = create_app(study, token=token, hosts=_names(host), annotations=annotations, uploads=uploads)
        address = _address(host, listening.getsockname()[1], token)

        def ready() -> None:
            say(f"explorer: {study.absolute().name}; Ctrl-C stops it")
            print(address, flush=True)
            if browser:
                threading.Thread(target=webbrowser.open, args=(address,), daemon=True).start()

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
        raise CytosaeError(f"--port {port}: cannot be had ({error}). Choose another, or 0 for any.") from error
    return listening


def _names(host: str) -> list[str]:
    """Names by which a server on this address may be called."""
    own = host.strip("[]")
    if own not in _EVERYWHERE:
        return [*LOOPBACK, own]
    addresses = [a.address.partition("%")[0] for of in psutil.net_if_addrs().values() for a in of]
    return [*LOOPBACK, socket.gethostname(), socket.getfqdn(), *addresses]


def _address(host: str, port: int, token: str | None) -> str:
    own = host.strip("[]")
    name = socket.gethostname() if own in _EVERYWHERE else f"[{own}]" if ":" in own else own
    return f"http://{name}:{port}/" + (f"?token={token}" if token else "")
