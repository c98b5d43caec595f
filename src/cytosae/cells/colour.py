"""ICC profiles: colours as they are meant, in sRGB."""

from __future__ import annotations

import io
from functools import lru_cache

import numpy as np
from PIL import Image, ImageCms

_SAME = 2  # of 255: how far an sRGB profile of another maker may be from ours
_STEPS = 17  # of each channel, among the colours that tell whether a profile changes anything
_SPACES = {"RGB ": "RGB", "GRAY": "L", "CMYK": "CMYK"}


class BrokenProfile(Exception):
    """An ICC profile that cannot be used; the message is the reason."""


def to_srgb(image: Image.Image, profile: bytes) -> Image.Image | None:
    """An image in RGB, L or CMYK with a profile, in sRGB; None where the profile is sRGB's, so that nothing changes.

    Raises
    ------
    BrokenProfile
        The profile is damaged, or one of another kind of image.
    """
    space, transform = _transform(profile)
    if space != image.mode:
        if (space, image.mode) != ("RGB", "L"):  # a grey image with a profile of colours is the grey of these
            raise BrokenProfile(f"it is for {space} images")
        image = image.convert("RGB")
    if transform is None:
        return None
    converted = ImageCms.applyTransform(image, transform)
    assert converted is not None
    return converted


@lru_cache(maxsize=32)
def _transform(profile: bytes) -> tuple[str, ImageCms.ImageCmsTransform | None]:
    """The kind of image that a profile is for, and the way from there to sRGB; None where there is no way to go."""
    try:
        given = ImageCms.ImageCmsProfile(io.BytesIO(profile))
        space = _SPACES.get(given.profile.xcolor_space)
        if space is None:
            raise BrokenProfile(f"of colour space {given.profile.xcolor_space!r}")
        transform = ImageCms.buildTransform(given, ImageCms.createProfile("sRGB"), space, "RGB")
        colours = _colours(space)
        converted = ImageCms.applyTransform(colours, transform)
    except (ImageCms.PyCMSError, OSError, ValueError, TypeError, SyntaxError) as error:
        raise BrokenProfile(str(error)) from None
    assert converted is not None
    if space == "CMYK":
        return space, transform
    change = np.abs(np.asarray(converted).astype(int) - np.asarray(colours.convert("RGB")))
    return space, None if change.max() <= _SAME else transform


def _colours(mode: str) -> Image.Image:
    """Colours from all over the space."""
    levels = np.linspace(0, 255, _STEPS).round().astype(np.uint8)
    if mode == "L":
        return Image.fromarray(levels[None])
    grid = np.stack(np.meshgrid(levels, levels, levels), axis=-1).reshape(_STEPS, -1, 3)
    return Image.fromarray(grid) if mode == "RGB" else Image.fromarray(grid).convert("CMYK")
