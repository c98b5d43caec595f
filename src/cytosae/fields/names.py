"""Which field a name in a file of boxes means."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import PurePosixPath

from cytosae.errors import CytosaeError


def file_stem(field: str) -> str:
    """Name of a field's own file, without ending."""
    return re.sub(r"[^A-Za-z0-9._-]+", "_", str(PurePosixPath(field).with_suffix("")))


class FieldNames:
    """Fields by the names that other programs give them: the whole name, the file's name, or that without its ending."""

    def __init__(self, paths: Mapping[str, str]) -> None:
        """From the image of each field, by the field's name in the table, which may be another."""
        self._known: dict[str, set[str]] = {}
        for field, image in paths.items():
            for called in (field, image):
                path = PurePosixPath(called.replace("\\", "/"))
                for name in (called, path.name, path.stem, file_stem(called)):
                    self._known.setdefault(name, set()).add(field)

    def __call__(self, name: str, where: str) -> str:
        """The field; `where` is the file that names it.

        Raises
        ------
        CytosaeError
            No such field, or several.
        """
        path = PurePosixPath(name.replace("\\", "/"))
        for spelling in (name, path.name, path.stem):
            names = self._known.get(spelling, set())
            if len(names) == 1:
                return next(iter(names))
            if names:
                raise CytosaeError(
                    f"{where}: {name!r} can be {' or '.join(sorted(names)[:3])}. Write the whole name there."
                )
        raise CytosaeError(
            f"{where}: no field is called {name!r}. Boxes name a field by its path or by its file's name."
        )
