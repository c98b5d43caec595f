"""Damaged files of every kind that the program reads, each given to its reader, hundreds a minute."""

from __future__ import annotations

import faulthandler
import os
import resource
import shutil
import sys
import traceback
from dataclasses import dataclass
from multiprocessing import Pipe
from multiprocessing.connection import Connection
from multiprocessing.process import BaseProcess
from pathlib import Path

import numpy as np
import torch

from benchmarks.endurance.damages import damages
from benchmarks.endurance.kinds import KINDS, Kind
from benchmarks.endurance.outcome import Outcome, begun
from benchmarks.endurance.studying import Ground
from cytosae.artefacts import sha256_file
from cytosae.cells.samples import UnreadableImage
from cytosae.errors import CytosaeError

SECONDS, BYTES = 20.0, 1_500_000_000
"""What a reader of a small file may take, in time and in memory."""
_ROOM = 8_000_000_000
"""Bytes of addresses that a reader may ask for; so the machine outlives one that asks for everything."""
_KILOBYTE = 1 if sys.platform == "darwin" else 1024


@dataclass(frozen=True)
class Answer:
    """What became of reading a file."""

    verdict: str
    """``read``, ``refused`` or ``traceback``."""
    value: str = ""
    """What was read, or what was said."""
    noticed: bool = False
    """Whether a checksum beside the file tells that it is another."""
    bytes: int = 0
    """Memory that it took beyond what the process had."""


def inputs(ground: Ground, trials: int, seed: int = 0) -> Outcome:
    """Damage a file, read it, look, and put it back, so many times; the kinds take turns."""
    outcome, rng = Outcome("damaged file of any kind, read again"), np.random.default_rng(seed)
    folder = ground.folder / "inputs"
    ground.reset()
    places = {kind.name: folder / "kinds" / kind.name.replace(" ", "-") for kind in KINDS}
    for kind in KINDS:
        places[kind.name].mkdir(parents=True)
        kind.make(ground.study, places[kind.name])
    shutil.copytree(folder / "kinds", folder / "pristine")
    ways, reader = damages(rng), _Reader(folder)
    pristine = {kind.name: reader.read(kind, places[kind.name]) for kind in KINDS}
    for kind in KINDS:
        if pristine[kind.name].verdict != "read":
            outcome.faults.append(f"{kind.name}, undamaged: {pristine[kind.name].value[-1500:]}")
    reader.close()
    reader = _Reader(folder)  # all that it had to load is loaded: what a trial takes is the file's
    turn = 0
    while outcome.tried < trials:
        kind, way = KINDS[turn % len(KINDS)], str(rng.choice(list(ways)))
        turn += 1
        place = places[kind.name]
        victims = sorted({path for pattern in kind.files for path in place.glob(pattern)})
        victim = victims[int(rng.integers(len(victims)))]
        good = victim.read_bytes()
        spoiled = ways[way](good)
        if spoiled == good:
            continue
        victim.write_bytes(spoiled)
        before = _contents(place)
        answer = reader.read(kind, place)
        outcome.tried += 1
        where = f"{kind.name}, {victim.relative_to(place)}, {way}"
        if verdict := _fault(kind, answer, pristine[kind.name]):
            outcome.faults.append(f"{where}: {verdict}")
        outcome.note(f"{kind.name}: {_verdict(answer, pristine[kind.name])}")
        after = _contents(place)
        if touched := sorted(name for name, digest in before.items() if after.get(name) != digest):
            outcome.faults.append(f"{where}: lost or changed {', '.join(touched)}")
        shutil.rmtree(place)
        shutil.copytree(folder / "pristine" / place.name, place)
    reader.close()
    return outcome


def _verdict(answer: Answer, pristine: Answer) -> str:
    if answer.verdict != "read":
        return answer.verdict
    if answer.value == pristine.value:
        return "equal"
    return "noticed by its checksum" if answer.noticed else "another value"


def _fault(kind: Kind, answer: Answer, pristine: Answer) -> str | None:
    if answer.verdict not in {"read", "refused"}:
        return f"{answer.verdict}: {answer.value[-1500:]}"
    if answer.bytes > BYTES:
        return f"took {answer.bytes / 1e9:.1f} GB"
    if kind.checked and _verdict(answer, pristine) == "another value":
        return "accepted with another value, without a word"
    return None


def _contents(folder: Path) -> dict[str, str]:
    return {str(path.relative_to(folder)): sha256_file(path) for path in folder.rglob("*") if path.is_file()}


class _Reader:
    """A process that reads files; another takes its place where it dies or does not answer."""

    def __init__(self, folder: Path) -> None:
        self.log = folder / "reader.log"
        self.process: BaseProcess | None = None

    def _start(self) -> BaseProcess:
        self.ours, theirs = Pipe()
        process = begun(_reading, self.log, theirs)
        theirs.close()
        return process

    def read(self, kind: Kind, folder: Path) -> Answer:
        """Have a folder read."""
        seconds = SECONDS
        if self.process is None:
            self.process, seconds = self._start(), 10 * SECONDS  # it has to load the libraries first
        self.ours.send((kind.name, folder))
        try:
            if self.ours.poll(seconds):
                answer = self.ours.recv()
                assert isinstance(answer, Answer)
                if answer.bytes > BYTES:
                    self.close()
                return answer
            answer = Answer("too long", f"no answer in {SECONDS:.0f} seconds")
        except EOFError:
            self.process.join()
            answer = Answer(
                "died", f"ended with {self.process.exitcode}: {self.log.read_text(errors='replace')[-1500:]}"
            )
        self.close()
        return answer

    def close(self) -> None:
        """End the process."""
        if self.process is not None:
            self.process.kill()
            self.process.join()
            self.ours.close()
            self.process = None


def _reading(log: Path, requests: Connection) -> None:
    """In a process of its own: answer until nobody asks any more."""
    with log.open("w", encoding="utf-8") as file:
        os.dup2(file.fileno(), 2)
        os.dup2(file.fileno(), 1)
    faulthandler.enable()  # of a crash, where it was
    torch.set_num_threads(1)
    resource.setrlimit(resource.RLIMIT_AS, (_ROOM, _ROOM))
    kinds = {kind.name: kind for kind in KINDS}
    while True:
        try:
            name, folder = requests.recv()
        except EOFError:
            return
        requests.send(_answer(kinds[name], folder))


def _answer(kind: Kind, folder: Path) -> Answer:
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    try:
        value = kind.read(folder)
        answer = "read", value, kind.noticed(folder) if kind.noticed else False
    except (CytosaeError, UnreadableImage) as error:
        answer = "refused", str(error), True
    except BaseException:
        answer = "traceback", traceback.format_exc(), False
    grown = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) * _KILOBYTE
    return Answer(*answer, grown)
