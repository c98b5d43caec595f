"""Where the figures of a training go: a JSONL file always, TensorBoard or Weights & Biases if asked for."""

from __future__ import annotations

import json
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

from cytosae.artefacts import parse_json, whole_file
from cytosae.errors import CytosaeError

METRICS = "metrics.jsonl"


class Tracker(Protocol):
    """Receives figures by step."""

    def log(self, step: int, figures: Mapping[str, Any]) -> None:
        """Record figures of a step."""

    def close(self) -> None:
        """Flush and end."""


class JsonLines:
    """One JSON object a line, in ``metrics.jsonl``; lines after the step that training goes on from are dropped."""

    def __init__(self, folder: Path, step: int) -> None:
        path = folder / METRICS
        lines = [line for line in read_metrics(folder) if line["step"] <= step] if step else []
        with whole_file(path) as temporary:
            temporary.write_text("".join(json.dumps(line) + "\n" for line in lines), encoding="utf-8")
        self._file = path.open("a", encoding="utf-8", buffering=1)
        self._start = time.monotonic() - (lines[-1]["seconds"] if lines else 0.0)

    def log(self, step: int, figures: Mapping[str, Any]) -> None:
        """Append a line; ``seconds`` counts the time spent training."""
        seconds = round(time.monotonic() - self._start, 3)
        self._file.write(json.dumps({"step": step, "seconds": seconds, **figures}) + "\n")

    def close(self) -> None:
        """Close the file."""
        self._file.close()


def read_metrics(folder: Path) -> list[dict[str, Any]]:
    """The lines of a training's log; a last line that was cut by a crash is left out.

    No example: needs a store of tokens, or a trained autoencoder; the README trains one.
    """
    path = folder / METRICS
    lines = []
    if path.is_file():
        for text in path.read_text(encoding="utf-8").splitlines():
            try:
                lines.append(parse_json(text))
            except ValueError:
                break
    return lines


class _TensorBoard:
    def __init__(self, folder: Path, step: int) -> None:
        from torch.utils.tensorboard import SummaryWriter

        self._writer = SummaryWriter(str(folder / "tensorboard"), purge_step=step or None)

    def log(self, step: int, figures: Mapping[str, Any]) -> None:
        for name, value in figures.items():
            self._writer.add_scalar(name, value, step)

    def close(self) -> None:
        self._writer.close()


class _WeightsAndBiases:
    def __init__(self, folder: Path, config: Mapping[str, Any]) -> None:
        import wandb

        self._run = wandb.init(project="cytosae", dir=str(folder), config=dict(config), id=None)

    def log(self, step: int, figures: Mapping[str, Any]) -> None:
        self._run.log(dict(figures), step=step)

    def close(self) -> None:
        self._run.finish()


TRACKERS = ("tensorboard", "wandb")


def open_trackers(names: Sequence[str], folder: Path, step: int, config: Mapping[str, Any]) -> list[Tracker]:
    """The JSONL log and the trackers asked for.

    Raises
    ------
    CytosaeError
        An unknown tracker, or one that is not installed.
    """
    trackers: list[Tracker] = []
    for name in names:
        if name not in TRACKERS:
            raise CytosaeError(f"--track {name}: unknown; choose from {', '.join(TRACKERS)}.")
        try:
            trackers.append(_TensorBoard(folder, step) if name == "tensorboard" else _WeightsAndBiases(folder, config))
        except ImportError as error:
            raise CytosaeError(f"--track {name}: not installed. Run `pip install 'cytosae[tracking]'`.") from error
    return [JsonLines(folder, step), *trackers]
