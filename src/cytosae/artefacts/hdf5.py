"""Files of HDF5: written whole or not at all, with errors that say what to do."""

from __future__ import annotations

import contextlib
import io
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cytosae.artefacts.files import whole_file
from cytosae.errors import CytosaeError

if TYPE_CHECKING:
    import h5py
    import pandas as pd


@contextlib.contextmanager
def reading_hdf5(
    path: Path, advice: str, *, kind: str = "a readable AnnData", name: str | None = None
) -> Iterator[None]:
    """Turn what HDF5 says of a file into a message: that it is locked by another program, or that it is not of this kind.

    Parameters
    ----------
    advice
        What to do where the file is damaged.
    kind
        What it should be.
    name
        How the message calls it; the path if None.
    """
    try:
        yield
    except CytosaeError:
        raise
    except Exception as error:  # of a damaged file h5py and anndata raise whatever comes
        text = str(error)
        if isinstance(error, BlockingIOError) or "unable to lock file" in text or "already open for" in text:
            raise CytosaeError(
                f"{name or path}: is open for writing in another program, which locked it. The file is not damaged: "
                "close it there (a notebook, a viewer, another run), then run the same command again."
            ) from error
        raise CytosaeError(f"{name or path}: not {kind} ({error}). {advice}") from error


class _Sink(io.FileIO):
    """A file that takes everything, and keeps the first error: HDF5 crashes the process after one of its own writing."""

    error: OSError | None = None

    def write(self, data: Any) -> int:
        view = memoryview(data).cast("B")
        written = 0
        while self.error is None and written < len(view):
            try:
                written += super().write(view[written:])
            except OSError as error:
                self.error = error
        return len(view)


@contextlib.contextmanager
def writing_hdf5(path: Path) -> Iterator[h5py.File]:
    """Write a file of HDF5 whole or not at all; see `whole_file`.

    anndata may write names with a slash meanwhile, as columns and data sets of users have; from 0.13 on it refuses them.
    """
    import anndata
    import h5py

    slashes = {"disallow_forward_slash_in_h5ad": False}
    allowed = (
        anndata.settings.override(**slashes) if {*slashes} <= {*dir(anndata.settings)} else contextlib.nullcontext()
    )
    with allowed, whole_file(path) as temporary, _Sink(temporary, "w+") as sink:
        try:
            with h5py.File(sink, "w") as file:
                yield file
        finally:
            if sink.error is not None:
                raise sink.error


def text_as_objects(frame: pd.DataFrame) -> pd.DataFrame:
    """A table whose text is objects, so that its file is the same with every pandas: from 3.0 on text has a type of its own.

    Returns
    -------
    A shallow copy: text columns, categories and the index as objects, missing values as None; the rest as it is.
    """
    import pandas as pd

    def objects(values: pd.Series[Any]) -> pd.Series[Any]:
        if isinstance(values.dtype, pd.CategoricalDtype):
            categories = values.cat.categories
            return values.cat.set_categories(categories.astype(object), rename=True) if _is_text(categories) else values
        return values.astype(object).where(values.notna(), None) if _is_text(values) else values

    def _is_text(values: Any) -> bool:
        return isinstance(values.dtype, pd.StringDtype)

    stored = pd.DataFrame({name: objects(frame[name]) for name in frame.columns}, index=frame.index)
    if _is_text(stored.index):
        stored.index = stored.index.astype(object)
    return stored
