"""Names of the files and columns that `cytosae fields` leaves."""

from __future__ import annotations

FIELDS = "fields"
"""Name of the stage."""
TABLE, REJECTED, LISTED = "cells.csv", "rejected.csv", "fields.parquet"
"""Cells, for `cytosae run`; what was found and is no cell, with the reason; the listing of the fields."""
BOX = ("x", "y", "box_width", "box_height")
"""Left, top, width and height of a cell in its field, in pixels. Columns `width` and `height` are the cut-out image's."""
COLUMNS = ("field", *BOX, "mpp", "mpp_low", "mpp_high", "mpp_from", "score", "touching", "at_border")
