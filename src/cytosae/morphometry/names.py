"""Where a study keeps what is measured of its cells."""

MEASURED = "morphometry"
"""Folder of a study with the measurements, and name of the stage."""
