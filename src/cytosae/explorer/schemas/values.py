"""Numbers and maps as the API answers them, and its refusals."""

from __future__ import annotations

import math
from typing import Annotated, Any

from pydantic import BaseModel, BeforeValidator, Field

_DIGITS = 6


def short(value: Any) -> float | None:
    """A number with six significant digits; None where it is none, or not finite."""
    if value is None or not math.isfinite(value):
        return None
    return float(f"{float(value):.{_DIGITS}g}")


Known = Annotated[float, BeforeValidator(short)]
"""A figure that is always known."""
Number = Annotated[float | None, BeforeValidator(short)]
"""A figure; null where it is unknown."""

Scalar = Annotated[str | float | None, BeforeValidator(lambda v: v if isinstance(v, str) else short(v))]

Map = Annotated[str, Field(description="base64 of one byte per patch, row by row: 0 is 0, 255 is `top`.")]


class ErrorMessage(BaseModel):
    """Why there is no answer."""

    detail: str
