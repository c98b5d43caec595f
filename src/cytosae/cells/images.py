"""From an image file to 8-bit RGB pixels, or a reason why not."""

from __future__ import annotations

import hashlib
import io
import logging
import warnings
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageFile
from PIL.BmpImagePlugin import BmpImageFile
from PIL.GifImagePlugin import GifImageFile
from PIL.JpegImagePlugin import JpegImageFile
from PIL.PngImagePlugin import PngImageFile
from PIL.TiffImagePlugin import TiffImageFile
from PIL.WebPImagePlugin import WebPImageFile

from cytosae.cells.framing import Frame, Reading, framed
from cytosae.cells.orientation import orientation, upright
from cytosae.cells.samples import WHICH, Samples, UnreadableImage, channels_unknown, check_size
from cytosae.storage import StoredPath, contents

SUFFIXES = frozenset({".jpg", ".jpeg", ".jpe", ".jfif", ".png", ".tif", ".tiff", ".bmp", ".webp", ".gif"})
"""Endings of the image formats that are read, in lower case. What a file is, its first bytes say."""

SLIDES = frozenset({".svs", ".ndpi", ".mrxs", ".scn", ".bif", ".svslide"})
"""Endings of whole slides, which OpenSlide reads."""

MOST_PIXELS = 100_000_000
"""Larger images are refused by their header, before any memory is taken for them."""

MOST_BYTES = 1_000_000_000
"""Larger files are refused at the listing without being opened: slides and volumes, not cells."""

_READERS: dict[bytes, type[ImageFile.ImageFile]] = {
    b"\xff\xd8\xff": JpegImageFile,
    b"\x89PNG\r\n\x1a\n": PngImageFile,
    b"II*\0": TiffImageFile,
    b"MM\0*": TiffImageFile,
    b"II+\0": TiffImageFile,
    b"MM\0+": TiffImageFile,
    b"GIF8": GifImageFile,
}
_START = 18  # bytes that tell what a file is
_BMP_HEADERS = frozenset({12, 16, 40, 52, 56, 64, 108, 124})  # bytes, in the versions of BMP
_OTHERS = {
    b"\0\0\0\x0cjP  ": "a JPEG 2000 image",
    b"\xff\x4f\xff\x51": "a JPEG 2000 image",
    b"\0\0\0\x0cJXL ": "a JPEG XL image",
    b"\xff\x0a": "a JPEG XL image",
    b"%PDF": "a PDF",
    b"8BPS": "a Photoshop file",
    b"<": "a page or a drawing of the web",
    b"version https://git-lfs": "a pointer of Git LFS: fetch the files with `git lfs pull`",
}
_READ = "JPEG, PNG, TIFF, BMP, WebP or GIF image"
_FAINT = 12
"""Alpha, of 255, up to which nothing can be seen of a pixel: under 5 %."""
_MPO_IMAGES = 0xB001  # the tag of an MPO that says how many pictures it holds
_DEEP_JPEG, _JPEG_CHANNELS = "-bit layers", "-layer images"  # how Pillow says why it reads no more of a JPEG

# Of damaged files Pillow warns or logs besides raising; the reason that is given says it once.
warnings.filterwarnings("ignore", module=r"PIL\.")
logging.getLogger("PIL").addHandler(logging.NullHandler())


@dataclass(frozen=True)
class Decoded:
    """An image and how it became what it is."""

    image: Image.Image
    """RGB."""
    intensity: str | None = None
    """The scaling, where it had more than 8 bits a channel."""
    note: str | None = None
    """What else was done: the first of several pictures taken, turned, colours converted, a broken profile ignored."""


def looks_like_image(path: Path) -> bool:
    """Whether a file has the ending of an image that is read, or the content of one whatever its ending.

    No example: needs a table or files of images; `cytosae cells` runs it.
    """
    if path.suffix.lower() in SUFFIXES:
        return True
    try:
        with path.open("rb") as file:
            return _reader(file.read(_START)) is not None
    except OSError:
        return False


def decode(data: bytes, intensity: str | None = None) -> Image.Image:
    """The image that `read_image` finds in the bytes of a file.

    Examples
    --------
    >>> import io
    >>> file = io.BytesIO()
    >>> Image.new("RGB", (2, 3)).save(file, "PNG")
    >>> decode(file.getvalue()).size
    (2, 3)
    """
    return read_image(data, intensity).image


def read_image(data: bytes, intensity: str | None = None, most_pixels: int = MOST_PIXELS) -> Decoded:
    """Decode JPEG, PNG, TIFF, BMP, WebP or GIF bytes to an RGB image as a person would see it.

    It is turned as EXIF says, and colours with an ICC profile become sRGB. Grey, palette, CMYK and alpha become RGB;
    transparent pixels are laid over white.

    Parameters
    ----------
    data
        Bytes of the file.
    intensity
        Scaling of images with more than 8 bits a channel, see `cytosae.settings.ImageConfig`.
    most_pixels
        Larger ones are refused.

    Raises
    ------
    UnreadableImage
        With the reason: empty, truncated, not an image, several pages, wholly transparent, more than 8 bits a channel
        without `intensity`.

    Notes
    -----
    No example: needs a table or files of images; `cytosae cells` runs it.
    """
    if not data:
        raise UnreadableImage("file is empty (0 bytes)")
    reader = _reader(data[:_START])
    if reader is None:
        raise UnreadableImage(_why_refused(data[:64]))
    try:
        return _read(data, reader, intensity, most_pixels)
    except UnreadableImage:
        raise
    except Exception as error:  # decoders raise anything for damaged files, down to AttributeError and MemoryError
        raise UnreadableImage(_why(error, reader.format or "")) from None


def _why(error: Exception, kind: str) -> str:
    text = " ".join(str(error).split())
    if "nsupported" in text:
        return f"a {kind} of a kind that can't be read ({text}); save it as PNG"
    if isinstance(error, SyntaxError) and "not identified" in text:
        return f"damaged: begins like a {kind} and goes on as none"
    spoken = text and isinstance(error, OSError | SyntaxError | ValueError | RuntimeError)
    return f"damaged: {text}" if spoken else "damaged: its parts do not fit together"


def _reader(start: bytes) -> type[ImageFile.ImageFile] | None:
    if start[:4] == b"RIFF" and start[8:12] == b"WEBP":
        return WebPImageFile
    if start[:2] == b"BM" and start[14:15] and start[14] in _BMP_HEADERS:
        return BmpImageFile
    return next((reader for magic, reader in _READERS.items() if start.startswith(magic)), None)


def _why_refused(start: bytes) -> str:
    kind = "a HEIC or AVIF image" if start[4:8] == b"ftyp" else None
    kind = kind or next((name for magic, name in _OTHERS.items() if start.startswith(magic)), None)
    return f"not a {_READ}" + (f" but {kind}" if kind else "")


def _read(data: bytes, reader: type[ImageFile.ImageFile], intensity: str | None, most_pixels: int) -> Decoded:
    source = _open_image(data, reader, most_pixels)
    if isinstance(source, Samples):
        from cytosae.cells.intensity import to_image

        image, scaling = to_image(source, intensity)
        return _finished(image, source.profile, source.orientation, scaling)
    check_size(*source.size, most_pixels)
    if reader is not TiffImageFile and getattr(source, "is_animated", False):
        raise UnreadableImage(f"an animation of {getattr(source, 'n_frames', 'several')} frames: {WHICH}")
    source.load()
    turned = 1 if reader is TiffImageFile else orientation(source)  # Pillow turns TIFF by itself
    return _finished(source, source.info.get("icc_profile"), turned, note=_note_on_mpo(source))


def _open_image(data: bytes, reader: type[ImageFile.ImageFile], most_pixels: int) -> ImageFile.ImageFile | Samples:
    """The image, not decoded yet; or its values, where Pillow would not read them as they are."""
    if reader is TiffImageFile:
        from cytosae.cells.tiff import open_tiff

        return open_tiff(data, most_pixels)
    if reader is PngImageFile and data[24:25] == b"\x10":  # Pillow drops the low bytes of 16-bit colour
        from cytosae.cells.deep import deep_png

        return deep_png(data, most_pixels)
    try:
        return reader(io.BytesIO(data))
    except SyntaxError as error:
        if str(error).endswith(_JPEG_CHANNELS):
            raise UnreadableImage(channels_unknown(str(error).removeprefix("cannot handle ").split("-")[0])) from None
        if not str(error).endswith(_DEEP_JPEG):
            raise
    from cytosae.cells.deep import deep_jpeg

    return deep_jpeg(data, most_pixels)


def _note_on_mpo(image: ImageFile.ImageFile) -> str | None:
    """Note on a JPEG with more images behind the first, as phones and cameras write previews and depth."""
    if not isinstance(image, JpegImageFile) or "mpoffset" not in image.info:
        return None
    try:
        count = int((image._getmp() or {})[_MPO_IMAGES])
    except Exception:  # a damaged directory, of which Pillow raises anything; the first picture is whole
        return "the first picture of an MPO"
    return f"the first of {count} pictures (MPO)" if count > 1 else None


def _finished(
    image: Image.Image, profile: bytes | None, turned: int, intensity: str | None = None, note: str | None = None
) -> Decoded:
    notes = [note] if note else []
    if image.has_transparency_data:
        image = (image.convert("LA") if image.mode == "La" else image).convert("RGBA")
        most = int(np.asarray(image.getchannel("A")).max())
        if most == 0:
            raise UnreadableImage("wholly transparent: alpha is 0 in every pixel; save it without alpha")
        if most <= _FAINT:
            raise UnreadableImage(f"almost transparent: alpha is at most {most} of 255; save it without alpha")
    if profile:
        image, note = _in_srgb(image, profile)
        notes += [note] if note else []
    if image.mode == "RGBA":
        white = Image.new("RGBA", image.size, (255, 255, 255, 255))
        image = Image.alpha_composite(white, image)
    image = image.convert("RGB")
    if turned != 1:
        image = upright(image, turned)
        notes.append(f"turned (EXIF orientation {turned})")
    return Decoded(image, intensity, "; ".join(notes) or None)


def _in_srgb(image: Image.Image, profile: bytes) -> tuple[Image.Image, str | None]:
    """An image with its colours in sRGB, and what was done; as it is where the profile is sRGB's or broken."""
    from cytosae.cells.colour import BrokenProfile, to_srgb

    colours = image if image.mode in {"L", "RGB", "CMYK"} else image.convert("L" if image.mode == "1" else "RGB")
    try:
        converted = to_srgb(colours, profile)
    except BrokenProfile as reason:
        return image, f"ICC profile ignored ({reason})"
    if converted is None:
        return image, None
    if image.mode == "RGBA":
        converted.putalpha(image.getchannel("A"))
    return converted, "converted to sRGB (ICC profile)"


def read_bytes(path: Path) -> bytes:
    """The bytes of an image file.

    Raises
    ------
    UnreadableImage
        With the reason: missing, a folder, no permission.
    """
    try:
        return path.read_bytes()
    except FileNotFoundError:
        raise UnreadableImage("file is missing") from None
    except IsADirectoryError:
        raise UnreadableImage("a folder, not a file") from None
    except OSError as error:
        raise UnreadableImage(f"cannot be read ({error.strerror})") from None
    except ValueError as error:  # a null byte, or letters that no file name can have
        raise UnreadableImage(f"no file can have this name ({error})") from None


def read_many(paths: Sequence[Path]) -> Iterator[bytes | UnreadableImage]:
    """The bytes of image files, or why there are none; those at URLs are read side by side."""
    stored = iter(contents([path.url for path in paths if isinstance(path, StoredPath)]))
    for path in paths:
        try:
            data = next(stored) if isinstance(path, StoredPath) else read_bytes(path)
            yield UnreadableImage("file is missing") if data is None else data
        except UnreadableImage as reason:
            yield reason


def inspect(path: Path, intensity: str | None = None) -> tuple[Decoded, str]:
    """Decode an image in full; returns it and the SHA-256 of the file's bytes."""
    data = read_bytes(path)
    return read_image(data, intensity), hashlib.sha256(data).hexdigest()


def load_squashed(path: Path, size: int, reading: Reading | None = None) -> NDArray[np.uint8]:
    """Read an image and squash it, or the part of it that is shown, to a square.

    Every image takes the same size whatever its own, so that image size cannot tell one class from another.

    Parameters
    ----------
    path
        Image file.
    size
        Edge of the square in pixels.
    reading
        How the file becomes the cell's picture, see `cytosae.cells.readings`.

    Returns
    -------
    Pixels, uint8 of shape ``(size, size, 3)``; bilinear with antialiasing, as in Pillow.

    Notes
    -----
    No example: needs a table or files of images; `cytosae cells` runs it.
    """
    how = reading or Reading()
    return squashed(decode(read_bytes(path), how.intensity), size, how.frame)


def squashed(image: Image.Image, size: int, frame: Frame | None = None) -> NDArray[np.uint8]:
    """The pixels of an image, or of its frame, squashed to a square, see `load_squashed`."""
    if frame is not None:
        return np.asarray(framed(image, frame, (size, size), Image.Resampling.BILINEAR))
    if image.size != (size, size):
        image = image.resize((size, size), Image.Resampling.BILINEAR)
    return np.asarray(image)
