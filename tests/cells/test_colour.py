"""Colours with a profile become sRGB."""

from __future__ import annotations

import zlib

import numpy as np
import pytest
from PIL import Image

from cytosae.cells import read_image
from support.image_files import (
    ALPHA,
    GREY,
    OVER_WHITE,
    QUIET,
    RGB,
    SRGB,
    grey,
    grey_profile,
    png,
    saved,
    seen,
    swapped_profile,
)

pytestmark = QUIET


@pytest.mark.parametrize("form", ["PNG", "TIFF", "WEBP", "JPEG"])
def test_colours_with_a_profile_become_srgb(form: str) -> None:
    options = {"lossless": True} if form == "WEBP" else {}
    plain = seen(saved(RGB, form, **options))
    same = read_image(saved(RGB, form, icc_profile=SRGB, **options))
    np.testing.assert_array_equal(np.asarray(same.image), plain)
    assert same.note is None
    other = read_image(saved(RGB, form, icc_profile=swapped_profile(), **options))
    assert np.abs(np.asarray(other.image).astype(int) - plain[..., ::-1]).max() <= 2
    assert other.note is not None
    assert "sRGB" in other.note
    for broken in (b"nonsense", SRGB[:200], grey_profile(2.2)):
        ignored = read_image(saved(RGB, form, icc_profile=broken, **options))
        np.testing.assert_array_equal(np.asarray(ignored.image), plain)
        assert ignored.note is not None
        assert "ignored" in ignored.note


def test_profiles_of_grey_alpha_and_palette() -> None:
    linear_light = (GREY / 255) ** 1.5
    curve = np.where(linear_light <= 0.0031308, 12.92 * linear_light, 1.055 * linear_light ** (1 / 2.4) - 0.055)
    shown = seen(saved(GREY, "PNG", icc_profile=grey_profile(1.5)))
    assert np.abs(shown - grey(curve * 255)).max() <= 2
    np.testing.assert_array_equal(seen(saved(GREY, "PNG", icc_profile=SRGB)), grey(GREY))
    clear = seen(saved(np.dstack([RGB, ALPHA]), "PNG", icc_profile=swapped_profile()))
    assert np.abs(clear - OVER_WHITE[..., ::-1]).max() <= 3
    palette = Image.fromarray(RGB).quantize(64)
    plain = seen(saved(palette, "PNG"))
    assert np.abs(seen(saved(palette, "PNG", icc_profile=swapped_profile())) - plain[..., ::-1]).max() <= 2
    turned = png((RGB.astype(np.uint16) * 257), 2, (b"iCCP", b"x\0\0" + zlib.compress(swapped_profile())))
    assert np.abs(seen(turned, "full") - RGB[..., ::-1]).max() <= 2
