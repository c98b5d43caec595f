"""The text of a table in whatever encoding it was written."""

from __future__ import annotations

from pathlib import Path

from cytosae.errors import CytosaeError

_FOREIGN = {
    b"PK\x03\x04": "a zip archive, or a workbook of another program than Excel",
    b"\xd0\xcf\x11\xe0": "an old Excel workbook, or one with a password",
    b"%PDF": "a PDF",
    b"\x89HDF": "an HDF5 file",
    b"{\\rtf": "an RTF document",
    b"ARROW1": "a Feather file",
    b"FEA1": "a Feather file",
    b"SQLite format 3": "a database",
    b"\x93NUMPY": "an array of numpy",
    b"\x80\x04\x95": "a pickle",
    b"\x80\x05\x95": "a pickle",
    b"\x89PNG": "an image",
    b"\xff\xd8\xff": "an image",
    b"II*\x00": "an image",
    b"MM\x00*": "an image",
}
_MARKED = {
    b"\xef\xbb\xbf": "utf-8-sig",
    b"\xff\xfe\x00\x00": "utf-32",
    b"\x00\x00\xfe\xff": "utf-32",
    b"\xff\xfe": "utf-16",
    b"\xfe\xff": "utf-16",
}


def decoded(path: Path, data: bytes) -> tuple[str, str]:
    """The text of a table, and the encoding in which it was written.

    Raises
    ------
    CytosaeError
        It is no text, or in no encoding that tables are written in.
    """
    for mark, format in _FOREIGN.items():
        if data.startswith(mark):
            raise CytosaeError(f"{path}: is {format}, not a table of text. Save it as 'CSV UTF-8' and give that file.")
    start = data[:512].lstrip(b"\xef\xbb\xbf \t\r\n").lower()
    if start.startswith((b'{"', b"[{", b"[[", b"{\n", b"[\n")):
        raise CytosaeError(f"{path}: is JSON, not a table. Save it as 'CSV UTF-8' and give that file.")
    if start.startswith((b"<!doctype", b"<html", b"<table", b"<?xml")):
        raise CytosaeError(
            f"{path}: is a web page or XML, not a table of text. Save it as 'CSV UTF-8' and give that file."
        )
    encoding = next((name for mark, name in _MARKED.items() if data.startswith(mark)), None) or _unmarked(path, data)
    try:
        text = data.decode(encoding)
    except UnicodeDecodeError as error:
        if encoding == "cp1252":
            raise CytosaeError(
                f"{path}: is neither UTF-8 nor Windows-1252: byte {data[error.start]:#04x} in line "
                f"{_line(data, error.start)}. Save the table as 'CSV UTF-8'."
            ) from None
        raise CytosaeError(
            f"{path}: begins as {encoding.removesuffix('-sig').upper()} and is damaged at byte {error.start:,}. Save the "
            "table again as 'CSV UTF-8'."
        ) from None
    if "\0" in text:
        line = text.count("\n", 0, text.index("\0")) + 1
        raise CytosaeError(
            f"{path}: holds a zero byte in line {line}: it is damaged or no table of text. Save it again as 'CSV UTF-8'."
        )
    return text, encoding


def _line(data: bytes, position: int) -> int:
    return data.count(b"\n", 0, position) + 1


def _unmarked(path: Path, data: bytes) -> str:
    """Encoding of text that does not say."""
    head = data[:4096]
    for encoding, empty in (("utf-16-le", head[1::2]), ("utf-16-be", head[0::2])):
        if len(head) > 1 and empty.count(0) > 0.4 * len(empty) and empty.count(0) >= 0.8 * head.count(0):
            return encoding
    try:
        data.decode("utf-8")
    except UnicodeDecodeError as error:
        rest = data.decode("utf-8", "surrogateescape")
        if any(char > "\x7f" and not "\udc80" <= char <= "\udcff" for char in rest):
            raise CytosaeError(
                f"{path}: text in two encodings, UTF-8 and in line {_line(data, error.start)} another. Save "
                "the table as 'CSV UTF-8'."
            ) from None
        return "cp1252"
    return "utf-8"
