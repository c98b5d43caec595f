"""How an image is turned, as EXIF says it."""

from __future__ import annotations

from PIL import ExifTags, Image

_TAG = int(ExifTags.Base.Orientation)
_WITH_EXIF = {"exif", "xmp", "XML:com.adobe.xmp", "Raw profile type exif"}
_TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}


def orientation(image: Image.Image) -> int:
    """How an image is turned, 1 to 8 as in EXIF; 1 where it does not say so, or in a way that nobody can read."""
    if not _WITH_EXIF & image.info.keys():
        return 1
    try:
        value = image.getexif().get(_TAG, 1)
    except Exception:  # damaged metadata, of which Pillow raises anything
        return 1
    return value if value in _TURNS else 1


def upright(image: Image.Image, turned: int) -> Image.Image:
    """An image that is turned so, as a person would look at it."""
    return image.transpose(_TURNS[turned]) if turned in _TURNS else image
