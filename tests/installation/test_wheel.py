"""What a user installs: the wheel with its dependencies and no extra, away from the checkout."""

from __future__ import annotations

import os
import subprocess
import sys
import venv
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path

import numpy as np
import pytest
from packaging.requirements import Requirement
from PIL import Image

from support.paths import ROOT

pytestmark = pytest.mark.slow  # builds a wheel and starts a dozen processes

HELP = """
import contextlib, io
import typer
from cytosae.cli.commands import app

def every(command, path):
    yield path
    for name, sub in getattr(command, "commands", {}).items():
        yield from every(sub, [*path, name])

for path in every(typer.main.get_command(app), []):
    text = io.StringIO()
    with contextlib.redirect_stdout(text):
        app([*path, "--help"], standalone_mode=False)
    assert "Usage" in text.getvalue(), path
    print(" ".join(path))
"""


def required(names: list[str]) -> set[str]:
    """Distributions that these requirements bring along, without extras that nobody asked for."""
    found: dict[str, set[str]] = {}
    waiting = [Requirement(name) for name in names]
    while waiting:
        requirement = waiting.pop()
        name, extras = requirement.name.lower().replace("_", "-"), set(requirement.extras)
        if name in found and extras <= found[name]:
            continue
        try:
            known = distribution(name)
        except PackageNotFoundError:
            continue  # of another platform
        found[name] = found.get(name, set()) | extras
        for line in known.requires or []:
            further = Requirement(line)
            wanted = {"", *found[name]}
            if further.marker is None or any(further.marker.evaluate({"extra": extra}) for extra in wanted):
                waiting.append(further)
    return set(found)


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An environment with the wheel, and with links to what it requires of the packages that are here."""
    place = tmp_path_factory.mktemp("wheel")
    subprocess.run([sys.executable, "-m", "build", "--wheel", "--outdir", place, ROOT], check=True, capture_output=True)
    (wheel,) = place.glob("cytosae-*.whl")
    venv.create(place / "env", symlinks=True, with_pip=False)
    (packages,) = (place / "env" / "lib").glob("python*/site-packages")
    pip = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--target", packages, wheel]
    subprocess.run(pip, check=True, capture_output=True)
    requirements = [line for line in distribution("cytosae").requires or [] if "extra ==" not in line]
    for name in required(requirements):
        for file in distribution(name).files or []:
            top = file.parts[0]
            target = Path(str(distribution(name).locate_file(top)))
            if top != ".." and not (packages / top).exists():
                (packages / top).symlink_to(target)
    return place


def run(place: Path, *arguments: object, check: bool = True) -> subprocess.CompletedProcess[str]:
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("PYTHON", "CYTOSAE"))}
    done = subprocess.run(
        [place / "env" / "bin" / "python", *map(str, arguments)],
        capture_output=True,
        text=True,
        cwd=place,
        env={**environment, "HF_HUB_OFFLINE": "1", "COLUMNS": "100"},
        timeout=300,
        check=False,
    )
    assert not check or done.returncode == 0, done.stderr
    return done


@pytest.fixture(scope="module")
def study(installed: Path) -> Path:
    (installed / "images").mkdir()
    for number in range(3):
        pixels = np.random.default_rng(number).integers(0, 255, (64, 64, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(installed / "images" / f"{number}.png")
    settings = ["--expansion", 1, "--images", 48, "--batch-images", 2]
    run(installed, "-m", "cytosae", "run", "images", "--study", "study", *settings)
    return installed / "study"


def test_every_command_has_help(installed: Path) -> None:
    commands = run(installed, "-c", HELP).stdout.splitlines()
    assert {"run", "explore", "annotations export", "doctor"} <= set(commands)


def test_the_package_is_the_wheels_and_is_typed(installed: Path) -> None:
    where = run(installed, "-c", "import cytosae; print(cytosae.__file__)").stdout.strip()
    assert Path(where).is_relative_to(installed)
    assert (Path(where).parent / "py.typed").is_file()


def test_three_images_become_a_study(study: Path) -> None:
    assert (study / "report" / "index.html").is_file()


@pytest.mark.parametrize(
    ("arguments", "extra"),
    [
        (["explore", "study"], "cytosae[explorer]"),
        (["annotations", "summary", "study"], "cytosae[explorer]"),
        (["train", "study/tokens", "-o", "other", "--images", "16", "--track", "wandb"], "cytosae[tracking]"),
        (["embed", "study/cells.parquet", "-o", "again", "--engine", "ray"], "cytosae[ray]"),
        (
            ["embed", "study/cells.parquet", "-o", "again", "--backbone", "timm:vit_tiny_patch16_224"],
            "pip install timm",
        ),
        (["cells", "s3://bucket/cells.csv", "-o", "cells.parquet"], "cytosae[s3]"),
    ],
)
def test_a_missing_extra_is_one_sentence(study: Path, arguments: list[str], extra: str) -> None:
    done = run(study.parent, "-m", "cytosae", *arguments, check=False)
    errors = [line for line in done.stderr.splitlines() if line.startswith("error: ")]
    assert done.returncode == 2, done.stderr
    assert "Traceback" not in done.stderr
    assert len(errors) == 1
    assert extra in errors[0]
