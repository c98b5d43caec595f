"""Classes of programs that are not installed here."""

from __future__ import annotations

import sys
import types
from collections.abc import Callable, Iterator
from typing import Any

import pytest


@pytest.fixture
def elsewhere() -> Iterator[Callable[..., type]]:
    """Classes of modules that are not here once the file is written."""
    made: list[str] = []

    def make(full_name: str, base: type = object, **members: Any) -> type:
        module, _, name = full_name.rpartition(".")
        parts = module.split(".")
        for end in range(1, len(parts) + 1):
            part = ".".join(parts[:end])
            if part not in sys.modules:
                sys.modules[part] = types.ModuleType(part)
                made.append(part)
        kind = type(name, (base,), {**members, "__module__": module, "__qualname__": name})
        setattr(sys.modules[module], name, kind)
        return kind

    make.forget = lambda: [sys.modules.pop(name, None) for name in made]  # type: ignore[attr-defined]
    yield make
    make.forget()  # type: ignore[attr-defined]
