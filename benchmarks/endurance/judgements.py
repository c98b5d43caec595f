"""Judgements of several raters at once, over HTTP, while the server is killed again and again."""

from __future__ import annotations

import socket
import subprocess
import sys
import threading
import time
from typing import Any

import httpx

from benchmarks.endurance.outcome import Outcome
from benchmarks.endurance.studying import Ground

RATERS = 4
KILLS_IN = 500
"""The server is killed once for so many judgements."""
_SERVER = """
import sys, uvicorn
from fastapi import FastAPI
from cytosae.explorer.annotations import Database
from cytosae.explorer.annotations.routes import router

app = FastAPI()
app.include_router(router(Database(sys.argv[1], "d" * 64)))
uvicorn.run(app, host="127.0.0.1", port=int(sys.argv[2]), log_level="error")
"""


class _Server:
    """The server, which comes back at the same address after it was killed."""

    def __init__(self, database: str) -> None:
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port = free.getsockname()[1]
        self.command = [sys.executable, "-c", _SERVER, database, str(self.port)]
        self.client = httpx.Client(base_url=f"http://127.0.0.1:{self.port}", timeout=120)
        self.start()

    def start(self) -> None:
        self.process = subprocess.Popen(self.command, stderr=subprocess.DEVNULL)
        end = time.monotonic() + 120
        while time.monotonic() < end:
            try:
                self.client.get("/api/vocabulary")
                return
            except httpx.TransportError:
                time.sleep(0.05)
        raise RuntimeError("the server does not answer")

    def kill(self) -> None:
        self.process.kill()
        self.process.wait()


def _judgement(rater: str, latent: int) -> dict[str, Any]:
    return {
        "worklist": None, "dataset": "pbc", "latent": latent, "rater": rater, "verdict": "meaningful",
        "name": f"{rater} {latent}", "comment": "c" * 200, "terms": {}, "specific_for": None, "version": 0,
    }  # fmt: skip


def judgements(ground: Ground, trials: int, seed: int = 0) -> Outcome:
    """So many judgements; each one that was acknowledged is in the database afterwards."""
    address = f"sqlite:///{ground.folder}/annotations.sqlite"
    outcome = Outcome("judgements of 4 raters, the server killed")
    server = _Server(address)
    acknowledged: list[tuple[str, int]] = []
    lock = threading.Lock()

    def judge(rater: str) -> None:
        for latent in range(trials // RATERS):
            wish, end = _judgement(rater, latent), time.monotonic() + 300
            while time.monotonic() < end:
                try:
                    answer = server.client.put("/api/annotations", json=wish)
                except httpx.TransportError:
                    time.sleep(0.05)  # nobody said that it was kept: send it again
                    continue
                with lock:
                    if answer.is_success:
                        acknowledged.append((rater, latent))
                    elif answer.status_code == 409:  # it was kept before the server died
                        outcome.note("kept though nobody could say so")
                    else:
                        outcome.faults.append(f"{rater} {latent}: {answer.status_code} {answer.text[:200]}")
                break
            else:
                outcome.faults.append(f"{rater} {latent}: no answer")

    raters = [threading.Thread(target=judge, args=(f"rater {number}",)) for number in range(RATERS)]
    for rater in raters:
        rater.start()
    kills = 0
    while any(rater.is_alive() for rater in raters):
        if kills < max(1, trials // KILLS_IN) and len(acknowledged) >= (kills + 0.5) * KILLS_IN * min(
            1, trials / KILLS_IN
        ):
            server.kill()
            server.start()
            kills += 1
        time.sleep(0.01)
    server.kill()
    outcome.tried = trials
    outcome.counts.update({"acknowledged": len(acknowledged), "kills": kills})
    server.start()
    kept = {
        (one["rater"], one["latent"]): one["name"]
        for number in range(RATERS)
        for one in server.client.get("/api/annotations", params={"rater": f"rater {number}"}).json()
    }
    server.kill()
    server.client.close()
    lost = [(rater, latent) for rater, latent in acknowledged if kept.get((rater, latent)) != f"{rater} {latent}"]
    outcome.faults += [f"{rater} {latent}: acknowledged and lost" for rater, latent in lost]
    return outcome
