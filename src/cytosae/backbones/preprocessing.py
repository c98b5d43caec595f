"""What a checkpoint says of the pixels that it was trained on: honoured, or refused by name.

Images are squashed to `INPUT_SIZE` here, whatever the checkpoint does; where that differs it is said. What happens to the
values of the pixels is honoured: with the factor f of ``rescale_factor`` a model is given ``(f v - mean) / std`` of values v
from 0 to 255, and so, of pixels from 0 to 1, those with ``mean / (255 f)`` and ``std / (255 f)``.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from cytosae.artefacts import parse_json
from cytosae.backbones.backbone import INPUT_SIZE
from cytosae.backbones.tower import Normalisation
from cytosae.console import say
from cytosae.errors import CytosaeError

IMAGE_PROCESSOR, PROCESSOR = "preprocessor_config.json", "processor_config.json"
NONE: Normalisation = ((0.0, 0.0, 0.0), (1.0, 1.0, 1.0))
_GEOMETRY = ("do_resize", "do_center_crop", "do_pad", "do_thumbnail", "do_align_long_axis", "do_rotate")
"""Steps that say which part of an image is seen and how large."""
_OTHERS = ("do_convert_rgb", "do_rescale", "do_normalize")
_CHANGES = ("rescale_offset", "offset")
_FILTERS = ("nearest", "Lanczos", "bilinear", "bicubic", "box", "Hamming")
"""As Pillow numbers them."""


def from_transformers(folder: Path, name: str, family: Normalisation) -> Normalisation:
    """Mean and standard deviation for pixels from 0 to 1, from the files of a folder of transformers.

    Parameters
    ----------
    folder
        With ``preprocessor_config.json``, or ``processor_config.json`` that has an ``image_processor``, or neither.
    name
        For messages.
    family
        Of the kind of model, where nothing is said.

    Raises
    ------
    CytosaeError
        A file that is damaged, numbers that are none, a step that changes pixels and is not known here.
    """
    file, stated = _stated(folder, name)
    for key, value in stated.items():
        known = key in (*_GEOMETRY, *_OTHERS)
        if value is True and ((key.startswith("do_") and not known) or key in _CHANGES):
            raise CytosaeError(
                f"{name}: {file} asks for {key}, an unknown change of the pixels. Its tokens would differ from those "
                "that the model expects."
            )
    if (differences := _geometry(stated)) is not None:
        _say(name, differences)
    mean, std = family
    if not stated.get("do_normalize", True):
        mean, std = NONE
    elif "image_mean" in stated or "image_std" in stated:
        mean, std = _three(stated, "image_mean", name, file), _three(stated, "image_std", name, file)
    factor = _factor(stated, name, file)
    return tuple(m / factor for m in mean), tuple(s / factor for s in std)


def from_timm(folder: Path, name: str, family: Normalisation) -> Normalisation:
    """The same from the ``config.json`` of a folder of timm, which has it in ``pretrained_cfg`` or beside it.

    Raises
    ------
    CytosaeError
        Numbers that are none.
    """
    config = read_object(folder / "config.json", name)
    inner = config.get("pretrained_cfg")
    stated = {**config, **inner} if isinstance(inner, dict) else config
    size, crop = stated.get("input_size"), stated.get("crop_pct")
    differences = []
    if isinstance(size, list) and size[-2:] != [INPUT_SIZE, INPUT_SIZE]:
        differences.append(f"images of {' x '.join(map(str, size[-2:]))} px")
    if isinstance(crop, int | float) and crop != 1:
        differences.append(f"the middle {crop:.1%} of the image")
    if stated.get("interpolation") not in (None, "", "bilinear"):
        differences.append(f"{stated['interpolation']} interpolation")
    if differences:
        _say(name, ", ".join(differences))
    if "mean" not in stated and "std" not in stated:
        return family
    return _three(stated, "mean", name, "config.json"), _three(stated, "std", name, "config.json")


def read_object(path: Path, name: str) -> dict[str, Any]:
    """A JSON object from a file; empty where there is no file.

    Raises
    ------
    CytosaeError
        It cannot be read, or holds something else.
    """
    try:
        content = parse_json(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return {}
    except (OSError, ValueError) as error:
        raise CytosaeError(f"{name}: {path.name} cannot be read ({error}). Correct it, or fetch it again.") from error
    if not isinstance(content, dict):
        raise CytosaeError(f"{name}: {path.name} holds no settings. Correct it, or fetch it again.")
    return content


def _stated(folder: Path, name: str) -> tuple[str, dict[str, Any]]:
    """File and settings of the image processor; one inside the processor comes first, as transformers has it."""
    inner = read_object(folder / PROCESSOR, name).get("image_processor")
    if isinstance(inner, dict):
        return PROCESSOR, inner
    return IMAGE_PROCESSOR, read_object(folder / IMAGE_PROCESSOR, name)


def _factor(stated: dict[str, Any], name: str, file: str) -> float:
    """What a model is given for a pixel of 1."""
    if not stated.get("do_rescale", True):
        return 255.0
    factor = stated.get("rescale_factor")
    if factor is None:
        return 1.0
    if isinstance(factor, bool) or not isinstance(factor, int | float) or not 0 < factor < float("inf"):
        raise CytosaeError(f"{name}: {file} gives rescale_factor {factor}; expected a number above 0.")
    return 1.0 if abs(factor * 255 - 1) < 1e-6 else factor * 255  # files round 1 / 255


def _geometry(stated: dict[str, Any]) -> str | None:
    """What it does that squashing to `INPUT_SIZE` does not; None where there is nothing."""
    differences = []
    if stated.get("do_resize", "size" in stated):
        size = stated.get("size")
        square = {"height": INPUT_SIZE, "width": INPUT_SIZE}
        if size is not None and size != square and size != INPUT_SIZE:
            sides = size if isinstance(size, dict) else {"side": size}
            differences.append(
                "resizes to " + ", ".join(f"{key.replace('_', ' ')} {value} px" for key, value in sides.items())
            )
        resample = stated.get("resample")
        if isinstance(resample, int) and 0 <= resample < len(_FILTERS) and _FILTERS[resample] != "bilinear":
            differences.append(f"{_FILTERS[resample]} interpolation")
    if stated.get("do_center_crop"):
        differences.append("cuts out the middle")
    differences += [key for key in _GEOMETRY[2:] if stated.get(key)]
    return ", ".join(differences) or None


def _say(name: str, differences: str) -> None:
    say(
        f"{name}: was trained on other images ({differences}). cytosae squashes images to {INPUT_SIZE} x {INPUT_SIZE} "
        "px, bilinear, whole."
    )


def _three(stated: dict[str, Any], key: str, name: str, file: str) -> tuple[float, ...]:
    values = stated.get(key)
    numbers = isinstance(values, list) and len(values) == 3 and all(type(one) in (int, float) for one in values)
    if not isinstance(values, list) or not numbers:
        raise CytosaeError(f"{name}: {file} gives {key} {values}; expected three numbers. Correct or remove the file.")
    if key.endswith("std") and min(values) <= 0:
        raise CytosaeError(f"{name}: {file} gives {key} {values}; expected numbers above 0.")
    return tuple(map(float, values))
