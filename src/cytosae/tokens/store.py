"""Millions of tokens on disk: fixed-size shards of safetensors with a manifest.

A row is a cell; a cell is ``(n_tokens, d_model)`` in float16 or bfloat16, contiguous on disk. Shards are read with
positioned reads, not mapped, so that the memory in use stays what the caller asked for; those at URLs with ranged reads
of the cells that are wanted, never whole.
"""

from __future__ import annotations

import os
import struct
from collections import deque
from collections.abc import Callable, Generator, Iterable
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import asdict, dataclass, replace
from functools import cached_property, partial
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray
from safetensors.torch import save_file

from cytosae import __version__
from cytosae.artefacts import (
    MANIFEST,
    FileRecord,
    digest,
    own_files,
    parse_json,
    read_sealed,
    sha256_file,
    whole_file,
    write_sealed,
)
from cytosae.cells import pixels_digest, read_cells
from cytosae.errors import CytosaeError
from cytosae.storage import StoredPath, drop_working_copy, ranges
from cytosae.tokens.descriptors import Descriptors
from cytosae.tokens.harmonisation import read_harmonisation
from cytosae.tokens.layout import DTYPES, Layout

CELLS = "cells.parquet"
RECORD = ".json"
"""Ending of the note beside a shard."""


@dataclass(frozen=True)
class Shard:
    """Rows ``start`` up to ``stop`` of the store, in one file."""

    file: str
    start: int
    stop: int
    cells: str
    """Digest of the images that it was made from."""
    record: FileRecord
    """The file as it was written."""


def write_manifest(folder: Path, layout: Layout, shards: Iterable[Shard], complete: bool) -> None:
    """Write the manifest of a store; `complete` once every cell has its shard."""
    write_sealed(
        folder / MANIFEST,
        {
            "stage": "tokens",
            "cytosae": __version__,
            "layout": {
                key: value
                for key, value in asdict(layout).items()
                if key != "harmonisation" and (key, value) != ("frame", None)
            },
            "complete": complete,
            "shards": [asdict(shard) for shard in shards],
        },
        shared=True,
    )


def write_record(folder: Path, layout: Layout, shard: Shard) -> None:
    """Note beside a shard what it is, until the manifest says so: any number of processes may fill a store."""
    path = (folder / shard.file).with_suffix(RECORD)
    write_sealed(path, {"layout": digest(layout.identity()), "shard": asdict(shard)}, shared=True)


def read_records(folder: Path, layout: Layout) -> list[Shard]:
    """The shards of this layout that have such a note; files of others that look like one are passed over."""
    own = own_files(folder, "tokens")
    noted = [_record(path) for path in sorted(folder.glob(f"shard-*{RECORD}")) if path.name in own]
    return [shard for layout_digest, shard in noted if layout_digest == digest(layout.identity())]


def _record(path: Path) -> tuple[str, Shard]:
    """The layout's digest and the shard in a note."""
    raw = read_sealed(path)
    try:
        return str(raw["layout"]), _shard(raw["shard"])
    except (KeyError, TypeError) as error:
        raise CytosaeError(
            f"{path}: not the note of a shard, or damaged ({error}). Remove it and run the same command again: only "
            "its shard is made anew."
        ) from error


def _shard(raw: dict[str, Any]) -> Shard:
    return Shard(**{**raw, "record": FileRecord(**raw["record"])})


def read_manifest(folder: Path) -> tuple[Layout, list[Shard], bool] | None:
    """Layout, shards and completeness of a store, or None where there is none."""
    path = folder / MANIFEST
    if not path.is_file():
        return None
    raw = read_sealed(path)
    try:
        return (
            Layout(**{"version": 1, **raw["layout"]}),
            [_shard(shard) for shard in raw["shards"]],
            bool(raw["complete"]),
        )
    except (KeyError, TypeError) as error:
        raise CytosaeError(f"{path}: not the manifest of a token store ({error}). Choose another folder.") from error


def write_shard(path: Path, tokens: torch.Tensor) -> FileRecord:
    """Write tokens ``(n_cells, n_tokens, d_model)`` as one shard; of one at a URL nothing is kept on this machine."""
    with whole_file(path, shared=True) as temporary:
        save_file({"tokens": tokens}, temporary)
    record = FileRecord.from_file(path)
    drop_working_copy(path)
    return record


def _data_offset(path: Path, expected: int, command: str) -> int:
    """Where the tensor's bytes begin in a safetensors file that holds `expected` bytes of data."""
    again = f"Run the same `cytosae {command}` again: only it is made anew."
    try:
        with path.open("rb") as file:
            (header,) = struct.unpack("<Q", file.read(8))
            described = parse_json(file.read(header))["tokens"]
            begin, end = described["data_offsets"]
            size = path.stat().st_size
    except FileNotFoundError:
        raise CytosaeError(f"{path}: shard is missing. {again}") from None
    except (struct.error, ValueError, KeyError, TypeError, MemoryError, OverflowError) as error:
        raise CytosaeError(f"{path}: not a shard of tokens ({error}). {again}") from error
    if end - begin != expected or size < 8 + header + end:
        raise CytosaeError(f"{path}: holds {size:,} bytes, too few for its cells. {again}")
    return int(8 + header + begin)


class TokenStore:
    """A finished store, opened for reading.

    Parameters
    ----------
    folder
        Where `cytosae embed` or `cytosae tokens import` wrote it.
    harmonised
        Read the tokens through the harmonisation beside them, if there is one.

    Raises
    ------
    CytosaeError
        No store there, or one that is not finished.
    """

    def __init__(self, folder: Path, *, harmonised: bool = True) -> None:
        self.folder = folder
        self.harmonisation = read_harmonisation(folder) if harmonised else None
        manifest = read_manifest(folder)
        if manifest is None:
            raise CytosaeError(f"{folder}: no token store there. Make one with `cytosae embed CELLS -o {folder}`.")
        self.layout, self.shards, complete = manifest
        if not complete:
            raise CytosaeError(
                f"{folder}: the token store is not finished. Run the same `cytosae {self.layout.command}` again: it "
                "resumes."
            )
        if self.harmonisation is not None:
            self.layout = replace(self.layout, harmonisation=self.harmonisation.described())
        self.cells: pd.DataFrame = read_cells(folder / CELLS)
        self._starts = np.array([shard.start for shard in self.shards])
        self._offsets: dict[int, int] = {}
        self._files = Descriptors()

    def __reduce__(self) -> tuple[Callable[[Path], TokenStore], tuple[Path]]:
        opened = partial(TokenStore, harmonised=self.harmonisation is not None)
        return opened, (self.folder.absolute(),)  # opened anew in the process that it is sent to

    @property
    def n_cells(self) -> int:
        """Cells in the store."""
        return len(self.cells)

    @cached_property
    def fingerprint(self) -> str:
        """Digest of all tokens and of which cell each row is."""
        own: list[Any] = [[shard.record.sha256 for shard in self.shards], pixels_digest(self.cells)]
        if self.harmonisation is not None:
            own += [self.harmonisation.digest, self._laboratories.tolist()]
        return digest(own)

    @cached_property
    def _laboratories(self) -> NDArray[np.int64]:
        """Number of the laboratory of each cell, for the harmonisation."""
        assert self.harmonisation is not None
        return self.harmonisation.codes(self.cells)

    def untouched(self) -> bool:
        """Whether no shard is missing or was changed since it was written; looks at size and time first."""
        return all(shard.record.matches(self.folder / shard.file) for shard in self.shards)

    def verify(self, shards: Iterable[int] | None = None) -> None:
        """Check every shard, or some, against its checksum; raises `CytosaeError` naming the first damaged one."""
        for shard in self.shards if shards is None else (self.shards[index] for index in shards):
            if why := damage(self.folder, shard):
                raise CytosaeError(
                    f"{self.folder / shard.file}: {why}. Run the same `cytosae {self.layout.command}` again: only this "
                    "shard is made anew."
                )

    def _offset(self, shard: int) -> int:
        """Where the tokens of a shard begin in its file; the header is read once."""
        if shard not in self._offsets:
            record = self.shards[shard]
            expected = (record.stop - record.start) * self.layout.cell_bytes
            self._offsets[shard] = _data_offset(self.folder / record.file, expected, self.layout.command)
        return self._offsets[shard]

    def read(self, cells: NDArray[np.int64]) -> torch.Tensor:
        """Tokens of the given rows, harmonised if the store is, ``(len(cells), n_tokens, d_model)`` in the store's dtype."""
        tokens = self._read(cells)
        return tokens if self.harmonisation is None else self.harmonisation.apply(tokens, self._laboratories[cells])

    def _read(self, cells: NDArray[np.int64]) -> torch.Tensor:
        """Tokens of the given rows as they are on disk."""
        layout = self.layout
        out = torch.empty((len(cells), layout.n_tokens, layout.d_model), dtype=DTYPES[layout.dtype])
        buffer = out.view(torch.uint8).reshape(len(cells), -1).numpy()
        if isinstance(self.folder, StoredPath):
            self._read_ranges(self.folder, cells, buffer)
            return out
        shards = np.searchsorted(self._starts, cells, side="right") - 1
        for row, (cell, index) in enumerate(zip(cells.tolist(), shards.tolist(), strict=True)):
            shard = self.shards[index]
            path = self.folder / shard.file
            position = self._offset(index) + (cell - shard.start) * layout.cell_bytes
            try:
                with self._files.reading(path) as descriptor:
                    read = os.preadv(descriptor, [buffer[row]], position)
            except FileNotFoundError:
                raise CytosaeError(f"{path}: shard was removed while in use.") from None
            if read != layout.cell_bytes:
                raise CytosaeError(f"{path}: shard was cut short while in use.")
        return out

    def _read_ranges(self, folder: StoredPath, cells: NDArray[np.int64], buffer: NDArray[np.uint8]) -> None:
        """Fill `buffer` ``(len(cells), bytes)``; neighbours in a shard are one request."""
        size = self.layout.cell_bytes
        shards = np.searchsorted(self._starts, cells, side="right") - 1
        apart = (np.diff(cells) != 1) | (np.diff(shards) != 0)
        firsts = np.flatnonzero(np.r_[True, apart])
        wanted = []
        for first, after in zip(firsts, np.r_[firsts[1:], len(cells)], strict=True):
            shard = self.shards[shards[first]]
            begin = shard.record.bytes - (shard.stop - int(cells[first])) * size  # the tensor is the end of the file
            wanted.append((folder.joinpath(shard.file).url, begin, begin + int(after - first) * size))
        try:
            read = ranges(wanted)
        except FileNotFoundError as error:
            again = f"Run the same `cytosae {self.layout.command}` again: only it is made anew."
            raise CytosaeError(f"{folder}: a shard is missing ({error}). {again}") from error
        buffer.reshape(-1)[:] = np.frombuffer(b"".join(read), np.uint8)

    def stream(
        self, batches: Iterable[NDArray[np.int64]], *, readers: int = 2, ahead: int = 4
    ) -> Generator[torch.Tensor, None, None]:
        """Yield the tokens of each batch, in order, read ahead by threads.

        Parameters
        ----------
        batches
            Row numbers of each batch; may be endless.
        readers
            Reading threads. What is yielded does not depend on it.
        ahead
            Batches read before they are asked for: the pool in memory never holds more.

        Raises
        ------
        CytosaeError
            A token is NaN or infinite; names the cell and the shard.
        """
        pending: deque[tuple[NDArray[np.int64], Future[torch.Tensor]]] = deque()
        source = iter(batches)
        pool = ThreadPoolExecutor(max_workers=readers)
        try:
            while True:
                while len(pending) < ahead and (batch := next(source, None)) is not None:
                    pending.append((batch, pool.submit(self._read_checked, batch)))
                if not pending:
                    return
                yield pending.popleft()[1].result()
        finally:
            pool.shutdown(cancel_futures=True)

    def _read_checked(self, cells: NDArray[np.int64]) -> torch.Tensor:
        tokens = self.read(cells)
        if not torch.isfinite(tokens).all():
            bad = int(torch.isfinite(tokens).flatten(1).all(1).logical_not().nonzero()[0])
            row = int(cells[bad])
            shard = self.shards[int(np.searchsorted(self._starts, row, side="right")) - 1]
            raise CytosaeError(
                f"{self.folder / shard.file}: NaN or infinite tokens for cell {self.cells['cell_id'][row]} (row "
                f"{row}). Check what it was made from, remove the shard, and run `cytosae {self.layout.command}` again."
            )
        return tokens

    def close(self) -> None:
        """Close the files."""
        self._files.close()


def damage(folder: Path, shard: Shard) -> str | None:
    """What is wrong with a shard, or None; reads all of one on disk, and asks for the size of one at a URL."""
    path = folder / shard.file
    if not path.is_file():
        return "shard is missing"
    if isinstance(path, StoredPath):
        return None if path.stat().st_size == shard.record.bytes else "shard is damaged (its size differs)"
    return None if sha256_file(path) == shard.record.sha256 else "shard is damaged (its checksum differs)"
